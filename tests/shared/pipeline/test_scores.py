"""Scores, anomaly scores and forecasts against scipy and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from shared.pipeline.bind import bind_fields
from shared.pipeline.decode import Argmax, Inverse, Normalize, Sigmoid, Softmax, Threshold, TopK
from shared.pipeline.preprocess import Scale, Standardize

special = pytest.importorskip("scipy.special")
logits = arrays(np.float32, st.tuples(st.integers(1, 4), st.integers(1, 40)), elements=st.floats(-80, 80, width=32))


@given(logits, st.sampled_from([1.0, 0.3, 4.0]))
def test_softmax_is_scipys(values: np.ndarray, temperature: float) -> None:
    expected = special.softmax(values.astype(np.float64) / temperature, axis=1)
    found = Softmax(temperature=temperature)({"logits": values})["scores"]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-7)


@given(logits, st.sampled_from([1.0, 0.3]))
def test_softmax_and_argmax_as_one_function_are_the_two(values: np.ndarray, temperature: float) -> None:
    softmax, argmax = Softmax(temperature=temperature), Argmax()
    (fused,) = bind_fields([softmax, argmax])
    whole = argmax(softmax({"logits": values}))
    for i, one in enumerate(values):
        row = {"logits": one}
        fused(row)
        apart = {"logits": one}
        softmax.bind()(apart)
        argmax.bind()(apart)
        for found in (row, apart):
            assert found["scores"].tobytes() == whole["scores"][i].tobytes()
            assert found["index"] == whole["index"][i]
            assert found["score"] == whole["score"][i].item()
        assert list(row) == list(apart)


@pytest.mark.parametrize("values", [[np.nan, 1.0], [1.0, np.nan], [np.inf, 1.0], [-np.inf, -np.inf], [-0.0, 0.0]])
@pytest.mark.filterwarnings("ignore:invalid value")
def test_softmax_of_what_is_no_number_is_the_same_on_both_paths(values: list[float]) -> None:
    for count in (2, 40):
        x = np.resize(np.array(values, np.float32), count)
        row = {"logits": x}
        Softmax().bind()(row)
        np.testing.assert_array_equal(row["scores"], Softmax()({"logits": x[None]})["scores"][0])


@given(logits)
def test_sigmoid_is_scipys_expit(values: np.ndarray) -> None:
    found = Sigmoid()({"logits": values})["scores"]
    np.testing.assert_allclose(found, special.expit(values.astype(np.float64)), rtol=1e-5, atol=1e-37)


def test_sigmoid_never_overflows() -> None:
    found = Sigmoid()({"logits": np.array([[1e30, -1e30, 0]], np.float32)})["scores"]
    assert found.tolist() == [[1, 0, 0.5]]


def test_top_k_of_bytes_and_of_the_smallest_integers() -> None:
    scores = np.array([[0, 255, 3, 255]], np.uint8)
    assert TopK(3)({"scores": scores})["top"].tolist() == [[1, 3, 2]]
    smallest = np.array([[-128, 127, 0]], np.int8)
    assert TopK(3)({"scores": smallest})["top"].tolist() == [[1, 2, 0]]


def test_a_score_at_the_threshold_is_yes() -> None:
    fields = Threshold(0.5, ("good", "bad"))({"score": np.array([0.4999, 0.5, np.nan])})
    assert fields["label"].tolist() == ["good", "bad", "good"]
    assert fields["flag"].tolist() == [False, True, False]


def test_many_labels_may_be_true_at_once() -> None:
    scores = np.array([[0.9, 0.1, 0.6], [0.1, 0.2, 0.3]])
    fields = Threshold(0.5, ("wet", "cold", "dark"), source="scores", otherwise="none")({"scores": scores})
    assert fields["label"].tolist() == ["wet, dark", "none"]
    assert fields["score"].tolist() == [0.9, 0.3]


def test_a_fitted_threshold_flags_the_share_that_was_asked_for() -> None:
    scores = np.random.default_rng(0).normal(size=10_000)
    flags = Threshold.fit(scores, 0.99)({"score": scores})["flag"]
    assert 90 <= flags.sum() <= 110


def test_a_float32_score_is_judged_alike_in_a_batch_and_alone() -> None:
    score = np.array([0.7], np.float32)  # a little less than 0.7
    batch = Threshold(0.7)({"score": score})["flag"][0]
    row = {"score": score.item(0)}
    Threshold(0.7).bind()(row)
    assert batch == row["flag"] == False  # noqa: E712


def test_normalize_is_scikit_learns() -> None:
    preprocessing = pytest.importorskip("sklearn.preprocessing")
    x = np.random.default_rng(0).normal(size=(5, 8)).astype(np.float32)
    x[2] = 0
    np.testing.assert_allclose(Normalize()({"embedding": x})["embedding"], preprocessing.normalize(x), rtol=1e-6)


@pytest.mark.parametrize(
    "operation", [Scale(0.5, offset=-3.0), Standardize((4.0,), (2.5,)), Standardize((1, 2), (3, 4))]
)
def test_inverse_undoes_what_was_done_to_the_targets(operation: Scale | Standardize) -> None:
    y = np.random.default_rng(0).normal(size=(6, 3, 2)) * 9
    found = Inverse.of(operation, source="y")({"y": operation(y)})["value"]
    np.testing.assert_allclose(found, y, rtol=1e-5, atol=1e-5)


def test_inverse_of_one_column_of_many() -> None:
    operation = Standardize((1.0, 20.0), (3.0, 7.0))
    found = Inverse.of(operation, source="y", columns=(1,))({"y": np.array([[0.0, 1.0]])})["value"]
    assert found.tolist() == [[20.0, 27.0]]
    fitted = Inverse.fit(np.array([[1.0], [5.0]]), source="y")
    assert fitted.mean == (3.0,)
    assert fitted.std == (2.0,)
