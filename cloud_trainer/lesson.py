"""What every training of a release has in common: samples, objective, where; and what comes of one, a network."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

from msgspec import Struct
from torch import nn

from cloud_trainer.config import TaskConfig
from cloud_trainer.engines import Engine, in_order
from cloud_trainer.fit import Curve, Encoded, Plan, train
from cloud_trainer.kinds import Kind, Prepared
from cloud_trainer.models import Architecture, bytes_of, macs_of
from cloud_trainer.objectives import Objective

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


def plan(task: TaskConfig, epochs: int, share: float, samples: int, seed: int, patience: float = 0.0) -> Plan:
    """How long to train on ``samples``: ``share`` of ``epochs``, or of as many as give the minimum of updates.
    ``patience``: share of them without a better validation score that ends it, where the task does not say."""
    training = task.training
    steps = -(-samples // training.batch)
    epochs = max(1, round(share * task.epochs(epochs, steps)))
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
