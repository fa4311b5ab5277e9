"""Sensors, sounds and texts: what every kind of classification promises, on small generated sets."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
import torch

from cloud_trainer.config import FeatureConfig, ModelConfig, TrainingConfig
from cloud_trainer.exporting.to_onnx import export_onnx
from cloud_trainer.fit import Encoded, Plan, train
from cloud_trainer.kinds import kind_of
from cloud_trainer.kinds.classes import SMOOTHING
from cloud_trainer.kinds.series import SeriesClassification
from cloud_trainer.kinds.sounds import AudioClassification
from cloud_trainer.kinds.texts import TextClassification
from cloud_trainer.kinds.views import Effort
from cloud_trainer.models import build, macs_of
from edge_agent import Engine
from edge_agent.bare import describe
from shared.pipeline.spec import Pipeline
from tests.cloud_trainer.kinds.generated import dealt, messages, movements, task, tones

KINDS = {
    "series-classification": movements,
    "audio-classification": tones,
    "text-classification": messages,
}
every = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture(autouse=True)
def little_effort(monkeypatch):
    for one in (SeriesClassification, AudioClassification, TextClassification):
        monkeypatch.setattr(one, "effort", Effort(train=40, updates=24))


@pytest.fixture(scope="module")
def ready():
    """Each kind with its splits and what it prepared."""
    with pytest.MonkeyPatch.context() as patch:
        for one in (SeriesClassification, AudioClassification, TextClassification):
            patch.setattr(one, "effort", Effort(train=40, updates=24))
        made = {}
        for name, data in KINDS.items():
            splits = dealt(data())
            made[name] = (kind_of(name), splits, kind_of(name).prepare(task(name), splits))
    return made


@every
def test_a_student_learns_it_and_a_device_says_what_the_trainer_saw(kind, ready, tmp_path):
    made, splits, prepared = ready[kind]
    config = task(kind)
    data, validation = (
        Encoded.of(prepared.encode(part.x), prepared.targets(part.y)) for part in (splits.train, splits.validation)
    )
    shape = tuple(data.x.shape[1:])
    architecture = made.students(config, prepared, shape)[0]
    model = build(architecture, 0)
    objective = made.objective(config, prepared, splits)
    train(
        model,
        data,
        validation,
        Plan(25, 16, 3e-3, 1e-4, 0),
        objective=objective,
        augment=made.augment(config, prepared),
    )
    with torch.no_grad():
        expected = torch.softmax(model(torch.from_numpy(prepared.encode(splits.test.x)))[0], 1).numpy()
    assert (expected.argmax(1) == splits.test.y).mean() > 0.85

    export_onnx(model, shape, tmp_path / "model.onnx", tokens=architecture.tokens)
    bare = describe(tmp_path / "model.onnx")
    pipeline = msgspec.json.decode(msgspec.json.encode(prepared.pipeline), type=Pipeline)
    manifest = msgspec.structs.replace(
        bare, task=made.task, sample=prepared.sample, pipeline=pipeline, labels=splits.train.labels
    )
    engine = Engine(manifest, tmp_path, manifest.variants[0])
    found = [engine.infer(sample) for sample in splits.test.x[:10]]
    np.testing.assert_allclose([answer.scores for answer in found], expected[:10], atol=2e-5)
    assert [answer.label for answer in found] == [splits.train.labels[i] for i in expected[:10].argmax(1)]
    np.testing.assert_allclose(engine.outputs(splits.test.x)["scores"], expected, atol=2e-5)


def test_the_same_data_gives_the_same_pipeline(ready):
    _, splits, prepared = ready["text-classification"]
    again = kind_of("text-classification").prepare(task("text-classification"), splits)
    assert again.pipeline == prepared.pipeline
    assert again.features == prepared.features


@every
def test_what_was_tried_is_told_and_something_is_kept(kind, ready):
    _, _, prepared = ready[kind]
    assert any(feature.kept for feature in prepared.features.features)
    assert prepared.features.measure
    assert sum("view" in note for note in prepared.notes) >= 2
    assert sum("(kept)" in note for note in prepared.notes) == 1


@every
def test_teachers_are_bigger_than_students_and_as_many_as_were_asked_for(kind, ready):
    made, splits, prepared = ready[kind]
    config = task(kind, model=ModelConfig(ensemble=3))
    shape = prepared.encode(splits.test.x[:1]).shape[1:]
    teachers = made.teachers(config, prepared, shape)
    assert len(teachers) == 3
    assert teachers[0].input == shape
    assert teachers[0].outputs == len(splits.train.labels)
    assert all(macs_of(teachers[0]) > 2 * macs_of(student) for student in made.students(config, prepared, shape))


@every
def test_a_family_can_be_asked_for_by_name(kind, ready):
    made, splits, prepared = ready[kind]
    family = "transformer" if prepared.encode(splits.test.x[:1]).dtype == np.int64 else "mlp"
    config = task(kind, model=ModelConfig(teacher=family, student=family))
    shape = prepared.encode(splits.test.x[:1]).shape[1:]
    assert {one.family for one in made.students(config, prepared, shape)} == {family}
    assert {one.family for one in made.teachers(config, prepared, shape)} == {family}


@every
def test_without_engineering_samples_are_only_brought_into_shape(kind, ready):
    _, splits, _ = ready[kind]
    plain = kind_of(kind).prepare(task(kind, features=FeatureConfig(engineer=False)), splits)
    assert len(plain.features.features) == 1
    assert len(prepared_input(plain, splits)) == len(splits.test)


def prepared_input(prepared, splits):
    out = prepared.encode(splits.test.x)
    assert out.dtype in {np.dtype(np.float32), np.dtype(np.int64)}
    return out


@every
def test_augmentation_can_be_refused_and_asked_for(kind, ready):
    made, splits, prepared = ready[kind]
    assert made.augment(task(kind, training=TrainingConfig(augment=False)), prepared) is None
    alter = made.augment(task(kind, training=TrainingConfig(augment=True)), prepared)
    x = torch.from_numpy(prepared.encode(splits.train.x))
    out = alter(x, torch.Generator().manual_seed(0))
    assert out.shape == x.shape
    assert out.dtype == x.dtype
    assert not torch.equal(out, x)


@every
def test_labels_are_smoothed_as_the_task_says_and_a_little_where_it_says_nothing(kind, ready):
    made, splits, prepared = ready[kind]
    assert made.objective(task(kind), prepared, splits).label_smoothing == SMOOTHING
    for wanted in (0.0, 0.3):
        config = task(kind, training=TrainingConfig(label_smoothing=wanted))
        assert made.objective(config, prepared, splits).label_smoothing == wanted
