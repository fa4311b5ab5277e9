"""MACs of plain networks: against torch where the network is the trainer's own, else by sums made by hand."""

import sys

import pytest

from cloud_trainer.advise.networks import counted
from cloud_trainer.advise.rules import RULES, encoded, layers, student_of, teachers_of
from cloud_trainer.advise.workload import Network
from cloud_trainer.config import KINDS, DataConfig, ModelConfig, TaskConfig
from cloud_trainer.room import teacher_room
from shared.errors import SanderlingError

SHAPES = {"image": (32, 32, 1), "tabul": (10,), "serie": (128, 3), "forec": (48, 4), "audio": (16000,)}


def task(kind, group="", **model):
    data = DataConfig(format="python", factory="nobody:nothing", group=group)
    return TaskConfig(name="a", kind=kind, data=data, model=ModelConfig(**model))


def test_dense_layers_by_hand():
    assert layers(3, 5, 2) == (25.0, 32.0)


EVERY = [
    ("image-classification", (28, 28), {}),
    ("image-classification", (28, 28, 1), {"ensemble": 3}),
    ("image-classification", (8, 8), {}),
    ("image-classification", (33, 40, 3), {"teacher_width": 8}),
    ("image-classification", (224, 224, 3), {"teacher_width": 64}),
    ("image-classification", (224, 224, 3), {}),
    ("image-anomaly", (32, 32), {}),
    ("image-anomaly", (8, 8), {"teacher_width": 3, "embedding": 100}),
    ("image-anomaly", (224, 224, 3), {"teacher_width": 64}),
    ("image-anomaly", (640, 480, 3), {}),
    ("tabular-classification", (30,), {}),
    ("tabular-regression", (30,), {"ensemble": 3, "teacher_width": 100}),
    ("series-classification", (160, 6), {}),
    ("series-classification", (9, 1), {"teacher_width": 5}),
    ("series-classification", (40,), {}),
    ("forecasting", (48, 4), {}),
    ("audio-classification", (16000,), {}),
    ("audio-classification", (60, 13), {"teacher_width": 16, "ensemble": 1}),
    ("text-classification", (), {}),
    ("recommendation", (10,), {}),
    ("recommendation", (20,), {"ensemble": 2, "teacher_width": 16}),
    ("recommendation", (20,), {"group": "query"}),
]


@pytest.mark.parametrize(("kind", "shape", "more"), EVERY)
def test_without_torch_the_rule_makes_the_same_sums(kind, shape, more, monkeypatch):
    pytest.importorskip("torch")
    from cloud_trainer import sizing

    monkeypatch.setattr(sizing, "multiplies_bf16", lambda: False)  # of this machine, which the rule does not look at
    asked = task(kind, **more)
    found, rule = (one(asked, shape, 7, 5000) for one in (counted, teachers_of))
    assert found.how.startswith("counted in the trainer's ")
    assert rule.how.startswith("rule: ")
    assert (rule.macs, rule.params, rule.count) == (found.macs, found.params, found.count)
    monkeypatch.setitem(sys.modules, "torch", None)
    assert counted(asked, shape, 7, 5000) == rule


@pytest.mark.parametrize("shape", [(20, 24), (20, 24, 1), (20, 24, 3)])
def test_images_are_read_as_the_trainers_pipeline_gives_them(shape):
    pytest.importorskip("torch")
    import numpy as np

    from cloud_trainer.data import Dataset
    from cloud_trainer.features import fit_pipeline
    from shared.pipeline.bind import run_arrays

    x = np.random.default_rng(0).integers(0, 255, (6, *shape)).astype(np.uint8)
    given = run_arrays(fit_pipeline(Dataset(x, np.zeros(6, np.int64), ("a", "b"))), x).shape[1:]
    assert encoded(task("image-classification"), shape) == given


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", ["cnn1d", "mlp", "resnet", "nonsense"])
def test_a_family_is_counted_or_refused_in_one_line(kind, family, monkeypatch):
    pytest.importorskip("torch")
    shape = SHAPES.get(kind[:5], ())
    asked = task(kind, teacher=family)
    found, refused = None, None
    try:
        found = counted(asked, shape, 5, 1000)
    except SanderlingError as error:
        refused = str(error)
    if found is None:
        assert family in refused
        assert "\n" not in refused
    else:
        assert f"{family}-" in found.how
        assert found.macs > 0
    monkeypatch.setitem(sys.modules, "torch", None)
    assert f"model.teacher = {family!r} can only be counted where torch is installed" in counted(asked, shape, 5, 9).how


def test_where_trees_teach_the_usual_networks_are_what_a_student_is_measured_by():
    asked = task("tabular-regression", teacher="trees")
    usual = counted(task("tabular-regression"), (10,), 1, 1000)
    found = counted(asked, (10,), 1, 1000)
    assert (found.macs, found.count) == (usual.macs, 2)
    assert found.how.endswith("; trees teach")


@pytest.mark.parametrize("kind", KINDS)
def test_ones_own_network_is_not_called_and_counts_once(kind, monkeypatch):
    asked = task(kind, teacher_factory="mine:network")
    for _ in range(2):
        found = counted(asked, SHAPES.get(kind[:5], ()), 5, 1000)
        assert found.how.endswith("; model.teacher_factory is not called, see --macs")
        assert found.count == 1
        monkeypatch.setitem(sys.modules, "torch", None)


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
