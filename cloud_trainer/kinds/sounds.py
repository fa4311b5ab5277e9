"""Sounds into classes: keywords, alarms, machines. Samples are one signal each (n, samples), or ready features
(n, frames, coefficients) of somebody else's.

Log-mel spectra are what networks hear best with; how fine they are in time follows from the length, their range from
the rate. What is tried (:mod:`cloud_trainer.kinds.views`): log-mel, the same without each clip's own level and
colouring (cepstral mean normalisation, Furui 1981), and cepstra, which are smaller.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from cloud_trainer.augment import chain
from cloud_trainer.augment.signals import Jitter
from cloud_trainer.augment.spectra import BandShift, Loudness, Masks, Shift
from cloud_trainer.config import TaskConfig
from cloud_trainer.data import Dataset, Splits
from cloud_trainer.kinds import classes
from cloud_trainer.kinds.base import Augment, Kind, Prepared
from cloud_trainer.kinds.views import Effort, Steps, View, choose, notes_of
from cloud_trainer.models import Architecture, DsCnn, Limits, MobileNet, ResNet, fit_to
from cloud_trainer.objectives import Classes
from cloud_trainer.room import SOUND_MACS
from shared.errors import DataError
from shared.manifest import SampleSpec
from shared.pipeline.preprocess import Clip, LogMel, Mfcc, Scale, Standardize
from shared.pipeline.signals import Detrend
from shared.pipeline.spec import Preprocess

Array = NDArray[Any]

FRAME_SECONDS = 0.032
"""Long enough for the lowest voices, short enough that a sound stands still in it."""
STEP_SECONDS = 0.016
MOST_FRAMES = 96
"""Longer sounds have longer steps."""
FEWEST_FRAMES = 16
BANDS = 32
LOWEST_HZ = 40.0
"""Below it are wind, handling and mains hum."""
COEFFICIENTS = 13
LIMIT = 6.0
LEAST_SAMPLES = 64
SMALLEST = 4
"""Frames and coefficients that ready features have at least."""
INTEGER_RANGE = {"int16": 1 / 32_768, "int32": 1 / 2_147_483_648, "int8": 1 / 128}


class Frames(Struct, frozen=True):
    """How a signal is cut: samples of a frame, and from one to the next; ``fft``: the next power of two."""

    size: int
    step: int

    @property
    def fft(self) -> int:
        """Samples of the transform."""
        return 1 << (self.size - 1).bit_length()


class AudioClassification(Kind):
    """See the module."""

    name: ClassVar[str] = "audio-classification"
    task: ClassVar[str] = "classification"
    effort: ClassVar[Effort] = Effort()
    """What each view may cost."""

    def prepare(self, task: TaskConfig, splits: Splits) -> Prepared:
        """Try the views and keep the best.

        Raises:
            DataError: samples are neither signals nor features, or nobody says the sample rate.
        """
        sample = sample_spec(splits.train)
        views = views_of(task, splits.train)
        trial, table = choose(views, splits, seed=task.seed, effort=self.effort)
        return classes.prepared(sample, trial.view.fit(splits.train.x), splits.train.labels, table, notes_of(table))

    def objective(self, task: TaskConfig, prepared: Prepared, splits: Splits) -> Classes:
        """Cross-entropy."""
        del prepared
        return classes.objective(task, splits)

    def teachers(self, task: TaskConfig, prepared: Prepared, input_shape: tuple[int, ...]) -> tuple[Architecture, ...]:
        """Residual networks over the spectrum, together as wide as ``SOUND_MACS`` allow, times the square of
        ``teacher_width`` over 32: spectra differ in size."""
        width = task.model.width
        usual = ResNet(input=input_shape, outputs=prepared.outputs, width=width)
        limits = Limits(macs=round(SOUND_MACS * (width / 32) ** 2 / task.members))
        return classes.teachers(task, fit_to(usual, limits, most=2 * width) or usual)

    def students(self, task: TaskConfig, prepared: Prepared, input_shape: tuple[int, ...]) -> tuple[Architecture, ...]:
        """Separable convolutions, and what else sees pictures."""
        sizes: dict[str, Any] = {"input": input_shape, "outputs": prepared.outputs, "embedding": task.model.embedding}
        return classes.students(task, DsCnn(**sizes), ResNet(**sizes, width=8), MobileNet(**sizes))

    def augment(self, task: TaskConfig, prepared: Prepared) -> Augment | None:
        """Earlier or later, louder or duller, noisier, with gaps in time and frequency."""
        if task.training.augment is False:
            return None
        cepstra = any(isinstance(operation, Mfcc) for operation in prepared.pipeline.preprocess)
        signals = any(isinstance(operation, LogMel) for operation in prepared.pipeline.preprocess)
        voice = (BandShift(0.04),) if signals and not cepstra else ()
        return chain(Shift(0.12), *voice, Loudness(0.3), Jitter(0.4), Masks(frames=0.2, bands=0.2), share=0.9)


def sample_spec(train: Dataset) -> SampleSpec:
    """What a sound looks like to ``Engine.infer``.

    Raises:
        DataError: as :meth:`AudioClassification.prepare`.
    """
    x = train.x
    signal = x.ndim == 2 and x.dtype.kind in "if" and x.shape[1] >= LEAST_SAMPLES
    features = x.ndim == 3 and x.dtype.kind in "iuf" and min(x.shape[1:]) >= SMALLEST
    if not signal and not features:
        raise DataError(
            f"samples have dtype {x.dtype} and shape {x.shape[1:]}; audio-classification takes signals (samples,) of "
            f"at least {LEAST_SAMPLES}, or features (frames, coefficients) of at least {SMALLEST} each"
        )
    if signal and train.rate <= 0:
        raise DataError("the sample rate of the sounds is not known; set data.sample_rate (Hz)")
    return SampleSpec(dtype=str(x.dtype), shape=tuple(x.shape[1:]), kind="window")


def frames_of(samples: int, rate: float) -> Frames:
    """Frames of 32 ms, one every 16 ms; of short sounds shorter ones, of long sounds with longer steps.

    >>> frames_of(16_000, 16_000.0)
    Frames(size=512, step=256)
    """
    size = min(round(FRAME_SECONDS * rate), samples // 4)
    step = max(1, min(round(STEP_SECONDS * rate), (samples - size) // FEWEST_FRAMES))
    step = max(step, -(-(samples - size) // (MOST_FRAMES - 1)))
    return Frames(max(size, 16, step), step)


def views_of(task: TaskConfig, train: Dataset) -> tuple[View, ...]:
    """What is tried. Without ``features.engineer`` it is log-mel, or the features as they are."""
    if train.x.ndim == 3:
        found = [
            View("as given", _given, _network, "the features, standardized"),
            View("as given, level removed", lambda x: _given(x, Detrend("constant")), _network, _LEVEL),
        ]
    else:
        rate, bands = train.rate, task.features.bands or BANDS
        mel = log_mel(train.x.shape[1], rate, bands)
        unit = INTEGER_RANGE.get(str(train.x.dtype), 1.0)
        found = [
            View("log-mel", lambda x: _heard(x, unit, mel), _network, f"{mel.bands} bands"),
            View("log-mel, level removed", lambda x: _heard(x, unit, mel, Detrend("constant")), _network, _LEVEL),
            View(
                "cepstra",
                lambda x: _heard(x, unit, mel, Mfcc(min(COEFFICIENTS, mel.bands))),
                _network,
                f"{min(COEFFICIENTS, mel.bands)} coefficients of the log-mel bands",
            ),
        ]
    return tuple(found if task.features.engineer else found[:1])


_LEVEL = "without the clip's own level and colouring"


def log_mel(samples: int, rate: float, bands: int) -> LogMel:
    """The spectrum for sounds of a length: as many of ``bands`` as each have a frequency of their own."""
    cut = frames_of(samples, rate)
    low, high = (LOWEST_HZ, rate / 2) if rate > 8 * LOWEST_HZ else (0.0, rate / 2)
    while bands > SMALLEST and not _every_band_hears(cut, rate, bands, low):
        bands -= 1
    return LogMel(
        sample_rate=round(rate), size=cut.size, step=cut.step, bands=bands, fft=cut.fft, low_hz=low, high_hz=high,
        scale="htk", normalize=False, floor=1e-8,
    )  # fmt: skip


def _every_band_hears(cut: Frames, rate: float, bands: int, low: float) -> bool:
    from shared.pipeline.spectra import mel_filters

    filters = mel_filters(round(rate), cut.fft, bands, low, rate / 2, "htk", False)
    return bool((filters.sum(axis=0) > 0).all())


def _network(steps: Steps, shape: tuple[int, ...], outputs: int) -> Architecture:
    del steps
    return ResNet(input=shape, outputs=outputs, width=8)


def _given(x: Array, *more: Preprocess) -> Steps:
    return _standardized(x, *more)


def _heard(x: Array, unit: float, mel: LogMel, *more: Preprocess) -> Steps:
    return _standardized(x, *((Scale(unit),) if unit != 1 else ()), mel, *more)


def _standardized(x: Array, *operations: Preprocess) -> Steps:
    out = x
    for operation in operations:
        out = operation(out)
    return Steps((*operations, Standardize.fit(np.asarray(out), per_column=True), Clip(-LIMIT, LIMIT)))
