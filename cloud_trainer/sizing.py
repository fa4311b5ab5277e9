"""Which networks teach, and which one learns: as big as there is time for, and as a device has room for."""

from __future__ import annotations

import math

import torch

from cloud_trainer.config import TaskConfig
from cloud_trainer.fit.precision import multiplies_bf16
from cloud_trainer.hardware import device, macs_within
from cloud_trainer.kinds.base import Kind, Prepared
from cloud_trainer.lesson import Lesson
from cloud_trainer.models import Architecture, Limits, architecture, bytes_of, custom, fit_to, macs_of
from cloud_trainer.models.pictures import PictureArchitecture
from cloud_trainer.models.resnet import ResNet
from cloud_trainer.room import teacher_room
from shared.errors import TrainingError, UsageError

FINE_WIDTH = 12
SMALL, SMALL_TREES = 64 << 10, 256 << 10  # bytes, where the task sets no limit


def teachers_of(lesson: Lesson) -> tuple[Architecture, ...]:
    """The task's own, the family that it names, or what the kind suggests.

    Raises:
        UsageError: there is no such family, or no trees for such samples.
        TrainingError: the family reads no such samples.
    """
    task, shape, outputs = lesson.task, lesson.input_shape, lesson.prepared.outputs
    if task.model.teacher_factory:
        tokens = lesson.data.x.dtype == torch.int64
        return (custom(task.model.teacher_factory, shape, outputs, tokens=tokens),) * task.members
    check_trees(task, lesson.kind, lesson.prepared, shape)
    return zoo_teachers(task, lesson.kind, lesson.prepared, shape, len(lesson.data))


def check_trees(task: TaskConfig, kind: Kind, prepared: Prepared, shape: tuple[int, ...]) -> None:
    """Refuse trees that are asked for by name where there are none.

    Raises:
        UsageError: samples are no rows of numbers.
    """
    if task.model.teacher == "trees" and not kind.trees(task, prepared):
        raise UsageError(
            'model.teacher = "trees": they are grown for tables, and for windows of which numbers tell the most; these '
            f"are samples {shape} of {task.kind}; expected a family of networks, or auto"
        )


def zoo_teachers(
    task: TaskConfig, kind: Kind, prepared: Prepared, shape: tuple[int, ...], samples: int
) -> tuple[Architecture, ...]:
    """Of the family that the task names, or what the kind suggests, for ``samples`` of ``shape``."""
    model = task.model
    usual = kind.teachers(task, prepared, shape)
    if model.teacher not in {"auto", "trees", usual[0].family}:
        sizes = {"width": model.width, "embedding": model.embedding}
        usual = (architecture(model.teacher, input=shape, outputs=prepared.outputs, **sizes),) * task.members
    if kind.sized and not model.teacher_width and isinstance(usual[0], PictureArchitecture):
        return sized(task, usual, samples)
    return usual


def sized(task: TaskConfig, teachers: tuple[Architecture, ...], samples: int) -> tuple[Architecture, ...]:
    """Equal ``teachers``, each as wide as images of this size are worth, and as there is time for."""
    one, count = teachers[0], len(teachers)
    room = teacher_room(task, samples, math.prod(one.input), bf16=multiplies_bf16())
    return (fit_to(one, Limits(macs=room // count)) or one,) * count


def students_of(lesson: Lesson) -> tuple[Architecture, ...]:
    """Families for the student, the first one the default; their widths are to be found."""
    model = lesson.task.model
    shape, outputs = lesson.input_shape, lesson.prepared.outputs
    if model.student_factory:
        return (custom(model.student_factory, shape, outputs, tokens=lesson.data.x.dtype == torch.int64),)
    usual = lesson.kind.students(lesson.task, lesson.prepared, shape)
    if model.student == "auto":
        return usual
    named = tuple(one for one in usual if one.family == model.student)
    return named or (architecture(model.student, input=shape, outputs=outputs, embedding=model.embedding),)


def limits_of(task: TaskConfig, teacher_macs: int, teacher_bytes: int) -> Limits:
    """What the student must keep to; the strictest of what the task says. Looking up an embedding is free in MACs:
    where the task says nothing about bytes, the student has no more of them than its teachers."""
    model = task.model
    macs = [max(1, int(model.mac_share * teacher_macs))]
    if model.max_macs:
        macs.append(model.max_macs)
    if model.p99_ms:
        macs.append(max(1, macs_within(model.p99_ms, device(model.device))))
    return Limits(macs=min(macs), bytes=model.max_bytes or max(teacher_bytes, SMALL))


def default_student(lesson: Lesson, limits: Limits) -> Architecture:
    """The widest of the default family within ``limits``; a fine one, if there is one that is wide enough.

    Raises:
        TrainingError: nothing fits.
    """
    for first in students_of(lesson):
        found = fit_to(first, limits)
        if not isinstance(first, ResNet) or not first.fine:
            break
        if found is not None and found.depth == first.depth and found.width >= FINE_WIDTH:
            break  # a narrower one is worse than a plain one
    if found is None:
        least = first.with_depth(1).with_width(1)
        raise TrainingError(
            f"no student fits into {limits.macs:,} MACs"
            + (f" and {limits.bytes:,} bytes" if limits.bytes else "")
            + f": {least.label} needs {macs_of(least):,} MACs and {bytes_of(least):,} bytes; raise model.mac_share, "
            "model.teacher_width, model.max_macs or model.max_bytes"
        )
    return found
