"""The four core scores against scikit-learn, and where they have nothing to go by."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as sklearn

from cloud_trainer.metrics import accuracy, auc, ndcg, ndcg_of_groups, r2
from shared.errors import DataError


@pytest.fixture
def random():
    return np.random.default_rng(0)


def test_accuracy_of_known_answers():
    assert accuracy(np.array([[1, 2], [3, 0], [0, 1.0]]), np.array([1, 0, 0])) == pytest.approx(2 / 3)


def test_r2_of_several_columns_is_that_of_scikit_learn(random):
    y = random.normal(size=(50, 3)) * (1, 10, 0.1)
    answer = y + random.normal(size=(50, 3))
    assert r2(answer, y) == pytest.approx(sklearn.r2_score(y, answer, multioutput="variance_weighted"))
    assert r2(answer[:, :1], y[:, 0]) == pytest.approx(sklearn.r2_score(y[:, 0], answer[:, 0]))


def test_r2_of_a_truth_that_does_not_vary():
    assert r2(np.ones(4), np.ones(4)) == 1
    assert r2(np.zeros(4), np.ones(4)) == 0


def test_r2_never_pairs_every_answer_with_every_truth():
    with pytest.raises(DataError, match="answers have 2 numbers a row, the truth has 1"):
        r2(np.ones((4, 2)), np.ones(4))


def test_auc_with_many_ties_is_that_of_scikit_learn(random):
    y = random.random(200) < 0.3
    scores = np.round(random.normal(size=200) + y, 1)
    assert len(np.unique(scores)) < 80
    assert auc(scores, y) == pytest.approx(sklearn.roc_auc_score(y, scores))
    assert auc(np.zeros(200), y) == 0.5


def test_auc_of_one_kind_of_sample():
    with pytest.raises(DataError, match="one kind only"):
        auc(np.arange(3.0), np.ones(3))


@pytest.mark.parametrize("k", [1, 3, 10, 100])
def test_ndcg_of_graded_relevance_with_ties_is_that_of_scikit_learn(random, k):
    y = random.integers(0, 4, (40, 15))
    scores = np.round(random.normal(size=(40, 15)) + y / 2, 1)
    assert ndcg(scores, y, k) == pytest.approx(sklearn.ndcg_score(y, scores, k=k))


@pytest.mark.parametrize("k", [1, 10])
def test_ndcg_of_one_relevant_item_is_the_same_as_with_its_relevances_written_out(random, k):
    y = random.integers(0, 20, 60)
    scores = np.round(random.normal(size=(60, 20)), 1)
    assert ndcg(scores, y, k) == pytest.approx(ndcg(scores, np.eye(20)[y], k))


def test_model_that_tells_nothing_apart_gets_no_credit_for_the_order_of_the_items():
    scores = np.zeros((20, 20))
    assert ndcg(scores, np.zeros(20, int)) == pytest.approx(ndcg(scores, np.arange(20)))


def test_ndcg_leaves_out_rows_and_groups_without_anything_relevant():
    y = np.array([[0, 1, 0], [0, 0, 0]])
    scores = np.array([[0.1, 0.9, 0.0], [0.3, 0.2, 0.1]])
    assert ndcg(scores, y) == 1
    groups = np.repeat(["b", "a"], 3)
    assert ndcg_of_groups(scores.ravel(), y.ravel(), groups) == 1
    with pytest.raises(DataError, match="nothing is relevant"):
        ndcg(scores[1:], y[1:])


def test_groups_need_not_be_together(random):
    y, scores = random.integers(0, 3, (10, 6)), random.normal(size=(10, 6))
    mixed = random.permutation(60)
    groups = np.repeat(np.arange(10), 6)[mixed]
    assert ndcg_of_groups(scores.ravel()[mixed], y.ravel()[mixed], groups) == pytest.approx(ndcg(scores, y))


def test_answers_and_truth_of_different_length():
    with pytest.raises(DataError, match="3 answers, but the truth of 2 samples"):
        accuracy(np.zeros((3, 2)), np.zeros(2, int))
    with pytest.raises(DataError, match="no samples"):
        r2(np.zeros(0), np.zeros(0))
