"""Tables and forecasts, from splits to trained answers of the pipeline."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
import torch

from cloud_trainer.augment.rows import SwapColumns
from cloud_trainer.config import DataConfig, DistillConfig, FeatureConfig, ModelConfig, TaskConfig, TrainingConfig
from cloud_trainer.data.dataset import Dataset, Splits
from cloud_trainer.fit import Encoded, Plan, answers, train
from cloud_trainer.kinds import kind_of
from cloud_trainer.kinds.forecasts import has_moments
from cloud_trainer.kinds.tables import Targets
from cloud_trainer.lesson import plan
from cloud_trainer.models import build
from shared.errors import DataError
from shared.pipeline.bind import run_fields
from shared.pipeline.spec import Pipeline

QUICK = FeatureConfig(select="none")


def rows(n, seed, *, classes):
    """A number of words and numbers; its sign is the class."""
    random = np.random.default_rng(seed)
    size, kind = random.normal(size=n), random.choice(["a", "b", "c"], n)
    y = size + np.where(kind == "a", 1.5, -0.5) + 0.05 * random.normal(size=n)
    x = np.stack([size.round(3).astype(str), kind], axis=1).astype(object)
    if classes:
        return Dataset(x, (y > 0).astype(np.int64), ("low", "high"), ("size", "kind"))
    return Dataset(x, (100 + 10 * y).astype(np.float32), (), ("size", "kind"))


def splits_of(make, *sizes):
    return Splits(*(make(n, seed) for seed, n in enumerate(sizes)))


def learned(task, splits, epochs=30):
    """The kind's own student, trained, and the fields that its pipeline gives for the test split."""
    kind = kind_of(task.kind)
    prepared = kind.prepare(task, splits)
    data = [Encoded.of(prepared.encode(p.x), prepared.targets(p.y)) for p in (splits.train, splits.validation)]
    objective = kind.objective(task, prepared, splits)
    network = build(kind.students(task, prepared, tuple(data[0].x.shape[1:]))[0], 0)
    train(network, *data, Plan(epochs, 64, 3e-3, 1e-3, 0), objective=objective)
    answer = answers(network, torch.from_numpy(prepared.encode(splits.test.x))).numpy()
    score = objective.score(answer, prepared.targets(splits.test.y))
    return prepared, score, run_fields(prepared.pipeline, {prepared.answer: answer})


def test_classes_of_words_and_numbers_are_learned():
    task = TaskConfig("t", "tabular-classification", DataConfig("csv"), features=QUICK)
    splits = splits_of(lambda n, seed: rows(n, seed, classes=True), 600, 100, 60, 200)
    prepared, score, fields = learned(task, splits)
    assert score > 0.93
    assert set(fields["label"]) == {"low", "high"}
    assert (prepared.sample.dtype, prepared.sample.columns) == ("str", ("size", "kind"))
    assert prepared.outputs == 2
    again = msgspec.json.decode(msgspec.json.encode(prepared.pipeline), type=Pipeline)
    assert again == prepared.pipeline


def test_numbers_come_back_in_their_own_unit():
    task = TaskConfig("t", "tabular-regression", DataConfig("csv"), features=QUICK)
    splits = splits_of(lambda n, seed: rows(n, seed, classes=False), 600, 100, 60, 200)
    prepared, score, fields = learned(task, splits)
    assert score > 0.93
    values = np.array(fields["value"], float)
    assert np.corrcoef(values, splits.test.y)[0, 1] > 0.96
    assert abs(values.mean() - splits.test.y.mean()) < 2
    assert prepared.answer == "output"


def test_forecasts_are_learned_for_every_step():
    def series(n, seed):
        at = np.arange(n + 20)[:, None] + np.arange(16) + 100 * seed
        wave = np.sin(at * np.pi / 4) * 3 + 7
        wave += 0.1 * np.random.default_rng(seed).normal(size=wave.shape)
        return Dataset(wave[:n, :12, None].astype(np.float32), wave[:n, 12:].astype(np.float32), (), ("load",))

    task = TaskConfig("t", "forecasting", DataConfig("csv", history=12, horizon=4), features=QUICK)
    prepared, score, fields = learned(task, splits_of(series, 300, 60, 60, 100))
    assert score > 0.9
    assert np.shape(fields["value"][0]) == (4,)
    assert prepared.outputs == 4
    assert prepared.sample.shape == (12, 1)
    assert "every 8 steps" in prepared.notes[0]


def test_a_forecast_begins_at_the_mean_of_the_last_season():
    def grown(n, seed):
        at = np.arange(n)[:, None] + np.arange(16) + 100 * seed
        wave = np.sin(at * np.pi / 4) * 3 + 7 + (1000.0 if seed == 3 else 0.0)
        return Dataset(wave[:, :12, None].astype(np.float32), wave[:, 12:].astype(np.float32), (), ("load",))

    task = TaskConfig("t", "forecasting", DataConfig("csv", history=12, horizon=4), features=QUICK)
    splits = splits_of(grown, 300, 60, 60, 100)
    prepared = kind_of(task.kind).prepare(task, splits)
    student = kind_of(task.kind).students(task, prepared, prepared.encode(splits.train.x).shape[1:])[0]
    model = build(student, 0).eval()
    torch.nn.init.zeros_(model.head.answer.weight)
    torch.nn.init.zeros_(model.head.answer.bias)
    with torch.no_grad():
        said = model(torch.from_numpy(prepared.encode(splits.train.x)))[0].numpy()
    expected = prepared.targets(np.repeat(splits.train.x[:, 4:, 0].mean(1, keepdims=True), 4, axis=1))
    assert np.allclose(said, expected, atol=1e-4)


