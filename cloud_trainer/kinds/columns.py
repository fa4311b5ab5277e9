"""Which of a view's numbers are kept: those that a network misses, or that tell about the class by themselves."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from cloud_trainer.config import FeatureConfig
from cloud_trainer.data import Splits
from cloud_trainer.kinds.base import Feature, FeatureTable
from cloud_trainer.kinds.views import Effort, Steps, Trial, View, permuted, tried
from shared.pipeline.colour import ChannelOrder
from shared.pipeline.scaling import Standardize

MEASURES = {
    "permutation": "rise of the validation loss when the column is shuffled",
    "mutual-information": "mutual information with the class, in nats",
    "none": "",
}
LEAST = 4
"""Columns that are kept whatever they tell."""


def selected(
    trial: Trial, splits: Splits, config: FeatureConfig, *, seed: int, effort: Effort
) -> tuple[Trial, FeatureTable]:
    """``trial`` again without the columns that do not help; it must not do worse without them, or all stay."""
    names = trial.steps.columns or tuple(f"column {i}" for i in range(trial.validation.x.shape[-1]))
    if config.select == "none" and not config.max_features:
        return trial, FeatureTable(tuple(Feature(name, None, kept=True, why="not measured") for name in names))
    importance = measured(trial, config, seed=seed)
    keep = kept_columns(importance, config.max_features, everything=config.select == "none")
    if len(keep) == len(names):
        return trial, table_of(names, importance, keep, config, "tells something")
    again = tried(narrowed(trial.view, keep), splits, seed=seed, effort=effort)
    spread = math.sqrt(max(trial.score * (1 - trial.score), 1e-9) / max(len(trial.validation), 1))
    if config.max_features or again.score >= trial.score - 0.5 * spread:
        return again, table_of(names, importance, keep, config, "tells something")
    everything = tuple(range(len(names)))
    why = f"without the useless ones the accuracy fell from {trial.score:.3f} to {again.score:.3f}: all stay"
    return trial, table_of(names, importance, everything, config, why)


def measured(trial: Trial, config: FeatureConfig, *, seed: int) -> NDArray[np.float64]:
    """Each column's importance, (columns,)."""
    if config.select == "mutual-information":
        from sklearn.feature_selection import mutual_info_classif

        found: NDArray[np.float64] = mutual_info_classif(
            trial.validation.x.numpy(), trial.validation.y.numpy(), random_state=seed
        )
        return found
    return permuted(trial, seed=seed)


def kept_columns(importance: NDArray[np.float64], most: int, *, everything: bool = False) -> tuple[int, ...]:
    """Columns with an importance above 0, at least ``LEAST`` and at most ``most`` (0: any), rising.

    >>> kept_columns(np.array([0.1, -0.2, 0.3, 0.0, 0.2, 0.05]), 3)
    (0, 2, 4)
    """
    order = np.argsort(-importance, kind="stable")
    count = len(order) if everything else max(int((importance > 0).sum()), min(LEAST, len(order)))
    return tuple(sorted(order[: min(count, most or count)].tolist()))


def narrowed(view: View, keep: Sequence[int]) -> View:
    """``view`` with these columns of its numbers alone; the last ``standardize`` shrinks with them."""

    def fit(x: NDArray[np.generic]) -> Steps:
        steps = view.fit(x)
        at = max(i for i, operation in enumerate(steps.preprocess) if isinstance(operation, Standardize))
        last = steps.preprocess[at]
        assert isinstance(last, Standardize)
        fewer = Standardize(tuple(last.mean[i] for i in keep), tuple(last.std[i] for i in keep))
        chosen = ChannelOrder(order=tuple(keep), axis=-1)
        operations = (*steps.preprocess[:at], chosen, fewer, *steps.preprocess[at + 1 :])
        columns = tuple(steps.columns[i] for i in keep) if steps.columns else ()
        return msgspec.structs.replace(steps, preprocess=operations, columns=columns)

    return msgspec.structs.replace(view, fit=fit)


def table_of(
    names: Sequence[str], importance: NDArray[np.float64], keep: Sequence[int], config: FeatureConfig, why: str
) -> FeatureTable:
    """Every column, the most telling first."""
    chosen = set(keep)
    rows = [
        Feature(names[i], float(f"{importance[i]:.4g}"), i in chosen, why if i in chosen else _why_not(importance[i]))
        for i in np.argsort(-importance, kind="stable").tolist()
    ]
    return FeatureTable(tuple(rows), MEASURES["permutation" if config.select == "none" else config.select])


def _why_not(importance: float) -> str:
    return "features.max_features" if importance > 0 else "the network does as well without"


def notes_of(table: FeatureTable) -> tuple[str, ...]:
    """A line on how many were kept."""
    kept = sum(feature.kept for feature in table.features)
    return (f"{kept} of {len(table.features)} numbers of a window are kept",)
