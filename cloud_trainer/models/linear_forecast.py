"""One linear layer from the past to the future (Zeng et al. 2023, "Are Transformers Effective for Time Series
Forecasting?", arXiv 2205.13504), which is hard to beat on series with a season.

``nlinear`` takes the last value of the target off the past and adds it to the forecast. ``dlinear`` has one layer for
the moving average and one for what is left.
"""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from cloud_trainer.models.base import Architecture


class LinearForecast(Architecture, frozen=True, kw_only=True, tag="linear-forecast"):
    """Samples are (history, channels), channel 0 the target's past; other channels are seen as they are. It has no
    width; ``average``: time steps of the moving average."""

    width: int = 1
    method: Literal["nlinear", "dlinear"] = "nlinear"
    average: int = 25
    max_width: ClassVar[int] = 1
    max_depth: ClassVar[int] = 1

    @property
    def label(self) -> str:
        """The method's name."""
        return self.method

    def network(self) -> Forecaster:
        """A :class:`Forecaster`."""
        self.expect("(history, channels)", 2)
        return Forecaster(self)


def moving_average(history: int, size: int) -> Tensor:
    """The matrix M (history, history) for which ``x @ M`` is the centred moving average of each row of x; at both ends
    the first and last value are repeated, as the paper does."""
    steps = torch.arange(history).unsqueeze(1) + torch.arange(size) - size // 2
    matrix = torch.zeros(history, history)
    columns = torch.arange(history).unsqueeze(1).expand_as(steps)
    return matrix.index_put((steps.clamp(0, history - 1), columns), torch.tensor(1 / size), accumulate=True)


class Forecaster(nn.Module):
    """``forward(x)`` -> (answer (n, outputs), embedding (n, outputs): the forecast before the level is added)."""

    def __init__(self, architecture: LinearForecast) -> None:
        super().__init__()
        self.architecture = architecture
        history = architecture.input[0]
        self.linear = nn.Linear(math.prod(architecture.input), architecture.outputs)
        with torch.no_grad():  # from the mean of the past, as the authors begin
            self.linear.weight.fill_(1 / history)
            self.linear.weight.view(architecture.outputs, *architecture.input)[:, :, 1:] = 0
        if architecture.method == "dlinear":
            self.trend = nn.Linear(history, architecture.outputs)
            self.average: Tensor
            self.register_buffer("average", moving_average(history, architecture.average), persistent=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(n, history, channels) float32 -> answer and embedding."""
        target, others = x[:, :, 0], x[:, :, 1:]
        level = target[:, -1:] if self.architecture.method == "nlinear" else target @ self.average
        # the weight's columns lie (history, channels)
        centred = torch.cat([(target - level).unsqueeze(2), others], 2) if others.shape[2] else target - level
        rest = self.linear(centred.flatten(1))
        return (level if self.architecture.method == "nlinear" else self.trend(level)) + rest, rest
