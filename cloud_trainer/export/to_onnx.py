"""ONNX files with a dynamic batch, input ``input``, outputs ``logits`` and ``embedding``."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

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


def export_onnx(model: nn.Module, shape: tuple[int, ...], path: Path, *, tokens: bool = False) -> None:
    """Write ``model`` (eval mode, (n, *shape) -> logits, embedding) to ``path``; ``tokens``: samples are int64 ids.

    Raises:
        ExportError: torch cannot express it in ONNX.
    """
    # a batch of two: the exporter would take a batch of one for a constant
    sample = (torch.zeros(2, *shape, dtype=torch.int64 if tokens else torch.float32),)
    try:
        with quiet("torch.onnx", "onnxscript", "onnx_ir"):
            program = torch.onnx.export(
                model,
                sample,
                input_names=[INPUT],
                dynamo=True,
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                verbose=False,
            )
            assert program is not None
            _name_outputs(program)
            program.save(path, external_data=False)
    except Exception as error:  # the exporter raises whatever its passes raise
        raise ExportError(f"ONNX export failed: {one_line(error)}") from error


def _name_outputs(program: torch.onnx.ONNXProgram) -> None:
    """Call the outputs what they are called; inner tensors that have such a name, as that of ``nn.Embedding`` has,
    make way (the exporter's own ``output_names`` would write the name twice)."""
    graph = program.model.graph
    for node in graph:
        for value in node.outputs:
            if value.name in OUTPUTS:
                value.name = f"{value.name}_inner"
    for value, name in zip(graph.outputs, OUTPUTS, strict=True):
        value.name = name
