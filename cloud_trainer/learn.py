"""Teachers, then the student that learns from them: from scratch, or from where the parent release's training ended.

What is trained, in this order, each with a checkpoint of its own in the release's work directory, so that a run that
was killed goes on where it was:

1. every teacher; several are an ensemble, and others than networks join them (:mod:`cloud_trainer.council`)
2. candidates for the student's architecture, if the task asks for a search
3. the student, from the softened answers of its teachers
4. the same student from the labels alone, if the task asks what its teachers were worth
"""

from __future__ import annotations

import io
import pickle
import time
from pathlib import Path
from typing import Any

import msgspec
import torch
from msgspec import Struct
from torch import nn

from cloud_trainer.config import TaskConfig
from cloud_trainer.council import gather, trees_within
from cloud_trainer.distillation import Teacher, Teaching, answering, teach
from cloud_trainer.engines import in_order
from cloud_trainer.fit import Curve, train
from cloud_trainer.fit.plan import Precision
from cloud_trainer.fit.precision import of_picture
from cloud_trainer.kinds import Adviser
from cloud_trainer.lesson import Lesson, Network, plan
from cloud_trainer.models import Architecture, Limits, build, bytes_of, macs_of
from cloud_trainer.models.pictures import PictureArchitecture
from cloud_trainer.models.trees import Trees
from cloud_trainer.progress import Progress, within
from cloud_trainer.search import Budget, Job, SearchResult, Trial, propose, search
from cloud_trainer.sizing import SMALL_TREES, default_student, limits_of, students_of, teachers_of
from cloud_trainer.work import work_directory
from shared.errors import TrainingError
from shared.files import write_atomic

CHECKPOINT = "checkpoint.pt"
WARM_SHARE = 0.5  # of the epochs, when the weights are good already
TEACHERS_END, ADVISERS_END, SEARCH_END, STUDENT_END = 0.43, 0.45, 0.6, 0.85


class Learned(Struct, frozen=True, eq=False):
    """``council``: who taught, averaged: ``teachers``, and ``advisers``, who are no networks. ``small_trees``: trees
    within the student's limits, where they are better than the student; ``alone``: the student without teachers;
    ``warm``: the weights of the parent release were gone on with."""

    teachers: tuple[Network, ...]
    student: Network
    council: tuple[Teacher, ...] = ()
    advisers: tuple[Adviser, ...] = ()
    small_trees: Trees | None = None
    alone: Network | None = None
    search: SearchResult | None = None
    limits: Limits = Limits()
    warm: bool = False

    @property
    def macs(self) -> tuple[int, int]:
        """Of all who taught together, and of the student, for one sample."""
        taught = sum(one.macs for one in self.taught) + sum(one.macs for one in self.advisers)
        return taught, self.student.macs

    @property
    def taught(self) -> tuple[Network, ...]:
        """The networks that were heard."""
        heard = [answering(one) for one in self.council]
        return tuple(one for one in self.teachers if one.model in heard)

    @property
    def curves(self) -> tuple[Curve, ...]:
        """Of every network, in the order of their training."""
        last = (self.alone.curve,) if self.alone else ()
        return (*(one.curve for one in self.teachers), self.student.curve, *last)


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
    trained_here = () if task.model.teacher == "trees" and not task.model.teacher_factory else wanted
    warm = start is not None and student is not None and start["shapes"] == _names(*trained_here, student)
    share = WARM_SHARE if warm else 1.0
    states = start["teachers"] if start is not None and warm else [None] * len(trained_here)
    teachers = []
    for i, (one, state) in enumerate(zip(trained_here, states, strict=True)):
        part = within(progress, TEACHERS_END * i / len(wanted), TEACHERS_END * (i + 1) / len(wanted))
        name = "teacher" if len(wanted) == 1 else f"teacher {i + 1}"
        seed = task.seed + 100 * i
        made = _train(lesson, one, name, task.training.teacher_epochs, share, seed, progress=part, state=state)
        teachers.append(made)
    part = within(progress, TEACHERS_END, ADVISERS_END)
    council, advisers = gather(lesson, tuple(one.model for one in teachers), part)
    weight = lesson.kind.feature_weight(task)
    teaching = teach(council, lesson.data.x, feature_weight=weight, dtype=_dtype(task, wanted))
    found = None
    if student is None:
        found = _search(lesson, limits, teaching, within(progress, ADVISERS_END, SEARCH_END))
        student = found.architecture
    part = within(progress, SEARCH_END if found else ADVISERS_END, STUDENT_END if task.distill.compare else 1.0)
    epochs, seed = task.training.student_epochs, task.seed + 1
    if found is not None:  # no fewer than what it was chosen for
        epochs = max(epochs, found.epochs)
    state = start["student"] if start is not None and warm else None
    trained = _train(lesson, student, "student", epochs, share, seed, progress=part, state=state, teaching=teaching)
    alone = None
    if task.distill.compare:
        last = within(progress, STUDENT_END, 1.0)
        alone = _train(lesson, student, "student without teacher", epochs, share, seed, progress=last, state=state)
    small = _small_trees(lesson, trained, limits) if lesson.kind.trees(task, lesson.prepared) else None
    return Learned(tuple(teachers), trained, council, advisers, small, alone, found, limits, warm)


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
        msgspec.structs.replace(
            plan(task, epochs, share, len(lesson.data.y), seed, lesson.kind.patience),
            precision=_precision(task, wanted),
        ),
        objective=lesson.objective,
        teaching=teaching,
        augment=augment(task, prepared),
        checkpoint=lesson.work / f"{name.replace(' ', '-')}.ckpt" if lesson.work else None,
        name=name,
        progress=progress,
        stop=lesson.stop,
    )
    return Network(wanted, model, curve)


def _precision(task: TaskConfig, wanted: Architecture) -> Precision:
    """What the task says, or what is fastest for the network."""
    said = task.training.precision
    return of_picture(said, macs_of(wanted)) if isinstance(wanted, PictureArchitecture) else said


def _dtype(task: TaskConfig, teachers: tuple[Architecture, ...]) -> torch.dtype:
    """What teachers answer in: what they were trained in, on a CPU."""
    return torch.bfloat16 if {_precision(task, one) for one in teachers} == {"bf16"} else torch.float32


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


def _small_trees(lesson: Lesson, student: Network, limits: Limits) -> Trees | None:
    """Trees that cost a device no more than the student may, if they are better than it on the validation split."""
    room = Limits(macs=limits.macs, bytes=lesson.task.model.max_bytes or SMALL_TREES)
    try:
        trees = trees_within(lesson, room)
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
