"""Teachers, then the student that learns from them: from scratch, or from where the parent release's training ended.

What is trained, in this order, each with a checkpoint of its own in the release's work directory, so that a run that
was killed goes on where it was:

1. every teacher; several are an ensemble, and gradient-boosted trees are one where the kind of task likes them
2. candidates for the student's architecture, if the task asks for a search
3. the student, from the softened answers of its teachers
4. the same student from the labels alone, if the task asks what its teachers were worth
"""

from __future__ import annotations

import io
import math
import pickle
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from msgspec import Struct
from torch import nn

from cloud_trainer.config import TaskConfig
from cloud_trainer.distillation import Teacher, Teaching, teach
from cloud_trainer.engines import Engine, in_order
from cloud_trainer.fit import Curve, Encoded, Plan, train
from cloud_trainer.hardware import device, macs_within
from cloud_trainer.kinds import Adviser, Kind, Prepared
from cloud_trainer.models import Architecture, Limits, architecture, build, bytes_of, custom, fit_to, macs_of
from cloud_trainer.models.pictures import PictureArchitecture
from cloud_trainer.models.trees import Trees, fit_trees
from cloud_trainer.objectives import Objective
from cloud_trainer.progress import Progress, within
from cloud_trainer.search import Budget, Job, SearchResult, Trial, propose, search
from cloud_trainer.work import work_directory
from shared.errors import TrainingError
from shared.files import write_atomic

CHECKPOINT = "checkpoint.pt"
TEACHER_WORK, TEACHER_LEAST, PIXEL_WORK = 2.4e13, 1_000_000, 40_000
"""MACs of a whole training of a teacher of images, forward and back, some ten minutes on two cores; and of an answer:
at least, and for each pixel at most."""
MEMBERS = 3
"""Of an ensemble of sized teachers: on Fashion-MNIST three of 10.8 M MACs were right on 91.3 %, one of 31 M on 90.7."""
SMALL, SMALL_TREES = 64 << 10, 256 << 10  # bytes, where the task sets no limit
WARM_SHARE = 0.5  # of the epochs, when the weights are good already
TEACHERS_END, SEARCH_END, STUDENT_END = 0.45, 0.6, 0.85


class Network(Struct, frozen=True, eq=False):
    """A trained network, in evaluation mode. ``bytes``: of its weights in int8."""

    architecture: Architecture
    model: nn.Module
    curve: Curve

    @property
    def macs(self) -> int:
        """For one sample."""
        return macs_of(self.architecture)

    @property
    def bytes(self) -> int:
        """Of the weights in int8."""
        return bytes_of(self.architecture)


class Learned(Struct, frozen=True, eq=False):
    """``council``: who taught, averaged: the ``teachers``, or ``trees`` (or another adviser of the kind's), or both,
    whatever is best on the validation split. ``small_trees``: trees within the student's limits, where they are better
    than the student; ``alone``: the student without teachers; ``warm``: the weights of the parent release were gone on
    with."""

    teachers: tuple[Network, ...]
    student: Network
    council: tuple[Teacher, ...] = ()
    trees: Adviser | None = None
    small_trees: Trees | None = None
    alone: Network | None = None
    search: SearchResult | None = None
    limits: Limits = Limits()
    warm: bool = False

    @property
    def macs(self) -> tuple[int, int]:
        """Of all who taught together, and of the student, for one sample."""
        taught = sum(one.macs for one in self.teachers if one.model in self.council)
        return taught + (self.trees.macs if self.trees else 0), self.student.macs

    @property
    def curves(self) -> tuple[Curve, ...]:
        """Of every network, in the order of their training."""
        last = (self.alone.curve,) if self.alone else ()
        return (*(one.curve for one in self.teachers), self.student.curve, *last)


HERE = Engine(train, in_order)
"""This process trains, one network after the other."""


