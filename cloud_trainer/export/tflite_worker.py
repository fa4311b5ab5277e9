"""Runs in the TFLite exporter's environment: torch, litert_torch, ai_edge_quantizer, and nothing of Sanderling.

Started as a program. It imports (seconds), says ``{"ready": true}``, then answers each line of standard input,

    {"program": "student.pt2", "shape": [1, 1, 16, 16], "calibration": "calibration.npz",
     "fp32": "fp32.tflite", "int8": "int8.tflite" or null, "dtype": "int64" for token ids}

with ``{"done": true}`` or ``{"error": "..."}``, and ends when standard input does. ``calibration.npz`` has ``x``
(n, *shape[1:]) float32. Every answer is one line on standard output; whatever libraries print goes to standard error.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any


def main() -> int:
    """Answer requests until there are no more."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)

    def answer(document: dict[str, Any]) -> None:
        answers.write(json.dumps(document) + "\n")

    try:
        import ai_edge_quantizer  # noqa: F401  (slow: while the caller still trains)
        import litert_torch  # noqa: F401
        import torch

        torch.set_num_threads(1)
    except ImportError as error:
        answer({"error": f"{sys.executable} lacks the TFLite exporter: {error}"})
        return 1
    answer({"ready": True})
    for line in sys.stdin:
        try:
            convert(json.loads(line))
        except Exception as error:  # whatever the converter raises is the caller's to show
            lines = [text.strip() for text in str(error).splitlines() if text.strip()]
            answer({"error": f"{type(error).__name__}: {lines[-1] if lines else 'no message'}"})
        else:
            answer({"done": True})
    return 0


def convert(request: dict[str, Any]) -> None:
    """One program to fp32, and to full-integer int8 (weights and activations, inputs and outputs) where asked for."""
    import litert_torch
    import torch

    program = torch.export.load(request["program"])
    dtype = getattr(torch, request.get("dtype", "float32"))
    model = litert_torch.convert(program.module(), (torch.zeros(request["shape"], dtype=dtype),))
    model.export(request["fp32"])
    if request.get("int8"):
        quantize(request)


def quantize(request: dict[str, Any]) -> None:
    """Per-channel int8 weights, int8 activations; ranges are the smallest and largest values of all samples.

    ``Quantizer.calibrate`` would follow the samples with a moving average, so that the last few dozen decide (4.8
    points of accuracy lost on a mix of clean and foggy digits), and with 16 threads. So its calibrator is used itself.
    """
    import numpy as np
    from ai_edge_quantizer import calibrator, quantizer, recipe, recipe_manager
    from ai_edge_quantizer.utils import qsv_utils

    with np.load(request["calibration"], allow_pickle=False) as file:
        samples = file["x"]
    manager = recipe_manager.RecipeManager()
    manager.load_quantization_recipe(recipe.static_wi8_ai8())
    ranges = calibrator.Calibrator(request["fp32"], num_threads=1, qsv_update_func=qsv_utils.min_max_update)
    ranges.calibrate({"serving_default": [{"args_0": sample[None]} for sample in samples]}, manager)
    integer = quantizer.Quantizer(request["fp32"])
    integer.load_quantization_recipe(recipe.static_wi8_ai8())
    integer.quantize(ranges.get_model_qsvs(), enable_progress_report=False).export_model(
        request["int8"], overwrite=True
    )


if __name__ == "__main__":
    sys.exit(main())
