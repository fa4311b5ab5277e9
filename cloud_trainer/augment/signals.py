"""Windows of sensors, (b, time, channels) float32, standardized: Jitter, Scaling, Rotation, Warp, Gap.

Um et al. 2017, "Data augmentation of wearable sensor data" (arXiv 1706.00527), measured most of them.
"""

from __future__ import annotations

import torch
from msgspec import Struct
from torch import Generator, Tensor

from cloud_trainer.augment.base import normal, stretch_of, uniform


class Jitter(Struct, frozen=True):
    """A sensor's noise: normal, with a standard deviation drawn from 0 to ``sigma`` for each row."""

    sigma: float = 0.1

    def __call__(self, x: Tensor, generator: Generator) -> Tensor:
        """(b, ...) -> (b, ...)."""
        size = uniform((len(x), *[1] * (x.ndim - 1)), generator, x, 0.0, self.sigma)
        return x + size * normal(tuple(x.shape), generator, x)


class Scaling(Struct, frozen=True):
    """Another gain: each channel times ``exp(sigma * N(0, 1))``; ``together``: one factor for all channels."""

    sigma: float = 0.1
    together: bool = False

    def __call__(self, x: Tensor, generator: Generator) -> Tensor:
        """(b, time, c) -> (b, time, c)."""
        factors = normal((len(x), 1, 1 if self.together else x.shape[-1]), generator, x)
        return x * torch.exp(self.sigma * factors)


class Rotation(Struct, frozen=True):
    """A sensor that is worn differently: three ``axes`` are turned together by up to ``degrees`` about a random axis
    (Rodrigues' formula). The other channels stay."""

    axes: tuple[tuple[int, int, int], ...] = ((0, 1, 2),)
    degrees: float = 20.0

    def __call__(self, x: Tensor, generator: Generator) -> Tensor:
        """(b, time, c) -> (b, time, c)."""
        out = x.clone()
        for axes in self.axes:
            out[..., axes] = x[..., axes] @ self._turns(x, generator)
        return out

    def _turns(self, x: Tensor, generator: Generator) -> Tensor:
        """(b, 3, 3), each a rotation."""
        about = torch.nn.functional.normalize(normal((len(x), 3), generator, x), dim=1)
        angle = torch.deg2rad(uniform((len(x), 1, 1), generator, x, -self.degrees, self.degrees))
        zero = torch.zeros(len(x), device=x.device)
        a, b, c = about.unbind(1)
        cross = torch.stack([zero, -c, b, c, zero, -a, -b, a, zero], dim=1).reshape(-1, 3, 3)
        unit = torch.eye(3, device=x.device)
        return unit + torch.sin(angle) * cross + (1 - torch.cos(angle)) * (cross @ cross)


class Warp(Struct, frozen=True):
    """Faster or slower by up to ``speed``, earlier or later by up to ``shift`` of the window, between the samples by
    straight lines; beyond the ends the last value stays."""

    speed: float = 0.1
    shift: float = 0.1

    def __call__(self, x: Tensor, generator: Generator) -> Tensor:
        """(b, time, c) -> (b, time, c)."""
        time = x.shape[1]
        speed = uniform((len(x), 1), generator, x, 1 - self.speed, 1 + self.speed)
        shift = uniform((len(x), 1), generator, x, -self.shift * time, self.shift * time)
        middle = (time - 1) / 2
        place = middle + (torch.arange(time, device=x.device) - middle) * speed + shift
        place = place.clamp(0, time - 1)
        low = place.floor().long()
        high = (low + 1).clamp(max=time - 1)
        part = (place - low).unsqueeze(-1)

        def at(index: Tensor) -> Tensor:
            return torch.gather(x, 1, index.unsqueeze(-1).expand(-1, -1, x.shape[2]))

        return at(low) * (1 - part) + at(high) * part


class Gap(Struct, frozen=True):
    """Samples that were lost: a stretch of up to ``share`` of the window is ``value`` (0: the mean)."""

    share: float = 0.15
    value: float = 0.0

    def __call__(self, x: Tensor, generator: Generator) -> Tensor:
        """(b, time, c) -> (b, time, c)."""
        return x.masked_fill(stretch_of(x.shape[1], self.share, len(x), generator, x).unsqueeze(-1), self.value)
