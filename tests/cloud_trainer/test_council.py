"""Who teaches beside the networks, and how much each is heard."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from cloud_trainer import council
from cloud_trainer.config import DataConfig, ModelConfig, TaskConfig
from cloud_trainer.council import gather
from cloud_trainer.data import Dataset, Splits
from cloud_trainer.distillation import Weighted, answering, teach
from cloud_trainer.fit import Encoded
from cloud_trainer.kinds import kind_of
from cloud_trainer.lesson import Lesson
from cloud_trainer.progress import silent
from shared.errors import TrainingError

RANDOM = np.random.default_rng(0)


class Answers(nn.Module):
    """A network that has nothing to learn: what it says is ``f`` of its input."""

    def __init__(self, f):
        super().__init__()
        self.f = f

    def forward(self, x):
        return self.f(x), x


def lesson(kind, x, y, **model) -> Lesson:
    labels = tuple(map(str, range(int(y.max()) + 1))) if y.dtype.kind == "i" else ()
    parts = [Dataset(x[at], y[at], labels, tuple(f"c{i}" for i in range(x.shape[1]))) for at in np.split(
        np.arange(len(x)), [len(x) // 2, len(x) * 3 // 4, len(x) * 7 // 8])]  # fmt: skip
    task = TaskConfig("t", kind, DataConfig("csv"), model=ModelConfig(**model))
    splits, of = Splits(*parts), kind_of(kind)
    prepared = of.prepare(task, splits)
    data, held = (Encoded.of(prepared.encode(part.x), prepared.targets(part.y)) for part in parts[:2])
    return Lesson(task, of, prepared, of.objective(task, prepared, splits), data, held)


def names(advisers):
    return [one.label.partition("-")[0] for one in advisers]


@pytest.fixture(scope="module")
def rows():
    x = RANDOM.normal(size=(400, 4)).astype(np.float32)
    return x, (2 * x[:, 0] + np.sin(2 * x[:, 1]) + 0.3 * RANDOM.normal(size=400)).astype(np.float32)


def test_the_better_is_heard_more(rows):
    one = lesson("tabular-regression", *rows)
    good, bad = Answers(lambda x: x[:, :1]), Answers(lambda x: -9.0 + 0 * x[:, :1])
    with_good, advisers = gather(one, (good, good), silent)
    assert names(advisers) == ["trees", "kernel", "linear"]
    assert [answering(member) for member in with_good[:2]] == [good, good]
    assert sum(member.weight for member in with_good) == pytest.approx(1)
    assert with_good[0].weight == with_good[1].weight
    with_bad, _ = gather(one, (bad,), silent)
    assert bad not in [answering(member) for member in with_bad]  # so light that nobody asks it
    together = one.objective.score(teach(with_good, one.validation.x).answers.numpy(), one.validation.y.numpy())
    assert together > 0.8


def test_classes_are_told_apart_by_all(rows):
    x, y = rows
    one = lesson("tabular-classification", x, np.digitize(y, [-1.0, 1.0]).astype(np.int64))
    members, advisers = gather(one, (Answers(lambda x: torch.zeros(len(x), 3)),), silent)
    assert names(advisers) == ["trees", "kernel", "linear"]
    found = teach(members, one.validation.x).answers
    assert found.shape == (100, 3)
    assert one.objective.score(found.numpy(), one.validation.y.numpy()) > 0.7


def test_what_is_no_network_learns_from_the_validation_split_too(rows, monkeypatch):
    one = lesson("tabular-regression", *rows)
    sizes = {name: [] for name in ("fit_ridge", "fit_kernel", "fit_trees", "refit_trees")}
    for name, seen in sizes.items():
        fit, at = getattr(council, name), name == "refit_trees"
        monkeypatch.setattr(
            council, name, lambda *a, fit=fit, at=at, seen=seen, **more: seen.append(len(a[at])) or fit(*a, **more)
        )
    gather(one, (Answers(lambda x: x[:, :1]),), silent)
    assert sizes == {"fit_ridge": [200, 300], "fit_kernel": [200, 300], "fit_trees": [200], "refit_trees": [300]}


def test_trees_alone_where_they_are_named(rows):
    members, advisers = gather(lesson("tabular-regression", *rows, teacher="trees"), (), silent)
    assert names(advisers) == ["trees"]
    assert members == (advisers[0].answers,)


def test_a_family_that_is_named_has_no_advisers(rows):
    net = Answers(lambda x: x[:, :1])
    assert gather(lesson("tabular-regression", *rows, teacher="mlp"), (net,), silent) == ((net,), ())


def test_the_strength_of_the_linear_model_is_that_of_the_least_loss(rows):
    x, y = rows
    one = lesson("tabular-classification", x, (y > 0).astype(np.int64))
    _, advisers = gather(one, (Answers(lambda x: torch.zeros(len(x), 2)),), silent)
    assert advisers[2].strength > 0.01  # which of all is the worst where a straight line tells so much


def test_many_rows_are_for_trees_and_a_linear_model(rows, monkeypatch):
    monkeypatch.setattr("cloud_trainer.models.kernel.MOST_ROWS", 100)
    _, advisers = gather(lesson("tabular-regression", *rows), (Answers(lambda x: x[:, :1]),), silent)
    assert names(advisers) == ["trees", "linear"]


def test_a_teacher_counts_as_much_as_it_weighs():
    x = torch.ones(3, 2)
    two, six = Answers(lambda x: 2 * x), Answers(lambda x: 6 * x)
    assert teach([two, six], x).answers[0, 0] == 4
    assert teach([Weighted(two, 3.0), six], x).answers[0, 0] == 3
    assert teach([Weighted(two, 0.25), Weighted(lambda x: 6 * x, 0.75)], x).answers[0, 0] == 5
    taught = teach([Weighted(two, 3.0), six], x, feature_weight=1.0)
    assert taught.ask(2 * x)[0][0, 0] == 6
    assert taught.embeddings.shape == (3, 4)
    with pytest.raises(TrainingError, match="teacher 2 answered"):
        teach([Weighted(two, 3.0), Weighted(lambda x: x[:, :1], 1.0)], x)
