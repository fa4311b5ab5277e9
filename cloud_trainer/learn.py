"""Teacher, then student: from scratch, or from where the parent release's training ended."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import msgspec
import torch
from msgspec import Struct

from cloud_trainer.config import TaskConfig
from cloud_trainer.distill import teach
from cloud_trainer.fit import Curve, Encoded, Plan, train
from cloud_trainer.models.base import build
from cloud_trainer.models.macs import macs_of
from cloud_trainer.models.resnet import ResNet, SmallResNet
from cloud_trainer.models.sizes import widest_within
from cloud_trainer.objectives import Classes
from cloud_trainer.progress import Progress, within
from cloud_trainer.work import work_directory
from shared.files import write_atomic

CHECKPOINT = "checkpoint.pt"
WARM_SHARE = 0.5  # of the epochs, when the weights are good already


class Learned(Struct, frozen=True, eq=False):
    """Both networks in evaluation mode, and how their training went."""

    teacher: SmallResNet
    student: SmallResNet
    curves: tuple[Curve, Curve]
    warm: bool

    @property
    def macs(self) -> tuple[int, int]:
        """Of teacher and student, for one sample."""
        return macs_of(self.teacher.architecture), macs_of(self.student.architecture)


def shapes(task: TaskConfig, input_shape: tuple[int, ...], classes: int) -> tuple[ResNet, ResNet]:
    """Teacher and student for encoded samples of ``input_shape``: (1, H, W), or (H, W, C) for colour.

    Raises:
        TrainingError: no student fits into ``mac_share``.
    """
    channels, height, width = input_shape
    teacher = ResNet(
        input=(channels, height, width),
        outputs=classes,
        width=task.model.teacher_width,
        embedding=task.model.embedding,
        channels_last=channels != 1,
    )
    return teacher, widest_within(teacher, task.model.mac_share * macs_of(teacher))


def learn(
    task: TaskConfig,
    data: Encoded,
    validation: Encoded,
    classes: int,
    *,
    start: dict[str, Any] | None,
    progress: Progress,
) -> Learned:
    """Train both. ``start`` is what :func:`load_checkpoint` gave; weights of another shape are not used."""
    teacher_shape, student_shape = shapes(task, tuple(data.x.shape[1:]), classes)
    teacher, student = build(teacher_shape, task.seed), build(student_shape, task.seed + 1)
    assert isinstance(teacher, SmallResNet)
    assert isinstance(student, SmallResNet)
    warm = start is not None and start["shapes"] == _names(teacher_shape, student_shape)
    if start is not None and warm:
        teacher.load_state_dict(start["teacher"])
        student.load_state_dict(start["student"])
    share = WARM_SHARE if warm else 1.0
    objective = Classes(classes, temperature=task.distill.temperature, teacher_weight=task.distill.teacher_weight)
    first = train(
        teacher,
        data,
        validation,
        plan(task, task.training.teacher_epochs, share, len(data.y), task.seed),
        objective=objective,
        name="teacher",
        progress=within(progress, 0.0, 0.55),
    )
    second = train(
        student,
        data,
        validation,
        plan(task, task.training.student_epochs, share, len(data.y), task.seed + 1),
        objective=objective,
        teaching=teach([teacher], data.x),
        name="student",
        progress=within(progress, 0.55, 1.0),
    )
    return Learned(teacher, student, (first, second), warm)


def plan(task: TaskConfig, epochs: int, share: float, samples: int, seed: int) -> Plan:
    """How long to train on ``samples``: ``share`` of ``epochs``, or of as many as give the minimum of updates."""
    training = task.training
    steps = -(-samples // training.batch)
    epochs = max(1, round(share * max(epochs, -(-training.minimum_steps // steps))))
    return Plan(epochs, training.batch, training.learning_rate, training.weight_decay, seed)


def _names(*found: ResNet) -> str:
    return msgspec.json.encode(found).decode()


def save_checkpoint(learned: Learned, release: Path) -> None:
    """Both networks' weights, into the release's work directory."""
    directory = work_directory(release)
    directory.mkdir(parents=True, exist_ok=True)
    document = {
        "shapes": _names(learned.teacher.architecture, learned.student.architecture),
        "teacher": learned.teacher.state_dict(),
        "student": learned.student.state_dict(),
    }
    buffer = io.BytesIO()
    torch.save(document, buffer)
    write_atomic(directory / CHECKPOINT, buffer.getvalue())


def load_checkpoint(release: Path) -> dict[str, Any] | None:
    """What :func:`save_checkpoint` wrote, or ``None``: without it, or with a damaged one, training starts afresh."""
    path = work_directory(release) / CHECKPOINT
    try:
        document = torch.load(path, weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError):
        return None
    whole = isinstance(document, dict) and {"shapes", "teacher", "student"} <= set(document)
    return document if whole else None
