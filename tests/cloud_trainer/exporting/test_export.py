"""Export and quantization of a tiny network, and what happens when they fail."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from cloud_trainer.exporting import environment
from cloud_trainer.exporting.environment import VARIABLE, existing_python, unsupported
from cloud_trainer.exporting.fold import folded
from cloud_trainer.exporting.specs import onnx_specs
from cloud_trainer.exporting.to_onnx import export_onnx
from cloud_trainer.exporting.to_tflite import TfliteWorker
from cloud_trainer.exporting.variants import open_worker
from cloud_trainer.models import ResNet, build
from cloud_trainer.progress import silent
from cloud_trainer.quantization import calibration_samples, quantize_onnx
from shared.errors import ExportError

SHAPE = ResNet(input=(1, 8, 8), outputs=3, width=4, embedding=6)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    path = tmp_path_factory.mktemp("onnx") / "fp32.onnx"
    model = folded(build(SHAPE, 0))
    export_onnx(model, SHAPE.input, path)
    return model, path


def run(path, x):
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(None, {"input": x})


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_onnx_file_answers_like_the_network_at_any_batch(exported, batch):
    model, path = exported
    x = np.random.default_rng(batch).normal(size=(batch, *SHAPE.input)).astype(np.float32)
    with torch.no_grad():
        expected = model(torch.from_numpy(x))
    for found, wanted in zip(run(path, x), expected, strict=True):
        np.testing.assert_allclose(found, wanted.numpy(), rtol=1e-4, atol=1e-5)


def test_onnx_specs_have_roles_and_a_dynamic_batch(exported):
    inputs, outputs = onnx_specs(exported[1])
    assert [(spec.name, spec.dtype, spec.shape) for spec in (*inputs, *outputs)] == [
        ("input", "float32", (None, 1, 8, 8)),
        ("logits", "float32", (None, 3)),
        ("embedding", "float32", (None, 6)),
    ]


@pytest.mark.parametrize("activations", ["uint8", "int8"])
def test_quantized_file_is_smaller_in_precision_but_close_in_answers(exported, tmp_path, activations):
    _, fp32 = exported
    x = np.random.default_rng(0).normal(size=(128, *SHAPE.input)).astype(np.float32)
    int8 = tmp_path / "int8.onnx"
    quantize_onnx(fp32, int8, x, activations=activations, input_name="input")
    assert b"QuantizeLinear" in int8.read_bytes()
    found, wanted = run(int8, x)[0], run(fp32, x)[0]
    assert 0 < np.abs(found - wanted).max() < 0.1 * np.ptp(wanted)


def test_quantizing_what_is_no_model_is_one_line(tmp_path):
    bad = tmp_path / "bad.onnx"
    bad.write_bytes(b"nonsense")
    with pytest.raises(ExportError, match=r"^int8 quantization of bad.onnx failed: [^\n]+$"):
        quantize_onnx(
            bad, tmp_path / "out.onnx", np.zeros((2, 1, 8, 8), np.float32), activations="uint8", input_name="x"
        )


def test_calibration_samples_are_chosen_by_the_seed():
    x = np.arange(100, dtype=np.float32)[:, None]
    assert (calibration_samples(x, 10, 1) == calibration_samples(x, 10, 1)).all()
    assert (calibration_samples(x, 10, 1) != calibration_samples(x, 10, 2)).any()
    assert calibration_samples(x, 1000, 1) is x


@pytest.mark.parametrize("old", [100, 640, 901])
def test_calibration_samples_are_of_old_and_new_data_in_proportion(old):
    x = (np.arange(1000) >= old).astype(np.float32)[:, None]
    chosen = calibration_samples(x, 64, 0)
    assert len(chosen) == 64
    assert abs(chosen.sum() - 64 * (1000 - old) / 1000) <= 1


@pytest.mark.parametrize(
    ("machine", "version", "message"),
    [("aarch64", (3, 11), "aarch64"), ("x86_64", (3, 14), "Python 3.14"), ("x86_64", (3, 11), None)],
)
def test_machines_without_a_tflite_exporter_say_so(monkeypatch, machine, version, message):
    monkeypatch.delenv(VARIABLE, raising=False)
    found = unsupported(machine, version)
    assert found is None if message is None else message in str(found)


def test_task_for_tflite_alone_fails_where_it_cannot_be_exported(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    with pytest.raises(ExportError, match="asks for nothing else"):
        open_worker(("litert",), silent)
    said = []
    assert open_worker(("onnxruntime", "litert"), lambda *line: said.append(line[2])) is None
    assert said == ["the TFLite exporter has no build for aarch64: exporting ONNX only"]


def test_interpreter_named_by_the_variable_must_exist(monkeypatch):
    monkeypatch.setenv(VARIABLE, "/no/such/python")
    with pytest.raises(ExportError, match="no such program"):
        existing_python()


def test_environment_that_cannot_be_made_leaves_nothing_behind(monkeypatch, tmp_path):
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "nowhere" / "venv"))
    requirements = tmp_path / "requirements.txt"
    requirements.write_text("sanderling-no-such-package-on-this-disk @ file:///no/such/file.whl\n")
    monkeypatch.setattr(environment, "REQUIREMENTS", requirements)
    with pytest.raises(ExportError, match="environment could not be made"):
        environment.exporter_python(silent, tmp_path / "cache")
    assert not [path for path in (tmp_path / "cache").iterdir() if path.is_dir()]


def test_worker_without_the_exporter_says_which_module_is_missing():
    with (
        TfliteWorker(Path(sys.executable)) as worker,
        pytest.raises(ExportError, match="lacks the TFLite exporter: No module named"),
    ):
        worker.convert({})


def test_worker_that_dies_is_reported_with_its_last_words(tmp_path):
    script = tmp_path / "python"
    script.write_text("#!/bin/sh\necho out of luck >&2\nexit 3\n")
    script.chmod(0o755)
    with TfliteWorker(script) as worker, pytest.raises(ExportError, match="ended early: out of luck"):
        worker.convert({})


def test_worker_imports_nothing_of_ours():
    from cloud_trainer.exporting.to_tflite import WORKER

    text = WORKER.read_text()
    assert not [line for line in text.splitlines() if line.strip().startswith(("from shared", "from cloud_trainer"))]
    subprocess.run([sys.executable, "-I", "-m", "py_compile", str(WORKER)], check=True)


def test_an_exporter_that_fails_without_a_word_is_named_all_the_same(tmp_path, monkeypatch):
    def fail(*_args, **_options):
        raise AssertionError

    monkeypatch.setattr(torch.onnx, "export", fail)
    with pytest.raises(ExportError, match="ONNX export failed: AssertionError"):
        export_onnx(torch.nn.Identity(), (1, 4, 4), tmp_path / "m.onnx")
