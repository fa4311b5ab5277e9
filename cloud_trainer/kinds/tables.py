"""Rows of a table, of words, numbers and moments: their class, or a number.

What a network reads is made of the columns by :mod:`cloud_trainer.engineering.rows`. On some tables networks are better
and on others boosted trees, kernel machines or linear models, so all of them teach (:mod:`cloud_trainer.council`).
``training.augment`` mixes the columns of rows (:class:`cloud_trainer.augment.rows.SwapColumns`), of which a student
hears what its teachers say.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from cloud_trainer.augment.rows import SwapColumns
from cloud_trainer.config import MEMBERS, TaskConfig
from cloud_trainer.data import Dataset, Splits
from cloud_trainer.engineering.rows import RowFeatures, row_features
from cloud_trainer.engineering.spread import sources_of
from cloud_trainer.kinds import classes
from cloud_trainer.kinds.base import Augment, Kind, Prepared
from cloud_trainer.models import Architecture, Mlp
from cloud_trainer.objectives import Numbers, Objective
from shared.errors import DataError
from shared.manifest import SampleSpec
from shared.pipeline.columns import Choose
from shared.pipeline.decode import Argmax, Inverse, Softmax
from shared.pipeline.moments import Calendar
from shared.pipeline.postprocess import Labels, Value
from shared.pipeline.spec import Pipeline

TEACHER_WIDTHS = 16
"""Times ``model.teacher_width``: a wide network with much dropout is the better teacher, and is not shipped."""
SWAP_SHARE = 0.1
OUTPUT = "output"
TEACHER_WEIGHT = 1.0
"""Of regressions: rows with columns of other rows have no truth but the teacher's."""
PATIENCE = 1 / 3
"""Of the epochs: noise that is learned by heart costs squared errors dear, on a few hundred rows all that there was."""


class _Tables(Kind):
    """What both kinds have in common."""

    def trees(self, task: TaskConfig, prepared: Prepared) -> bool:
        """Always worth a try, unless the task names its own teacher."""
        del prepared
        return task.model.teacher in {"auto", "trees"} and not task.model.teacher_factory

    def teachers(self, task: TaskConfig, prepared: Prepared, input_shape: tuple[int, ...]) -> tuple[Architecture, ...]:
        """Wide networks of several seeds."""
        width = min(TEACHER_WIDTHS * task.model.width, Mlp.max_width)
        wide = Mlp(input=input_shape, outputs=prepared.outputs, width=width, depth=3, dropout=0.25)
        return classes.teachers(task, wide, MEMBERS["tabular-regression"])

    def students(self, task: TaskConfig, prepared: Prepared, input_shape: tuple[int, ...]) -> tuple[Architecture, ...]:
        """Dense layers, of another number."""
        first = Mlp(input=input_shape, outputs=prepared.outputs, depth=3, embedding=task.model.embedding)
        return classes.students(task, *(first.with_depth(depth) for depth in (3, 2, 1)))

    def augment(self, task: TaskConfig, prepared: Prepared) -> Augment | None:
        """Columns of other rows, where the task asks for it: what is learned from labels alone is worse for it."""
        return swap_of(prepared) if task.training.augment else None

    def augment_taught(self, task: TaskConfig, prepared: Prepared) -> Augment | None:
        """Columns of other rows: a student hears from its teachers what such a row would be, and few rows are many."""
        return None if task.training.augment is False else swap_of(prepared)


class TabularClassification(_Tables):
    """See the module."""

    name: ClassVar[str] = "tabular-classification"
    task: ClassVar[str] = "classification"

    def prepare(self, task: TaskConfig, splits: Splits) -> Prepared:
        """Make, choose and fit the features.

        Raises:
            DataError: samples are no rows, or nothing can be learned from them.
        """
        labels = splits.train.labels
        sample = row_of(splits.train, self.name)
        features = row_features(task, splits, classes=len(labels))
        pipeline = Pipeline(
            preprocess=features.preprocess,
            encode=features.encode,
            decode=(Softmax(), Argmax()),
            postprocess=(Labels(names=labels),),
        )
        notes = notes_of(features)
        return Prepared(sample, pipeline, len(labels), targets=classes.as_classes, features=features.table, notes=notes)

    def objective(self, task: TaskConfig, prepared: Prepared, splits: Splits) -> Objective:
        """Cross-entropy."""
        del prepared
        return classes.objective(task, splits)


