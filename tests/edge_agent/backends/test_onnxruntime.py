"""ONNX Runtime beyond the contract: memory, locks, and what it refuses."""

import subprocess
import sys
import threading
from types import SimpleNamespace

import msgspec
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edge_agent.backends import onnxruntime as module
from edge_agent.backends import open_backend
from edge_agent.backends.inspect import inspect_file
from shared.errors import BackendError
from tests.edge_agent.backends.models import MODELS, mlp_onnx, onnx_file

CHANGING_SHAPES = """
import os, sys
import numpy as np
from pathlib import Path
from edge_agent.backends import open_backend
from shared.manifest import FileReference, TensorSpec, Variant

def rss():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20

x, y = TensorSpec("x", "float32", (None, 3, None, None)), TensorSpec("y", "float32", (None, 16, 1, 1))
variant = Variant("a", "onnxruntime", "fp32", "", FileReference("m", 1, "0" * 64), (x,), (y,), 0, {})
backend = open_backend(variant, Path(sys.argv[1]), memory_arena=sys.argv[2] == "arena")
random = np.random.default_rng(0)
backend.run({"x": np.zeros((1, 3, 200, 200), np.float32)})
before = rss()
for _ in range(150):
    height, width = random.integers(16, 200, 2)
    backend.run({"x": np.zeros((1, 3, height, width), np.float32)})
shapes = rss() - before
backend.run({"x": np.zeros((8, 3, 400, 400), np.float32)})
backend.run({"x": np.zeros((1, 3, 16, 16), np.float32)})
print(shapes, rss() - before)
"""


@pytest.fixture
def write(tmp_path):
    def write(data):
        path = tmp_path / "model.onnx"
        path.write_bytes(data)
        return path

    return write


def cnn():
    random, constants, nodes = np.random.default_rng(0), {}, []
    for i in range(4):
        constants[f"w{i}"] = random.normal(0, 0.1, (16, 16 if i else 3, 3, 3)).astype(np.float32)
        nodes.append(("Conv", [f"h{i}" if i else "x", f"w{i}"], [f"c{i}"], {"pads": [1, 1, 1, 1]}))
        nodes.append(("Relu", [f"c{i}"], [f"h{i + 1}"], {}))
    nodes.append(("GlobalAveragePool", ["h4"], ["y"], {}))
    inputs, outputs = {"x": ("float32", ["n", 3, "h", "w"])}, {"y": ("float32", ["n", 16, 1, 1])}
    return onnx_file(nodes, inputs, outputs, constants)


def test_memory_stays_flat_while_shapes_change_unless_the_arena_is_wanted(write):
    path = write(cnn())

    def grown(arena):
        command = [sys.executable, "-c", CHANGING_SHAPES, str(path), arena]
        out = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
        return [float(number) for number in out.split()]

    shapes, after_big = grown("off")
    assert shapes < 25
    assert after_big < 25
    assert grown("arena")[1] > 80  # two 8 x 16 x 400 x 400 activations, kept


def options_of(session):
    found = session.get_session_options()
    return found.enable_cpu_mem_arena, found.enable_mem_pattern


def test_single_samples_have_a_memory_pattern_and_batches_a_session_without(write):
    model = MODELS["mlp"]
    backend = open_backend(model.variant(".onnx"), write(mlp_onnx("n")))
    assert options_of(backend._session) == (False, True)
    for n in (2, 3, 4):
        feeds = model.feeds(n)
        np.testing.assert_allclose(backend.run(feeds)["y"], model.reference(feeds)["y"], atol=1e-5)
        assert (backend._bulk is None) == (n == 2)  # a lone batch, the self-test's, leaves nothing at all
    assert options_of(backend._bulk) == (False, False)


def test_batches_are_of_the_model_that_was_loaded_whatever_became_of_the_file(write):
    model = MODELS["mlp"]
    path = write(mlp_onnx("n"))
    backend = open_backend(model.variant(".onnx"), path)
    feeds = model.feeds(3)
    path.write_bytes(mlp_onnx(1))
    np.testing.assert_allclose(backend.run(feeds)["y"], model.reference(feeds)["y"], atol=1e-5)
    path.unlink()
    np.testing.assert_allclose(backend.run(feeds)["y"], model.reference(feeds)["y"], atol=1e-5)


