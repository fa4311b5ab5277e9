"""Files of strangers: each is told in one line what is wrong with it, and the process lives."""

import subprocess
import sys

import numpy as np
import pytest

from edge_agent import backends
from edge_agent.backends import Runtime, available, open_backend
from edge_agent.backends.inspect import inspect_file, runtime_of
from shared.errors import BackendError, MissingExtraError
from tests.edge_agent.backends.models import MODELS, TfliteFile, mlp_onnx, mlp_tflite, onnx_file

WRITERS = {".onnx": lambda: mlp_onnx("n"), ".tflite": lambda: mlp_tflite(None)}

THIRD = '''
"""A runtime that gives back what it gets."""
import threading
import numpy as np
from edge_agent.backends import tensors
from edge_agent.backends.inspect import FileSignature
from shared.manifest import TensorSpec

class Echo:
    def __init__(self, variant, path, *, threads, memory_arena):
        self.lock, self.direct, self.input, self.outputs = threading.Lock(), False, np.empty(0), {}
        self.inputs, self.given, self.where = variant.inputs, variant.outputs, str(path)

    def run(self, feeds):
        given, rows = tensors.gather(self.inputs, feeds, self.where)
        found = tensors.by_row(lambda each: [each[0] * 2], self.inputs, self.given, given, rows, self.where)
        return tensors.scatter(self.given, found, rows, self.where)

    def forward(self): ...
    def close(self): ...

def signature_of(path):
    x, y = (TensorSpec(name, "float32", (None, 2)) for name in "xy")
    return FileSignature("echo", "fp32", (x,), (y,))
'''

FUZZ = """
import sys
from pathlib import Path
import numpy as np
from edge_agent.backends.inspect import inspect_file
from shared.errors import BackendError
path = Path(sys.argv[1])
data, random, refused = path.read_bytes(), np.random.default_rng(5), 0
for _ in range(400):
    damaged = bytearray(data)
    for place in random.integers(0, len(data), random.integers(1, 4)):
        damaged[place] = random.integers(0, 256)
    path.write_bytes(damaged[: random.integers(0, len(data))] if random.random() < 0.1 else damaged)
    try:
        inspect_file(path)
    except BackendError as error:
        assert "\\n" not in str(error), error
        refused += 1
print(refused)
"""


def refused(path, text):
    with pytest.raises(BackendError, match=text) as raised:
        inspect_file(path)
    assert "\n" not in str(raised.value)
    assert str(path) in str(raised.value)


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("m.onnx", lambda: mlp_tflite(1), "it is a TFLite model; name it .tflite"),
        ("m.tflite", lambda: mlp_onnx(1), "it looks like an ONNX model; name it .onnx"),
        ("m.onnx", lambda: b"", "the file is empty"),
        ("m.tflite", lambda: b"", "the file is empty"),
        ("m.onnx", lambda: b"no model" * 40, "onnxruntime .* refuses it"),
        ("m.tflite", lambda: b"no model" * 40, "LiteRT refuses it: it is no TFLite model"),
        ("m.onnx", lambda: b"PK\x03\x04" + b"\0" * 40, "a zip archive"),
        ("m.tflite", lambda: b"version https://git-lfs.github.com/spec/v1\n", "pointer of git LFS"),
        ("m.tflite", lambda: b"\x08\0\0\0TFL3", "LiteRT refuses it: .*damaged"),
        ("m.tflite", lambda: mlp_tflite(1)[:700], "LiteRT refuses it"),
        ("m.onnx", lambda: mlp_onnx(1)[:700], "onnxruntime .* refuses it: .*[Pp]arsing failed"),
        ("m.pt", lambda: b"x", "must end with .onnx or .tflite"),
    ],
)
def test_file_that_is_none_is_told_what_it_is(tmp_path, name, content, text):
    path = tmp_path / name
    path.write_bytes(content())
    refused(path, text)


def test_missing_file_and_directory_are_told(tmp_path):
    refused(tmp_path / "no.onnx", "cannot be read: No such file")
    (tmp_path / "d.tflite").mkdir()
    refused(tmp_path / "d.tflite", "cannot be read: Is a directory")


@pytest.mark.parametrize("suffix", [".onnx", ".tflite"])
def test_tensor_of_absurd_size_is_refused_before_memory_is_taken(tmp_path, suffix):
    shape = [1, 1 << 20, 1 << 10]
    path = tmp_path / f"huge{suffix}"
    if suffix == ".onnx":
        path.write_bytes(
            onnx_file([("Relu", ["x"], ["y"], {})], {"x": ("float32", shape)}, {"y": ("float32", shape)}, {})
        )
    else:
        file = TfliteFile()
        file.tensor("x", tuple(shape))
        file.tensor("y", tuple(shape))
        file.operator("RELU", ["x"], ["y"])
        path.write_bytes(file.finish(["x"], ["y"]))
    refused(path, r"\(1, 1048576, 1024\) is too big")


@pytest.mark.parametrize("suffix", [".onnx", ".tflite"])
def test_damaged_files_never_take_the_process_down(tmp_path, suffix):
    path = tmp_path / f"damaged{suffix}"
    path.write_bytes(WRITERS[suffix]())
    found = subprocess.run(
        [sys.executable, "-c", FUZZ, str(path)], capture_output=True, text=True, check=False, timeout=60
    )
    assert found.returncode == 0, found.stderr[-2000:]
    assert int(found.stdout) > 100


def test_another_backend_is_one_file_and_one_line(tmp_path, monkeypatch):
    (tmp_path / "sanderling_echo.py").write_text(THIRD)
    monkeypatch.syspath_prepend(tmp_path)
    line = Runtime("sanderling_echo", "Echo", ".echo", "echo", (("sanderling_echo", "echo"),))
    monkeypatch.setitem(backends.RUNTIMES, "echo", line)
    assert available()["echo"] == "echo (unknown version)"
    path = tmp_path / "model.echo"
    found = inspect_file(path)
    model = MODELS["mlp"]
    variant = model.variant(".onnx")
    fields = {name: getattr(variant, name) for name in variant.__struct_fields__}
    fields |= {"runtime": found.runtime, "inputs": found.inputs, "outputs": found.outputs}
    backend = open_backend(type(variant)(**fields), path)
    x = np.ones((3, 2), np.float32)
    np.testing.assert_array_equal(backend.run({"x": x})["y"], 2 * x)


def test_runtime_goes_by_the_suffix_in_any_case(tmp_path):
    assert runtime_of(tmp_path / "A.ONNX") == "onnxruntime"
    assert runtime_of(tmp_path / "a.b.tflite") == "litert"


def test_runtime_that_is_not_installed_costs_one_line_with_the_command(tmp_path, monkeypatch):
    monkeypatch.setattr(backends, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"m.onnx \(onnxruntime\) .*pip install 'sanderling\[onnx\]'"):
        inspect_file(tmp_path / "m.onnx")
