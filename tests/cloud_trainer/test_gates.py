"""Gates: exact tests on paired answers."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from scipy.stats import binomtest

from cloud_trainer.evaluation import (
    calibration_bins,
    calibration_error,
    chance_warning,
    confusion,
    fit_temperature,
    left_out,
    softmax,
)
from cloud_trainer.gates import Gates, better, binomial_tail, decide, no_worse, save_gates, sign_test


def answers(n, both, only_parent, only_candidate):
    parent, candidate = np.zeros(n, bool), np.zeros(n, bool)
    parent[: both + only_parent] = True
    candidate[:both] = True
    candidate[both + only_parent : both + only_parent + only_candidate] = True
    return parent, candidate


@pytest.mark.parametrize(("wins", "losses"), [(0, 0), (5, 5), (9, 1), (1, 9), (30, 12), (400, 350)])
def test_sign_test_is_the_exact_binomial(wins, losses):
    expected = binomtest(wins, wins + losses, alternative="greater").pvalue if wins + losses else 1.0
    assert sign_test(wins, losses) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("only_parent", "only_candidate", "passed"),
    [
        (0, 0, True),  # the same
        (20, 60, True),  # better
        (19, 0, True),  # certainly worse, but by less than a point of 2,000
        (60, 20, False),  # certainly worse, by two points
        (8, 0, True),
    ],
)
def test_old_hold_out(only_parent, only_candidate, passed):
    gate = no_worse(*answers(2000, 1800, only_parent, only_candidate))
    assert gate.passed is passed
    assert (gate.wins, gate.losses) == (only_candidate, only_parent)


def test_loss_that_may_be_chance_is_let_through():
    assert no_worse(*answers(100, 90, 3, 1)).passed


@pytest.mark.parametrize(
    ("only_parent", "only_candidate", "passed"), [(0, 0, False), (0, 4, False), (0, 5, True), (10, 11, False)]
)
def test_drifted_hold_out_needs_significance(only_parent, only_candidate, passed):
    assert better(*answers(100, 50, only_parent, only_candidate)).passed is passed


def test_one_failed_gate_fails_all_and_says_why(tmp_path):
    gates = decide("digits", 2, 1, (no_worse(*answers(100, 90, 0, 0)), better(*answers(100, 90, 1, 1))))
    assert not gates.passed
    assert "not significantly better" in gates.text
    save_gates(gates, tmp_path / "gates.json")
    assert msgspec.json.decode((tmp_path / "gates.json").read_bytes(), type=Gates) == gates


def test_temperature_undoes_a_known_scaling():
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (20_000, 5))
    y = (softmax(logits).cumsum(axis=1) > rng.random((20_000, 1))).argmax(axis=1)
    assert fit_temperature(logits, y) == pytest.approx(1.0, abs=0.05)
    assert fit_temperature(2.5 * logits, y) == pytest.approx(2.5, abs=0.1)
    assert calibration_error(softmax(logits), y) < 0.02 < calibration_error(softmax(2.5 * logits), y)


def test_few_samples_that_are_all_right_make_no_answer_certain():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 40)
    logits = rng.normal(0, 0.5, (40, 3)) + 4 * np.eye(3)[y]
    assert (logits.argmax(axis=1) == y).all()
    confidence = softmax(logits, fit_temperature(logits, y)).max(axis=1).mean()
    assert 0.95 < confidence < 0.99  # 41 / 42, not 1
    assert fit_temperature(logits.repeat(100, axis=0), y.repeat(100)) < fit_temperature(logits, y)


@pytest.mark.parametrize(("successes", "throws", "share"), [(0, 5, 0.3), (3, 5, 0.3), (700, 2000, 0.34), (5, 5, 1.0)])
def test_binomial_tail_is_scipys(successes, throws, share):
    expected = binomtest(successes, throws, share, alternative="greater").pvalue
    assert binomial_tail(successes, throws, share) == pytest.approx(expected)


def test_answers_no_better_than_the_most_frequent_class_are_warned_of():
    y = np.repeat([0, 1, 2], [60, 20, 20])
    always = str(chance_warning(np.zeros(100, int), y, ("cat", "dog", "owl")))
    assert always.startswith("no better than chance: right on 60.0% of 100 test samples")
    assert always.endswith("always saying 'cat' would be right on 60.0%")
    lucky = np.where(np.arange(100) < 63, y, 0)  # 3 more: may be chance
    assert chance_warning(lucky, y, ("cat", "dog", "owl")) is not None
    learned = np.where(np.arange(100) < 75, y, 0)
    assert chance_warning(learned, y, ("cat", "dog", "owl")) is None


def test_calibration_bins_hold_every_sample_and_enough_of_them():
    rng = np.random.default_rng(0)
    scores = softmax(rng.normal(0, 1.5, (400, 4)))
    y = (scores.cumsum(axis=1) > rng.random((400, 1))).argmax(axis=1)
    bins = calibration_bins(scores, y)
    assert bins.samples.sum() == 400
    assert bins.samples.min() >= 30
    assert len(bins.samples) > 4
    assert (np.diff(bins.confidence) >= 0.03).all()
    assert ((bins.low <= bins.accuracy) & (bins.accuracy <= bins.high)).all()
    assert ((bins.low <= bins.confidence) & (bins.confidence <= bins.high)).mean() > 0.7  # honest scores
    for i, count in enumerate(bins.samples):
        expected = binomtest(round(bins.accuracy[i] * count), int(count)).proportion_ci(method="wilson")
        assert (bins.low[i], bins.high[i]) == pytest.approx((expected.low, expected.high))


def test_model_that_is_sure_of_everything_has_one_bin():
    scores = np.tile([[0.999, 0.001]], (500, 1))
    bins = calibration_bins(scores, np.zeros(500, int))
    assert (bins.samples.tolist(), bins.high.tolist()) == ([500], [1.0])


def test_few_samples_are_one_bin():
    assert len(calibration_bins(softmax(np.eye(3)), np.arange(3)).samples) == 1


def test_confusion_has_truth_in_rows():
    assert confusion(np.array([1, 1, 0]), np.array([0, 1, 0]), 2).tolist() == [[1, 1], [0, 1]]


def test_int8_is_left_out_only_beyond_the_allowed_points():
    assert left_out(0.97, 0.98, 1.0) is None
    assert left_out(0.99, 0.98, 1.0) is None
    assert "2.00 points below" in str(left_out(0.96, 0.98, 1.0))
