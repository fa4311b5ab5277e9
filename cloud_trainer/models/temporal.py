"""Convolutions along time, for windows of sensors (time, channels), and for forecasts.

``cnn1d``: strided stages, each at half the rate and twice the channels. ``tcn``: residual blocks whose dilation doubles
(Bai et al. 2018, arXiv 1803.01271), which see the whole window at its own rate. Both end in the mean over time.
With ``forecast`` a ``tcn`` looks back only, ends in the last time step, and its answer (``outputs`` steps) is added to
the last value of channel 0.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cloud_trainer.models.base import Architecture
from cloud_trainer.models.layers import Head, temporal

SHORTEST = 8  # time steps that cnn1d stops halving at


class Cnn1d(Architecture, frozen=True, kw_only=True, tag="cnn1d"):
    """``width``: channels of the first stage; ``depth``: convolutions a stage; ``kernel``: time steps."""

    width: int = 16
    kernel: int = 5
    max_stages: int = 4

    @property
    def stages(self) -> int:
        """The first convolution halves the window, and so does each stage but the first."""
        self.expect("(time, channels)", 2)
        stages, steps = 1, (self.input[0] + 1) // 2
        while steps > SHORTEST and stages < self.max_stages:
            stages, steps = stages + 1, (steps + 1) // 2
        return stages

    def network(self) -> StridedNetwork:
        """A :class:`StridedNetwork`."""
        self.expect("(time, channels)", 2)
        return StridedNetwork(self)


class Tcn(Architecture, frozen=True, kw_only=True, tag="tcn"):
    """``width``: channels; ``depth``: blocks; the last one's dilation is ``2 ** (depth - 1)``."""

    width: int = 16
    depth: int = 4
    kernel: int = 3
    forecast: bool = False

    def network(self) -> DilatedNetwork:
        """A :class:`DilatedNetwork`."""
        self.expect("(time, channels)", 2)
        return DilatedNetwork(self)


def _line(x: Tensor) -> Tensor:
    """(n, time, channels) -> (n, channels, 1, time)."""
    return x.transpose(1, 2).unsqueeze(2)


class StridedNetwork(nn.Module):
    """``forward(x)`` -> (answer (n, outputs), embedding (n, embedding))."""

    def __init__(self, architecture: Cnn1d) -> None:
        super().__init__()
        self.architecture = architecture
        width, kernel = architecture.width, architecture.kernel
        layers: list[nn.Module] = [*temporal(architecture.input[1], width, kernel, 2), nn.ReLU()]
        for stage in range(architecture.stages):
            for block in range(architecture.depth):
                down = stage > 0 and block == 0
                outputs = 2 * width if down else width
                layers += [*temporal(width, outputs, kernel, 2 if down else 1), nn.ReLU()]
                width = outputs
        self.trunk = nn.Sequential(*layers)
        self.head = Head(width, architecture.embedding, architecture.outputs)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(n, time, channels) float32 -> answer and embedding."""
        answer, embedding = self.head(self.trunk(_line(x)).mean((2, 3)))
        return answer, embedding


class Dilated(nn.Module):
    """``relu(x + f(x))`` with two convolutions; ``causal`` ones see no time step after their own."""

    def __init__(self, width: int, kernel: int, dilation: int, *, causal: bool) -> None:
        super().__init__()
        self.cut = dilation * (kernel - 1) // 2 if causal else 0
        self.first = temporal(width, width, kernel, dilation=dilation)
        self.second = temporal(width, width, kernel, dilation=dilation)

    def _shifted(self, x: Tensor) -> Tensor:
        # half the kernel's reach later in time: what a centred convolution gives for t is then right for t + cut
        if not self.cut:
            return x
        zeros = torch.zeros_like(x[..., : self.cut])
        return torch.cat([zeros, x[..., : -self.cut]], -1)

    def forward(self, x: Tensor) -> Tensor:
        """(n, width, 1, time) -> the same."""
        y = torch.relu(self.first(self._shifted(x)))
        return torch.relu(x + self.second(self._shifted(y)))


class DilatedNetwork(nn.Module):
    """``forward(x)`` -> (answer (n, outputs), embedding (n, embedding))."""

    def __init__(self, architecture: Tcn) -> None:
        super().__init__()
        self.architecture = architecture
        width = architecture.width
        self.stem = nn.Sequential(*temporal(architecture.input[1], width, 1), nn.ReLU())
        self.blocks = nn.Sequential(
            *(
                Dilated(width, architecture.kernel, 2**i, causal=architecture.forecast)
                for i in range(architecture.depth)
            )
        )
        self.head = Head(width, architecture.embedding, architecture.outputs)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(n, time, channels) float32 -> answer and embedding."""
        y = self.blocks(self.stem(_line(x)))
        if self.architecture.forecast:
            answer, embedding = self.head(y[:, :, 0, -1])
            return x[:, -1, :1] + answer, embedding
        answer, embedding = self.head(y.mean((2, 3)))
        return answer, embedding
