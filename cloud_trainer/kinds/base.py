"""A kind of task: what is special about images, tables, sounds, ... Everything else of a training is the same for all.

:mod:`cloud_trainer.training` asks a kind, in this order: :meth:`Kind.prepare` (samples -> pipeline and targets),
:meth:`Kind.objective`, :meth:`Kind.teachers` and :meth:`Kind.students` (networks to begin with), :meth:`Kind.augment`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from msgspec import Struct
from numpy.typing import NDArray
from torch import Generator, Tensor, nn

from cloud_trainer.config import TaskConfig
from cloud_trainer.data import Dataset, Splits
from cloud_trainer.distillation import Teacher, teach
from cloud_trainer.fit import Encoded
from cloud_trainer.models.base import Architecture
from cloud_trainer.models.mlp import Skip
from cloud_trainer.objectives import Objective
from shared.manifest import SampleSpec
from shared.pipeline.bind import run_arrays
from shared.pipeline.spec import Pipeline

Augment = Callable[[Tensor, Generator], Tensor]
"""A batch of encoded samples (b, *input) of the training split -> the same, altered; never in place."""


class Adviser(Protocol):
    """A teacher that is no network: ``answers`` to encoded samples (n, *input) -> (n, outputs); what it is called, and
    what it costs."""

    @property
    def label(self) -> str:
        """For tables."""

    @property
    def macs(self) -> int:
        """Of an answer."""

    @property
    def bytes(self) -> int:
        """Of everything that it knows."""

    def answers(self, x: NDArray[Any]) -> NDArray[Any]:
        """As above."""


class Feature(Struct, frozen=True):
    """One candidate of feature engineering, for the report: what it is, how much it told (``importance``, in the unit
    of ``FeatureTable.measure``; ``None`` where nobody measured), whether the model gets it, and why."""

    name: str
    importance: float | None
    kept: bool
    why: str


class FeatureTable(Struct, frozen=True):
    """Every candidate, the most telling first. ``measure`` says what ``importance`` is and how it was found."""

    features: tuple[Feature, ...] = ()
    measure: str = ""


class Prepared(Struct, frozen=True, eq=False):
    """What a kind makes of the splits. ``pipeline`` is whole: fitted on the train split, decode and postprocess too.
    ``answer``: what the model file's first output is called (``logits`` of a classifier). ``targets`` turns a part's
    ``y`` into what the network learns: int64 classes (n,), or float32 (n, outputs). ``skip``: a first guess of the
    answer, where there is one."""

    sample: SampleSpec
    pipeline: Pipeline
    outputs: int
    answer: str = "logits"
    targets: Callable[[NDArray[Any]], NDArray[Any]] = np.asarray
    features: FeatureTable = FeatureTable()
    notes: tuple[str, ...] = ()
    skip: Skip | None = None

    def encode(self, x: NDArray[Any]) -> NDArray[Any]:
        """Raw samples (n, *sample shape) -> the model's input (n, *input), float32 or int64 token ids."""
        encoded = run_arrays(self.pipeline, x)
        return encoded.astype(np.int64 if encoded.dtype.kind in "iu" else np.float32, copy=False)


class Kind(ABC):
    """One kind of task; stateless."""

    name: ClassVar[str]
    """As in ``task.toml``."""
    task: ClassVar[str]
    """As in the manifest: which answers a device gives (``edge_agent.tasks``)."""
    sized: ClassVar[bool] = False
    """Whether teachers are made as wide as there is time for, where the task does not say how wide."""
    patience: ClassVar[float] = 0.0
    """Share of the epochs without a better validation score that ends a training; 0: all are trained, and the last
    weights kept."""

    @abstractmethod
    def prepare(self, task: TaskConfig, splits: Splits) -> Prepared:
        """Fit the pipeline on the train split (features are chosen on the validation split).

        Raises:
            DataError: the samples are not of this kind.
        """

    @abstractmethod
    def objective(self, task: TaskConfig, prepared: Prepared, splits: Splits) -> Objective:
        """What is trained for."""

    @abstractmethod
    def teachers(self, task: TaskConfig, prepared: Prepared, input_shape: tuple[int, ...]) -> tuple[Architecture, ...]:
        """The teacher, or the members of an ensemble, for encoded samples (*input_shape)."""

    @abstractmethod
    def students(self, task: TaskConfig, prepared: Prepared, input_shape: tuple[int, ...]) -> tuple[Architecture, ...]:
        """Families to choose the student from, the default first; their widths are set by the budget."""

    def examples(
        self, task: TaskConfig, prepared: Prepared, part: Dataset, seed: int
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Raw samples and targets that the network learns of ``part`` (train or validation): what the part has, unless
        the kind makes some up."""
        del task, seed
        return part.x, prepared.targets(part.y)

    def finish(self, task: TaskConfig, prepared: Prepared, student: nn.Module, splits: Splits) -> Pipeline:
        """The release's pipeline, where some of it can only be fitted once there is a student (in evaluation mode)."""
        del task, student, splits
        return prepared.pipeline

    def feature_weight(self, task: TaskConfig) -> float:
        """How much a student is drawn towards its teacher's embedding."""
        return task.distill.feature_weight

    def graded(
        self, prepared: Prepared, models: Sequence[Teacher], splits: Splits, part: Dataset
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """What ``models`` together answer to ``part``, and what would be right: both as the objective's ``score`` takes
        them."""
        del splits
        return teach(models, torch.from_numpy(prepared.encode(part.x))).answers.numpy(), prepared.targets(part.y)

    def trees(self, task: TaskConfig, prepared: Prepared) -> bool:
        """Whether gradient-boosted trees on the encoded samples are worth a try, as teacher and as student."""
        del task, prepared
        return False

    def adviser(self, task: TaskConfig, prepared: Prepared, data: Encoded, validation: Encoded) -> Adviser | None:
        """Who teaches beside the networks, where that is better on the validation split."""
        del task, prepared, data, validation
        return None

    def augment(self, task: TaskConfig, prepared: Prepared) -> Augment | None:
        """How training samples are altered where they are learned from labels; ``None``: not at all."""
        del task, prepared
        return None

    def augment_taught(self, task: TaskConfig, prepared: Prepared) -> Augment | None:
        """How they are altered beside a teacher, which says what an altered sample is; as from labels, unless the kind
        knows better."""
        return self.augment(task, prepared)
