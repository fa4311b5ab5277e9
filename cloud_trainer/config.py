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


KINDS = (
    "image-classification", "image-anomaly", "tabular-classification", "tabular-regression", "series-classification",
    "forecasting", "audio-classification", "text-classification", "recommendation",
)  # fmt: skip
Kind = Literal[
    "image-classification", "image-anomaly", "tabular-classification", "tabular-regression", "series-classification",
    "forecasting", "audio-classification", "text-classification", "recommendation",
]  # fmt: skip


class DataConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """Where the data is, what is what in it, and how it is split.

    ``format``: ``npz`` (arrays ``x``, ``y``), ``csv`` or ``parquet`` (one row a sample), ``jsonl``, ``image-folder``
    and ``audio-folder`` (a folder for each class), ``python`` (``factory = "module:function"``, called with the task,
    gives the splits itself: see ``cloud_trainer.data.Splits``).

    Columns by name: ``target`` the truth, ``text`` the text, ``group`` what must not be on both sides of a split
    (speaker, machine, patient), ``time`` what orders the rows, ``item`` and ``user`` of recommendations;
    ``columns`` the features (none named: all others), ``ignore`` what is left out, ``categorical`` numbers that only
    name something. In npz they are names of arrays. In folders ``group`` is "prefix" (of the file's name, up to the
    first ``_``) or "folder" (below the class's), ``target`` the folder of normal images, ``ignore`` folders.

    ``test_path``: a file or folder like ``path`` that holds the test part; else ``test_share`` of the samples is it.

    ``window`` and ``step``: rows of a series that make one sample, and from one sample to the next. ``history`` and
    ``horizon``: of forecasts, time steps that are seen and foretold. ``sample_rate`` (Hz), ``seconds``: of sounds.
    """

    format: Literal["npz", "csv", "parquet", "jsonl", "image-folder", "audio-folder", "python"]
    path: str = ""
    test_path: str = ""
    factory: str = ""
    target: str = ""
    text: str = ""
    group: str = ""
    time: str = ""
    user: str = ""
    item: str = ""
    columns: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    categorical: tuple[str, ...] = ()
    names: tuple[str, ...] = ()  # of the columns, where a CSV file has no header; of the classes, where npz has none
    separator: str = ""  # of a CSV file; empty: found
    split: Literal["auto", "random", "group", "time"] = "auto"
    reference_share: Share = 0.25
    test_share: Share = 0.2
    window: Annotated[int, Meta(ge=0)] = 0
    step: Annotated[int, Meta(ge=0)] = 0
    history: Positive = 48
    horizon: Positive = 1
    sample_rate: Annotated[int, Meta(ge=0)] = 0  # 0: that of most files
    seconds: Annotated[float, Meta(ge=0)] = 0.0  # 0: the length of most files
    image_size: tuple[Positive, ...] = ()  # (height, width) that images of other sizes are brought to
    shape: tuple[Positive, ...] = ()  # of one sample, where npz has it flat
    strict: bool = False  # a finding of the data checks stops the training


class FeatureConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """What is made of raw columns, and what of that is kept. ``select``: by ``mutual-information`` with the target,
    by ``permutation`` importance on the validation split, or ``none``. ``max_features``: at most so many; 0: any."""

    engineer: bool = True
    select: Literal["permutation", "mutual-information", "none"] = "permutation"
    max_features: Annotated[int, Meta(ge=0)] = 0
    lags: tuple[Positive, ...] = ()  # time steps back; none: chosen by the kind of task
    rolling: tuple[Positive, ...] = ()  # sizes of windows; none: chosen
    bands: Annotated[int, Meta(ge=0)] = 0  # of spectra and log-mel; 0: chosen
    buckets: Annotated[int, Meta(ge=0)] = 0  # of hashed n-grams; 0: chosen
    max_length: Annotated[int, Meta(ge=0)] = 0  # tokens of a text; 0: chosen


USUAL_WIDTH = 32
USUAL_TEACHER_WEIGHT = 0.7


