"""Several views of one sample, side by side: Concatenate."""

from __future__ import annotations

import math
from typing import Annotated

import numpy as np
from msgspec import Meta

from shared.pipeline.bands import BandPower, Envelope
from shared.pipeline.base import Array, ArrayOperation, Floats, check_numbers
from shared.pipeline.channels import Magnitude, Rates
from shared.pipeline.colour import ChannelOrder
from shared.pipeline.layout import Reshape
from shared.pipeline.scaling import Clip, Scale, Standardize
from shared.pipeline.series import Difference, Lags, Rolling
from shared.pipeline.signals import Detrend, Resample, Window
from shared.pipeline.spectra import LogMel, Mfcc
from shared.pipeline.summary import Correlations, Summary
from shared.pipeline.text import CleanText, HashedNgrams

Part = (
    Clip | Scale | Standardize | ChannelOrder | Reshape
    | Resample | Window | Detrend | LogMel | Mfcc | BandPower | Envelope
    | Lags | Difference | Rolling | Rates | Magnitude | Summary | Correlations
    | CleanText | HashedNgrams
)  # fmt: skip
Branch = Annotated[tuple[Part, ...], Meta(max_length=16)]


class Concatenate(ArrayOperation, frozen=True, tag="concatenate"):
    """Each of ``branches``, a list of operations, works on the sample; what they give stands side by side in the
    answer. A branch without operations gives the sample itself. ``flat``: every branch's numbers are written in one
    row; else all answers have the same shape but for the last axis, along which they are joined.

    >>> Concatenate(branches=((), (Difference(),)))(np.array([[1, 4, 9]]))
    array([[1., 4., 9., 3., 5.]], dtype=float32)
    """

    branches: Annotated[tuple[Branch, ...], Meta(min_length=1, max_length=64)]
    flat: bool = True

    def __call__(self, batch: Array) -> Floats:
        """(n, ...) -> (n, numbers) float32, or (n, ..., sum of the last axes)."""
        parts = [self._part(branch, batch) for branch in self.branches]
        shapes = [part.shape[1:-1] for part in parts]
        if not self.flat and any(shape != shapes[0] for shape in shapes):
            raise ValueError(f"concatenate: branches give {', '.join(str(part.shape) for part in parts)}")
        return np.concatenate(parts, axis=-1, dtype=np.float32, casting="unsafe")

    def _part(self, branch: tuple[Part, ...], batch: Array) -> Array:
        out = batch
        try:
            for operation in branch:
                out = operation(out)
        except ValueError as error:
            raise ValueError(f"concatenate: {error}") from error
        check_numbers(self, out)
        if self.flat or out.ndim == 1:
            out = out.reshape(len(out), math.prod(out.shape[1:]))
        return out
