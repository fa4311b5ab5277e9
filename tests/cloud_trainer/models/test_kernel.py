"""Kernel machines and ridges that teach: beside scikit-learn, and what they leave to others."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from cloud_trainer.models import kernel
from cloud_trainer.models.kernel import fit_kernel
from cloud_trainer.models.linear import fit_ridge

sklearn = pytest.importorskip("sklearn")
RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(240, 3)).astype(np.float32)
RING = (np.square(X[:, :2]).sum(axis=1) > 1.4).astype(np.int64)
CURVE = (np.sin(2 * X[:, :1]) + 0.1 * RANDOM.normal(size=(240, 1))).astype(np.float32)


def test_curves_and_rings_are_learned():
    numbers = fit_kernel(X[:160], CURVE[:160], outputs=1)
    found = numbers.answers(X[160:])
    assert found.shape == (80, 1)
    assert found.dtype == np.float32
    assert np.square(found - CURVE[160:]).mean() < 0.1 * CURVE.var()
    classes = fit_kernel(X[:160], RING[:160], outputs=2)
    assert (classes.answers(X[160:]).argmax(axis=1) == RING[160:]).mean() > 0.9
    assert classes.macs == classes.supports * 4
    assert classes.bytes == 4 * classes.macs
    assert classes.label.startswith("kernel-c")


def test_logits_are_those_of_probabilities_and_of_absent_classes():
    found = fit_kernel(X, 2 * RING, outputs=4).answers(X)
    assert found.shape == (240, 4)
    assert (found[:, [1, 3]] == kernel.ABSENT).all()
    np.testing.assert_allclose(np.exp(found[:, [0, 2]]).sum(axis=1), 1, atol=1e-3)
    assert np.exp(found).max() < 1.001
    wrong = np.exp(found).argmax(axis=1) != 2 * RING
    assert wrong.mean() < 0.1


def test_what_was_chosen_is_kept_when_more_rows_are_there():
    few = fit_kernel(X[:120], CURVE[:120], outputs=1)
    more = fit_kernel(X, CURVE, outputs=1, known=few)
    assert (more.strength, more.width) == (few.strength, few.width)
    assert more.supports > few.supports
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(more)).answers(X), more.answers(X))  # for workers


def test_the_same_rows_give_the_same_machine():
    for y in (RING, CURVE):
        one, two = (fit_kernel(X, y, outputs=2 if y is RING else 1).answers(X) for _ in range(2))
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize(
    ("x", "y", "outputs"),
    [
        (X, np.tile(CURVE, 2), 2),
        (X, CURVE, 3),
        (np.where(X > 1, np.nan, X), CURVE, 1),
        (X, np.zeros(240, np.int64), 2),
        (X, (np.arange(240) == 7).astype(np.int64), 2),
        (X[:6], CURVE[:6], 1),
    ],
    ids=["two numbers", "quantiles", "missing", "one class", "one of a class", "six rows"],
)
def test_what_is_not_for_it_is_left_to_others(x, y, outputs):
    assert fit_kernel(x, y, outputs=outputs) is None


def test_too_many_rows_are_left_to_others(monkeypatch):
    monkeypatch.setattr(kernel, "MOST_ROWS", 200)
    assert fit_kernel(X, CURVE, outputs=1) is None


def test_rare_classes_are_among_the_rows_that_it_is_tuned_on(monkeypatch):
    monkeypatch.setattr(kernel, "TUNED_ON", 12)
    rare = np.zeros(240, np.int64)
    rare[np.random.default_rng(0).permutation(240)[12:20]] = 1  # none among the first that are drawn
    found = fit_kernel(X + 3 * rare[:, None], rare, outputs=2)
    assert (found.answers(X + 3 * rare[:, None]).argmax(axis=1) == rare).mean() > 0.95
    chosen = kernel._some(rare, 5)
    assert rare[chosen].sum() == 5
    assert len(set(chosen.tolist())) == len(chosen) < 40


def test_ridge_is_scikit_learns():
    from sklearn.linear_model import RidgeCV

    y = np.concatenate([X @ np.ones((3, 1), np.float32), CURVE], axis=1)
    for target in (y[:, :1], y):
        found = fit_ridge(X, target)
        expected = RidgeCV(alphas=[10.0**power for power in range(-2, 5)]).fit(X, target).predict(X)
        np.testing.assert_allclose(found.answers(X), expected.reshape(target.shape), atol=1e-4)
        assert found.weights.shape == (target.shape[1], 3)
