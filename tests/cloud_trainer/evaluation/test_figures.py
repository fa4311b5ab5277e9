"""Every figure against scikit-learn, or a sum by hand where it has none."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sk

from cloud_trainer.evaluation import Judge, answer_of, figures, softmax
from cloud_trainer.evaluation.classes import confusion as confusion_of
from cloud_trainer.evaluation.classes import per_class
from cloud_trainer.evaluation.groups import per_group, student_t
from cloud_trainer.evaluation.numbers import coverages, naive_scale
from cloud_trainer.evaluation.ranks import roc
from shared.errors import DataError


def classified(classes, n=700, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, classes, n)
    logits = rng.normal(0, 1, (n, classes)).round(1)  # rounded: ties
    logits[np.arange(n), y] += 1
    return softmax(logits), y


@pytest.mark.parametrize("classes", [2, 3, 12])
def test_figures_of_classes_are_scikit_learns(classes):
    scores, y = classified(classes)
    found = figures(Judge("image-classification"), scores, y)
    said = scores.argmax(axis=1)
    assert next(iter(found)) == "accuracy"
    assert found["accuracy"] == pytest.approx(sk.accuracy_score(y, said), abs=1e-6)
    assert found["balanced_accuracy"] == pytest.approx(sk.balanced_accuracy_score(y, said), abs=1e-6)
    assert found["macro_f1"] == pytest.approx(sk.f1_score(y, said, average="macro"), abs=1e-6)
    scores_of = scores[:, 1] if classes == 2 else scores
    assert found["auc"] == pytest.approx(sk.roc_auc_score(y, scores_of, multi_class="ovr"), abs=1e-6)
    assert found["nll"] == pytest.approx(sk.log_loss(y, scores), abs=1e-6)
    assert found["samples"] == 700


def test_class_without_samples_or_answers_counts_as_in_scikit_learn():
    y, said = np.array([0, 0, 1, 1, 1]), np.array([0, 1, 1, 1, 3])
    scores = np.eye(4)[said]
    found = figures(Judge("classification"), scores, y)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert found["balanced_accuracy"] == pytest.approx(sk.balanced_accuracy_score(y, said), abs=1e-6)
        precision, recall, f1, support = sk.precision_recall_fscore_support(
            y, said, labels=range(4), zero_division=np.nan
        )
    assert found["macro_f1"] == pytest.approx(sk.f1_score(y, said, average="macro"), abs=1e-6)
    rows = per_class(confusion_of(said, y, 4), ("a", "b", "c", "d"))
    assert [row.support for row in rows] == support.tolist()
    np.testing.assert_allclose([row.precision for row in rows], precision)
    np.testing.assert_allclose([row.recall for row in rows], recall)
    np.testing.assert_allclose([row.f1 for row in rows], f1)


def test_auc_of_one_class_is_left_out():
    found = figures(Judge("classification"), np.array([[0.2, 0.8], [0.6, 0.4]]), np.array([1, 1]))
    assert "auc" not in found
    assert found["accuracy"] == 0.5


@pytest.mark.parametrize("shape", [(300,), (300, 6)])
def test_figures_of_numbers_are_scikit_learns(shape):
    rng = np.random.default_rng(0)
    truth = rng.normal(10, 3, shape)
    answer = truth + rng.normal(0, 1, shape)
    found = figures(Judge("forecast", scale=2.0), answer, truth)
    assert next(iter(found)) == "r2"
    assert found["r2"] == pytest.approx(sk.r2_score(truth, answer, multioutput="variance_weighted"), abs=1e-6)
    assert found["mae"] == pytest.approx(sk.mean_absolute_error(truth, answer), abs=1e-6)
    assert found["rmse"] == pytest.approx(sk.mean_squared_error(truth.ravel(), answer.ravel()) ** 0.5, abs=1e-6)
    assert found["mape"] == pytest.approx(sk.mean_absolute_percentage_error(truth, answer), abs=1e-6)
    assert found["mase"] == pytest.approx(found["mae"] / 2, abs=1e-6)
    assert 0 < found["smape"] < 2


def test_truth_of_zero_has_no_percentage_error():
    found = figures(Judge("regression"), np.array([1.0, 2.0, 0.0]), np.array([0.0, 4.0, 0.0]))
    assert found["mape"] == 0.5
    assert found["smape"] == pytest.approx((2 + 2 / 3 + 0) / 3, abs=1e-6)
    assert "mape" not in figures(Judge("regression"), np.array([1.0, 2.0]), np.zeros(2))


def test_quantiles_have_pinball_and_coverage_and_are_scored_by_their_median():
    rng = np.random.default_rng(0)
    truth = rng.normal(0, 1, (4000, 2))
    answer = np.tile(np.repeat([-1.2816, 0.0, 1.2816], 2), (4000, 1))  # the normal's own, for two numbers
    levels = (0.1, 0.5, 0.9)
    found = figures(Judge("forecast", quantiles=levels), answer, truth)
    expected = np.mean(
        [sk.mean_pinball_loss(truth, np.tile(answer[:, [2 * i]], 2), alpha=q) for i, q in enumerate(levels)]
    )
    assert found["pinball"] == pytest.approx(expected, abs=1e-6)
    assert found["coverage"] == pytest.approx(0.8, abs=0.02)
    assert abs(found["r2"]) < 0.01
    np.testing.assert_allclose(coverages(answer.reshape(4000, 3, 2), truth), levels, atol=0.02)


def test_answers_of_another_size_are_refused():
    with pytest.raises(DataError, match="y has shape"):
        figures(Judge("regression"), np.zeros((3, 2)), np.zeros(3))


def test_scale_of_a_naive_forecast():
    assert naive_scale(np.array([[0.0, 1, 3, 6]])) == pytest.approx(2.0)
    assert naive_scale(np.array([[0.0, 1, 0, 1]]), season=2) == 0.0


@pytest.mark.parametrize("threshold", [None, 0.9])
def test_figures_of_anomalies_are_scikit_learns(threshold):
    rng = np.random.default_rng(0)
    y = (rng.random(500) < 0.15).astype(np.int64)
    scores = (rng.normal(0, 1, 500) + 1.5 * y).round(1)
    found = figures(Judge("anomaly", threshold=threshold), scores, y)
    assert next(iter(found)) == "auc"
    assert found["auc"] == pytest.approx(sk.roc_auc_score(y, scores), abs=1e-6)
    assert found["average_precision"] == pytest.approx(sk.average_precision_score(y, scores), abs=1e-6)
    false, true = roc(scores, y > 0)
    expected = sk.roc_curve(y, scores, drop_intermediate=False)
    np.testing.assert_allclose(false, expected[0])
    np.testing.assert_allclose(true, expected[1])
    if threshold is None:
        assert "f1" not in found
    else:
        said = scores >= threshold
        assert found["f1"] == pytest.approx(sk.f1_score(y, said), abs=1e-6)
        assert found["precision"] == pytest.approx(sk.precision_score(y, said), abs=1e-6)
        assert found["recall"] == pytest.approx(sk.recall_score(y, said), abs=1e-6)


def test_ranking_of_one_wanted_item():
    scores = np.array([[0.1, 0.7, 0.2], [0.9, 0.5, 0.1], [0.5, 0.5, 0.5]])
    found = figures(Judge("ranking", k=2), scores, np.array([2, 0, 1]))
    assert list(found)[:4] == ["ndcg", "hit_rate", "mrr", "map"]
    assert found["hit_rate"] == pytest.approx(2 / 3, abs=1e-6)  # second, first, and third: last among equals
    assert found["mrr"] == found["map"] == pytest.approx((1 / 2 + 1 + 1 / 3) / 3, abs=1e-6)


def test_ranking_in_long_form_is_the_same_as_in_rows():
    rng = np.random.default_rng(0)
    scores, relevance = rng.normal(0, 1, (40, 7)), rng.integers(0, 3, (40, 7)).astype(float)
    relevance[3] = 0  # a query without anything relevant says nothing
    shuffled = rng.permutation(280)
    queries = np.repeat([f"q{i}" for i in range(40)], 7)[shuffled]
    found = figures(Judge("ranking", k=5), scores.ravel()[shuffled], relevance.ravel()[shuffled], queries)
    some = np.arange(40) != 3
    assert found["ndcg"] == pytest.approx(sk.ndcg_score(relevance[some], scores[some], k=5), abs=1e-6)
    expected = np.mean(
        [sk.average_precision_score(r > 0, s) for r, s in zip(relevance[some], scores[some], strict=True)]
    )
    assert found["map"] == pytest.approx(expected, abs=1e-6)


def test_candidates_without_queries_are_refused():
    with pytest.raises(DataError, match="need a group"):
        figures(Judge("ranking"), np.zeros(3), np.zeros(3))


def test_task_without_figures_has_none():
    assert figures(Judge("embedding"), np.zeros((3, 2)), np.zeros(3)) == {}


def test_answers_are_found_among_an_engines_fields():
    scores, values = np.full((2, 3), 1 / 3), np.array([1.0, 2.0])
    assert answer_of("classification", {"scores": scores}) is scores
    assert answer_of("classification", {"probability": np.array([[0.2], [0.9]])}).round(6).tolist() == [
        [0.8, 0.2],
        [0.1, 0.9],
    ]
    assert answer_of("regression", {"value": values}) is values
    assert answer_of("anomaly", {"value": values[:, None]}).shape == (2,)
    assert answer_of("ranking", {"scores": scores, "value": np.array([[{}], [{}]], object)}) is scores
    assert answer_of("classification", {"label": np.array(["a", "b"], object)}) is None
    assert answer_of("regression", {"value": np.array([None, 1.0], object)}) is None


def test_worst_groups_stand_first_and_few_samples_prove_little():
    y = np.zeros(1101, np.int64)
    right = np.ones(1101, bool)
    groups = np.repeat(["big and good", "big and bad", "one sample, wrong"], [600, 500, 1])
    right[600:900] = False
    right[1100] = False
    table = per_group(Judge("classification"), np.where(right[:, None], [[0.9, 0.1]], [[0.1, 0.9]]), y, groups)
    assert [row.group for row in table.rows] == ["big and bad", "one sample, wrong", "big and good"]
    assert [row.samples for row in table.rows] == [500, 1, 600]
    bad, one, _ = table.rows
    assert bad.low < bad.value < bad.high < 0.5
    assert (one.value, one.low) == (0.0, 0.0)
    assert one.high > 0.7


def test_students_t_is_scipys():
    degrees = np.array([1, 2, 3, 4, 5, 6, 9, 20, 100, 5000])
    np.testing.assert_allclose(student_t(degrees), stats.t.ppf(0.975, degrees), rtol=2e-3)


def test_groups_of_numbers_are_told_by_their_error():
    truth = np.zeros(9)
    answer = np.array([1, 1, 1, 1, 0.1, 0.1, 0.1, 0.1, 5])
    table = per_group(Judge("regression"), answer, truth, np.array(list("aaaabbbbc")))
    assert [row.group for row in table.rows] == ["a", "b", "c"]  # one sample of c: its error may be chance
    assert np.isnan(table.rows[2].low)
