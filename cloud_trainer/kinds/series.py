"""Windows of sensors (time, channels) into classes: what an accelerometer, a motor's current, a vibration shows.

Views that are tried (:mod:`cloud_trainer.kinds.views`): the window itself, with rates of change, with the magnitude of
its channels, as a spectrum over time, and in numbers: statistics, correlations, power in bands, and for long windows
the spectrum of the envelope. Of the numbers those are kept that a network misses when they are shuffled.
"""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from cloud_trainer.augment import chain
from cloud_trainer.augment.signals import Jitter, Scaling, Warp
from cloud_trainer.augment.spectra import Masks
from cloud_trainer.config import TaskConfig
from cloud_trainer.data import Dataset, Splits
from cloud_trainer.kinds import classes, columns
from cloud_trainer.kinds.base import Augment, Kind, Prepared
from cloud_trainer.kinds.views import Effort, Steps, View, choose, notes_of
from cloud_trainer.models import Architecture, Cnn1d, Mlp, Tcn, WindowTransformer
from cloud_trainer.objectives import Classes
from shared.errors import DataError
from shared.manifest import SampleSpec
from shared.pipeline.bands import BandPower, Envelope
from shared.pipeline.branches import Concatenate, Part
from shared.pipeline.channels import Magnitude, Rates
from shared.pipeline.preprocess import Clip, Standardize
from shared.pipeline.signals import Detrend
from shared.pipeline.spec import Preprocess
from shared.pipeline.summary import Correlations, Statistic, Summary

Array = NDArray[Any]

STATISTICS: tuple[Statistic, ...] = (
    "mean", "std", "min", "max", "median", "q25", "q75", "skewness", "kurtosis", "crossings", "rate", "rate_std",
    "slope",
)  # fmt: skip
SHORTEST = 4
"""Time steps that make a window."""
SPECTRAL = 32
"""Time steps from which on a spectrum over time is tried."""
KNOCKS = 256
"""Time steps from which on the spectrum of the envelope is tried: a machine turns several times in them."""
BANDS = 12
FINE = 48
"""Bands of an envelope's spectrum."""
LIMIT = 6.0
"""Standard deviations that an input is cut off at: a wild value would cost all others their places in int8."""
MOST_COLUMNS = 4096


class SeriesClassification(Kind):
    """See the module."""

    name: ClassVar[str] = "series-classification"
    task: ClassVar[str] = "classification"
    effort: ClassVar[Effort] = Effort()
    """What each view may cost."""

    def prepare(self, task: TaskConfig, splits: Splits) -> Prepared:
        """Try the views, keep the best, and of its numbers those that tell something.

        Raises:
            DataError: samples are no windows (time, channels).
        """
        sample = sample_spec(splits.train)
        trial, table = choose(views_of(task, splits.train), splits, seed=task.seed, effort=self.effort)
        notes = notes_of(table)
        if len(trial.validation.x.shape) == 2:
            trial, table = columns.selected(trial, splits, task.features, seed=task.seed, effort=self.effort)
            notes = (*notes, *columns.notes_of(table))
        steps = trial.view.fit(splits.train.x)
        return classes.prepared(sample, steps, splits.train.labels, table, notes)

    def objective(self, task: TaskConfig, prepared: Prepared, splits: Splits) -> Classes:
        """Cross-entropy."""
        del prepared
        return classes.objective(task, splits)

    def teachers(self, task: TaskConfig, prepared: Prepared, input_shape: tuple[int, ...]) -> tuple[Architecture, ...]:
        """Wide networks over the window, or over its numbers."""
        model, outputs = task.model, prepared.outputs
        wide: Architecture
        if len(input_shape) == 1:
            wide = Mlp(input=input_shape, outputs=outputs, width=16 * model.width, depth=3, dropout=0.3)
        else:
            wide = Cnn1d(input=input_shape, outputs=outputs, width=model.width, depth=2)
        return classes.teachers(task, wide)

    def trees(self, task: TaskConfig, prepared: Prepared) -> bool:
        """Over numbers, as for tables."""
        flat = any(isinstance(one, Concatenate) and one.flat for one in prepared.pipeline.preprocess)
        return flat and task.model.teacher in {"auto", "trees"} and not task.model.teacher_factory

    def students(self, task: TaskConfig, prepared: Prepared, input_shape: tuple[int, ...]) -> tuple[Architecture, ...]:
        """Convolutions along time, or dense layers over numbers."""
        sizes: dict[str, Any] = {"input": input_shape, "outputs": prepared.outputs, "embedding": task.model.embedding}
        if len(input_shape) == 1:
            return classes.students(task, Mlp(**sizes, dropout=0.1))
        return classes.students(task, Cnn1d(**sizes), Tcn(**sizes), WindowTransformer(**sizes))

    def augment(self, task: TaskConfig, prepared: Prepared) -> Augment | None:
        """Noise, another gain, faster or slower; of numbers, noise alone."""
        if task.training.augment is False:
            return None
        shown = prepared.pipeline.preprocess
        if any(isinstance(operation, Concatenate) and operation.flat for operation in shown):
            return chain(Jitter(0.2), share=0.8)
        if any(isinstance(operation, BandPower) for operation in shown):
            return chain(Jitter(0.2), Masks(frames=0.15, bands=0.15), share=0.8)
        return chain(Warp(), Scaling(0.1), Jitter(0.1), share=0.8)