def test_weights_beside_the_file_are_found_and_are_there_once(tmp_path):
    table = np.arange(64 * 64, dtype=np.float32).reshape(64, 64)
    data = onnx_file([("MatMul", ["x", "w"], ["y"], {})], {"x": ("float32", ["n", 64])}, {"y": ("float32", ["n", 64])},
                     {"w": table})  # fmt: skip
    path = tmp_path / "model.onnx"
    onnx.save(onnx.load_from_string(data), path, save_as_external_data=True, location="w.data", size_threshold=0)
    found = inspect_file(path)
    variant = msgspec.structs.replace(MODELS["mlp"].variant(".onnx"), inputs=found.inputs, outputs=found.outputs)
    backend = open_backend(variant, path)
    for n in (2, 3):
        x = np.ones((n, 64), np.float32)
        np.testing.assert_allclose(backend.run({"x": x})["y"], x @ table, rtol=1e-5)
    assert backend._bulk is None


def test_the_weights_of_a_large_file_are_there_once(write, monkeypatch):
    monkeypatch.setattr("edge_agent.backends.onnxruntime.APART_MAX_BYTES", 100)
    model = MODELS["mlp"]
    backend = open_backend(model.variant(".onnx"), write(mlp_onnx("n")))
    for n in (2, 3):
        backend.run(model.feeds(n))
    assert backend._bulk is None
    assert options_of(backend._session) == (False, False)


def test_run_needs_no_lock(write):
    model = MODELS["mlp"]
    backend = open_backend(model.variant(".onnx"), write(mlp_onnx("n")))
    feeds, found = model.feeds(4), {}
    with backend.lock:
        thread = threading.Thread(target=lambda: found.update(backend.run(feeds)))
        thread.start()
        thread.join(20)
        assert not thread.is_alive()
    np.testing.assert_allclose(found["y"], model.reference(feeds)["y"], atol=1e-5)


def test_zipmap_is_refused_with_the_way_to_convert_without_it(write):
    nodes = [helper.make_node("ZipMap", ["x"], ["probabilities"], domain="ai.onnx.ml", classlabels_int64s=[0, 1])]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 2])],
        [
            helper.make_value_info(
                "probabilities",
                helper.make_sequence_type_proto(
                    helper.make_map_type_proto(
                        TensorProto.INT64, helper.make_tensor_type_proto(TensorProto.FLOAT, None)
                    )
                ),
            )
        ],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 1)]
    path = write(helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString())
    with pytest.raises(BackendError, match=r"output probabilities is a seq\(map\(int64.*'zipmap': False") as raised:
        inspect_file(path)
    assert "\n" not in str(raised.value)


def test_unknown_operator_is_named_and_nothing_is_printed(write, capfd):
    tensor = ("float32", ["n", 3])
    path = write(onnx_file([("SandPiper", ["x"], ["y"], {})], {"x": tensor}, {"y": tensor}, {}, check=False))
    with pytest.raises(BackendError, match=rf"^{path}: onnxruntime .* refuses it: .*SandPiper") as raised:
        inspect_file(path)
    assert "\n" not in str(raised.value)
    assert capfd.readouterr() == ("", "")


