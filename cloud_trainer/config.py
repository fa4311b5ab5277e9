"""``task.toml`` (what to train) and ``controller.toml`` (whom to serve), checked before anything starts.

A task::

    name = "digits"
    kind = "image-classification"

    [data]
    format = "npz"
    path = "digits.npz"                  # x (n, H, W) or (n, H, W, C) uint8, y (n,) int, optional names

    [drift]
    false_alarm_every = 1_000_000        # samples
    tolerance = 0.25                     # robust sigmas by which values may wander unreported

A controller::

    site = "plant-7"
    fleet = "fleet"                      # made by: cloud-trainer fleet init
    listen = "127.0.0.1:8700"
    tasks = ["task.toml"]

    [broker]
    host = "127.0.0.1"
    port = 1883
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from shared.config import load_toml
from shared.enrolment import BrokerAddress
from shared.manifest import DriftPolicy, Name

Share = Annotated[float, Meta(gt=0, lt=1)]
Positive = Annotated[int, Meta(ge=1)]
Seconds = Annotated[float, Meta(gt=0)]


class DataConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """Where the data is. ``npz``: a file with arrays ``x`` and ``y``; ``python``: ``factory = "module:function"``,
    called with the task, gives the splits itself (see ``cloud_trainer.data.Splits``)."""

    format: Literal["npz", "python"]
    path: str = ""
    factory: str = ""
    reference_share: Share = 0.25
    test_share: Share = 0.2


class ModelConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """Sizes. The student's width is the largest whose MACs are at most ``mac_share`` of the teacher's."""

    teacher_width: Positive = 32
    mac_share: Annotated[float, Meta(gt=0, le=1)] = 0.1
    embedding: Positive = 32


class TrainingConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """The training loop. On little data the epochs are raised until there are ``minimum_steps`` updates."""

    teacher_epochs: Positive = 12
    student_epochs: Positive = 20
    minimum_steps: Annotated[int, Meta(ge=0)] = 600
    batch: Positive = 128
    learning_rate: Annotated[float, Meta(gt=0)] = 3e-3
    weight_decay: Annotated[float, Meta(ge=0)] = 1e-4
    threads: Annotated[int, Meta(ge=0)] = 0  # 0: all


class DistillConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """Hinton et al. 2015 (arXiv 1503.02531): softened teacher scores beside the labels."""

    temperature: Annotated[float, Meta(gt=0)] = 4.0
    teacher_weight: Annotated[float, Meta(ge=0, le=1)] = 0.7


class ExportConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """What to export. An int8 variant more than ``gate_points`` percentage points below its fp32 student is left out,
    with the reason in the report."""

    runtimes: tuple[Literal["onnxruntime", "litert"], ...] = ("onnxruntime", "litert")
    gate_points: Annotated[float, Meta(gt=0)] = 1.0
    calibration_samples: Positive = 256


class RetrainConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """From a confirmed drift to a candidate."""

    samples_per_device: Positive = 400
    held_out_share: Share = 0.4  # of the labelled samples: gate and new baseline, never trained on
    collect_seconds: Seconds = 3600.0
    label_seconds: Seconds = 86_400.0
    train_seconds: Seconds = 7200.0


class RolloutConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """From a candidate to everyone."""

    canary_devices: Positive = 1
    canary_samples: Positive = 1000
    canary_seconds: Seconds = 3600.0
    settle_seconds: Seconds = 3600.0


class FleetPolicy(Struct, frozen=True, forbid_unknown_fields=True):
    """The promise of the fleet's evidence, counted in reports."""

    false_alarm_every_reports: Annotated[int, Meta(ge=100)] = 10_000


class TaskConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """The whole ``task.toml``."""

    name: Name
    kind: Literal["image-classification"]
    data: DataConfig
    seed: Annotated[int, Meta(ge=0, lt=1 << 31)] = 0
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()
    distill: DistillConfig = DistillConfig()
    export: ExportConfig = ExportConfig()
    drift: DriftPolicy = DriftPolicy()
    fleet: FleetPolicy = FleetPolicy()
    retrain: RetrainConfig = RetrainConfig()
    rollout: RolloutConfig = RolloutConfig()


class ControllerConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """The whole ``controller.toml``. ``workspace`` holds the database, collected samples and candidates."""

    site: Name
    fleet: str
    tasks: Annotated[tuple[str, ...], Meta(min_length=1)]
    broker: BrokerAddress
    listen: Annotated[str, Meta(pattern=r"^.+:[0-9]{1,5}$")] = "127.0.0.1:8700"
    workspace: str = "controller"
    database: str = ""  # SQLAlchemy URL; empty: SQLite in the workspace
    tick_seconds: Annotated[float, Meta(gt=0, le=60)] = 0.5
    log_level: Literal["debug", "info", "warning", "error"] = "info"


def load_task(path: Path) -> TaskConfig:
    """Read and check a task; relative paths in it become absolute.

    Raises:
        ConfigError: with file, line and what was expected.
    """
    task = load_toml(path, TaskConfig)
    if task.data.path:
        data = msgspec.structs.replace(task.data, path=str(path.resolve().parent / task.data.path))
        task = msgspec.structs.replace(task, data=data)
    return task


def load_controller(path: Path) -> ControllerConfig:
    """Read and check a controller's configuration; relative paths in it become absolute.

    Raises:
        ConfigError: with file, line and what was expected.
    """
    config = load_toml(path, ControllerConfig)
    base = path.resolve().parent
    return msgspec.structs.replace(
        config,
        fleet=str(base / config.fleet),
        workspace=str(base / config.workspace),
        tasks=tuple(str(base / task) for task in config.tasks),
    )
