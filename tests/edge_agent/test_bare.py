"""A bare model file is a release of one variant, under its own names, with nothing guessed."""

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from edge_agent import Engine
from edge_agent.bare import beside, describe, model_name, probabilities
from shared.errors import BackendError, UsageError
from tests.releases import make_release, run_file, templates

FLOAT, INT64, STRING = TensorProto.FLOAT, TensorProto.INT64, TensorProto.STRING


def write(path, nodes, inputs, outputs, constants=()):
    """An ONNX file; inputs and outputs are (name, type, shape)."""
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(*one) for one in inputs],
        [helper.make_tensor_value_info(*one) for one in outputs],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in dict(constants).items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


def node(op, inputs, output, **attributes):
    return helper.make_node(op, inputs, [output], **attributes)


def linear(path, classes=3, softmax=False):
    """(n, 4) @ w, perhaps as probabilities."""
    w = np.arange(4 * classes, dtype=np.float32).reshape(4, classes) / 10
    nodes = [node("MatMul", ["features", "w"], "y" if not softmax else "z")]
    nodes += [node("Softmax", ["z"], "y", axis=1)] if softmax else []
    return write(path, nodes, [("features", FLOAT, ["n", 4])], [("y", FLOAT, ["n", classes])], {"w": w}), w


def counter(path):
    """y = x + state, stateN = y: a running sum."""
    nodes = [node("Add", ["x", "state"], "y"), node("Identity", ["y"], "stateN")]
    both = [("x", FLOAT, [1, 2]), ("state", FLOAT, [1, 2])]
    return write(path, nodes, both, [("y", FLOAT, [1, 2]), ("stateN", FLOAT, [1, 2])])


def test_tensors_go_in_and_out_under_the_files_own_names(tmp_path):
    path, w = linear(tmp_path / "My Model.onnx")
    manifest = describe(path)
    assert (manifest.name, manifest.version, manifest.task) == ("my_model", 1, "raw")
    assert (manifest.golden, manifest.profile, manifest.labels) == (None, None, ())
    assert (manifest.sample.name, manifest.sample.dtype, manifest.sample.shape) == ("features", "float32", (4,))
    assert manifest.variants[0].id == "fp32-onnx"
    x = np.array([1, 2, 3, 4], np.float32)
    engine = Engine.load(path, learn=0)
    answer = engine.infer(x)
    np.testing.assert_allclose(answer.outputs["y"], x @ w, rtol=1e-6)
    np.testing.assert_allclose(answer.value, x @ w, rtol=1e-6)
    assert answer.label == ""
    engine.close()


def test_rows_of_probabilities_are_no_classifier_until_there_are_labels(tmp_path):
    path, w = linear(tmp_path / "m.onnx", softmax=True)
    assert describe(path).task == "raw"
    (tmp_path / "m.onnx.labels.txt").write_text("low\nmiddle\n\nhigh\n")
    manifest = describe(path)
    assert (manifest.task, manifest.labels) == ("classification", ("low", "middle", "high"))
    x = np.array([1, 2, 3, 4], np.float32)
    engine = Engine.load(path, learn=0)
    answer = engine.infer(x)
    expected = np.exp(x @ w) / np.exp(x @ w).sum()
    np.testing.assert_allclose(answer.scores, expected, rtol=1e-5)  # not softened a second time
    assert answer.label == "high"
    engine.close()


def test_logits_get_a_softmax(tmp_path):
    path, w = linear(tmp_path / "m.onnx")
    manifest = describe(path, labels=["a", "b", "c"])
    assert [spec.name for spec in manifest.variants[0].outputs] == ["logits"]
    engine = Engine(manifest, tmp_path, manifest.variants[0])
    x = np.array([1, -2, 3, 0], np.float32)
    np.testing.assert_allclose(engine.infer(x).scores, np.exp(x @ w) / np.exp(x @ w).sum(), rtol=1e-5)
    engine.close()


@pytest.mark.parametrize("kind", ["fp32", "int8"])
def test_a_tflite_image_model_takes_real_values(tmp_path, kind):
    pytest.importorskip("ai_edge_litert")
    make_release(tmp_path / "r", variants=[f"{kind}-litert"])
    file = tmp_path / "r" / "variants" / f"{kind}-litert.tflite"
    manifest = describe(file)
    assert (manifest.sample.dtype, manifest.sample.shape, manifest.sample.kind) == ("float32", (1, 16, 16), "image")
    image = templates()[3]
    engine = Engine.load(file, learn=0)
    row = engine.infer((image / np.float32(255)).astype(np.float32)[None]).outputs
    names = [spec.name for spec in manifest.variants[0].outputs]
    np.testing.assert_allclose(row[names[0]], run_file(file, image[None])["logits"][0], rtol=1e-5)
    engine.close()


