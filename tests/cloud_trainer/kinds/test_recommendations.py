"""What comes next: users who go round in circles, each in a circle of his own taste; and candidates of a query."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
import torch

from cloud_trainer import metrics
from cloud_trainer.config import ModelConfig, TrainingConfig
from cloud_trainer.data import Dataset
from cloud_trainer.exporting.to_onnx import export_onnx
from cloud_trainer.fit import Encoded, Plan, train
from cloud_trainer.kinds.counts import count
from cloud_trainer.kinds.recommendations import Recommendation
from cloud_trainer.models import build
from edge_agent import Engine
from edge_agent.bare import describe
from shared.errors import DataError
from shared.pipeline.ranking import Exclude
from shared.pipeline.spec import Pipeline
from tests.cloud_trainer.kinds.generated import dealt, task

KIND = Recommendation()
CONFIG = task("recommendation", model=ModelConfig(teacher_width=8))
ITEMS, HISTORY = 12, 6


def circles(n: int = 300, *, seed: int = 0) -> Dataset:
    """Item ``i`` is followed by ``i + step``, where the step is the user's; histories have any length."""
    random = np.random.default_rng(seed)
    step, last, length = random.integers(1, 3, n), random.integers(0, ITEMS, n), random.integers(1, HISTORY + 1, n)
    age = np.arange(HISTORY - 1, -1, -1)
    places = (last[:, None] - age * step[:, None]) % ITEMS
    names = np.array([f"item {i}" for i in range(ITEMS)], object)
    x = np.where(age < length[:, None], names[places], "").astype(object)
    users = np.array([f"user {i % 30}" for i in range(n)])
    return Dataset(x, ((last + step) % ITEMS).astype(np.int64), tuple(names), (), users, np.arange(n, dtype=float))


@pytest.fixture(scope="module")
def splits():
    return dealt(circles())


@pytest.fixture(scope="module")
def prepared(splits):
    return KIND.prepare(CONFIG, splits)


def encoded(prepared, part) -> Encoded:
    return Encoded.of(prepared.encode(part.x), prepared.targets(part.y))


def test_a_student_learns_it_and_a_device_ranks_as_the_trainer_saw(splits, prepared, tmp_path):
    data, validation = encoded(prepared, splits.train), encoded(prepared, splits.validation)
    student = KIND.students(CONFIG, prepared, (HISTORY,))[0].with_width(16)
    model = build(student, 0)
    objective = KIND.objective(CONFIG, prepared, splits)
    train(model, data, validation, Plan(60, 32, 1e-2, 1e-4, 0), objective=objective)
    answer, right = KIND.graded(prepared, [model], splits, splits.test)
    popular = np.tile(objective.constant(splits.train.y), (len(right), 1))
    assert objective.score(answer, right) > 0.7 > objective.score(popular, right) + 0.2

    export_onnx(model, (HISTORY,), tmp_path / "model.onnx", tokens=True, outputs=(prepared.answer, "embedding"))
    bare = describe(tmp_path / "model.onnx")
    pipeline = msgspec.json.decode(msgspec.json.encode(prepared.pipeline), type=Pipeline)
    rank = pipeline.decode[0]
    excluded = splits.train.labels[0]
    pipeline = msgspec.structs.replace(
        pipeline, decode=(msgspec.structs.replace(rank, rules=(*rank.rules, Exclude(ids=(excluded,)))),)
    )
    manifest = msgspec.structs.replace(bare, task="ranking", sample=prepared.sample, pipeline=pipeline)
    engine = Engine(manifest, tmp_path, manifest.variants[0])
    for sample, scores in zip(splits.test.x[:10], answer, strict=False):
        found = engine.infer(sample)
        order = [splits.train.labels[i] for i in np.argsort(-scores, kind="stable")]
        assert [one["id"] for one in found.value] == [item for item in order if item != excluded]
    for strange in ([""] * HISTORY, ["", "", "", "", "never seen", "item 3"]):
        assert len(engine.infer(np.array(strange, object)).value) == ITEMS - 1


def test_unknown_items_and_padding_are_place_0(prepared):
    x = np.array([["", "", "", "", "never seen", "item 3"]], object)
    row = prepared.encode(x)[0]
    assert row[:5].tolist() == [0] * 5
    assert row[5] == 1 + prepared.pipeline.decode[0].items.index(prepared.pipeline.decode[0].items[3])


def test_counts_know_what_follows_what_and_lean_on_what_is_popular_where_nothing_is_known(splits, prepared):
    data, validation = encoded(prepared, splits.train), encoded(prepared, splits.validation)
    adviser = KIND.adviser(CONFIG, prepared, data, validation)
    assert adviser is not None
    answer, right = KIND.graded(prepared, [adviser.answers], splits, splits.test)
    assert metrics.ndcg(answer, right) > 0.55
    nothing = adviser.answers(np.zeros((1, HISTORY), np.int64))[0]
    np.testing.assert_array_equal(np.argsort(nothing), np.argsort(adviser.prior))
    assert adviser.macs == HISTORY * ITEMS
    assert adviser.bytes == 4 * ITEMS * ITEMS


def test_counts_of_one_history_and_one_item():
    x, y = np.array([[0, 1]]), np.array([0])
    assert np.isfinite(count(x, y, (x, y), 1).answers(x)).all()


def test_a_teacher_of_ones_own_has_no_adviser(splits, prepared):
    data = encoded(prepared, splits.train)
    config = task("recommendation", model=ModelConfig(teacher="next-item"))
    assert KIND.adviser(config, prepared, data, data) is None


def test_augmentation_can_be_refused(prepared):
    assert KIND.augment(task("recommendation", training=TrainingConfig(augment=False)), prepared) is None
    alter = KIND.augment(CONFIG, prepared)
    x = torch.ones(50, HISTORY, dtype=torch.int64)
    assert (alter(x, torch.Generator().manual_seed(0)) == 0).any()


def candidates(n: int = 300) -> Dataset:
    """Five candidates a query; the dearer the less relevant."""
    random = np.random.default_rng(0)
    x = random.normal(size=(n, 3)).astype(np.float32)
    y = np.clip(np.round(1.5 - x[:, 0]), 0, 3).astype(np.float32)
    return Dataset(x, y, (), ("price", "rating", "age"), np.repeat([f"q{i}" for i in range(n // 5)], 5))


def test_candidates_of_a_query_are_scored_as_numbers_are_foretold():
    splits = dealt(candidates())
    prepared = KIND.prepare(CONFIG, splits)
    assert prepared.outputs == 1
    assert prepared.sample.columns == ("price", "rating", "age")
    data = encoded(prepared, splits.train)
    assert KIND.trees(CONFIG, prepared)
    assert KIND.adviser(CONFIG, prepared, data, data) is None
    assert KIND.teachers(CONFIG, prepared, tuple(data.x.shape[1:]))[0].family == "mlp"
    assert KIND.students(CONFIG, prepared, tuple(data.x.shape[1:]))[0].family == "mlp"
    assert KIND.objective(CONFIG, prepared, splits).metric == "r2"


def test_candidates_without_queries_are_refused():
    data = msgspec.structs.replace(candidates(), groups=None)
    with pytest.raises(DataError, match=r"data\.group"):
        KIND.prepare(CONFIG, dealt(data))


def test_histories_of_numbers_are_refused(splits):
    wrong = msgspec.structs.replace(splits, train=msgspec.structs.replace(splits.train, x=np.zeros((5, 4))))
    with pytest.raises(DataError, match="histories of item ids"):
        KIND.prepare(CONFIG, wrong)