def test_failure_inside_the_model_is_told_without_a_print_and_the_next_call_is_served(write, capfd):
    table = np.arange(6, dtype=np.float32).reshape(3, 2)
    nodes = [("Gather", ["table", "x"], ["y"], {})]
    path = write(onnx_file(nodes, {"x": ("int64", ["n"])}, {"y": ("float32", ["n", 2])}, {"table": table}))
    found = inspect_file(path)
    model = MODELS["numbers"]
    variant = model.variant(".onnx")
    backend = open_backend(
        type(variant)(**{name: getattr(variant, name) for name in variant.__struct_fields__} | {
            "inputs": found.inputs, "outputs": found.outputs,
        }), path,
    )  # fmt: skip
    with pytest.raises(BackendError, match=r"onnxruntime failed: .*Gather.*out of data bounds"):
        backend.run({"x": np.array([7])})
    np.testing.assert_array_equal(backend.run({"x": np.array([2, 0])})["y"], table[[2, 0]])
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("there", ["as it is", "renamed", "other arguments"])
def test_one_sample_is_answered_whatever_the_binding_is_called_inside(write, there, monkeypatch):
    model = MODELS["mlp"]
    if there != "as it is":
        calls = []

        class Session:
            def __init__(self, session):
                self._public = session
                if there == "other arguments":
                    self._sess = SimpleNamespace(run_with_iobinding=lambda: None)

            def run_with_iobinding(self, binding):
                calls.append(binding)
                self._public.run_with_iobinding(binding)

            def __getattr__(self, name):
                if name == "_sess":
                    raise AttributeError(name)
                return getattr(self._public, name)

        plain = module._open
        monkeypatch.setattr(module, "_open", lambda *a, **k: Session(plain(*a, **k)))
    backend = open_backend(model.variant(".onnx"), write(mlp_onnx(1)))
    feeds = model.feeds(1)
    ((name, values),) = feeds.items()
    with backend.lock:
        backend.input[...] = values
        backend.forward()
    for output, expected in backend.run({name: values}).items():
        np.testing.assert_allclose(backend.outputs[output], expected[0], rtol=1e-6)
    if there != "as it is":
        assert calls


def test_a_network_that_fails_on_zeros_is_loaded_and_fails_when_it_is_asked(write):
    table = np.arange(6, dtype=np.float32).reshape(3, 2)
    nodes = [("Sub", ["x", "one"], ["i"], {}), ("Sub", ["i", "five"], ["j"], {}), ("Gather", ["table", "j"], ["y"], {})]
    constants = {"table": table, "one": np.array(1), "five": np.array(5)}
    path = write(onnx_file(nodes, {"x": ("int64", ["n", 1])}, {"y": ("float32", ["n", 1, 2])}, constants))
    found = inspect_file(path)
    variant = msgspec.structs.replace(MODELS["numbers"].variant(".onnx"), inputs=found.inputs, outputs=found.outputs)
    backend = open_backend(variant, path)
    assert backend.direct
    with backend.lock:
        with pytest.raises(BackendError, match="onnxruntime failed"):
            backend.forward()
        backend.input[...] = 8
        backend.forward()
    np.testing.assert_array_equal(backend.outputs["y"], table[2:3])


def test_output_that_counts_something_else_has_no_batch_axis(write):
    """What a detector finds: as many rows as there are boxes."""
    nodes = [("NonZero", ["x"], ["where"], {}), ("Transpose", ["where"], ["found"], {}), ("Relu", ["x"], ["y"], {})]
    outputs = {"found": ("int64", ["boxes", 2]), "y": ("float32", ["n", 4])}
    found = inspect_file(write(onnx_file(nodes, {"x": ("float32", ["n", 4])}, outputs, {})))
    assert [(spec.name, spec.batch) for spec in found.outputs] == [("found", False), ("y", True)]


@pytest.mark.parametrize(
    ("dtype", "precision"),
    [("float32", "fp32"), ("float16", "fp16"), ("float64", "fp64"), ("int8", "int8"), ("uint8", "int8")],
)
@pytest.mark.parametrize("constant", [False, True])
def test_precision_is_that_of_most_weights(write, dtype, precision, constant):
    array = np.ones((40, 40), dtype)
    weights = onnx_file(
        [("Cast", ["w"], ["c"], {"to": 1}), ("MatMul", ["x", "c"], ["m"], {}), ("Add", ["m", "b"], ["y"], {})],
        {"x": ("float32", ["n", 40])},
        {"y": ("float32", ["n", 40])},
        {"w": array, "b": np.zeros(40, np.float32), "unused": np.zeros(9000, np.int64)},
    )
    model = onnx.load_model_from_string(weights)
    if constant:
        (tensor,) = [t for t in model.graph.initializer if t.name == "w"]
        model.graph.initializer.remove(tensor)
        model.graph.node.insert(0, helper.make_node("Constant", [], ["w"], value=numpy_helper.from_array(array)))
    assert inspect_file(write(model.SerializeToString())).precision == precision
