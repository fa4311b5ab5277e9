"""One suite that every operation of the pipeline passes, and each operation's own arithmetic."""

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from shared.pipeline.decode import Argmax, Softmax
from shared.pipeline.encode import AddChannel, Cast
from shared.pipeline.postprocess import Labels, TopK
from shared.pipeline.preprocess import Clip, Resize, Scale, Standardize
from shared.pipeline.spec import Pipeline

NAMES = tuple("abcdefghij")
ARRAY_OPERATIONS = [
    Scale(1 / 255),
    Scale(0.5, offset=-1.0),
    Standardize(mean=(100.0,), std=(50.0,)),
    Standardize(mean=tuple(range(12)), std=tuple(range(1, 13))),
    Clip(10, 200),
    Clip(-5.5, 99.5),
    Resize(7, 9),
    Resize(24, 6),
    AddChannel(axis=1),
    AddChannel(axis=-1),
    Cast("float32"),
    Cast("int64"),
]
FIELD_OPERATIONS = [
    Softmax(),
    Softmax(temperature=2.5),
    Argmax(),
    Labels(names=NAMES),
    Labels(names=NAMES, minimum_score=0.5),
    TopK(k=3),
    TopK(k=50),
]
images = arrays(np.uint8, st.tuples(st.integers(1, 4), st.just(8), st.just(12)))
logits = arrays(np.float32, st.tuples(st.integers(1, 5), st.just(10)), elements=st.floats(-50, 50, width=32))


def fields_of(values):
    fields = Argmax()(Softmax()({"logits": values}))
    return {**fields, "embedding": values[:, :3]}


@pytest.mark.parametrize("operation", ARRAY_OPERATIONS, ids=repr)
@given(batch=images)
def test_array_operations_leave_their_input_alone_and_work_row_by_row(operation, batch):
    before = batch.copy()
    batch.setflags(write=False)
    whole = operation(batch)
    np.testing.assert_array_equal(batch, before)
    np.testing.assert_array_equal(operation(batch), whole)
    assert len(whole) == len(batch)
    for i in range(len(batch)):
        np.testing.assert_array_equal(operation(batch[i : i + 1])[0], whole[i])
    assert operation(batch[:0]).shape == (0, *whole.shape[1:])


@pytest.mark.parametrize("operation", FIELD_OPERATIONS, ids=repr)
@given(values=logits)
def test_field_operations_leave_their_input_alone_and_work_row_by_row(operation, values):
    fields = fields_of(values)
    before = {name: value.copy() for name, value in fields.items()}
    whole = operation(fields)
    assert set(fields) == set(before)
    for name, value in before.items():
        np.testing.assert_array_equal(fields[name], value)
    for i in range(len(values)):
        single = operation({name: value[i : i + 1] for name, value in fields.items()})
        for name, value in whole.items():
            np.testing.assert_array_equal(single[name][0], value[i])


@pytest.mark.parametrize("operation", FIELD_OPERATIONS, ids=repr)
@given(values=logits)
def test_bound_to_one_row_they_give_the_same(operation, values):
    fields = fields_of(values)
    whole, run = operation(fields), operation.bind()
    for i in range(len(values)):
        row = {name: value[i] if value.ndim > 1 else value[i].item() for name, value in fields.items()}
        run(row)
        for name, value in whole.items():
            if value.dtype == object:
                assert row[name] == value[i]
            else:
                np.testing.assert_allclose(row[name], value[i], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("operation", ARRAY_OPERATIONS + FIELD_OPERATIONS, ids=repr)
def test_json_gives_an_equal_operation(operation):
    step = next(
        step
        for step, group in {
            "preprocess": (Scale, Standardize, Clip, Resize),
            "encode": (AddChannel, Cast),
            "decode": (Softmax, Argmax),
            "postprocess": (Labels, TopK),
        }.items()
        if isinstance(operation, group)
    )
    pipeline = Pipeline(**{step: (operation,)})
    assert msgspec.json.decode(msgspec.json.encode(pipeline), type=Pipeline) == pipeline


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


def test_resize_equals_onnx_resize():
    onnx = pytest.importorskip("onnx")
    import onnxruntime
    from onnx import TensorProto, helper

    x = np.random.default_rng(1).random((2, 11, 6), dtype=np.float32)
    node = helper.make_node(
        "Resize", ["x", "", "", "sizes"], ["y"], mode="linear", coordinate_transformation_mode="half_pixel"
    )
    sizes = helper.make_tensor("sizes", TensorProto.INT64, [4], [2, 1, 17, 4])
    graph = helper.make_graph(
        [node],
        "resize",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 1, 11, 6])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 1, 17, 4])],
        [sizes],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(Resize(17, 4)(x), session.run(None, {"x": x[:, None]})[0][:, 0], atol=1e-5)


def test_resize_keeps_colour_channels_apart():
    batch = np.random.default_rng(2).random((2, 6, 6, 3)).astype(np.float32)
    found = Resize(3, 9)(batch)
    for channel in range(3):
        np.testing.assert_allclose(found[..., channel], Resize(3, 9)(batch[..., channel]), rtol=1e-6)


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
