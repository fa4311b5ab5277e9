"""One ONNX file from another, by recipe. No torch here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from cloud_trainer.exporting.recipes import Recipe
from cloud_trainer.quantization.onnx_lean import make_lean
from cloud_trainer.quantization.onnx_static import Activations, quantize_onnx
from cloud_trainer.quantization.onnx_weights import quantize_dynamic, quantize_weights, to_fp16
from cloud_trainer.quantization.ranges import Ranges


def write_onnx(
    recipe: Recipe,
    fp32: Path,
    path: Path,
    samples: Mapping[str, NDArray[Any]],
    *,
    ranges: Ranges | None = None,
    leave: Sequence[str] = (),
) -> None:
    """The file alone, from any ``fp32`` ONNX file whose inputs take ``samples``.

    Raises:
        ExportError: it could not be made.
    """
    match recipe.scheme:
        case "float":
            path.write_bytes(fp32.read_bytes())
        case "dynamic":
            quantize_dynamic(fp32, path, leave=leave)
        case "fp16":
            to_fp16(fp32, path)
        case "weight8" | "weight4":
            quantize_weights(fp32, path, 8 if recipe.scheme == "weight8" else 4, leave=leave)
        case "static" | "static-signed" | "static-reduced":
            activations: Activations = "int8" if recipe.scheme == "static-signed" else "uint8"
            quantize_onnx(
                fp32,
                path,
                samples,
                activations=activations,
                ranges=ranges,
                leave=leave,
                reduce_range=recipe.scheme == "static-reduced",
            )
    if recipe.scheme != "float":
        make_lean(path)
