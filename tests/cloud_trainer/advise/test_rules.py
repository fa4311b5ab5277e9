"""MACs of plain networks: against torch where the network is the trainer's own, else by sums made by hand."""

import sys

import pytest

from cloud_trainer.advise.networks import counted
from cloud_trainer.advise.rules import RULES, layers, student_of, teachers_of, window
from cloud_trainer.advise.workload import Network
from cloud_trainer.config import KINDS, DataConfig, ModelConfig, TaskConfig
from cloud_trainer.room import teacher_room

SHAPES = {"image": (32, 32, 1), "tabul": (10,), "serie": (128, 3), "forec": (48, 4), "audio": (16000,)}


def task(kind, **model):
    data = DataConfig(format="python", factory="nobody:nothing")
    return TaskConfig(name="a", kind=kind, data=data, model=ModelConfig(**model))


@pytest.mark.parametrize(("side", "channels", "width"), [(28, 1, 32), (8, 1, 16), (33, 3, 8), (224, 3, 16)])
def test_the_rule_for_images_counts_what_the_network_has(side, channels, width):
    pytest.importorskip("torch")
    from cloud_trainer.models import ResNet, build, macs_of

    found = teachers_of(task("image-classification", teacher_width=width), (side, side, channels), 10, 1000)
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
def test_without_torch_the_rule_is_within_a_factor_of_two_of_the_trainers_own_networks(kind, monkeypatch):
    pytest.importorskip("torch")
    shape = SHAPES.get(kind[:5], ())
    found, rule = (one(task(kind), shape, 5, 1000) for one in (counted, teachers_of))
    assert found.how.startswith("counted in ")
    assert found.macs / 2 <= rule.macs <= found.macs * 2
    monkeypatch.setitem(sys.modules, "torch", None)
    assert counted(task(kind), shape, 5, 1000) == rule


def test_counted_are_the_teachers_that_a_training_takes():
    """Those of two real trainings, as their releases tell."""
    pytest.importorskip("torch")
    digits = counted(task("image-classification"), (8, 8), 10, 900)
    assert digits.macs == 7_926_688
    assert digits.how == "counted in the trainer's 2 resnet-w117 for 8x8"
    texts = counted(task("text-classification"), (), 2, 3000)
    assert texts.macs == pytest.approx(2_121_856, rel=0.01)
    three = counted(task("text-classification", ensemble=3), (), 2, 3000)
    assert three.macs == 1.5 * texts.macs
    assert counted(task("image-classification", teacher_width=32), (28, 28), 10, 900).macs == 14_087_616
    other = counted(task("image-classification", teacher="mobilenet"), (28, 28), 10, 900)
    assert other.how.startswith("counted in the trainer's 2 mobilenet-")
    own = counted(task("image-classification", teacher_factory="mine:network"), (28, 28), 10, 900)
    assert own.how.endswith("; model.teacher_factory is not called, see --macs")


@pytest.mark.parametrize("samples", [100, 20_000, 10**9])
def test_teachers_of_images_are_of_use_however_many_there_are(samples):
    assert 8_000_000 <= teacher_room(task("image-classification"), samples, 28 * 28) <= 28 * 28 * 75_000
    assert teacher_room(task("image-classification"), samples, 64) == 8_000_000


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_task_has_a_rule(kind):
    found = teachers_of(task(kind), SHAPES.get(kind[:5], ()), 5, 1000)
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
