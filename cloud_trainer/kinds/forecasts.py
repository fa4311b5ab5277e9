"""The next steps of a series, from its past and that of other series beside it.

What a network reads is made of a window by :mod:`cloud_trainer.engineering.windows`: the latest values of the target,
those of a season before what is foretold, rolling statistics, other channels, the calendar. All of it are numbers in
standard deviations. Networks begin at the mean of the last season, which a linear layer of their own takes to the
answer, past all others: what they learn is how the future differs from it, also when a series has grown beyond what it
was when they were trained, and they have the linear forecast of Zeng et al. 2023 (arXiv 2205.13504) within them.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from cloud_trainer.config import TaskConfig
from cloud_trainer.data import Dataset, Splits
from cloud_trainer.engineering.windows import window_features
from cloud_trainer.kinds import classes
from cloud_trainer.kinds.base import Kind, Prepared
from cloud_trainer.kinds.tables import OUTPUT, PATIENCE, Targets
from cloud_trainer.models import Architecture, Mlp
from cloud_trainer.models.mlp import Skip
from cloud_trainer.objectives import Numbers, Objective
from shared.errors import DataError
from shared.manifest import SampleSpec
from shared.pipeline.decode import Inverse
from shared.pipeline.postprocess import Value
from shared.pipeline.scaling import Standardize
from shared.pipeline.spec import Pipeline

TEACHER_WIDTHS = 8
"""Times ``model.teacher_width``."""
PLAUSIBLE = (0.0, 1e11)
"""Seconds since 1970 that a last channel of moments lies between."""
UNNAMED = 1e8
"""Seconds since 1970 from which on a last channel that only ever grows is taken for moments, whatever its name."""


class Forecasting(Kind):
    """See the module."""

    name: ClassVar[str] = "forecasting"
    task: ClassVar[str] = "forecast"
    patience: ClassVar[float] = PATIENCE

    def prepare(self, task: TaskConfig, splits: Splits) -> Prepared:
        """Make, choose and fit the features; what is foretold is learned in standard deviations from its mean.

        Raises:
            DataError: samples are no windows of numbers, or the target is the same everywhere.
        """
        train = splits.train
        sample = window_of(train)
        horizon = train.y.reshape(len(train.y), -1).shape[1]
        targets = Targets.fit(train.y, self.name)
        features = window_features(task, splits, moments=has_moments(task, train))
        pipeline = Pipeline(
            preprocess=features.preprocess,
            encode=features.encode,
            decode=(Inverse(source=OUTPUT, mean=(targets.mean,), std=(targets.std,)),),
            postprocess=(Value(source="value"),),
        )
        kept = sum(feature.kept for feature in features.table.features)
        season = f"it repeats itself every {features.season} steps" if features.season else "no season was found"
        notes = (f"{kept} of {len(features.table.features)} candidates for features are kept; {season}",)
        scaling = features.encode[0]
        assert isinstance(scaling, Standardize)
        at = features.level
        skip = Skip(at, scaling.std[at] / targets.std, (scaling.mean[at] - targets.mean) / targets.std)
        return Prepared(sample, pipeline, horizon, OUTPUT, targets, features.table, notes, skip)

    def objective(self, task: TaskConfig, prepared: Prepared, splits: Splits) -> Objective:
        """The mean squared error over all steps, which R² is made of."""
        del prepared, splits
        return Numbers(form="mse", teacher_weight=task.distill.weight())

    def teachers(self, task: TaskConfig, prepared: Prepared, input_shape: tuple[int, ...]) -> tuple[Architecture, ...]:
        """Wide networks of several seeds: what one makes of chance, the others do not."""
        width = min(TEACHER_WIDTHS * task.model.width, Mlp.max_width)
        wide = Mlp(input=input_shape, outputs=prepared.outputs, width=width, depth=2, dropout=0.4, skip=prepared.skip)
        return classes.teachers(task, wide)

    def students(self, task: TaskConfig, prepared: Prepared, input_shape: tuple[int, ...]) -> tuple[Architecture, ...]:
        """Dense layers, of another number."""
        sizes = {"depth": 2, "dropout": 0.1, "embedding": task.model.embedding}
        first = Mlp(input=input_shape, outputs=prepared.outputs, skip=prepared.skip, **sizes)  # type: ignore[arg-type]
        return classes.students(task, first, first.with_depth(1))


def window_of(train: Dataset) -> SampleSpec:
    """What a sample is.

    Raises:
        DataError: no window of numbers.
    """
    if train.x.ndim != 3 or train.x.dtype.kind not in "biuf" or train.x.shape[1] < 2:
        raise DataError(
            f"forecasting takes windows (n, history, channels) of numbers with two time steps or more; "
            f"x is {train.x.dtype} {train.x.shape}"
        )
    return SampleSpec(dtype=train.x.dtype.name, shape=train.x.shape[1:], kind="window", columns=train.columns)


def has_moments(task: TaskConfig, train: Dataset) -> bool:
    """Whether the last channel is the time, in seconds since 1970: by its name, or by its values."""
    named = bool(task.data.time) and bool(train.columns) and train.columns[-1] == task.data.time
    if train.x.shape[2] < 2:
        return False
    last = np.asarray(train.x[:, :, -1], np.float64)
    least = PLAUSIBLE[0] if named else UNNAMED
    if not (np.isfinite(last).all() and last.min() > least and last.max() < PLAUSIBLE[1]):
        return False
    return named or bool((np.diff(last, axis=1) > 0).all())