def test_the_last_channel_is_the_time_if_it_is_named_so_or_looks_like_it():
    seconds = 1.7e9 + 3600.0 * (np.arange(20)[:, None] + np.arange(6))
    load = np.random.default_rng(0).normal(size=(20, 6))
    task = TaskConfig("t", "forecasting", DataConfig("npz", history=6))

    def shown(last):
        return Dataset(np.stack([load, last], axis=2), load[:, :1], columns=("load", "other"))

    assert has_moments(task, shown(seconds))
    assert not has_moments(task, shown(load))
    assert not has_moments(task, shown(seconds[:, ::-1]))
    named = msgspec.structs.replace(task, data=DataConfig("npz", history=6, time="other"))
    assert has_moments(named, shown(seconds[:, ::-1]))


def test_teachers_are_networks_and_trees_unless_the_task_names_one():
    task = TaskConfig("t", "tabular-regression", DataConfig("csv"), features=QUICK)
    kind = kind_of(task.kind)
    prepared = kind.prepare(task, splits_of(lambda n, seed: rows(n, seed, classes=False), 200, 60, 60, 60))
    shape = prepared.encode(rows(1, 0, classes=False).x).shape[1:]
    assert len(kind.teachers(task, prepared, shape)) == 2
    assert kind.trees(task, prepared)
    named = msgspec.structs.replace(task, model=ModelConfig(teacher="mlp", ensemble=3))
    assert len(kind.teachers(named, prepared, shape)) == 3
    assert not kind.trees(named, prepared)


@pytest.mark.parametrize("kind", ["tabular-regression", "tabular-classification", "forecasting"])
def test_samples_of_another_shape_are_refused(kind):
    part = Dataset(np.zeros((60, 2, 2, 2), np.float32), np.arange(60) % 2, ("a", "b"))
    with pytest.raises(DataError, match=f"{kind} takes"):
        kind_of(kind).prepare(TaskConfig("t", kind, DataConfig("npz")), Splits(part, part, part, part))


def test_a_target_that_never_changes_is_refused():
    with pytest.raises(DataError, match="the target is 3 in every row"):
        Targets.fit(np.full(9, 3.0), "tabular-regression")


def test_columns_are_swapped_whole_and_keep_their_values():
    x = torch.arange(40.0).reshape(10, 4)
    swap = SwapColumns((0, 0, 1, 1), share=0.5)
    altered = swap(x, torch.Generator().manual_seed(0))
    assert not torch.equal(altered, x)
    assert torch.equal(altered[:, 1] - altered[:, 0], torch.ones(10))  # both numbers of a column from the same row
    assert (altered[:, 2] % 4 == 2).all()
    assert torch.equal(swap(x, torch.Generator().manual_seed(0)), altered)
    assert torch.equal(SwapColumns((0, 0, 1, 1), share=0.0)(x, torch.Generator()), x)


def test_a_cycle_of_the_calendar_is_swapped_as_one():
    random = np.random.default_rng(0)

    def part(n, seed):
        seconds = 1.7e9 + 3600.0 * random.integers(0, 4000, n)
        x = np.stack([seconds, random.normal(size=n)], axis=1)
        return Dataset(x, (np.sin(seconds * np.pi / 43200) + x[:, 1]).astype(np.float32), (), ("when", "load"))

    task = TaskConfig("t", "tabular-regression", DataConfig("csv", time="when"), features=QUICK)
    kind = kind_of(task.kind)
    prepared = kind.prepare(task, splits_of(part, 300, 60, 60, 60))
    assert kind.augment(task, prepared) is None  # from labels alone it would do harm
    refused = msgspec.structs.replace(task, training=TrainingConfig(augment=False))
    assert kind.augment_taught(refused, prepared) is None
    swap = kind.augment_taught(task, prepared)
    names = {"load", "hour", "weekday", "monthday", "weekend"}
    assert len(set(swap.sources)) == len(names)
    assert len(swap.sources) == prepared.encode(splits_of(part, 1, 1, 1, 1).train.x).shape[1]


def test_numbers_stop_early_and_listen_to_their_teachers_unless_the_task_says_otherwise():
    task = TaskConfig("t", "tabular-regression", DataConfig("csv"))
    kind = kind_of(task.kind)
    assert plan(task, 20, 1.0, 250, 0, kind.patience).patience == 100  # a third of the 300 epochs of 600 updates
    assert plan(task, 20, 1.0, 250, 0, kind_of("tabular-classification").patience).patience == 0
    named = msgspec.structs.replace(task, training=TrainingConfig(patience=7))
    assert plan(named, 20, 1.0, 250, 0, kind.patience).patience == 7
    assert task.distill.weight(1.0) == 1.0
    assert DistillConfig(teacher_weight=0.3).weight(1.0) == 0.3