def sample_spec(train: Dataset) -> SampleSpec:
    """What a window looks like to ``Engine.infer``.

    Raises:
        DataError: samples are no windows of at least 4 time steps.
    """
    shape = train.x.shape[1:]
    if train.x.dtype.kind not in "iuf" or len(shape) != 2 or shape[0] < SHORTEST or shape[1] < 1:
        raise DataError(
            f"samples have dtype {train.x.dtype} and shape {shape}; series-classification takes windows of numbers "
            f"(time, channels) of at least {SHORTEST} time steps; set data.window"
        )
    return SampleSpec(dtype=str(train.x.dtype), shape=tuple(shape), kind="window", columns=train.columns)


def views_of(task: TaskConfig, train: Dataset) -> tuple[View, ...]:
    """What is tried, from cheap to dear. Without ``features.engineer`` it is the window alone."""
    time, channels = train.x.shape[1:]
    rate = train.rate or 1.0
    window = View("window", _over_time, _convolutions, "the window, standardized")
    if not task.features.engineer:
        return (window,)
    found = [window, View("window and rates", lambda x: _over_time(x, Rates()), _convolutions, "and rates of change")]
    if channels > 1:
        found.append(
            View(
                "window and magnitude", lambda x: _over_time(x, _WITH_MAGNITUDE), _convolutions, "however it is turned"
            )
        )
    bands = task.features.bands or BANDS
    if time >= SPECTRAL:
        size = max(SPECTRAL // 2, time // 8)
        found.append(
            View(
                "spectrum over time",
                lambda x: _spectrum(x, rate, bands, size),
                _convolutions,
                f"power in bands, in parts of {size} steps",
            )
        )
    if channels * len(STATISTICS) * 2 <= MOST_COLUMNS:
        names = train.columns or tuple(f"channel {i}" for i in range(channels))
        rolling = task.features.rolling
        numbers = View("numbers", lambda x: _numbers(x, rate, bands, names, rolling), _dense, "statistics and bands")
        found.insert(0, numbers)
    return tuple(found)


_TURNED: tuple[Part, ...] = (Detrend("constant"), Magnitude(keep=False))
_WITH_MAGNITUDE = Concatenate(branches=((), _TURNED), flat=False)


def _convolutions(steps: Steps, shape: tuple[int, ...], outputs: int) -> Architecture:
    del steps
    return Cnn1d(input=shape, outputs=outputs, width=16)


def _dense(steps: Steps, shape: tuple[int, ...], outputs: int) -> Architecture:
    del steps
    return Mlp(input=shape, outputs=outputs, width=96, dropout=0.3)


def _over_time(x: Array, *more: Preprocess) -> Steps:
    """The window, each channel standardized, and what ``more`` adds to it."""
    operations: list[Preprocess] = [Standardize.fit(x, per_column=True), *more]
    if more:
        operations.append(Standardize.fit(_through(operations, x), per_column=True))
    return Steps((*operations, Clip(-LIMIT, LIMIT)))


def _spectrum(x: Array, rate: float, bands: int, size: int) -> Steps:
    first = Standardize.fit(x, per_column=True)
    power = BandPower.fit(first(x), rate, bands=bands, size=size, step=max(1, size // 4))
    return Steps((first, power, Standardize.fit(power(first(x)), per_column=True), Clip(-LIMIT, LIMIT)))


def _numbers(x: Array, rate: float, bands: int, names: tuple[str, ...], rolling: tuple[int, ...]) -> Steps:
    first = Standardize.fit(x, per_column=True)
    scaled = first(x)
    summary = Summary(STATISTICS)
    power = BandPower.fit(scaled, rate, bands=bands)
    branches: list[tuple[Part, ...]] = [(summary,), (power,)]
    columns_of = [*summary.names(names), *power.names(names)]
    if len(names) > 1:
        length = _through(_TURNED, scaled)
        turned = BandPower.fit(length, rate, bands=bands)
        branches += [(Correlations(),), (*_TURNED, summary), (*_TURNED, turned)]
        columns_of += [*Correlations().names(names), *summary.names(("magnitude",)), *turned.names(("magnitude",))]
    for size in rolling:
        if 2 <= size < x.shape[1]:
            part = Summary(("mean", "std"), size=size)
            branches.append((part,))
            frames = x.shape[1] // size
            columns_of += [f"{name}, part {i + 1}" for i in range(frames) for name in part.names(names)]
    if x.shape[1] >= KNOCKS:
        envelope = Envelope(rate, low_hz=rate / 16)
        loud = BandPower.fit(envelope(scaled), rate, bands=FINE)
        fine = msgspec.structs.replace(loud, edges=_even(rate, x.shape[1]))
        branches.append((envelope, fine))
        columns_of += fine.names(tuple(f"envelope of {name}" for name in names))
    together = Concatenate(tuple(branches))
    last = Standardize.fit(_through((first, together), x), per_column=True)
    return Steps((first, together, last, Clip(-LIMIT, LIMIT)), columns=tuple(columns_of))


def _even(rate: float, time: int) -> tuple[float, ...]:
    """Edges of at most ``FINE`` equal bands up to a quarter of the rate: knocks come slower than what they ring."""
    bins = time // 4
    count = min(FINE, bins)
    places = np.unique(np.round(np.linspace(0, bins, count + 1)).astype(int)) + 0.5
    return tuple(float(f"{place * rate / time:.6g}") for place in places)


def _through(operations: Any, x: Array) -> Array:
    for operation in operations:
        x = operation(x)
    return x