class Lesson(Struct, frozen=True, eq=False):
    """What everything is trained on and with. ``engine``: where."""

    task: TaskConfig
    kind: Kind
    prepared: Prepared
    objective: Objective
    data: Encoded
    validation: Encoded
    work: Path | None = None
    stop: Callable[[], bool] | None = None
    engine: Engine = HERE

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Of an encoded sample."""
        return tuple(self.data.x.shape[1:])


def learn(lesson: Lesson, *, start: dict[str, Any] | None, progress: Progress) -> Learned:
    """Train everything. ``start`` is what :func:`load_checkpoint` gave; weights of another shape are not used.

    Raises:
        TrainingError: no student fits the limits, or a training failed.
        StoppedError: ``lesson.stop`` said so; the work directory has what is needed to go on.
    """
    task = lesson.task
    wanted = teachers_of(lesson)
    limits = limits_of(task, sum(map(macs_of, wanted)), sum(map(bytes_of, wanted)))
    student = None if task.model.search else default_student(lesson, limits)
    warm = start is not None and student is not None and start["shapes"] == _names(*wanted, student)
    share = WARM_SHARE if warm else 1.0
    states = start["teachers"] if start is not None and warm else [None] * len(wanted)
    teachers = []
    for i, (one, state) in enumerate(zip(wanted, states, strict=True)):
        part = within(progress, TEACHERS_END * i / len(wanted), TEACHERS_END * (i + 1) / len(wanted))
        name = "teacher" if len(wanted) == 1 else f"teacher {i + 1}"
        seed = task.seed + 100 * i
        made = _train(lesson, one, name, task.training.teacher_epochs, share, seed, progress=part, state=state)
        teachers.append(made)
    council: tuple[Teacher, ...] = tuple(one.model for one in teachers)
    trees: Adviser | None = lesson.kind.adviser(task, lesson.prepared, lesson.data, lesson.validation)
    if trees is not None:
        council, trees = _council(lesson, (council, (*council, trees.answers)), trees)
    if lesson.kind.trees(task, lesson.prepared):
        progress("trees", TEACHERS_END, "gradient-boosted trees")
        trees = _trees(lesson, Limits())
        council, trees = _council(lesson, (council, (trees.answers,), (*council, trees.answers)), trees)
    teaching = teach(council, lesson.data.x, feature_weight=lesson.kind.feature_weight(task))
    found = None
    if student is None:
        found = _search(lesson, limits, teaching, within(progress, TEACHERS_END, SEARCH_END))
        student = found.architecture
    part = within(progress, SEARCH_END if found else TEACHERS_END, STUDENT_END if task.distill.compare else 1.0)
    epochs, seed = task.training.student_epochs, task.seed + 1
    state = start["student"] if start is not None and warm else None
    trained = _train(lesson, student, "student", epochs, share, seed, progress=part, state=state, teaching=teaching)
    alone = None
    if task.distill.compare:
        last = within(progress, STUDENT_END, 1.0)
        alone = _train(lesson, student, "student without teacher", epochs, share, seed, progress=last, state=state)
    small = _small_trees(lesson, trained, limits) if isinstance(trees, Trees) else None
    return Learned(tuple(teachers), trained, council, trees, small, alone, found, limits, warm)


def teachers_of(lesson: Lesson) -> tuple[Architecture, ...]:
    """The task's own, the family that it names, or what the kind suggests."""
    model = lesson.task.model
    shape, outputs = lesson.input_shape, lesson.prepared.outputs
    usual = lesson.kind.teachers(lesson.task, lesson.prepared, shape)
    if model.teacher_factory:
        tokens = lesson.data.x.dtype == torch.int64
        return (custom(model.teacher_factory, shape, outputs, tokens=tokens),) * model.ensemble
    if model.teacher != "auto" and usual[0].family != model.teacher:
        sizes = {"width": model.width, "embedding": model.embedding}
        usual = (architecture(model.teacher, input=shape, outputs=outputs, **sizes),) * model.ensemble
    if lesson.kind.sized and not model.teacher_width and isinstance(usual[0], PictureArchitecture):
        count = MEMBERS if model.ensemble == 1 else model.ensemble
        return (_sized(lesson, usual[0], count),) * count
    return usual


