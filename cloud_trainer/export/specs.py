"""What tensors a model file has, by the word of the runtime that will run it. No torch here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from shared.errors import ExportError, one_line
from shared.manifest import TensorSpec


def onnx_specs(path: Path) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Inputs and outputs of an ONNX file as ONNX Runtime sees them, in the file's order.

    Raises:
        ExportError: ONNX Runtime refuses the file, or a tensor's type is not a number.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's exceptions have no common base
        raise ExportError(f"{path}: ONNX Runtime refuses it: {one_line(error)}") from error
    dtypes = {"tensor(float)": "float32", "tensor(double)": "float64", "tensor(float16)": "float16"}
    dtypes |= {f"tensor({name})": name for name in ("uint8", "int8", "int32", "int64")}
    specs = []
    for nodes in (session.get_inputs(), session.get_outputs()):
        for node in nodes:
            if node.type not in dtypes:
                raise ExportError(f"{path}: tensor {node.name!r} has type {node.type}; expected numbers")
        specs.append(
            tuple(
                TensorSpec(node.name, dtypes[node.type], tuple(d if isinstance(d, int) else None for d in node.shape))
                for node in nodes
            )
        )
    return specs[0], specs[1]


def tflite_specs(path: Path) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Inputs and outputs of a TFLite file in the order of its signature, with the file's own names.

    Raises:
        ExportError: LiteRT refuses the file.
    """
    from ai_edge_litert.interpreter import Interpreter

    try:
        interpreter = Interpreter(model_path=str(path), num_threads=1)
        interpreter.allocate_tensors()
        key, signature = next(iter(interpreter.get_signature_list().items()))
        runner = interpreter.get_signature_runner(key)
    except (ValueError, RuntimeError, StopIteration) as error:
        raise ExportError(f"{path}: LiteRT refuses it, or it has no signature: {error}") from error
    inputs, outputs = runner.get_input_details(), runner.get_output_details()
    return (
        tuple(_spec(name, inputs[name]) for name in sorted(signature["inputs"], key=_natural)),
        tuple(_spec(name, outputs[name]) for name in sorted(signature["outputs"], key=_natural)),
    )


def tflite_integer(path: Path) -> bool:
    """Whether the file has integer tensors of quantized values: weights, activations, or both."""
    from ai_edge_litert.interpreter import Interpreter

    details = Interpreter(model_path=str(path), num_threads=1).get_tensor_details()
    return any(np.dtype(d["dtype"]) == np.int8 and len(d["quantization_parameters"]["scales"]) for d in details)


def _natural(name: str) -> tuple[str, int]:
    stem = name.rstrip("0123456789")
    return stem, int(name[len(stem) :] or -1)


def _spec(name: str, details: dict[str, Any]) -> TensorSpec:
    scale, zero_point = details["quantization"]
    quantized = bool(scale)
    return TensorSpec(
        name=name,
        dtype=np.dtype(details["dtype"]).name,
        shape=tuple(int(size) for size in details["shape"]),
        scale=float(scale) if quantized else None,
        zero_point=int(zero_point) if quantized else None,
    )
