"""How good answers are: figures of every kind of task, their intervals, calibration, robustness.

Everything but :mod:`cloud_trainer.evaluation.running` is a pure function of answers and truth.
"""

from __future__ import annotations

from cloud_trainer.evaluation.bootstrap import Interval, intervals
from cloud_trainer.evaluation.calibration import calibration_bins, calibration_error, fit_temperature, softmax
from cloud_trainer.evaluation.classes import chance_warning, confusion
from cloud_trainer.evaluation.figures import Judge, answer_of, figure_intervals, figures, left_out, score_difference
from cloud_trainer.evaluation.groups import GroupTable, per_group
from cloud_trainer.evaluation.numbers import mean_warning
from cloud_trainer.evaluation.running import best_variant, held_out, run_batch, run_variant

__all__ = [
    "GroupTable",
    "Interval",
    "Judge",
    "answer_of",
    "best_variant",
    "calibration_bins",
    "calibration_error",
    "chance_warning",
    "confusion",
    "figure_intervals",
    "figures",
    "fit_temperature",
    "held_out",
    "intervals",
    "left_out",
    "mean_warning",
    "per_group",
    "run_batch",
    "run_variant",
    "score_difference",
    "softmax",
]
