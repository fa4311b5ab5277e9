"""Both kinds of steps on real files: the same answers, whatever the form of the model."""

import msgspec
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edge_agent.backends import open_backend
from edge_agent.bare import describe
from edge_agent.inputs import Signature
from edge_agent.steps import Direct, General, make_steps
from shared.errors import ManifestError, UsageError
from shared.manifest import SampleSpec, load_manifest
from shared.pipeline.spec import Pipeline
from tests.releases import digits


def write(path, nodes, inputs, outputs, constants=()):
    """An ONNX file of ``nodes``; tensors are (name, type, shape)."""
    tensors = [[helper.make_tensor_value_info(*tensor) for tensor in side] for side in (inputs, outputs)]
    graph = helper.make_graph(nodes, "graph", *tensors, list(constants))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())
    return path


def steps_of(path, *, state=(), pipeline=None):
    manifest = describe(path, state=state)
    if pipeline is not None:
        manifest = msgspec.structs.replace(manifest, pipeline=pipeline)
    variant = manifest.variants[0]
    return manifest, make_steps(manifest, variant, manifest.pipeline, open_backend(variant, path))


def run_one(manifest, steps, sample):
    x = Signature(manifest.signature).one(sample)
    with steps.guard:
        return steps.one(x)


def run_many(manifest, steps, samples):
    count, x = Signature(manifest.signature).many(samples)
    return steps.many(x, count)


@pytest.mark.parametrize("id_", ["fp32-onnx", "int8-onnx", "fp32-litert", "int8-litert"])
def test_named_tensors_give_what_compiled_buffers_give(release, id_):
    manifest = load_manifest(release)
    variant = manifest.variant(id_)
    path = release / variant.file.path
    direct = make_steps(manifest, variant, manifest.pipeline, open_backend(variant, path))
    general = General(manifest, variant, manifest.pipeline, open_backend(variant, path))
    assert isinstance(direct, Direct)
    x, _ = digits(20, seed=3)
    with direct.guard:
        rows = [direct.one(sample) for sample in x]
    others = [general.one(sample) for sample in x]
    many, other_many = direct.many(x, 20), general.many(x, 20)
    for i, (row, other) in enumerate(zip(rows, others, strict=True)):
        assert row.keys() == other.keys() == many.keys() == other_many.keys()
        for name, value in row.items():
            if isinstance(value, str):
                assert value == other[name] == many[name][i] == other_many[name][i]
            else:
                np.testing.assert_allclose(other[name], value, atol=1e-5)
                np.testing.assert_allclose(many[name][i], value, atol=1e-4)
                np.testing.assert_allclose(other_many[name][i], value, atol=1e-4)
    direct.close()
    general.close()
    for steps in (direct, general):
        with pytest.raises(UsageError, match="closed"):
            run_one(manifest, steps, x[0])
        steps.close()


@pytest.fixture
def two_inputs(tmp_path):
    """``total`` (n, 2) = a + b, ``product`` (n, 2) = a * b."""
    return write(
        tmp_path / "two.onnx",
        [helper.make_node("Add", ["a", "b"], ["total"]), helper.make_node("Mul", ["a", "b"], ["product"])],
        [("a", TensorProto.FLOAT, ["n", 2]), ("b", TensorProto.FLOAT, ["n", 2])],
        [("total", TensorProto.FLOAT, ["n", 2]), ("product", TensorProto.FLOAT, ["n", 2])],
    )


def test_two_inputs_and_two_outputs_go_by_name(two_inputs):
    manifest, steps = steps_of(two_inputs)
    assert [spec.name for spec in manifest.signature] == ["a", "b"]
    row = run_one(manifest, steps, {"a": [1.0, 2], "b": [3.0, 4]})
    np.testing.assert_array_equal(row["total"], [4, 6])
    np.testing.assert_array_equal(row["product"], [3, 8])
    a, b = np.random.default_rng(0).normal(size=(2, 700, 2)).astype(np.float32)  # more than two chunks
    fields = run_many(manifest, steps, {"a": a, "b": b})
    np.testing.assert_array_equal(fields["total"], a + b)
    np.testing.assert_array_equal(fields["product"], a * b)
    assert run_many(manifest, steps, {"a": a[:0], "b": b[:0]})["total"].shape == (0, 2)


