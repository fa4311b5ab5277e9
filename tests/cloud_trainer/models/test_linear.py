"""A linear classifier: scikit-learn's answers, and classes that nobody has seen."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from cloud_trainer.models.linear import ABSENT, fit_linear


def accuracy(answers, y):
    return float((answers.argmax(1) == y).mean())


def blobs(n, classes, seed):
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(7).normal(size=(classes, 6)) * 2
    y = np.arange(n) % classes
    return (centres[y] + random.normal(size=(n, 6))).astype(np.float32), y


@pytest.mark.parametrize("classes", [2, 4])
def test_answers_are_those_of_scikit_learn(classes):
    x, y = blobs(200, classes, 1)
    held, truth = blobs(100, classes, 2)
    found = fit_linear(x, y, (held, truth), outputs=classes, score=accuracy)
    wanted = LogisticRegression(C=found.strength, max_iter=200).fit(x, y)
    np.testing.assert_array_equal(found.answers(held).argmax(1), wanted.predict(held))
    assert found.answers(held).dtype == np.float32
    assert found.answers(held).shape == (100, classes)
    assert found.macs == 6 * classes


def test_a_class_without_samples_is_never_the_answer():
    x, y = blobs(200, 3, 1)
    found = fit_linear(x, np.where(y == 2, 4, y), (x, y), outputs=6, score=accuracy)
    assert (found.answers(x)[:, [2, 3, 5]] == ABSENT).all()


def test_one_class_is_nothing_to_learn():
    assert (
        fit_linear(np.ones((4, 2)), np.zeros(4, int), (np.ones((1, 2)), np.zeros(1, int)), outputs=2, score=accuracy)
        is None
    )
