"""Gradient-boosted trees: the same answers as scikit-learn, in numpy, in ONNX and through the engine."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes, load_wine

from cloud_trainer.models import Limits
from cloud_trainer.models import trees as module
from cloud_trainer.models.trees import ABSENT, TreePlan, export_trees, fit_trees, refit_trees
from edge_agent import Engine
from edge_agent.bare import describe
from shared.errors import TrainingError

PLAN = TreePlan(leaves=(4, 7), rounds=30, samples_in_leaf=5)


def accuracy(answers, y):
    return float((answers.argmax(1) == y).mean())


def r2(answers, y):
    return 1 - float(((answers[:, 0] - y.reshape(-1)) ** 2).mean() / y.var())


def rows(load, holes=False):
    """Train, validation and test rows; ``holes``: a tenth of the values is missing."""
    data = load()
    rng = np.random.default_rng(0)
    order = rng.permutation(len(data.target))
    x = data.data[order].astype(np.float32)
    if holes:
        x[rng.random(x.shape) < 0.1] = np.nan
    y = data.target[order]
    y = y.astype(np.int64) if load is not load_diabetes else ((y - y.mean()) / y.std()).astype(np.float32)
    third = len(y) // 4
    return [(x[part], y[part]) for part in (slice(2 * third, None), slice(third), slice(third, 2 * third))]


@pytest.fixture
def fitted(monkeypatch):
    """Fits, and gives what scikit-learn fitted beside it."""

    def fit(load, outputs, score, *, holes=False, **options):
        boosters = []
        boost = module._boost
        monkeypatch.setattr(module, "_boost", lambda *args: boosters.append(boost(*args)) or boosters[-1])
        train, validation, test = rows(load, holes)
        trees = fit_trees(*train, validation, outputs=outputs, score=score, **({"plan": PLAN} | options))
        used = boosters[PLAN.leaves.index(trees.leaves)] if "plan" not in options else boosters[0]
        return trees, used[0][0], test

    return fit


def staged(booster, x, rounds, what):
    return next(value for i, value in enumerate(getattr(booster, what)(x), 1) if i == rounds)


@pytest.mark.parametrize("holes", [False, True], ids=["whole", "values missing"])
@pytest.mark.parametrize("load", [load_wine, load_breast_cancer, load_diabetes], ids=["three", "two", "numbers"])
def test_answers_are_scikit_learn_s_in_numpy_onnx_and_the_engine(fitted, tmp_path, load, holes):
    outputs = {load_wine: 3, load_breast_cancer: 2, load_diabetes: 1}[load]
    trees, booster, (x, y) = fitted(load, outputs, r2 if load is load_diabetes else accuracy, holes=holes)
    if load is load_diabetes:
        expected = staged(booster, x, trees.rounds, "staged_predict")[:, None]
    else:
        expected = staged(booster, x, trees.rounds, "staged_decision_function").reshape(len(x), -1)
        expected = np.hstack([np.zeros_like(expected), expected]) if outputs == 2 else expected
    found = trees.answers(x)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    assert (r2 if load is load_diabetes else accuracy)(found, y) > (0.2 if load is load_diabetes else 0.85)

    path = tmp_path / "trees.onnx"
    export_trees(trees, path, answer="answer" if load is load_diabetes else "logits")
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(None, {"input": x})[0], expected, rtol=1e-4, atol=1e-5)
    assert trees.bytes == pytest.approx(path.stat().st_size, rel=0.2)

    if not holes:
        labels = [] if load is load_diabetes else [f"c{i}" for i in range(outputs)]
        manifest = describe(path, labels=labels) if labels else describe(path)
        engine = Engine(manifest, tmp_path, manifest.variants[0])
        answer = engine.infer(x[0])
        if labels:
            shifted = np.exp(expected[0] - expected[0].max())
            np.testing.assert_allclose(answer.scores, shifted / shifted.sum(), rtol=1e-4)
        else:
            np.testing.assert_allclose(answer.outputs["answer"], expected[0], rtol=1e-4)
        engine.close()


def test_thresholds_in_float32_take_every_branch_that_float64_takes():
    rng = np.random.default_rng(1)
    for threshold in rng.normal(size=500):
        below = module._down(threshold)
        around = np.nextafter(np.float32(threshold), np.float32([-9, 9, 0]), dtype=np.float32)
        for x in (np.float32(threshold), *around):
            assert (float(x) <= threshold) == (float(x) <= below)


def test_operations_are_the_comparisons_of_the_mean_sample(fitted):
    trees, _, _ = fitted(load_wine, 3, accuracy, plan=TreePlan(leaves=(4,), rounds=1, samples_in_leaf=5))
    train = rows(load_wine)[0][0]
    for tree in trees.trees:
        steps = []
        for row in train:
            place, count = 0, 1
            while tree.nodes[place].feature >= 0:
                node = tree.nodes[place]
                place, count = (node.left if row[node.feature] <= node.threshold else node.right), count + 1
            steps.append(count)
        assert tree.operations == pytest.approx(np.mean(steps))


def test_ensemble_keeps_to_its_limits(fitted):
    free, _, _ = fitted(load_breast_cancer, 2, accuracy)
    tight, _, _ = fitted(load_breast_cancer, 2, accuracy, limits=Limits(macs=15, bytes=2200))
    assert tight.macs <= 15
    assert tight.bytes <= 2200
    assert free.macs > 15
    with pytest.raises(TrainingError, match="no tree fits into 1 operations and any bytes"):
        fitted(load_breast_cancer, 2, accuracy, limits=Limits(macs=1))


def test_a_class_without_samples_is_never_the_answer():
    (x, y), validation, _ = rows(load_breast_cancer)
    trees = fit_trees(x, y * 2, validation, outputs=4, score=accuracy, plan=PLAN)
    found = trees.answers(x)
    assert found.shape == (len(x), 4)
    assert (found[:, [1, 3]] == ABSENT).all()
    assert accuracy(found, y * 2) > 0.9


def test_several_numbers_have_trees_of_their_own():
    (x, y), _, _ = rows(load_diabetes)
    both = np.stack([y, -2 * y], 1)
    trees = fit_trees(x, both, (x, both), outputs=2, score=lambda a, t: -float(((a - t) ** 2).mean()), plan=PLAN)
    np.testing.assert_allclose(trees.answers(x)[:, 1], -2 * trees.answers(x)[:, 0], atol=1e-3)


def test_what_cannot_be_fitted_says_why():
    (x, y), validation, _ = rows(load_wine)
    with pytest.raises(TrainingError, match="at least two classes among the training samples, not 1"):
        fit_trees(x, y * 0, validation, outputs=3, score=accuracy)
    with pytest.raises(TrainingError, match="y has 1 numbers a sample; expected 2"):
        fit_trees(x, y.astype(np.float32), validation, outputs=2, score=accuracy)


def test_trees_that_are_fitted_again_have_their_size_and_know_the_new_rows():
    (x, y), validation, (test, truth) = rows(load_wine)
    first = fit_trees(x, y, validation, outputs=3, score=accuracy, plan=PLAN)
    both = np.concatenate([x, validation[0]]), np.concatenate([y, validation[1]])
    again = refit_trees(first, *both, plan=PLAN)
    assert (again.leaves, again.rounds, len(again.trees)) == (first.leaves, first.rounds, len(first.trees))
    assert accuracy(again.answers(validation[0]), validation[1]) >= accuracy(
        first.answers(validation[0]), validation[1]
    )
    assert accuracy(again.answers(test), truth) >= accuracy(first.answers(test), truth) - 0.05
    assert not np.array_equal(again.answers(test), first.answers(test))
