"""Which variants of a student are good enough."""

from __future__ import annotations

from cloud_trainer.config import ExportConfig
from cloud_trainer.deploy import TREES, gate
from cloud_trainer.evaluation import Judge
from cloud_trainer.packaging import Measured
from shared.manifest import FileReference, Variant

FILE = FileReference(path="variants/x", bytes=1, sha256="0" * 64)


def variant(id_, precision, accuracy):
    made = Variant(
        id=id_,
        runtime="litert" if id_.endswith("litert") else "onnxruntime",
        precision=precision,
        student="s",
        file=FILE,
        inputs=(),
        outputs=(),
        macs=1,
        quality={"accuracy": accuracy},
    )
    return Measured(made, {})


def test_what_a_quantizer_or_a_converter_has_spoilt_is_left_out_and_trees_are_a_student_of_their_own():
    measured = [
        variant("fp32-onnx", "fp32", 0.90),
        variant("int8-onnx", "int8", 0.895),
        variant("fp32-litert", "fp32", 0.10),
        variant("int8-litert", "int8", 0.10),
        variant(TREES, "fp32", 0.80),
    ]
    kept, reasons = gate(measured, ExportConfig(), Judge("classification"))
    assert [one.variant.id for one in kept] == ["fp32-onnx", "int8-onnx", TREES]
    assert set(reasons) == {"fp32-litert", "int8-litert"}
    assert "80.00 points below" in reasons["fp32-litert"]
