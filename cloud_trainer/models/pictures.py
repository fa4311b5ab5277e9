"""What networks for pictures share: images (1, H, W), (C, H, W) or (H, W, C), and spectra (frames, bands)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from cloud_trainer.models.base import Architecture

SMALLEST_MAP = 4


class PictureArchitecture(Architecture, frozen=True, kw_only=True):
    """``stride``: of the first convolution; 1 sees more and costs four times as much. ``channels_last``: images are
    (H, W, C). ``pool``: what is told of a channel's map, its mean, or ``both`` its mean and its largest value, which
    small things in a large picture are seen by."""

    channels_last: bool = False
    stride: int = 2
    pool: Literal["mean", "both"] = "mean"

    @property
    def channels(self) -> int:
        """Of the input."""
        if len(self.input) == 2:
            return 1
        return self.input[2] if self.channels_last else self.input[0]

    @property
    def sides(self) -> tuple[int, int]:
        """Height and width; frames and bands of a spectrum."""
        self.expect("(C, H, W), (H, W, C) or (frames, bands)", 2, 3)
        if len(self.input) == 2:
            return self.input[0], self.input[1]
        height, width = self.input[:2] if self.channels_last else self.input[1:]
        return height, width

    @property
    def stages(self) -> int:
        """Each but the first halves the map, until its shorter side is at most ``SMALLEST_MAP``."""
        side = -(-min(self.sides) // self.stride)
        stages = 1
        while side > SMALLEST_MAP:
            stages, side = stages + 1, (side + 1) // 2
        return stages

    def pooled(self, maps: Tensor) -> Tensor:
        """(n, channels, height, width) -> (n, channels), or (n, 2 * channels)."""
        mean = maps.mean((2, 3))
        return torch.cat([mean, maps.amax((2, 3))], 1) if self.pool == "both" else mean

    def features(self, channels: int) -> int:
        """How many numbers :meth:`pooled` gives."""
        return 2 * channels if self.pool == "both" else channels

    def planes(self, x: Tensor) -> Tensor:
        """(n, *input) -> (n, channels, height, width)."""
        if len(self.input) == 2:
            return x.unsqueeze(1)
        return x.permute(0, 3, 1, 2) if self.channels_last else x
