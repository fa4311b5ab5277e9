"""Step one: from what the sensor gives to what the model was trained on. Arrays have the batch first."""

from __future__ import annotations

from shared.pipeline.bands import BandPower, Envelope
from shared.pipeline.branches import Concatenate
from shared.pipeline.channels import Magnitude, Rates
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
from shared.pipeline.summary import Correlations, Summary
from shared.pipeline.tables import Impute
from shared.pipeline.text import CleanText

__all__ = [
    "BandPower", "Calendar", "ChannelOrder", "Choose", "CleanText", "Clip", "Combine", "Concatenate", "Correlations",
    "Crop", "Detrend", "Difference", "Envelope", "Grayscale", "Impute", "Lags", "LogMel", "Magnitude", "Mfcc", "Pad",
    "Pair", "Parse", "Pick", "Piecewise", "Rates", "Recent", "Resample", "Resize", "Rolling", "Scale", "Standardize",
    "Summary", "Window",
]  # fmt: skip
