"""A pipeline compiled for one sample gives what the plain operations give."""

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from shared.pipeline.bind import bind_arrays, bind_fields, run_arrays, run_fields
from shared.pipeline.decode import Argmax, Softmax
from shared.pipeline.encode import AddChannel, Cast, Layout, Reshape
from shared.pipeline.postprocess import Labels
from shared.pipeline.preprocess import Clip, Crop, Difference, Pad, Resize, Scale, Standardize
from shared.pipeline.spec import Pipeline

preprocess = st.lists(
    st.sampled_from(
        [
            Scale(1 / 255),
            Scale(2.0, offset=-3.0),
            Standardize((0.5,), (2.0,)),
            Clip(-0.75, 0.75),
            Clip(3, 99),
            Resize(5, 4),
            Pad(1, 0, 2, 0),
            Crop(4, 3),
            Difference(),
            Reshape((3, -1)),
            Cast("int16"),
        ]
    ),
    max_size=4,
)
encode = st.lists(
    st.sampled_from(
        [
            AddChannel(1),
            AddChannel(-1),
            Layout("nchw"),
            Layout("nhwc"),
            Reshape((-1, 2)),
            Reshape((2, -1, 1)),
            Reshape((1, 1, -1)),
            Cast("float32"),
            Cast("float64"),
            Scale(0.5, offset=1.0),
        ]
    ),
    max_size=4,
)


@settings(max_examples=400, suppress_health_check=[HealthCheck.filter_too_much])
@given(preprocess, encode, st.sampled_from(["uint8", "int16", "float32", "float64"]), st.integers(0, 99))
def test_every_chain_writes_the_same_tensor(first, second, dtype, seed):
    pipeline = Pipeline(preprocess=tuple(first), encode=tuple(second))
    random = np.random.default_rng(seed)
    samples = random.integers(0, 256, (3, 6, 8)).astype(dtype)
    zeros = np.zeros((1, 6, 8), dtype)
    try:
        run_arrays(pipeline, zeros)
    except ValueError:
        assume(False)  # some operation does not take what the one before it gives
    target = np.full_like(run_arrays(pipeline, zeros), 77)
    steps = bind_arrays(first, second, zeros, target)
    samples.setflags(write=False)
    for sample in samples:
        for step in (*steps[0], *steps[1]):
            step(sample[None])
        expected = run_arrays(pipeline, sample[None])
        np.testing.assert_array_equal(target, expected)
        assert target.dtype == expected.dtype


def test_views_cost_nothing():
    target = np.empty((1, 1, 6, 8), np.float32)
    first, second = bind_arrays([Scale(1 / 255)], [AddChannel(1), Cast()], np.zeros((1, 6, 8), np.uint8), target)
    assert (len(first), len(second)) == (1, 0)


def test_without_operations_the_sample_is_copied():
    target = np.empty((1, 3), np.float32)
    first, second = bind_arrays([], [], np.zeros((1, 3), np.float32), target)
    assert (len(first), len(second)) == (0, 1)
    second[0](np.array([[1, 2, 3]], np.float32))
    assert target.tolist() == [[1, 2, 3]]


@pytest.mark.parametrize("target", [np.empty((1, 6, 8), np.float32), np.empty((1, 1, 6, 8), np.int8)])
def test_a_tensor_that_the_model_does_not_take_is_named(target):
    with pytest.raises(ValueError, match=r"preprocess and encode give float32 \(1, 1, 6, 8\), but the model takes"):
        bind_arrays([Scale(1.0)], [AddChannel()], np.zeros((1, 6, 8), np.uint8), target)


def test_decode_and_postprocess_run_in_order():
    pipeline = Pipeline(decode=(Softmax(), Argmax()), postprocess=(Labels(names=("no", "yes")),))
    logits = np.array([[1.0, 3.0], [2.0, 0.0]], np.float32)
    fields = run_fields(pipeline, {"logits": logits})
    assert fields["label"].tolist() == ["yes", "no"]
    row = {"logits": logits[0]}
    for step in (*bind_fields(pipeline.decode), *bind_fields(pipeline.postprocess)):
        step(row)
    assert (row["label"], row["index"]) == ("yes", 1)
    assert row["score"] == pytest.approx(float(fields["score"][0]))


def test_another_layout_costs_nothing():
    target = np.empty((1, 3, 6, 8), np.float32)
    zeros = np.zeros((1, 6, 8, 3), np.uint8)
    first, second = bind_arrays([Scale(1 / 255)], [Layout("nchw"), Cast()], zeros, target)
    assert (len(first), len(second)) == (1, 0)
    image = np.random.default_rng(0).integers(0, 256, zeros.shape).astype(np.uint8)
    first[0](image)
    np.testing.assert_array_equal(target, Layout("nchw")(Scale(1 / 255)(image)))


def test_a_row_with_another_shape_than_a_batchs_is_refused_alike():
    (fused,) = bind_fields([Softmax(), Argmax()])
    for logits in (np.zeros((2, 3), np.float32), np.zeros((), np.float32)):
        with pytest.raises(ValueError, match="classes"):
            fused({"logits": logits})
        with pytest.raises(ValueError, match="classes"):
            Argmax()(Softmax()({"logits": logits[None]}))
