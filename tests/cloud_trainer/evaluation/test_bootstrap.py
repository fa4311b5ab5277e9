"""Bootstrap: statistics of weights are those of resampled arrays, and intervals hold what they promise."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import bootstrap as scipy_bootstrap
from sklearn import metrics as sk

from cloud_trainer.evaluation import Judge, figure_intervals, figures, intervals, score_difference, softmax
from cloud_trainer.evaluation import bootstrap as b
from cloud_trainer.evaluation.figures import sampled


def problem(task, n=120, seed=0):
    rng = np.random.default_rng(seed)
    if task == "classification":
        y = rng.integers(0, 4, n)
        logits = rng.normal(0, 1, (n, 4)).round(1)
        logits[np.arange(n), y] += 1
        return softmax(logits), y
    if task == "binary":
        y = rng.integers(0, 2, n)
        return softmax(np.stack([np.zeros(n), rng.normal(y, 1).round(1)], axis=1)), y
    if task == "regression":
        truth = rng.normal(1e4, 3, (n, 2))
        return truth + rng.normal(0, 1, (n, 2)), truth
    if task == "anomaly":
        y = (rng.random(n) < 0.3).astype(np.int64)
        return (rng.normal(0, 1, n) + y).round(1), y
    return rng.normal(0, 1, (n, 8)), rng.integers(0, 8, n)


@pytest.mark.parametrize("task", ["classification", "binary", "regression", "anomaly", "ranking"])
def test_statistic_of_weights_is_the_figure_of_the_resample(task):
    answer, truth = problem(task)
    judge = Judge({"binary": "classification"}.get(task, task))
    drawn = sampled(judge, answer, truth).statistics
    rows = np.random.default_rng(1).integers(0, len(truth), len(truth))
    weights = np.bincount(rows, minlength=len(truth)).astype(float)[None]
    for sample, w in ((np.arange(len(truth)), np.ones((1, len(truth)))), (rows, weights)):
        expected = figures(judge, answer[sample], truth[sample])
        for name, statistic in drawn.items():
            assert statistic(w)[0] == pytest.approx(expected[name], abs=2e-6), name


def test_interval_of_a_mean_is_scipys():
    values = np.random.default_rng(0).exponential(1, 300)
    found = intervals({"mean": b.mean_of(values)}, 300, resamples=4000)["mean"]
    expected = scipy_bootstrap(
        (values,), np.mean, n_resamples=4000, method="percentile", rng=np.random.default_rng(1)
    ).confidence_interval
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.015)
    assert found.value == pytest.approx(values.mean())


def test_nineteen_of_twenty_intervals_hold_the_truth():
    rng = np.random.default_rng(0)
    held = 0
    for seed in range(200):
        right = rng.random(200) < 0.8
        found = intervals({"accuracy": b.mean_of(right)}, 200, resamples=300, seed=seed)["accuracy"]
        held += found.low <= 0.8 <= found.high
    assert 180 <= held <= 199


def test_same_seed_gives_the_same_intervals_however_they_are_cut(monkeypatch):
    values = np.random.default_rng(0).normal(0, 1, 50)
    once = intervals({"mean": b.mean_of(values)}, 50)
    assert intervals({"mean": b.mean_of(values)}, 50) == once
    assert intervals({"mean": b.mean_of(values)}, 50, seed=1) != once
    monkeypatch.setattr(b, "CHUNK", 50 * 7)
    cut = intervals({"mean": b.mean_of(values)}, 50)["mean"]
    assert (cut.low, cut.high) == pytest.approx((once["mean"].low, once["mean"].high), rel=1e-12)


def test_samples_of_a_group_are_drawn_together():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(20), 50)
    values = rng.normal(0, 1, 20)[groups] + rng.normal(0, 0.1, 1000)  # nearly the same within a group
    alone = intervals({"mean": b.mean_of(values)}, 1000)["mean"]
    together = intervals({"mean": b.mean_of(values)}, 1000, groups=groups)["mean"]
    assert together.units == 20
    assert together.high - together.low > 4 * (alone.high - alone.low)


def test_one_group_is_drawn_by_its_samples():
    values = np.random.default_rng(0).normal(0, 1, 40)
    found = intervals({"mean": b.mean_of(values)}, 40, groups=np.array(["all"] * 40))["mean"]
    assert found.units == 40
    assert found.low < found.high


def test_paired_interval_of_a_difference_is_narrow_where_both_answer_alike():
    rng = np.random.default_rng(0)
    scores, y = problem("classification", 2000)
    other = scores.copy()
    changed = rng.choice(2000, 20, replace=False)
    other[changed] = 0.25
    found = score_difference(Judge("classification"), scores, other, y)
    single = figure_intervals(Judge("classification"), scores, y, names=("accuracy",))["accuracy"]
    assert found.high - found.low < (single.high - single.low) / 3
    assert found.value == pytest.approx(
        sk.accuracy_score(y, scores.argmax(1)) - sk.accuracy_score(y, other.argmax(1)), abs=1e-9
    )


def test_same_answers_do_not_differ():
    scores, y = problem("classification")
    found = score_difference(Judge("classification"), scores, scores, y)
    assert (found.value, found.low, found.high) == (0.0, 0.0, 0.0)
    assert not found.excludes_zero


def test_all_right_is_not_surely_always_right():
    scores, y = np.eye(3)[np.arange(60) % 3], np.arange(60) % 3
    found = figure_intervals(Judge("classification"), scores, y)["accuracy"]
    assert found.value == found.high == 1.0
    assert 0.9 < found.low < 0.95


def test_resamples_without_positives_are_left_out_and_too_many_of_them_give_no_interval():
    few = figure_intervals(Judge("anomaly"), np.arange(200.0), (np.arange(200) > 190).astype(int))
    assert few["auc"].value == 1.0
    assert figure_intervals(Judge("anomaly"), np.arange(200.0), np.zeros(200, int)) == {}


def test_queries_are_what_is_drawn_of_a_ranking_in_long_form():
    rng = np.random.default_rng(0)
    queries = np.repeat(np.arange(30), 5)
    found = figure_intervals(Judge("ranking"), rng.normal(0, 1, 150), rng.integers(0, 2, 150).astype(float), queries)
    assert found["ndcg"].units <= 30
