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
    assert abs(found.mean()) < 0.05
    assert found.std() == pytest.approx(np.sqrt(0.5), rel=0.1)  # two that know nothing of each other
    np.testing.assert_allclose(operation.usual, (5, -3), atol=0.2)
    np.testing.assert_allclose(operation.spreads, (0.2, 2.0), rtol=0.1)
    far = operation({"a": np.exp([5 + 3 * 0.2]), "b": np.exp([-3 + 3 * 2.0])})["strangeness"]
    assert far[0] == pytest.approx(3, abs=0.3)


def test_each_score_may_speak() -> None:
    operation = JointScore(("a", "b"), (0.0, 0.0), (1.0, 0.5))
    usual, one, both = operation({"a": np.exp([0.0, 2.0, 2.0]), "b": np.exp([0.0, 0.0, 1.0])})["score"]
    assert (usual, one, both) == pytest.approx((0.0, 1.0, 2.0))


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e6])
def test_scores_that_never_change_have_no_spread_made_of_rounding_errors(scale: float) -> None:
    for value in np.append(RANDOM.lognormal(1, 1, 200), 6.394471928799867) * scale:
        operation = JointScore.fit({"a": np.full(119, value)})
        assert operation.spreads == (0.01,)
        assert abs(operation({"a": np.array([value * (1 + 1e-6)])})["score"][0]) < 0.01
    assert operation({"a": np.array([2 * value])})["score"][0] == pytest.approx(
        100 * np.log(max(2 * value, 1e-6) / max(value, 1e-6)), rel=1e-3, abs=1e-3
    )


def test_scores_of_zero_and_of_no_number_do_what_they_can() -> None:
    operation = JointScore.fit({"a": np.zeros(5), "b": np.array([0.0, 1.0, 2.0, 3.0, 4.0])})
    assert operation({"a": np.zeros(1), "b": np.zeros(1)})["score"][0] == pytest.approx(-1.5, abs=1e-3)
    assert np.isnan(operation({"a": np.full(1, np.nan), "b": np.ones(1)})["score"]).all()
    alone = JointScore.fit({"a": np.array([2.0])})
    assert alone({"a": np.array([2.0])})["score"][0] == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize("share", [0.02, 0.05, 0.4, 0.7])
@pytest.mark.parametrize(("repeated", "least"), [(0.0, None), (1e-7, None), (1e-3, 1e-2)])
def test_samples_that_repeat_others_widen_nothing(share: float, repeated: float, least: float | None) -> None:
    scores = RANDOM.lognormal(2, 0.3, 1000)
    plain = JointScore.fit({"a": scores})
    scores[: round(share * 1000)] = repeated
    found = JointScore.fit({"a": scores}, least=None if least is None else {"a": least})
    assert found.usual == pytest.approx(plain.usual, abs=0.05)
    assert found.spreads == pytest.approx(plain.spreads, rel=0.15)
    assert found({"a": np.array([repeated])})["score"][0] == -3


def test_what_is_less_than_noise_counts_as_noise() -> None:
    operation = JointScore.fit({"a": np.array([1e-3, 2e-3]), "b": np.array([1.0, 2.0])}, least={"a": 0.1})
    assert operation.least == pytest.approx((0.1, 1e-6))
    near, nearer = operation({"a": np.array([0.05, 0.0]), "b": np.ones(2)})["score"]
    assert near == nearer
    assert operation({"a": np.array([0.2]), "b": np.ones(1)})["score"][0] > near + 10


def test_one_sample_far_off_does_not_hide_the_others() -> None:
    operation = JointScore.fit({"a": np.array([1.0, 1.0, 1.0, 1.0, 1.0, 5e4])})
    assert operation.usual == (0.0,)


@pytest.mark.parametrize("share", [0.02, 0.05, 0.4])
def test_samples_that_nearly_repeat_others_widen_little(share: float) -> None:
    scores = RANDOM.lognormal(2, 0.3, 1000)
    plain = JointScore.fit({"a": scores})
    scores[: round(share * 1000)] *= 0.01
    assert JointScore.fit({"a": scores}).spreads[0] < 1.8 * plain.spreads[0]


def test_what_is_unusually_near_by_one_score_does_not_outweigh_another_one() -> None:
    operation = JointScore(("a", "b"), (0.0, 0.0), (0.1, 0.1))
    found = operation({"a": np.array([1e-5, 1e-3]), "b": np.exp([0.5, 0.5])})["score"]
    np.testing.assert_allclose(found, (5 - 3) / 2)


def test_what_it_cannot_learn_from_or_work_with_is_refused() -> None:
    for scores in ({}, {"a": np.zeros(0)}):
        with pytest.raises(ValueError, match="no scores to learn from"):
            JointScore.fit(scores)
    for bad in ([1.0, np.nan], [1.0, np.inf], [1.0, -1.0]):
        with pytest.raises(ValueError, match="must be finite, and 0 or more"):
            JointScore.fit({"a": np.array(bad)})
    for text in (
        '{"sources": ["a"], "usual": [], "spreads": [1]}',
        '{"sources": ["a"], "usual": [0], "spreads": [1, 1]}',
        '{"sources": [], "usual": [], "spreads": []}',
        '{"sources": ["a"], "usual": [0], "spreads": [0]}',
        '{"sources": ["a"], "usual": [0], "spreads": [1], "least": [1, 1]}',
        '{"sources": ["a"], "usual": [0], "spreads": [1], "least": [0]}',
    ):
        with pytest.raises(msgspec.ValidationError):
            msgspec.json.decode(text.replace("{", '{"op": "joint_score", ', 1), type=JointScore)
