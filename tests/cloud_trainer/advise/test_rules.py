"""MACs of plain networks: against torch where the network is the trainer's own, else by sums made by hand."""

import pytest

from cloud_trainer.advise.rules import RULES, layers, student_of, teacher_of, window
from cloud_trainer.advise.workload import Network
from cloud_trainer.config import KINDS, ModelConfig


@pytest.mark.parametrize(("side", "channels", "width"), [(28, 1, 32), (8, 1, 16), (33, 3, 8), (224, 3, 16)])
def test_the_rule_for_images_counts_what_the_network_has(side, channels, width):
    torch = pytest.importorskip("torch")
    from cloud_trainer.models.macs import count_macs
    from cloud_trainer.models.resnet import Shape, SmallResNet

    found = teacher_of("image-classification", (side, side, channels), 10, ModelConfig(teacher_width=width))
    with torch.device("meta"):
        model = SmallResNet(Shape((channels, side, side), 10, width, 32))
        assert found.macs == count_macs(model, torch.empty(1, channels, side, side))
    assert found.params == sum(one.numel() for one in model.parameters())


def test_dense_layers_and_convolutions_over_time_by_hand():
    assert layers(3, 5, 2) == (25.0, 32.0)
    macs, params = window((128, 3), 7, 32)
    convolutions = 5 * 3 * 64 * 64 + 5 * 64 * 64 * (32 + 16 + 8)
    assert macs == convolutions + 64 * 32 + 32 * 7
    assert params == 5 * 3 * 64 + 3 * 5 * 64 * 64 + (64 * 32 + 32 * 7 + 32 + 7)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_task_has_a_rule(kind):
    shape = {"image": (32, 32, 1), "tabul": (10,), "serie": (128, 3), "forec": (48, 4), "audio": (16000,)}
    found = teacher_of(kind, shape.get(kind[:5], ()), 5, ModelConfig())
    assert found.macs >= 1000
    assert found.params >= 1000
    assert RULES[kind][0] in found.how


def test_a_student_keeps_to_every_limit_of_the_task():
    teacher = Network(1e8, 1e6, "")
    assert student_of(teacher, ModelConfig()).macs == pytest.approx(1e7)
    assert student_of(teacher, ModelConfig(max_macs=1000)).macs == pytest.approx(1000)
    bytes_limited = student_of(teacher, ModelConfig(max_bytes=10_000))
    assert bytes_limited.params == pytest.approx(10_000)
    assert "max_bytes" in bytes_limited.how
