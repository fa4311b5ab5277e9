"""Accuracy estimated from confidence alone, beside the true one."""

from __future__ import annotations

import numpy as np
import pytest

from shared.drift.calibration import Calibration
from shared.errors import ProfileError

CENTRES = np.array([[2, 0], [-1, 1.7], [-1, -1.7]])


def softmax(z):
    p = np.exp(z - z.max(axis=1, keepdims=True))
    return p / p.sum(axis=1, keepdims=True)


def answers(n, rng, *, hard=0.1, temperature=1.0, turned=0.0):
    """Confidence and rightness of answers about a world of three classes, of which a share ``hard`` lies where they
    meet. ``temperature`` makes the model's scores other than the world's probabilities; ``turned`` (radians) turns the
    world and leaves the model as it is: a concept shift."""
    scale = np.where(rng.random(n) < hard, 0.5, 2.5)
    x = rng.normal(size=(n, 2)) * scale[:, None]
    turn = np.array([[np.cos(turned), -np.sin(turned)], [np.sin(turned), np.cos(turned)]])
    truth = softmax(x @ turn @ CENTRES.T).cumsum(axis=1)
    y = (rng.random((n, 1)) > truth).sum(axis=1)
    scores = softmax(x @ CENTRES.T / temperature)
    return scores.max(axis=1), scores.argmax(axis=1) == y


def bias(calibration, *, runs=20, **world):
    """Mean and spread of estimate less truth."""
    found = []
    for seed in range(runs):
        confidence, right = answers(4000, np.random.default_rng(900 + seed), **world)
        found.append(calibration.estimate(confidence).mean() - right.mean())
    return np.mean(found), np.std(found)


@pytest.mark.parametrize(("temperature", "within"), [(1.0, 0.02), (0.4, 0.045), (2.5, 0.045)])
@pytest.mark.parametrize("hard", [0.0, 0.1, 0.5, 1.0])
def test_accuracy_is_estimated_when_hard_inputs_become_more_frequent(temperature, within, hard):
    rng = np.random.default_rng(1)
    calibration = Calibration.fit(*answers(4000, rng, temperature=temperature))
    mean, spread = bias(calibration, temperature=temperature, hard=hard)
    assert abs(mean) < within
    assert spread < 0.02
    if temperature != 1:  # what the scores say by themselves is far off
        confidence, right = answers(20_000, rng, temperature=temperature, hard=hard)
        assert abs(mean) < 0.6 * abs(confidence.mean() - right.mean())


def test_on_data_like_the_reference_the_estimate_is_the_accuracy():
    rng = np.random.default_rng(2)
    for temperature in (1.0, 0.4):
        confidence, right = answers(1000, rng, temperature=temperature)
        assert Calibration.fit(confidence, right).estimate(confidence).mean() == pytest.approx(right.mean(), abs=0.01)


def test_a_concept_shift_is_not_seen_without_truth():
    rng = np.random.default_rng(3)
    calibration = Calibration.fit(*answers(4000, rng))
    confidence, right = answers(20_000, rng, turned=1.0)
    usual = answers(20_000, rng)[1].mean()
    assert right.mean() < usual - 0.25
    assert calibration.estimate(confidence).mean() == pytest.approx(usual, abs=0.03)  # and not right.mean()


def test_it_is_isotonic_regression_of_groups():
    isotonic = pytest.importorskip("sklearn.isotonic")
    rng = np.random.default_rng(4)
    confidence, right = answers(1000, rng, temperature=2.0)
    found = Calibration.fit(confidence, right)
    groups = np.array_split(np.argsort(confidence, kind="stable"), 40)
    middles = [confidence[group].mean() for group in groups]
    shares = [right[group].mean() for group in groups]
    expected = isotonic.IsotonicRegression().fit(middles, shares, sample_weight=[len(group) for group in groups])
    np.testing.assert_allclose(found.estimate(np.array(middles)), expected.predict(middles))
    assert found.valid()


@pytest.mark.parametrize("right", [0.0, 1.0])
@pytest.mark.parametrize("n", [500, 5000])
def test_always_right_and_always_wrong_are_estimated_as_such(n, right):
    confidence = np.random.default_rng(5).uniform(0.3, 1, n)
    found = Calibration.fit(confidence, np.full(n, right, bool))
    assert found.valid()
    np.testing.assert_allclose(found.estimate(confidence), right, atol=0.02)
    assert found.estimate(confidence).mean() == pytest.approx(right, abs=0.001)


def test_confidence_beyond_the_reference_goes_on_at_the_same_distance():
    confidence = np.linspace(0.6, 0.8, 1000)
    right = np.arange(1000) % 10 < 8  # 0.8 everywhere: 0.1 above the diagonal in the middle
    found = Calibration.fit(confidence, right)
    assert found.estimate(np.array([0.0]))[0] == pytest.approx(0.2, abs=0.02)
    assert found.estimate(np.array([0.9]))[0] == pytest.approx(0.9, abs=0.02)
    assert np.isnan(found.estimate(np.array([np.nan]))[0])


@pytest.mark.parametrize(
    ("confidence", "right"),
    [([], []), ([0.5, 0.6], [True]), ([1.5], [True]), ([-0.1], [True]), ([np.nan], [True]), ([[0.5]], [[True]])],
)
def test_what_is_no_confidence_is_refused(confidence, right):
    with pytest.raises(ProfileError, match="confidence"):
        Calibration.fit(np.array(confidence), np.array(right, bool))