def test_state_is_carried_and_no_input_of_the_caller(tmp_path):
    path = counter(tmp_path / "sum.onnx")
    assert [spec.name for spec in describe(path).signature] == ["x", "state"]
    manifest = describe(path, state=["state=stateN"])
    assert [spec.name for spec in manifest.signature] == ["x"]
    engine = Engine(manifest, tmp_path, manifest.variants[0])
    one = np.ones(2, np.float32)
    assert [engine.infer(one).outputs["y"].tolist() for _ in range(3)] == [[1, 1], [2, 2], [3, 3]]
    engine.reset()
    assert engine.infer(one).outputs["y"].tolist() == [1, 1]
    engine.close()


@pytest.mark.parametrize("pair", ["state", "state=y2", "x2=stateN", "state="])
def test_state_that_is_not_there_is_named(tmp_path, pair):
    path = counter(tmp_path / "sum.onnx")
    with pytest.raises(UsageError, match="an input of x, state and an output of y, stateN"):
        describe(path, state=[pair])


def test_state_of_another_shape_and_no_samples_left_are_refused(tmp_path):
    path = counter(tmp_path / "sum.onnx")
    with pytest.raises(UsageError, match="no input is left for samples"):
        describe(path, state=["state=stateN", "x=y"])
    with pytest.raises(UsageError, match="in another pair already"):
        describe(path, state=["state=stateN", "state=y"])
    other = write(tmp_path / "o.onnx", [node("Flatten", ["x"], "y")], [("x", FLOAT, [1, 2, 2])], [("y", FLOAT, [1, 4])])
    with pytest.raises(UsageError, match="they must be numbers of one shape"):
        describe(other, state=["x=y"])


def test_several_inputs_open_sizes_and_dtypes(tmp_path):
    path = write(
        tmp_path / "m.onnx",
        [
            node("Cast", ["ids"], "f", to=FLOAT),
            node("Mul", ["f", "scale"], "y"),
            node("Identity", ["word"], "label"),
        ],
        [("ids", INT64, ["n", "tokens"]), ("scale", FLOAT, []), ("word", STRING, ["n"])],
        [("y", FLOAT, ["n", "tokens"]), ("label", STRING, ["n"])],
    )
    manifest = describe(path)
    assert [(s.name, s.dtype, s.shape) for s in manifest.signature] == [
        ("ids", "int64", (-1,)),
        ("scale", "float32", ()),
        ("word", "str", ()),
    ]
    engine = Engine.load(path, learn=0)
    answer = engine.infer({"ids": np.array([1, 2, 3]), "scale": np.float32(2), "word": "hello"})
    assert answer.outputs["y"].tolist() == [2, 4, 6]
    assert answer.label == "hello"
    engine.close()


def test_an_output_called_label_that_is_a_number_gets_another_name(tmp_path):
    nodes = [node("ArgMax", ["x"], "label", axis=1, keepdims=0), node("Identity", ["x"], "scores")]
    path = write(
        tmp_path / "m.onnx", nodes, [("x", FLOAT, ["n", 3])], [("label", INT64, ["n"]), ("scores", FLOAT, ["n", 3])]
    )
    engine = Engine.load(path, learn=0)
    answer = engine.infer(np.array([0, 5, 1], np.float32))
    assert (answer.outputs["output_label"], answer.label, answer.value) == (1, "", 1.0)
    assert answer.scores.tolist() == [0, 5, 1]
    engine.close()


def test_files_that_are_none_are_refused_in_one_line(tmp_path):
    with pytest.raises(UsageError, match="no such file"):
        describe(tmp_path / "no.onnx")
    (tmp_path / "broken.onnx").write_bytes(linear(tmp_path / "m.onnx")[0].read_bytes()[:60])
    with pytest.raises(BackendError, match=r"broken\.onnx: onnxruntime .* refuses it"):
        describe(tmp_path / "broken.onnx")
    unknown = write(tmp_path / "u.onnx", [node("Frobnicate", ["x"], "y")], [("x", FLOAT, [1])], [("y", FLOAT, [1])])
    with pytest.raises(BackendError, match="Frobnicate"):
        describe(unknown)


def test_labels_that_do_not_fit_are_refused(tmp_path):
    path, _ = linear(tmp_path / "m.onnx")
    with pytest.raises(UsageError, match=r"2 labels need \(batch, 2\)"):
        describe(path, labels=["a", "b"])
    (tmp_path / "m.labels.txt").write_text("a\nb\na\n")
    with pytest.raises(UsageError, match="'a' stands there twice"):
        beside(path)
    (tmp_path / "m.labels.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="not UTF-8"):
        beside(path)


def test_names_are_safe_in_topics():
    from pathlib import Path

    assert model_name(Path("Modèle/ÄÖ.onnx")) == "model"
    assert model_name(Path("a" * 90 + ".onnx")) == "a" * 64


def test_what_probabilities_are():
    assert probabilities(np.array([[0.25, 0.75], [1, 0]]))
    assert not probabilities(np.array([[0.5, 0.6]]))
    assert probabilities(np.array([[0.3], [0.9]]))
    assert not probabilities(np.array([[1.3]]))
    assert not probabilities(np.array([[np.nan, 1]]))
