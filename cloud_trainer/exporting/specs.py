"""What tensors a model file has, by the word of the runtime that will run it. No torch here."""

from __future__ import annotations

import re
from pathlib import Path

from edge_agent.backends.inspect import inspect_file
from shared.errors import BackendError, ExportError, one_line
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
    """Inputs and outputs of a TFLite file as the engine's backend sees them, with the file's own names. (The quantizer
    leaves a signature behind that is wrong where an output is read by other layers, too; the backend knows.)

    Raises:
        ExportError: LiteRT refuses the file, or gives its outputs in another order than the network.
    """
    try:
        found = inspect_file(path)
    except BackendError as error:
        raise ExportError(str(error)) from error
    numbers = [int(number) for spec in found.outputs for number in re.findall(r"output_([0-9]+)", spec.name)[:1]]
    if numbers != sorted(numbers):
        raise ExportError(f"{path}: its outputs are in the order {', '.join(spec.name for spec in found.outputs)}")
    return found.inputs, found.outputs
