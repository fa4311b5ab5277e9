"""Names of :mod:`cloud_trainer.evaluation` as classifiers use them."""

from __future__ import annotations

from cloud_trainer import evaluation
from cloud_trainer.evaluation import (
    best_variant,
    calibration_bins,
    calibration_error,
    chance_warning,
    confusion,
    fit_temperature,
    held_out,
    left_out,
    right_answers,
    run_batch,
    run_variant,
    softmax,
)
from cloud_trainer.evaluation.calibration import Bins
from cloud_trainer.evaluation.classes import Floats, Truth

__all__ = [
    "Bins", "best_variant", "calibration_bins", "calibration_error", "chance_warning", "confusion", "figures",
    "fit_temperature", "held_out", "left_out", "right_answers", "run_batch", "run_variant", "softmax",
]  # fmt: skip


def figures(scores: Floats, y: Truth) -> dict[str, float]:
    """The figures of a classifier's ``scores`` (n, classes); ``accuracy`` first."""
    return evaluation.figures(evaluation.Judge("classification"), scores, y)
