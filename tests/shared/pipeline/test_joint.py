"""JointScore: several scores as one."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from shared.pipeline.decode import JointScore

RANDOM = np.random.default_rng(0)


def test_good_data_have_a_joint_score_of_about_nothing_whatever_the_sizes_of_their_scores() -> None:
    scores = {"a": RANDOM.lognormal(5, 0.2, 2000), "b": RANDOM.lognormal(-3, 2.0, 2000)}
    operation = JointScore.fit(scores, "strangeness")
    found = operation(scores)["strangeness"]
    assert abs(found.mean()) < 1e-5
    assert found.std() == pytest.approx(np.sqrt(0.5), rel=0.05)  # two that know nothing of each other
    np.testing.assert_allclose(operation.means, (5, -3), atol=0.2)
    np.testing.assert_allclose(operation.spreads, (0.2, 2.0), rtol=0.1)
    far = operation({"a": np.exp([5 + 3 * 0.2]), "b": np.exp([-3 + 3 * 2.0])})["strangeness"]
    assert far[0] == pytest.approx(3, abs=0.3)


def test_each_score_may_speak() -> None:
    operation = JointScore(("a", "b"), (0.0, 0.0), (1.0, 0.5))
    usual, one, both = operation({"a": np.exp([0.0, 2.0, 2.0]), "b": np.exp([0.0, 0.0, 1.0])})["score"]
    assert (usual, one, both) == pytest.approx((0.0, 1.0, 2.0))


def test_scores_of_zero_and_scores_that_never_change_are_finite() -> None:
    operation = JointScore.fit({"a": np.full(5, 2.0), "b": np.array([0.0, 1.0, 2.0, 3.0, 4.0])})
    assert operation.spreads[0] == 1.0
    assert np.isfinite(operation({"a": np.zeros(2), "b": np.zeros(2)})["score"]).all()
    assert np.isnan(operation({"a": np.full(1, np.nan), "b": np.ones(1)})["score"]).all()


def test_what_it_cannot_learn_from_or_work_with_is_refused() -> None:
    for scores in ({}, {"a": np.zeros(0)}):
        with pytest.raises(ValueError, match="no scores to learn from"):
            JointScore.fit(scores)
    for text in (
        '{"sources": ["a"], "means": [], "spreads": [1]}',
        '{"sources": ["a"], "means": [0], "spreads": [1, 1]}',
        '{"sources": [], "means": [], "spreads": []}',
        '{"sources": ["a"], "means": [0], "spreads": [0]}',
    ):
        with pytest.raises(msgspec.ValidationError):
            msgspec.json.decode(text.replace("{", '{"op": "joint_score", ', 1), type=JointScore)
