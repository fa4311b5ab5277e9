"""MACs of plain networks: against torch where the network is the trainer's own, else by sums made by hand."""

import sys

import pytest

from cloud_trainer.advise.rules import RULES, counted, layers, student_of, teacher_of, window
from cloud_trainer.advise.workload import Network
from cloud_trainer.config import KINDS, ModelConfig

SHAPES = {"image": (32, 32, 1), "tabul": (10,), "serie": (128, 3), "forec": (48, 4), "audio": (16000,)}


@pytest.mark.parametrize(("side", "channels", "width"), [(28, 1, 32), (8, 1, 16), (33, 3, 8), (224, 3, 16)])
def test_the_rule_for_images_counts_what_the_network_has(side, channels, width):
    pytest.importorskip("torch")
    from cloud_trainer.models import ResNet, build, macs_of

    found = teacher_of("image-classification", (side, side, channels), 10, ModelConfig(teacher_width=width))
    network = ResNet(input=(channels, side, side), outputs=10, width=width, embedding=32)
    assert found.macs == macs_of(network)
    model = build(network, 0)
    assert found.params == sum(one.numel() for one in model.parameters())


def test_dense_layers_and_convolutions_over_time_by_hand():
    assert layers(3, 5, 2) == (25.0, 32.0)
    macs, params = window((128, 3), 7, 16)
    convolutions = 5 * 3 * 64 * 64 + 5 * 64 * 64 * (32 + 16 + 8)
    assert macs == convolutions + 64 * 32 + 32 * 7
    assert params == 5 * 3 * 64 + 3 * 5 * 64 * 64 + (64 * 32 + 32 * 7 + 32 + 7)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "forecasting"])
def test_without_torch_the_rule_is_within_a_factor_of_two_of_the_trainers_own_network(kind, monkeypatch):
    pytest.importorskip("torch")
    found, rule = (one(kind, SHAPES.get(kind[:5], ()), 5, ModelConfig()) for one in (counted, teacher_of))
    assert found.how.startswith("counted in ")
    assert found.macs / 2 <= rule.macs <= found.macs * 2
    monkeypatch.setitem(sys.modules, "torch", None)
    assert counted(kind, SHAPES.get(kind[:5], ()), 5, ModelConfig()) == rule


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_task_has_a_rule(kind):
    found = teacher_of(kind, SHAPES.get(kind[:5], ()), 5, ModelConfig())
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
