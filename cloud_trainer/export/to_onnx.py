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
        raise ExportError(f"ONNX export failed: {one_line(error)}") from error
