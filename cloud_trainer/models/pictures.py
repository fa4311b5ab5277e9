"""What networks for pictures share: images (1, H, W), (C, H, W) or (H, W, C), and spectra (frames, bands)."""

from __future__ import annotations

from torch import Tensor

from cloud_trainer.models.base import Architecture

SMALLEST_MAP = 4


class PictureArchitecture(Architecture, frozen=True, kw_only=True):
    """``stride``: of the first convolution; 1 sees more and costs four times as much. ``channels_last``: images are
    (H, W, C)."""

    channels_last: bool = False
    stride: int = 2

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

    def planes(self, x: Tensor) -> Tensor:
        """(n, *input) -> (n, channels, height, width)."""
        if len(self.input) == 2:
            return x.unsqueeze(1)
        return x.permute(0, 3, 1, 2) if self.channels_last else x
