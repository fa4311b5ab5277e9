"""ONNX files with a dynamic batch, input ``input``, outputs ``logits`` and ``embedding``."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn

from shared.errors import ExportError
from shared.manifest import TensorSpec

INPUT = "input"
OUTPUTS = ("logits", "embedding")


@contextmanager
def quiet(*loggers: str) -> Iterator[None]:
    """Exporters warn about their own insides and about packages that are no concern of ours (torchvision)."""
    levels = {name: logging.getLogger(name).level for name in loggers}
    try:
        for name in loggers:
            logging.getLogger(name).setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


def export_onnx(model: nn.Module, shape: tuple[int, ...], path: Path) -> None:
    """Write ``model`` (eval mode, (n, *shape) -> logits, embedding) to ``path``.

    Raises:
        ExportError: torch cannot express it in ONNX.
    """
    # a batch of two: the exporter would take a batch of one for a constant
    sample = (torch.zeros(2, *shape),)
    try:
        with quiet("torch.onnx", "onnxscript", "onnx_ir"):
            torch.onnx.export(
                model,
                sample,
                path,
                input_names=[INPUT],
                output_names=list(OUTPUTS),
                dynamo=True,
                external_data=False,
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                verbose=False,
            )
    except Exception as error:  # the exporter raises whatever its passes raise
        raise ExportError(f"ONNX export failed: {str(error).strip().splitlines()[0]}") from error


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
        raise ExportError(f"{path}: ONNX Runtime refuses it: {str(error).strip().splitlines()[0]}") from error
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