def test_state_is_carried_from_call_to_call_and_forgotten_on_reset(tmp_path):
    path = write(
        tmp_path / "running.onnx",
        [helper.make_node("Add", ["x", "state"], ["stateN"]), helper.make_node("Identity", ["stateN"], ["total"])],
        [("x", TensorProto.FLOAT, [1, 2]), ("state", TensorProto.FLOAT, [1, 2])],
        [("total", TensorProto.FLOAT, [1, 2]), ("stateN", TensorProto.FLOAT, [1, 2])],
    )
    manifest, steps = steps_of(path, state=["state=stateN"])
    assert [spec.name for spec in manifest.signature] == ["x"]
    x = np.random.default_rng(0).normal(size=(9, 2)).astype(np.float32)
    rows = [run_one(manifest, steps, sample) for sample in x]
    assert "stateN" not in rows[0]  # nobody's answer
    np.testing.assert_allclose([row["total"] for row in rows], np.cumsum(x, axis=0), rtol=1e-5)
    before = run_one(manifest, steps, x[0])["total"]
    steps.stages(x[0])  # measuring changes nothing
    np.testing.assert_allclose(run_one(manifest, steps, x[0])["total"], before + x[0], rtol=1e-5)
    steps.reset()
    np.testing.assert_allclose(run_many(manifest, steps, x)["total"], np.cumsum(x, axis=0), rtol=1e-5)


def test_state_that_the_model_does_not_have_is_named(two_inputs):
    with pytest.raises(UsageError, match="b=nothing"):
        steps_of(two_inputs, state=["b=nothing"])


def test_sizes_that_are_open_take_what_comes(tmp_path):
    path = write(
        tmp_path / "mean.onnx",
        [helper.make_node("ReduceMean", ["x"], ["mean"], axes=[1], keepdims=0)],
        [("x", TensorProto.FLOAT, ["n", "length"])],
        [("mean", TensorProto.FLOAT, ["n"])],
    )
    manifest, steps = steps_of(path)
    assert manifest.sample == SampleSpec("float32", (-1,), manifest.sample.kind, name="x")
    for length in (1, 5, 400):
        x = np.arange(length, dtype=np.float32)
        assert run_one(manifest, steps, x)["mean"] == pytest.approx(x.mean())
    np.testing.assert_allclose(run_many(manifest, steps, np.ones((3, 7), np.float32))["mean"], 1)


def test_an_output_that_counts_findings_is_not_taken_for_a_batch(tmp_path):
    """Three boxes are one answer of three boxes; rows of different lengths stay apart."""
    path = write(
        tmp_path / "found.onnx",
        [helper.make_node("NonZero", ["x"], ["where"]), helper.make_node("Transpose", ["where"], ["found"])],
        [("x", TensorProto.FLOAT, [1, 4])],
        [("found", TensorProto.INT64, ["k", 2])],
    )
    manifest, steps = steps_of(path)
    x = np.array([[0, 1, 1, 1], [0, 0, 0, 0], [0, 0, 1, 1]], np.float32)
    rows = [run_one(manifest, steps, sample)["found"] for sample in x]
    assert [row[:, 1].tolist() for row in rows] == [[1, 2, 3], [], [2, 3]]
    fields = run_many(manifest, steps, x)
    assert [row[:, 1].tolist() for row in fields["found"]] == [[1, 2, 3], [], [2, 3]]


def test_one_finding_has_the_same_form_as_three(tmp_path):
    path = write(
        tmp_path / "found.onnx",
        [helper.make_node("NonZero", ["x"], ["where"]), helper.make_node("Transpose", ["where"], ["found"])],
        [("x", TensorProto.FLOAT, ["n", 4])],
        [("found", TensorProto.INT64, ["k", 2])],
    )
    manifest, steps = steps_of(path)
    for x in ([0, 1, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0]):
        assert run_one(manifest, steps, np.array(x, np.float32))["found"].shape == (sum(x), 2)


def test_a_whole_tensor_without_batch_axis(tmp_path):
    path = write(
        tmp_path / "scalar.onnx",
        [helper.make_node("Mul", ["x", "gain"], ["y"])],
        [("x", TensorProto.FLOAT, [3]), ("gain", TensorProto.FLOAT, [])],
        [("y", TensorProto.FLOAT, [3])],
    )
    manifest, steps = steps_of(path)
    row = run_one(manifest, steps, {"x": [1.0, 2, 3], "gain": 2.0})
    np.testing.assert_array_equal(row["y"], [2, 4, 6])
    x = np.arange(12, dtype=np.float32).reshape(4, 3)
    fields = run_many(manifest, steps, {"x": x, "gain": np.array([1, 2, 3, 4], np.float32)})
    np.testing.assert_array_equal(fields["y"], x * np.array([[1], [2], [3], [4]]))


def test_text_goes_in_and_out(tmp_path):
    path = write(
        tmp_path / "text.onnx",
        [helper.make_node("Identity", ["text"], ["same"])],
        [("text", TensorProto.STRING, ["n"])],
        [("same", TensorProto.STRING, ["n"])],
    )
    manifest, steps = steps_of(path)
    assert manifest.sample.dtype == "str"
    assert run_one(manifest, steps, "hello")["same"] == "hello"
    assert run_many(manifest, steps, ["a", "b"])["same"].tolist() == ["a", "b"]


def test_what_does_not_fit_together_is_told_when_it_is_loaded(two_inputs):
    from shared.pipeline.decode import Softmax

    with pytest.raises(ManifestError, match="logits"):
        steps_of(two_inputs, pipeline=Pipeline(decode=(Softmax(),)))
