"""Step one: from what the sensor gives to what the model was trained on. Arrays have the batch first."""

from __future__ import annotations

from shared.pipeline.colour import ChannelOrder, Grayscale
from shared.pipeline.columns import Choose, Combine, Pair, Parse
from shared.pipeline.images import Crop, Pad, Resize
from shared.pipeline.moments import Calendar
from shared.pipeline.piecewise import Piecewise
from shared.pipeline.recent import Pick, Recent
from shared.pipeline.scaling import Clip, Scale, Standardize
from shared.pipeline.series import Difference, Lags, Rolling
from shared.pipeline.signals import Detrend, Resample, Window
from shared.pipeline.spectra import LogMel, Mfcc
from shared.pipeline.tables import Impute
from shared.pipeline.text import CleanText

__all__ = [
    "Calendar", "ChannelOrder", "Choose", "CleanText", "Clip", "Combine", "Crop", "Detrend", "Difference", "Grayscale",
    "Impute", "Lags", "LogMel", "Mfcc", "Pad", "Pair", "Parse", "Pick", "Piecewise", "Recent", "Resample", "Resize",
    "Rolling", "Scale", "Standardize", "Window",
]  # fmt: skip
