"""Log spectra and cepstra, (b, frames, bands) float32, standardized: Masks, Shift, Loudness, BandShift.

Noise is :class:`cloud_trainer.augment.signals.Jitter`.
"""

from __future__ import annotations

import torch
from msgspec import Struct
from torch import Generator, Tensor

from cloud_trainer.augment.base import normal, stretch_of, uniform


class Masks(Struct, frozen=True):
    """SpecAugment (Park et al. 2019, arXiv 1904.08779): ``count`` times, up to ``frames`` of the time and up to
    ``bands`` of the bands, each a share, are 0 (the mean)."""

    frames: float = 0.2
    bands: float = 0.2
    count: int = 1

    def __call__(self, x: Tensor, generator: Generator) -> Tensor:
        """(b, frames, bands) -> (b, frames, bands)."""
        for _ in range(self.count):
            time = stretch_of(x.shape[1], self.frames, len(x), generator, x).unsqueeze(2)
            band = stretch_of(x.shape[2], self.bands, len(x), generator, x).unsqueeze(1)
            x = x.masked_fill(time | band, 0.0)
        return x


class Shift(Struct, frozen=True):
    """The word begins earlier or later, by up to ``share`` of the frames; the frame at the end repeats itself."""

    share: float = 0.1

    def __call__(self, x: Tensor, generator: Generator) -> Tensor:
        """(b, frames, bands) -> (b, frames, bands)."""
        return _moved(x, 1, self.share, generator)


class BandShift(Struct, frozen=True):
    """A higher or lower voice: all is moved by up to ``share`` of the bands; the band at the end repeats itself. Not for
    cepstra, whose coefficients are no frequencies."""

    share: float = 0.05

    def __call__(self, x: Tensor, generator: Generator) -> Tensor:
        """(b, frames, bands) -> (b, frames, bands)."""
        return _moved(x, 2, self.share, generator)


class Loudness(Struct, frozen=True):
    """Another distance, room or microphone: a level and a tilt over the bands, each normal with ``sigma``, are added."""

    sigma: float = 0.2

    def __call__(self, x: Tensor, generator: Generator) -> Tensor:
        """(b, frames, bands) -> (b, frames, bands)."""
        slope = torch.linspace(-1, 1, x.shape[2], device=x.device)
        level, tilt = normal((2, len(x), 1, 1), generator, x).unbind(0)
        return x + self.sigma * (level + tilt * slope)


def _moved(x: Tensor, axis: int, share: float, generator: Generator) -> Tensor:
    length = x.shape[axis]
    offset = uniform((len(x), 1), generator, x, -share * length, share * length).round().long()
    place = (torch.arange(length, device=x.device) + offset).clamp(0, length - 1)
    place = place.unsqueeze(2 if axis == 1 else 1).expand_as(x)
    return torch.gather(x, axis, place)
