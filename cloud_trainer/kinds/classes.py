"""What every kind of classification has in common: decoding, targets, what is trained for."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cloud_trainer.config import TaskConfig
from cloud_trainer.data import Splits
from cloud_trainer.kinds.base import FeatureTable, Prepared
from cloud_trainer.kinds.views import Steps
from cloud_trainer.models import Architecture, architecture
from cloud_trainer.objectives import Classes, balanced
from shared.manifest import SampleSpec
from shared.pipeline.decode import Argmax, Softmax
from shared.pipeline.encode import Cast
from shared.pipeline.postprocess import Labels
from shared.pipeline.spec import Pipeline

SMOOTHING = 0.1
"""Somebody's labels are wrong now and then, and on a few thousand samples a network learns them by heart."""


def as_classes(y: NDArray[Any]) -> NDArray[np.int64]:
    """(n,) int64."""
    return np.asarray(y, np.int64)


def prepared(
    sample: SampleSpec,
    steps: Steps,
    labels: tuple[str, ...],
    features: FeatureTable = FeatureTable(),  # noqa: B008  (frozen)
    notes: tuple[str, ...] = (),
) -> Prepared:
    """``steps`` with a classifier's second half: softmax, argmax, the name of the class."""
    pipeline = Pipeline(
        preprocess=steps.preprocess,
        encode=steps.encode or (Cast("float32"),),
        decode=(Softmax(), Argmax()),
        postprocess=(Labels(names=labels),),
    )
    return Prepared(sample, pipeline, len(labels), targets=as_classes, features=features, notes=notes)


def objective(task: TaskConfig, splits: Splits) -> Classes:
    """Cross-entropy, weighted and smoothed as the task says; by ``SMOOTHING``, where it says nothing."""
    classes, smoothing = len(splits.train.labels), task.training.label_smoothing
    return Classes(
        classes,
        label_smoothing=SMOOTHING if smoothing is None else smoothing,
        class_weights=balanced(splits.train.y, classes) if task.training.class_weights else (),
        temperature=task.distill.temperature,
        teacher_weight=task.distill.weight(),
    )


def teachers(task: TaskConfig, usual: Architecture, members: int = 0) -> tuple[Architecture, ...]:
    """The family that the task names, or the ``usual`` one; as many as the task wants, or where it says nothing
    ``members``, or as many as its kind is worth. Trees are grown beside the usual ones, whose size is what a student's
    is measured by."""
    name = task.model.teacher
    one = (
        usual
        if name in {"auto", "trees", usual.family}
        else architecture(name, input=usual.input, outputs=usual.outputs)
    )
    return (one,) * (task.model.ensemble or members or task.members)


def students(task: TaskConfig, *usual: Architecture) -> tuple[Architecture, ...]:
    """The family that the task names, or the ``usual`` ones."""
    name = task.model.student
    if name == "auto":
        return usual
    first = usual[0]
    known = [one for one in usual if one.family == name]
    sizes = {"embedding": task.model.embedding}
    return tuple(known[:1]) or (architecture(name, input=first.input, outputs=first.outputs, **sizes),)
