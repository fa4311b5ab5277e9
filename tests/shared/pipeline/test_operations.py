"""Malformed pipelines, and the arithmetic of the operations that every classifier uses."""

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from shared.pipeline.decode import Softmax
from shared.pipeline.postprocess import Labels, TopK
from shared.pipeline.preprocess import Clip, Resize, Scale, Standardize
from shared.pipeline.spec import Pipeline

logits = arrays(np.float32, st.tuples(st.integers(1, 5), st.just(10)), elements=st.floats(-50, 50, width=32))


@pytest.mark.parametrize(
    "text",
    [
        '{"preprocess": [{"op": "explode"}]}',
        '{"preprocess": [{"op": "scale"}]}',
        '{"preprocess": [{"op": "scale", "factor": 1, "colour": "red"}]}',
        '{"preprocess": [{"op": "clip", "low": 2, "high": 1}]}',
        '{"preprocess": [{"op": "standardize", "mean": [0], "std": [0]}]}',
        '{"preprocess": [{"op": "resize", "height": 100000, "width": 1}]}',
        '{"decode": [{"op": "softmax", "temperature": 0}]}',
        '{"decode": [{"op": "scale", "factor": 1}]}',
        '{"postprocess": [{"op": "top_k", "k": 0}]}',
        '{"forward": []}',
    ],
)
def test_a_malformed_pipeline_is_refused(text):
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(text, type=Pipeline)


def test_scale_is_multiply_and_add_in_float32():
    found = Scale(0.1, offset=1.0)(np.array([[0, 10, 255]], np.uint8))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, [[1.0, 2.0, 26.5]], rtol=1e-6)


def test_standardize_fits_mean_and_deviation_of_everything_or_of_columns():
    batch = np.array([[0.0, 5.0], [2.0, 5.0]])
    whole = Standardize.fit(batch)
    assert whole.mean == (3.0,)
    np.testing.assert_allclose(whole(batch).std(), 1, rtol=1e-6)
    columns = Standardize.fit(batch, per_column=True)
    assert columns == Standardize(mean=(1.0, 5.0), std=(1.0, 1.0))  # a constant column is left alone
    np.testing.assert_allclose(columns(batch), [[-1, 0], [1, 0]])


def test_clip_keeps_integers_integers():
    batch = np.array([[0, 100, 255]], np.uint8)
    found = Clip(9.5, 200.5)(batch)
    assert found.dtype == np.uint8
    assert found.tolist() == [[10, 100, 200]]
    assert Clip(-1e9, 1e9)(batch).tolist() == batch.tolist()
    assert Clip(-1, 1)(np.array([[-3.0, 0.5]], np.float32)).tolist() == [[-1, 0.5]]


def test_resize_to_the_same_size_changes_nothing():
    batch = np.random.default_rng(0).integers(0, 256, (2, 5, 7)).astype(np.uint8)
    np.testing.assert_array_equal(Resize(5, 7)(batch), batch)


def test_resize_is_half_pixel_bilinear():
    found = Resize(1, 4)(np.array([[[0.0, 4.0]]]))
    np.testing.assert_allclose(found, [[[0, 1, 3, 4]]])
    np.testing.assert_allclose(Resize(1, 1)(np.array([[[0.0, 4.0], [8.0, 4.0]]])), [[[4.0]]])


@given(values=logits)
def test_softmax_sums_to_one_and_keeps_the_order(values):
    scores = Softmax()({"logits": values})["scores"]
    np.testing.assert_allclose(scores.sum(axis=1), 1, rtol=1e-5)
    best = np.take_along_axis(scores, values.argmax(axis=1)[:, None], 1)[:, 0]
    np.testing.assert_array_equal(best, scores.max(axis=1))


def test_softmax_of_huge_logits_is_finite():
    values = np.array([[1e30, -1e30, 0]], np.float32)
    assert Softmax()({"logits": values})["scores"].tolist() == [[1, 0, 0]]
    row = {"logits": values[0]}
    Softmax().bind()(row)
    assert row["scores"].tolist() == [1, 0, 0]


def test_a_higher_temperature_is_less_sure():
    values = np.array([[2.0, 1.0]], np.float32)
    cold, warm = (Softmax(temperature=t)({"logits": values})["scores"][0, 0] for t in (1.0, 4.0))
    assert warm == pytest.approx(1 / (1 + np.exp(-0.25)), rel=1e-6)
    assert cold > warm > 0.5


def test_softmax_of_other_dtypes_is_float32_on_both_paths():
    values = np.array([[2.0, 1.0]], np.float64)
    assert Softmax()({"logits": values})["scores"].dtype == np.float32
    row = {"logits": values[0]}
    Softmax().bind()(row)
    assert row["scores"].dtype == np.float32


def test_labels_below_the_minimum_are_unsure():
    fields = {"index": np.array([0, 1]), "score": np.array([0.4, 0.6])}
    assert Labels(names=("cat", "dog"), minimum_score=0.5)(fields)["label"].tolist() == ["unsure", "dog"]


def test_top_k_breaks_ties_by_the_lower_index():
    assert TopK(k=2)({"scores": np.array([[0.2, 0.4, 0.4, 0.0]])})["top"].tolist() == [[1, 2]]
