"""Every file that a student becomes: which there are, and that they answer like the network."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from cloud_trainer.config import ExportConfig
from cloud_trainer.exporting.environment import existing_python
from cloud_trainer.exporting.recipes import recipes
from cloud_trainer.exporting.variants import Student, export_all, open_worker
from cloud_trainer.models import architecture, build
from cloud_trainer.progress import silent
from cloud_trainer.quantization.agreement import agreements
from shared.errors import ExportError

EVERY = ("int8", "int8-reduced", "fp16", "weight8", "weight4")
needs_tflite = pytest.mark.skipif(existing_python() is None, reason="no TFLite exporter on this machine")


class Reader(nn.Module):
    """A transformer of one layer on token ids; a value of it is called ``embedding`` by the exporter, too."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(60, 16)
        self.mix = nn.Linear(16, 48)
        self.norm = nn.LayerNorm(16)
        self.classify = nn.Linear(16, 3)

    def forward(self, ids):
        x = self.table(ids)
        q, k, v = self.mix(x).reshape(x.shape[0], x.shape[1], 3, 2, 8).permute(2, 0, 3, 1, 4)
        seen = nn.functional.scaled_dot_product_attention(q, k, v).permute(0, 2, 1, 3).reshape(x.shape)
        x = self.norm(x + seen)
        mean = x.mean(1)
        return self.classify(mean), mean


def table_student():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 1)).eval()
    x = np.random.default_rng(0).normal(size=(80, 6)).astype(np.float32)
    return Student(model, (6,), 448, "mlp", x, answer="value")


def text_student():
    torch.manual_seed(0)
    x = np.random.default_rng(0).integers(0, 60, (60, 12))
    return Student(Reader().eval(), (12,), 0, "reader", x, tokens=True)


def exported(student, release, worker=None, precisions=EVERY):
    (release / "variants").mkdir()
    runtimes = ("onnxruntime",) if worker is None else ("onnxruntime", "litert")
    config = ExportConfig(runtimes=runtimes, precisions=precisions)
    made = export_all(student, config, release, worker, silent)
    with torch.no_grad():
        found = student.model(torch.from_numpy(student.calibration))
    wanted = (found if isinstance(found, torch.Tensor) else found[0]).numpy()
    return made, agreements(made, release, student.calibration, wanted, classes=student.tokens)


@pytest.fixture(scope="module")
def worker():
    opened = open_worker(("onnxruntime", "litert"), silent)
    yield opened
    opened.close()


def check(found, *, least):
    """dB by variant: nothing is far off, and nothing but fp32 is exact."""
    noise = {one.variant: one.sqnr_db for one in found}
    for name, decibels in noise.items():
        assert decibels > least[name.split("-")[0]], noise
        assert name.startswith("fp32") or decibels < 100, noise


LEAST = {"fp32": 90, "fp16": 45, "weight8": 30, "weight4": 8, "int8": 20}


def test_a_table_model_with_one_output_becomes_every_file_for_onnx_runtime(tmp_path):
    made, found = exported(table_student(), tmp_path)
    assert [v.id for v in made] == [
        "fp32-onnx", "int8-onnx", "int8-arm-onnx", "int8-reduced-onnx", "fp16-onnx", "weight8-onnx", "weight4-onnx",
    ]  # fmt: skip
    assert [[spec.name for spec in v.outputs] for v in made] == [["value"]] * 7
    assert {v.id: v.meant_for for v in made}["int8-arm-onnx"] == ("aarch64", "arm64")
    check(found, least=LEAST)


def test_a_transformer_on_tokens_gets_dynamic_int8_and_smaller_files(tmp_path):
    made, found = exported(text_student(), tmp_path)
    assert [v.id for v in made] == ["fp32-onnx", "int8-onnx", "fp16-onnx", "weight8-onnx", "weight4-onnx"]
    assert (made[0].inputs[0].dtype, made[0].inputs[0].shape) == ("int64", (None, 12))
    assert [spec.name for spec in made[0].outputs] == ["logits", "embedding"]
    assert b"DynamicQuantizeLinear" in (tmp_path / made[1].file.path).read_bytes()
    check(found, least=LEAST)


@needs_tflite
def test_tflite_files_of_a_table_model_agree_with_the_network(tmp_path, worker):
    made, found = exported(table_student(), tmp_path, worker, ("int8", "fp16", "weight8", "weight4"))
    litert = {v.id: v for v in made if v.runtime == "litert"}
    assert set(litert) == {"fp32-litert", "int8-litert", "fp16-litert", "weight8-litert", "weight4-litert"}
    assert litert["int8-litert"].inputs[0].dtype == "int8"
    assert litert["fp16-litert"].file.bytes < litert["fp32-litert"].file.bytes
    for variant in made:  # names of layers and source files are nobody's business, and a part of a small file
        content = (tmp_path / variant.file.path).read_bytes()
        assert b"site-packages" not in content
        if variant.precision != "fp32":
            assert b"torch.nn" not in content
            assert b"_quantized" not in content
    check(found, least=LEAST)


@needs_tflite
def test_tflite_of_a_transformer_takes_the_same_tokens(tmp_path, worker):
    made, found = exported(text_student(), tmp_path, worker, ("int8",))
    assert [v.inputs[0].dtype for v in made] == ["int64", "int64", "int32", "int32"]
    check(found, least=LEAST)


@needs_tflite
def test_a_table_of_embeddings_is_int8_in_tflite_too(tmp_path, worker):
    bag = architecture("bag", input=(12,), outputs=3, vocabulary=2000, width=32)
    x = np.random.default_rng(0).integers(0, 2000, (60, 12))
    student = Student(build(bag, 0).eval(), (12,), 0, "bag", x, tokens=True)
    made, found = exported(student, tmp_path, worker, ("int8",))
    size = {v.id: v.file.bytes for v in made}
    assert size["int8-litert"] < 0.5 * size["fp32-litert"]
    check(found, least=LEAST)


def test_a_network_of_three_outputs_keeps_them_in_order(tmp_path):
    class Three(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = nn.Linear(4, 2), nn.Linear(4, 3), nn.Linear(4, 5)

        def forward(self, x):
            return self.a(x), self.b(x), self.c(x)

    student = Student(Three().eval(), (4,), 0, "three", np.zeros((4, 4), np.float32), answer="value")
    made, _ = exported(student, tmp_path, precisions=("fp16",))
    assert [(spec.name, spec.shape) for spec in made[0].outputs] == [
        ("value", (None, 2)), ("embedding", (None, 3)), ("output2", (None, 5)),
    ]  # fmt: skip


def test_a_weight_beyond_half_precision_is_named(tmp_path):
    model = nn.Linear(2, 1)
    with torch.no_grad():
        model.weight[0, 0] = 1e6
    student = Student(model.eval(), (2,), 0, "big", np.zeros((4, 2), np.float32))
    with pytest.raises(ExportError, match=r"fp16 quantization of probe\.onnx failed: .* has 1e\+06"):
        exported(student, tmp_path, precisions=("fp16",))


def test_recipes_name_each_file_once():
    for runtime in ("onnxruntime", "litert"):
        for transformer in (False, True):
            found = recipes(EVERY, runtime, transformer=transformer)
            assert len({one.file for one in found}) == len({one.id for one in found}) == len(found)
