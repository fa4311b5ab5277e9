"""LiteRT beyond the contract: batches, files that can't be resized, and what ``tflite_runtime`` computes wrong.

Like ``test_conformance.py``, this also runs where only ``tflite_runtime`` is.
"""

import os
import threading
from pathlib import Path

import msgspec
import numpy as np
import pytest

from edge_agent.backends import open_backend
from edge_agent.backends.inspect import inspect_file
from edge_agent.backends.litert_graph import said
from shared.errors import BackendError
from shared.manifest import TensorSpec
from tests.edge_agent.backends.models import B1, MODELS, W_INT8, W_SCALE, write_all

litert_graph = pytest.importorskip("edge_agent.backends.litert_graph")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    ready = os.environ.get("SANDERLING_TEST_MODELS")
    return Path(ready) if ready else write_all(tmp_path_factory.mktemp("models"))


def opened(path, model, **changes):
    return open_backend(msgspec.structs.replace(MODELS[model].variant(".tflite"), **changes), path)


@pytest.fixture
def allocations(monkeypatch):
    """How often an interpreter has planned its memory."""
    made = []
    interpreter = litert_graph.Interpreter
    original = interpreter.allocate_tensors
    monkeypatch.setattr(interpreter, "allocate_tensors", lambda self: (made.append(1), original(self))[1])
    return made


def test_file_with_the_batch_of_one_in_a_constant_runs_row_by_row(files, allocations):
    model = MODELS["copy-float32"]
    backend = opened(files / "stuck.tflite", "copy-float32")
    for n in (1, 3, 64, 1):
        feeds = model.feeds(n, seed=n)
        np.testing.assert_array_equal(backend.run(feeds)["y"], feeds["x"].reshape(n, 6))
    tried = len(allocations)
    backend.run(model.feeds(7))
    assert len(allocations) == tried


def test_batches_of_the_same_size_plan_memory_once(files, allocations):
    model = MODELS["mlp"]
    backend = opened(files / "mlp.tflite", "mlp")
    backend.run(model.feeds(5))
    tried = len(allocations)
    for n in (5, 1, 5, 5, 1):
        backend.run(model.feeds(n))
    assert len(allocations) == tried + 2  # for the second interpreter; for five


def test_memory_of_a_lone_batch_is_not_kept(files):
    model = MODELS["mlp"]
    backend = opened(files / "mlp.tflite", "mlp")
    backend.run(model.feeds(5))
    assert backend._bulk is None
    backend.run(model.feeds(5))
    assert backend._bulk is not None


def test_single_samples_do_not_wait_for_a_batch(files):
    model = MODELS["mlp"]
    backend = opened(files / "mlp.tflite", "mlp")
    feeds = model.feeds(32)
    found = {}
    with backend.lock:  # a single sample under way
        thread = threading.Thread(target=lambda: found.update(backend.run(feeds)))
        thread.start()
        thread.join(20)
        assert not thread.is_alive()
    np.testing.assert_allclose(found["y"], model.reference(feeds)["y"], atol=1e-5)


def test_sizes_that_only_the_manifest_knows_make_a_model_direct(files):
    shape = (None, 6, 2)
    tensors = {side: (TensorSpec(name, "float32", shape),) for side, name in (("inputs", "x"), ("outputs", "y"))}
    backend = opened(files / "open-sizes.tflite", "open-sizes", **tensors)
    assert backend.direct
    x = np.random.default_rng(0).normal(size=(3, 6, 2)).astype(np.float32)
    np.testing.assert_array_equal(backend.run({"x": x})["y"], np.maximum(x, 0))
    backend.input[0] = x[1]
    backend.forward()
    np.testing.assert_array_equal(backend.outputs["y"], np.maximum(x[1], 0))
    with pytest.raises(BackendError, match=r"x is \(n, 6, 2\), but was given \(3, 5, 2\)"):
        backend.run({"x": x[:, :5]})


def test_dynamic_range_quantization_is_computed_right_or_refused(files):
    path = files / "hybrid.tflite"
    if litert_graph.LEGACY:
        with pytest.raises(BackendError, match=r"FULLY_CONNECTED has int8 weights but float32 .*use ai-edge-litert"):
            inspect_file(path)
        return
    found = inspect_file(path)
    assert found.precision == "int8"
    backend = opened(path, "mlp", inputs=found.inputs, outputs=found.outputs)
    x = MODELS["mlp"].feeds(5)["x"]
    expected = x @ (W_INT8 * np.float32(W_SCALE)).T + B1
    np.testing.assert_allclose(backend.run({"x": x})["y"], expected, atol=0.1)


def test_unknown_operator_is_named(files):
    with pytest.raises(BackendError, match=r"custom\.tflite: LiteRT refuses it: .*SandPiper") as raised:
        inspect_file(files / "custom.tflite")
    assert "\n" not in str(raised.value)


def test_quantization_missing_from_the_manifest_is_taken_from_the_file(files):
    model = MODELS["int8"]
    bare = {
        side: tuple(msgspec.structs.replace(t, scale=None, zero_point=None) for t in getattr(model, side))
        for side in ("inputs", "outputs")
    }
    backend = opened(files / "int8.tflite", "int8", **bare)
    feeds = model.feeds(4)
    np.testing.assert_allclose(backend.run(feeds)["y"], model.reference(feeds)["y"], atol=model.tolerance)


def test_another_quantization_in_the_manifest_is_refused(files):
    wrong = (msgspec.structs.replace(MODELS["int8"].inputs[0], scale=0.5),)
    with pytest.raises(BackendError, match=r"x is quantized with scale 0.03125, zero point 5 .*manifest says 0.5"):
        opened(files / "int8.tflite", "int8", inputs=wrong)


def test_an_error_without_a_word_is_explained():
    assert "too little memory" in said(RuntimeError())
    assert said(RuntimeError("tensor 3")) == "tensor 3"


@pytest.mark.parametrize("gone", [True, False])
def test_batches_are_of_the_model_that_was_loaded_whatever_became_of_the_file(files, tmp_path, gone):
    model = MODELS["mlp"]
    path = tmp_path / "model.tflite"
    path.write_bytes((files / "mlp.tflite").read_bytes())
    backend = opened(path, "mlp")
    path.unlink()
    if not gone:
        data = bytearray((files / "mlp.tflite").read_bytes())
        at = data.find(B1.tobytes())
        data[at : at + B1.nbytes] = (B1 + 100).tobytes()
        path.write_bytes(data)
    for n in (3, 4):
        feeds = model.feeds(n)
        np.testing.assert_allclose(backend.run(feeds)["y"], model.reference(feeds)["y"], atol=1e-5)
