"""What is trained and asked, in numbers, each with how it is known."""

from __future__ import annotations

import math

from msgspec import Struct

from cloud_trainer.config import TaskConfig
from cloud_trainer.hardware import Device, Precision
from cloud_trainer.room import anomaly_samples

TRAIN_SHARE = 7 / 8  # of what reference and test leave; the rest is for validation


class Network(Struct, frozen=True):
    """``macs`` of one answer, ``params``; ``how`` they are known: measured, given, or by which rule. ``separable``: of
    depthwise layers, which processors run at a lower rate. ``count``: networks that these are of, together."""

    macs: float
    params: float
    how: str
    separable: bool = False
    count: int = 1

    def work_on(self, device: Device | None) -> float:
        """MACs, as many as a dense network has that takes as long on ``device``."""
        return self.macs / device.separable if self.separable and device is not None else self.macs

    def scaled(self, share: float, how: str) -> Network:
        """A single one, narrower or wider: MACs and parameters both go with the square of the width."""
        return Network(self.macs * share, self.params * share, how, self.separable)


class Workload(Struct, frozen=True):
    """A task whose network fits on one device.

    ``teacher``: all teachers together. ``samples`` of the whole data set; ``train_share`` of them are trained on, or
    ``made`` samples (0: none) that are made of these.
    ``student_trainings``: how often a whole student's training is paid for (with the comparison without teacher, and
    the search). ``precision`` of answers on a CPU; a GPU answers in fp16.
    """

    title: str
    samples: int
    samples_how: str
    teacher: Network
    student: Network
    sample_bytes: float = 4.0
    train_share: float = 1.0
    teacher_epochs: float = 12
    student_epochs: float = 20
    student_trainings: float = 1.0
    batch: int = 128
    made: int = 0
    precision: Precision = "int8"

    @property
    def trained_on(self) -> int:
        """Samples."""
        return self.made or max(1, round(self.samples * self.train_share))


class Language(Struct, frozen=True):
    """A transformer that reads a prompt and writes an answer token by token.

    ``samples`` of ``sample_tokens`` each are trained on ``epochs`` times. ``weight_bytes`` of a parameter when it
    answers: 2 for bfloat16, 1 for int8 or fp8.
    """

    title: str
    params: float
    params_how: str
    samples: int
    samples_how: str
    sample_tokens: int = 1500
    epochs: float = 3
    prompt: int = 1500
    answer: int = 300
    weight_bytes: float = 2.0

    @property
    def layers(self) -> int:
        """Of a usual transformer: N = 12 L d² (Kaplan et al. 2020, arXiv 2001.08361) with d = 128 L.

        >>> Language("", 70e9, "", 0, "").layers
        71
        """
        return max(1, round(math.cbrt(self.params / (12 * 128**2))))

    @property
    def width(self) -> int:
        """``d``."""
        return 128 * self.layers

    @property
    def cache_bytes(self) -> float:
        """Of the keys and values of one token, in bfloat16, for at most 8 heads of 128 (grouped queries, Ainslie et al.
        2023, arXiv 2305.13245)."""
        return 2.0 * self.layers * min(self.width, 1024) * 2

    @property
    def tokens(self) -> float:
        """Trained on, all epochs."""
        return self.samples * self.sample_tokens * self.epochs

    @property
    def context(self) -> int:
        """Tokens of prompt and answer."""
        return self.prompt + self.answer


def train_share(task: TaskConfig) -> float:
    """Of the samples."""
    return max(0.0, 1 - task.data.reference_share - task.data.test_share) * TRAIN_SHARE


def epochs_of(epochs: int, task: TaskConfig, trained_on: int) -> int:
    """Epochs after little data has been repeated up to the minimum of updates.

    >>> from cloud_trainer.config import DataConfig
    >>> task = TaskConfig(name="a", kind="forecasting", data=DataConfig(format="csv"))
    >>> epochs_of(12, task, 1_000_000), epochs_of(12, task, 1280)
    (12, 60)
    """
    steps_an_epoch = max(1, math.ceil(trained_on / task.training.batch))
    return task.epochs(epochs, steps_an_epoch)


def made_of(task: TaskConfig, normal: int, shape: tuple[int, ...]) -> int:
    """Samples that an image-anomaly task trains on, of ``normal`` images in the whole data set; 0 for other kinds,
    which train on what there is."""
    if task.kind != "image-anomaly":
        return 0
    return anomaly_samples(max(1, round(normal * train_share(task))), math.prod(shape))


def of_task(
    task: TaskConfig,
    samples: int,
    samples_how: str,
    sample_bytes: float,
    teacher: Network,
    student: Network,
    made: int = 0,
) -> Workload:
    """The task's training plan around these networks and this much data (``made``: see :class:`Workload`)."""
    share = train_share(task)
    trained_on = made or max(1, round(samples * share))
    student_epochs = epochs_of(task.training.student_epochs, task, trained_on)
    trainings = 1.0 + task.distill.compare
    if task.model.search:  # successive halving: every round costs the same
        rounds = 1 + int(math.log(task.model.search_trials, 3))
        trainings += rounds * task.model.search_trials * task.model.search_epochs / student_epochs
    return Workload(
        title=f"{task.name} ({task.kind})",
        samples=samples,
        samples_how=samples_how,
        teacher=teacher,
        student=student,
        sample_bytes=sample_bytes,
        train_share=share,
        teacher_epochs=epochs_of(task.training.teacher_epochs, task, trained_on),
        student_epochs=student_epochs,
        student_trainings=trainings,
        batch=task.training.batch,
        made=made,
    )