def _sized(lesson: Lesson, teacher: Architecture, count: int) -> Architecture:
    """Each of ``count`` as wide as images of this size are worth, and as there is time for: :data:`TEACHER_WORK`."""
    epochs = plan(lesson.task, lesson.task.training.teacher_epochs, 1.0, len(lesson.data), 0).epochs
    pixels = math.prod(lesson.input_shape)
    room = min(TEACHER_WORK / (3 * len(lesson.data) * epochs), PIXEL_WORK * pixels)
    return fit_to(teacher, Limits(macs=max(TEACHER_LEAST, int(room)) // count)) or teacher


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
    """The widest of the default family within ``limits``.

    Raises:
        TrainingError: nothing fits.
    """
    first = students_of(lesson)[0]
    found = fit_to(first, limits)
    if found is None:
        least = first.with_depth(1).with_width(1)
        raise TrainingError(
            f"no student fits into {limits.macs:,} MACs"
            + (f" and {limits.bytes:,} bytes" if limits.bytes else "")
            + f": {least.label} needs {macs_of(least):,} MACs and {bytes_of(least):,} bytes; raise model.mac_share, "
            "model.teacher_width, model.max_macs or model.max_bytes"
        )
    return found


def plan(task: TaskConfig, epochs: int, share: float, samples: int, seed: int, patience: float = 0.0) -> Plan:
    """How long to train on ``samples``: ``share`` of ``epochs``, or of as many as give the minimum of updates.
    ``patience``: share of them without a better validation score that ends it, where the task does not say."""
    training = task.training
    steps = -(-samples // training.batch)
    epochs = max(1, round(share * max(epochs, -(-training.minimum_steps // steps))))
    return Plan(
        epochs=epochs,
        batch=training.batch,
        learning_rate=training.learning_rate,
        weight_decay=training.weight_decay,
        seed=seed,
        patience=math.ceil(patience * epochs) if training.patience is None else training.patience,
        clip_norm=training.clip_norm,
        precision=training.precision,
        compile=training.compile,
        device=training.device,
        checkpoint_seconds=training.checkpoint_seconds,
    )


def _train(
    lesson: Lesson,
    wanted: Architecture,
    name: str,
    epochs: int,
    share: float,
    seed: int,
    *,
    progress: Progress,
    state: dict[str, Any] | None = None,
    teaching: Teaching | None = None,
) -> Network:
    task, prepared = lesson.task, lesson.prepared
    augment = lesson.kind.augment if teaching is None else lesson.kind.augment_taught
    model = build(wanted, seed)
    if isinstance(wanted, PictureArchitecture):
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # a fifth to a half faster on CPUs
    if state is not None:
        model.load_state_dict(state)
    curve = lesson.engine.train(
        model,
        lesson.data,
        lesson.validation,
        plan(task, epochs, share, len(lesson.data.y), seed, lesson.kind.patience),
        objective=lesson.objective,
        teaching=teaching,
        augment=augment(task, prepared),
        checkpoint=lesson.work / f"{name.replace(' ', '-')}.ckpt" if lesson.work else None,
        name=name,
        progress=progress,
        stop=lesson.stop,
    )
    return Network(wanted, model, curve)


def finetuned(lesson: Lesson, learned: Learned, model: nn.Module, epochs: int) -> None:
    """Train ``model``, a changed copy of the student, for a few ``epochs`` more, beside its teachers, at a tenth of the
    learning rate."""
    task = lesson.task
    wanted = plan(task, epochs, 1.0, len(lesson.data.y), task.seed + 2)
    rate = task.training.learning_rate / 10
    teaching = teach(learned.council, lesson.data.x)
    train(
        model,
        lesson.data,
        lesson.validation,
        msgspec.structs.replace(wanted, epochs=epochs, learning_rate=rate, compile="never", precision="fp32"),
        objective=lesson.objective,
        teaching=teaching,
        augment=lesson.kind.augment_taught(task, lesson.prepared),
        name="fine-tuning",
        stop=lesson.stop,
    )


def _trees(lesson: Lesson, limits: Limits) -> Trees:
    data, validation = lesson.data, lesson.validation
    return fit_trees(
        data.x.numpy(),
        data.y.numpy(),
        (validation.x.numpy(), validation.y.numpy()),
        outputs=lesson.prepared.outputs,
        score=lesson.objective.score,
        limits=limits,
        seed=lesson.task.seed,
    )


def _council(
    lesson: Lesson, choices: tuple[tuple[Teacher, ...], ...], adviser: Adviser
) -> tuple[tuple[Teacher, ...], Adviser | None]:
    """The best of ``choices`` on the validation split; of equals the first, which is without the ``adviser``."""
    validation = lesson.validation
    scores = [lesson.objective.score(teach(one, validation.x).answers.numpy(), validation.y.numpy()) for one in choices]
    best = int(np.argmax(scores))
    return choices[best], adviser if best else None


def _small_trees(lesson: Lesson, student: Network, limits: Limits) -> Trees | None:
    """Trees that cost a device no more than the student may, if they are better than it on the validation split."""
    room = Limits(macs=limits.macs, bytes=lesson.task.model.max_bytes or SMALL_TREES)
    try:
        trees = _trees(lesson, room)
    except TrainingError:  # not a single tree fits
        return None
    validation, score = lesson.validation, lesson.objective.score
    found = score(trees.answers(validation.x.numpy()), validation.y.numpy())
    known = score(teach([student.model], validation.x).answers.numpy(), validation.y.numpy())
    return trees if found > known else None


def _search(lesson: Lesson, limits: Limits, teaching: Teaching, progress: Progress) -> SearchResult:
    task, seed = lesson.task, lesson.task.seed + 1
    usual = plan(task, task.training.student_epochs, 1.0, len(lesson.data.y), seed, lesson.kind.patience)
    longer = usual.epochs / task.training.student_epochs  # on little data, as everywhere
    candidates = propose(students_of(lesson), limits, task.model.search_trials)
    train_, data, validation, objective = lesson.engine.train, lesson.data, lesson.validation, lesson.objective
    augment = lesson.kind.augment_taught(task, lesson.prepared)
    spread = lesson.engine.map
    stop = lesson.stop if spread is in_order else None  # it cannot be asked from another machine

    def evaluate(wanted: Architecture, epochs: int, state: Any) -> Trial:
        del state  # a cycle of the learning rate can't be gone on with: each round is a training of its own
        started = time.monotonic()
        model = build(wanted, seed)
        curve = train_(
            model,
            data,
            validation,
            msgspec.structs.replace(usual, epochs=max(1, round(longer * epochs))),
            objective=objective,
            teaching=teaching,
            augment=augment,
            name=wanted.label,
            stop=stop,
        )
        score = curve.validation_score[curve.best_epoch]
        return Trial(score, macs_of(wanted), bytes_of(wanted), None, time.monotonic() - started)

    def one(job: Job) -> Trial:
        return evaluate(job.architecture, job.epochs, job.state)

    return search(
        candidates,
        evaluate,
        budget=Budget(task.model.search_trials, task.model.search_epochs),
        journal=lesson.work,
        evaluate_many=None if spread is in_order else lambda jobs: spread(one, jobs),
        progress=progress,
    )


def _names(*found: Architecture) -> str:
    return msgspec.json.encode(found).decode()


def save_checkpoint(learned: Learned, release: Path) -> None:
    """Every network's weights, into the release's work directory; what was kept of the trainings goes."""
    directory = work_directory(release)
    directory.mkdir(parents=True, exist_ok=True)
    document = {
        "shapes": _names(*(one.architecture for one in learned.teachers), learned.student.architecture),
        "teachers": [one.model.state_dict() for one in learned.teachers],
        "student": learned.student.model.state_dict(),
    }
    buffer = io.BytesIO()
    torch.save(document, buffer)
    write_atomic(directory / CHECKPOINT, buffer.getvalue())
    for path in directory.glob("*.ckpt"):
        path.unlink(missing_ok=True)


def load_checkpoint(release: Path) -> dict[str, Any] | None:
    """What :func:`save_checkpoint` wrote, or ``None``: without it, or with a damaged one, training starts afresh."""
    path = work_directory(release) / CHECKPOINT
    try:
        document = torch.load(path, weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError):
        return None
    whole = isinstance(document, dict) and {"shapes", "teachers", "student"} <= set(document)
    return document if whole else None