USUAL_STEPS, MORE_STEPS, MOST_EPOCHS = 600, {"tabular-regression": 6000}, 150
"""Updates of a training on little data, and by kind of more than very little: dense layers are cheap, and a table's are
far from done after 600. On a year of hourly bike rentals R² of the student went from .945 to .953, of the networks that
taught it to .950. On a few hundred rows so many epochs only learn noise by heart, and so do classifiers, which no
patience stops (6,000 rows with noisy labels: 82.7 % after 600 updates, 81.9 after 6,000)."""


MEMBERS = {
    "image-classification": 2, "tabular-classification": 2, "tabular-regression": 2, "series-classification": 2,
    "forecasting": 3, "audio-classification": 2, "text-classification": 2,
}  # fmt: skip
"""Teachers of a kind of task, where it says nothing; of others one."""


class ModelConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """Sizes, and where the networks come from.

    The student is the best (or, without ``search``, the widest) that keeps to every limit: ``mac_share`` of the
    teacher's MACs, ``max_macs``, ``max_bytes`` (of its int8 weights), ``p99_ms`` on a ``device`` class of
    ``cloud_trainer.hardware``. ``teacher`` and ``student`` name a family of the zoo (``cloud_trainer.models``) or
    ``auto``; ``teacher_factory`` and ``student_factory``, ``module:function`` called with the shape of a sample and the
    number of outputs, give an ``nn.Module`` of one's own.
    """

    teacher: str = "auto"
    student: str = "auto"
    teacher_factory: str = ""
    student_factory: str = ""
    teacher_width: Annotated[int, Meta(ge=0)] = 0  # 0: by the kind of task; of images as wide as there is time for
    ensemble: Annotated[int, Meta(ge=0)] = 0  # teachers whose answers are averaged; 0: as many as the kind is worth
    mac_share: Annotated[float, Meta(gt=0, le=1)] = 0.1
    max_macs: Annotated[int, Meta(ge=0)] = 0  # 0: no limit
    max_bytes: Annotated[int, Meta(ge=0)] = 0
    p99_ms: Annotated[float, Meta(ge=0)] = 0.0
    device: str = "raspberry-pi-4"
    embedding: Positive = 32
    search: bool = False
    search_trials: Positive = 9
    search_epochs: Positive = 2  # of the first round; each next one has three times as many for a third of the trials

    @property
    def width(self) -> int:
        """Of the teacher, where nobody said it."""
        return self.teacher_width or USUAL_WIDTH


class TrainingConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """The training loop. On little data the epochs are raised until there are ``minimum_steps`` updates; without, as
    many as the kind of task needs (:meth:`TaskConfig.epochs`)."""

    teacher_epochs: Positive = 12
    student_epochs: Positive = 20
    minimum_steps: Annotated[int, Meta(ge=0)] | None = None
    batch: Positive = 128
    learning_rate: Annotated[float, Meta(gt=0)] = 3e-3
    weight_decay: Annotated[float, Meta(ge=0)] = 1e-4
    threads: Annotated[int, Meta(ge=0)] = 0  # 0: all
    # epochs without a better validation score that end it; 0: none do; without: as the kind says
    patience: Annotated[int, Meta(ge=0)] | None = None
    label_smoothing: Annotated[float, Meta(ge=0, lt=1)] | None = None  # without: as the kind says
    class_weights: bool = False  # rare classes count as much as frequent ones
    augment: bool | None = None  # shifts, noise, time and frequency masks, dropped words; without: as the kind says
    mirror: bool = False  # images that are mirrored stay what they are
    corrupt: Annotated[float, Meta(ge=0, le=1)] = 0.0  # share of samples that are corrupted: noise, blur, fog, gaps
    clip_norm: Annotated[float, Meta(ge=0)] = 0.0  # of the gradient; 0: unlimited
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"  # auto: bf16 (else fp16) on a GPU, fp32 on a CPU
    compile: Literal["auto", "always", "never"] = "auto"  # auto: on a GPU
    device: Literal["auto", "cpu", "cuda"] = "auto"
    checkpoint_seconds: Annotated[float, Meta(ge=0)] = 30.0  # between checkpoints; 0: after every epoch


class DistillConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """Hinton et al. 2015 (arXiv 1503.02531): softened teacher scores beside the labels. ``feature_weight``: of the
    distance between the embeddings of both, where their shapes allow (Romero et al. 2015, arXiv 1412.6550).
    ``compare``: also train the same student without its teacher, and report what the teacher bought."""

    temperature: Annotated[float, Meta(gt=0)] = 4.0
    teacher_weight: Annotated[float, Meta(ge=0, le=1)] | None = None  # without: as the kind says
    feature_weight: Annotated[float, Meta(ge=0)] = 0.0
    compare: bool = False

    def weight(self, usual: float = USUAL_TEACHER_WEIGHT) -> float:
        """``teacher_weight``, or what is ``usual`` for a kind."""
        return usual if self.teacher_weight is None else self.teacher_weight


class ExportConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """What to export. A variant whose score is more than ``gate_points`` percentage points below its fp32 student's is
    repaired, by quantization-aware training (``qat``) and then by keeping the layers that lose most in float
    (``mixed``), and only then left out, with the reason in the report. ``precisions`` beside fp32: ``int8``, ``fp16``,
    ``weight8`` and ``weight4`` (weights only); ``int8-reduced``, with weights of 7 bits, is for x86 without VNNI.
    ``prune``: share of the channels that are cut off beforehand."""

    runtimes: Annotated[tuple[Literal["onnxruntime", "litert"], ...], Meta(min_length=1)] = ("onnxruntime", "litert")
    precisions: tuple[Literal["int8", "int8-reduced", "fp16", "weight8", "weight4"], ...] = ("int8",)
    gate_points: Annotated[float, Meta(gt=0)] = 1.0
    calibration_samples: Positive = 256
    qat: bool = True
    qat_epochs: Positive = 3
    mixed: bool = True
    prune: Annotated[float, Meta(ge=0, lt=1)] = 0.0


class AdviseConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """What ``cloud-trainer advise`` reckons with: how much is asked, how soon the answer must come, for how long, and
    what energy costs. ``where``: which devices may answer. ``sites``: places that need a device of their own."""

    requests_per_second: Annotated[float, Meta(gt=0)] = 1.0  # of all sites together, on average
    latency_ms: Annotated[float, Meta(gt=0)] = 1000.0  # of 99 in 100 answers
    years: Annotated[float, Meta(gt=0)] = 3.0
    sites: Positive = 1
    where: Literal["any", "edge", "cloud"] = "any"
    price_per_kwh: Annotated[float, Meta(ge=0)] = 0.25  # US dollars, like every price of the table
    train_hours: Annotated[float, Meta(gt=0)] = 24.0  # a training may take at most


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
    kind: Kind
    data: DataConfig
    seed: Annotated[int, Meta(ge=0, lt=1 << 31)] = 0
    features: FeatureConfig = FeatureConfig()
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()
    distill: DistillConfig = DistillConfig()
    export: ExportConfig = ExportConfig()
    advise: AdviseConfig = AdviseConfig()
    drift: DriftPolicy = DriftPolicy()
    fleet: FleetPolicy = FleetPolicy()
    retrain: RetrainConfig = RetrainConfig()
    rollout: RolloutConfig = RolloutConfig()

    def epochs(self, wanted: int, steps: int) -> int:
        """``wanted``, or on little data as many epochs of ``steps`` updates as give the minimum of updates.

        >>> task = TaskConfig(name="a", kind="tabular-regression", data=DataConfig(format="csv"))
        >>> [task.epochs(20, steps) for steps in (2, 40, 100, 1000)]
        [300, 150, 60, 20]
        """
        said = self.training.minimum_steps
        if said is not None:
            return max(wanted, -(-said // steps))
        more = min(-(-self.more_steps // steps), MOST_EPOCHS)
        return max(wanted, -(-USUAL_STEPS // steps), more)

    @property
    def members(self) -> int:
        """Teachers whose answers are averaged. An image teacher whose width is said is one, and so is one's own."""
        model = self.model
        alone = model.teacher_factory or (self.kind.startswith("image-") and model.teacher_width)
        return model.ensemble or (1 if alone else MEMBERS.get(self.kind, 1))

    @property
    def more_steps(self) -> int:
        """Of the kind, on little data."""
        return MORE_STEPS.get(self.kind, USUAL_STEPS)


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
        base = path.resolve().parent
        test = str(base / task.data.test_path) if task.data.test_path else ""
        data = msgspec.structs.replace(task.data, path=str(base / task.data.path), test_path=test)
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