class TabularRegression(_Tables):
    """See the module."""

    name: ClassVar[str] = "tabular-regression"
    task: ClassVar[str] = "regression"
    patience: ClassVar[float] = PATIENCE

    def prepare(self, task: TaskConfig, splits: Splits) -> Prepared:
        """Make, choose and fit the features; a number is learned in standard deviations from its mean.

        Raises:
            DataError: samples are no rows, nothing can be learned from them, or the target is the same everywhere.
        """
        sample = row_of(splits.train, self.name)
        targets = Targets.fit(splits.train.y, self.name)
        features = row_features(task, splits, classes=0)
        pipeline = Pipeline(
            preprocess=features.preprocess,
            encode=features.encode,
            decode=(Inverse(source=OUTPUT, mean=(targets.mean,), std=(targets.std,)),),
            postprocess=(Value(source="value"),),
        )
        return Prepared(sample, pipeline, 1, OUTPUT, targets, features.table, notes=notes_of(features))

    def objective(self, task: TaskConfig, prepared: Prepared, splits: Splits) -> Objective:
        """The mean squared error, which R² is made of."""
        del prepared, splits
        return Numbers(form="mse", teacher_weight=task.distill.weight(TEACHER_WEIGHT))


class Targets(Struct, frozen=True):
    """Numbers (n,) or (n, k) -> (n, 1) or (n, k) float32: ``(y - mean) / std``, one pair for all."""

    mean: float
    std: float

    def __call__(self, y: NDArray[Any]) -> NDArray[np.float32]:
        """As above."""
        return ((np.asarray(y, np.float64).reshape(len(y), -1) - self.mean) / self.std).astype(np.float32)

    @classmethod
    def fit(cls, y: NDArray[Any], where: str) -> Targets:
        """Of the train split.

        Raises:
            DataError: all are the same.
        """
        mean, std = float(np.mean(y, dtype=np.float64)), float(np.std(y, dtype=np.float64))
        if not std > 1e-12 * max(abs(mean), 1.0):
            raise DataError(f"{where}: the target is {mean:g} in every row of the train split; nothing can be learned")
        return cls(mean, std)


def row_of(train: Dataset, kind: str) -> SampleSpec:
    """What a sample is.

    Raises:
        DataError: no row of numbers or text.
    """
    text = train.x.dtype.kind in "UO"
    if train.x.ndim != 2 or (not text and train.x.dtype.kind not in "biuf"):
        raise DataError(f"{kind} takes rows (n, columns) of numbers or text; x is {train.x.dtype} {train.x.shape}")
    dtype = "str" if text else train.x.dtype.name
    return SampleSpec(dtype=dtype, shape=(train.x.shape[1],), kind="row", columns=train.columns)


def swap_of(prepared: Prepared) -> SwapColumns:
    """Swaps of the columns that were chosen; a cycle's sines and cosines go together."""
    operations = prepared.pipeline.preprocess
    last = max(k for k, operation in enumerate(operations) if isinstance(operation, Choose))
    chosen = operations[last]
    assert isinstance(chosen, Choose)
    group = {column: column for column in chosen.columns}
    for calendar in operations[:last]:
        if isinstance(calendar, Calendar):
            start = prepared.sample.shape[-1] - 1
            first = dict[str, int]()
            for column, name in enumerate(calendar.names(), start):
                group[column] = first.setdefault(name.split(".")[0], column)
    number = {one: k for k, one in enumerate(dict.fromkeys(group[column] for column in chosen.columns))}
    after = sources_of((*operations[last + 1 :], *prepared.pipeline.encode), len(chosen.columns))
    return SwapColumns(tuple(number[group[chosen.columns[source]]] for source in after), SWAP_SHARE)


def notes_of(features: RowFeatures) -> tuple[str, ...]:
    """A line on how many were kept."""
    kept = sum(feature.kept for feature in features.table.features)
    return (f"{kept} of {len(features.table.features)} candidates for features are kept",)
