"""ONNX files with a dynamic batch, input ``input``, and outputs under their roles."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from shared.errors import ExportError, one_line

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


def zeros(shape: tuple[int, ...], n: int, *, tokens: bool = False) -> torch.Tensor:
    """A batch (n, *shape) of float32, or of int64 where samples are ``tokens``."""
    return torch.zeros(n, *shape, dtype=torch.int64 if tokens else torch.float32)


def export_onnx(
    model: nn.Module,
    shape: tuple[int, ...],
    path: Path,
    *,
    tokens: bool = False,
    outputs: Sequence[str] = OUTPUTS,
) -> None:
    """Write ``model`` (eval mode, (n, *shape) -> one tensor or several, called ``outputs``) to ``path``. The input is
    float32, or int64 where samples are ``tokens``.

    Raises:
        ExportError: torch cannot express it in ONNX.
    """
    # a batch of two: the exporter would take a batch of one for a constant
    sample = (zeros(shape, 2, tokens=tokens),)
    try:
        with quiet("torch.onnx", "onnxscript", "onnx_ir"):
            program = torch.onnx.export(
                model,
                sample,
                dynamo=True,
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                verbose=False,
            )
            assert program is not None
            _name(program.model.graph, outputs)
            program.save(str(path), external_data=False)
    except ExportError:
        raise
    except Exception as error:  # the exporter raises whatever its passes raise
        raise ExportError(f"ONNX export failed: {one_line(error.__cause__ or error)}") from error


def _name(graph: Any, outputs: Sequence[str]) -> None:
    """Roles for inputs and outputs. The exporter calls values by their operators, and ``embedding`` is one. What it
    notes at every operator, files and lines of this machine among it, is nobody's business."""
    if len(graph.outputs) != len(outputs):
        raise ExportError(f"the network gives {len(graph.outputs)} tensors where {', '.join(outputs)} were expected")
    ends = {id(value) for value in (*graph.inputs, *graph.outputs)}
    for node in graph:
        node.metadata_props.clear()
        for value in node.outputs:
            value.metadata_props.clear()
            if id(value) not in ends and value.name in {INPUT, *outputs}:
                value.name = f"{value.name}_of_{node.name or node.op_type}"
    for value, name in zip((*graph.inputs, *graph.outputs), (INPUT, *outputs), strict=True):
        value.name = name
