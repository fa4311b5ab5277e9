"""What the report shows, as plain values: nothing here knows how it was made.

Everything but :attr:`ReportData.manifest` and :attr:`ReportData.measured` may be missing; what is missing isn't shown.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from cloud_trainer.data import Dataset
from cloud_trainer.evaluation.bootstrap import Interval
from cloud_trainer.evaluation.comparison import Compared
from cloud_trainer.evaluation.figures import Judge
from cloud_trainer.evaluation.robustness import Robustness
from cloud_trainer.gates import Gates
from cloud_trainer.packaging import Measured
from shared.manifest import Manifest


class FindingView(Struct, frozen=True):
    """What a check of the data found: ``severity`` ``error``, ``warning`` or ``note``; ``where``: file or split."""

    check: str
    severity: str
    text: str
    where: str = ""


class FeatureView(Struct, frozen=True):
    """A candidate of feature engineering; ``importance`` in the unit of ``ReportData.feature_measure``."""

    name: str
    importance: float | None
    kept: bool
    why: str


class TrialView(Struct, frozen=True):
    """One architecture that the search tried: its score on the validation split after ``epochs`` in the last round that
    it reached; ``chosen``: the student is made of it."""

    name: str
    macs: int
    score: float
    epochs: int = 0
    bytes: int = 0
    chosen: bool = False
    why: str = ""


class CurveView(Struct, frozen=True):
    """One training, epoch by epoch; what nobody measured is empty. ``best_epoch`` counts from 0; -1: the last."""

    name: str
    metric: str = "accuracy"
    train_loss: tuple[float, ...] = ()
    validation_loss: tuple[float, ...] = ()
    train_score: tuple[float, ...] = ()
    validation_score: tuple[float, ...] = ()
    learning_rate: tuple[float, ...] = ()
    seconds: tuple[float, ...] = ()
    best_epoch: int = -1
    finding: str = ""

    @classmethod
    def of(cls, curve: Any) -> CurveView:
        """Of anything that has these attributes, or ``loss`` and ``accuracy`` alone."""
        if not hasattr(curve, "train_loss"):
            return cls(curve.name, train_loss=curve.loss, validation_score=curve.accuracy)
        return cls(**{name: getattr(curve, name) for name in cls.__struct_fields__ if hasattr(curve, name)})


class NetworkView(Struct, frozen=True):
    """A trained network with its score on the test split. ``role``: what it is in the release."""

    name: str
    role: Literal["teacher", "student", "student without teacher", "student, pruned", "baseline"]
    macs: int | None
    score: float
    interval: Interval | None = None
    bytes: int = 0
    note: str = ""


class DifferenceView(Struct, frozen=True):
    """How much higher one score is than another, on the same samples: ``interval`` in units of the score."""

    text: str
    interval: Interval


class VariantNote(Struct, frozen=True):
    """``agreement``: share of the test samples (or correlation of the numbers) on which the variant and torch answer
    alike; ``repaired``: how a variant that missed its gate was mended, in a line; ``tried``: what did not help."""

    agreement: float | None = None
    repaired: str = ""
    tried: tuple[str, ...] = ()


class ReportData(Struct, frozen=True, eq=False, kw_only=True):
    """Everything that the report shows. ``measured``: the variants that were kept; of the best one, ``outputs["test"]``
    are its fields for ``test``. ``left_out``: variant -> why. ``counts``: part -> samples; ``class_counts``: part ->
    samples of each label. ``macs`` of teacher and student, where there is a teacher. ``reference`` (n, F): the watched
    inputs of the reference split, ``watched`` their names. ``values``: the smallest and the largest in a sample.
    ``kind``: as in ``task.toml``. ``judge``: how answers are judged; none: by the manifest's task alone. ``compared``:
    what :func:`cloud_trainer.evaluation.comparison.compare` gave; none: found here. ``cost``: sentences."""

    manifest: Manifest
    measured: tuple[Measured, ...]
    left_out: dict[str, str] = {}
    counts: dict[str, int] = {}
    class_counts: dict[str, tuple[int, ...]] = {}
    findings: tuple[FindingView, ...] = ()
    data_notes: tuple[str, ...] = ()
    features: tuple[FeatureView, ...] = ()
    feature_measure: str = ""
    feature_notes: tuple[str, ...] = ()
    trials: tuple[TrialView, ...] = ()
    search_notes: tuple[str, ...] = ()
    networks: tuple[NetworkView, ...] = ()
    differences: tuple[DifferenceView, ...] = ()
    curves: tuple[CurveView, ...] = ()
    warm: bool | None = None
    macs: tuple[int, int] | None = None
    test: Dataset | None = None
    judge: Judge | None = None
    kind: str = ""
    compared: dict[str, Compared] | None = None
    notes: dict[str, VariantNote] = {}
    robustness: Robustness | None = None
    reference: NDArray[np.float64] | None = None
    watched: tuple[str, ...] = ()
    values: tuple[float, float] | None = None
    gates: Gates | None = None
    cost: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
