"""A multilayer perceptron for tables and hashed text; anything else is flattened.

Numbers of a table may first be spread out, each by itself, which brings networks near to trees (Gorishniy et al. 2022,
arXiv 2203.05556): ``piecewise``, a ramp for each of ``spread`` intervals between quantiles of a normal distribution
(pipelines give standardised columns), or ``periodic``, sines and cosines of learned frequencies.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from msgspec import Struct
from torch import Tensor, nn

from cloud_trainer.models.base import Architecture
from cloud_trainer.models.layers import Head


class Skip(Struct, frozen=True):
    """What a network's answer begins with, before anything is learned: ``scale`` times input ``column``, and
    ``offset``, the same for every output."""

    column: int
    scale: float
    offset: float


class Mlp(Architecture, frozen=True, kw_only=True, tag="mlp"):
    """``depth``: hidden layers before the embedding; from the second on they are added to what comes in. ``skip``: a
    linear layer from the input to the answer, past all others, and where it begins."""

    width: int = 64
    depth: int = 2
    numbers: Literal["plain", "piecewise", "periodic"] = "plain"
    spread: int = 8
    dropout: float = 0.0
    skip: Skip | None = None

    def network(self) -> Perceptron:
        """A :class:`Perceptron`."""
        return Perceptron(self)


class Ramps(nn.Module):
    """(n, c) -> (n, c * spread): how far each number is through each interval, 0 to 1."""

    def __init__(self, spread: int) -> None:
        super().__init__()
        middle = torch.special.ndtri(torch.arange(1, spread, dtype=torch.float64) / spread)
        edges = torch.cat([torch.tensor([-3.0]), middle, torch.tensor([3.0])]).float()
        self.scale: Tensor
        self.offset: Tensor
        self.register_buffer("scale", 1 / (edges[1:] - edges[:-1]))
        self.register_buffer("offset", -edges[:-1] * self.scale)

    def forward(self, x: Tensor) -> Tensor:
        """Row by row."""
        return torch.clamp(x.unsqueeze(-1) * self.scale + self.offset, 0.0, 1.0).flatten(1)


class Waves(nn.Module):
    """(n, c) -> (n, c * spread): sines and cosines of each number."""

    def __init__(self, inputs: int, spread: int) -> None:
        super().__init__()
        self.frequency = nn.Parameter(torch.randn(inputs, spread // 2) * 0.3)

    def forward(self, x: Tensor) -> Tensor:
        """Row by row."""
        angle = 2 * math.pi * x.unsqueeze(-1) * self.frequency
        return torch.cat([torch.sin(angle), torch.cos(angle)], -1).flatten(1)


class Layer(nn.Module):
    """``x + f(x)``, f a dense layer, ReLU and dropout."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.dense = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Dropout(dropout))

    def forward(self, x: Tensor) -> Tensor:
        """(n, width) -> the same."""
        y: Tensor = self.dense(x)
        return x + y


class Perceptron(nn.Module):
    """``forward(x)`` -> (answer (n, outputs), embedding (n, embedding))."""

    def __init__(self, architecture: Mlp) -> None:
        super().__init__()
        self.architecture = architecture
        inputs, width = math.prod(architecture.input), architecture.width
        spread: nn.Module = nn.Identity()
        if architecture.numbers == "piecewise":
            spread, inputs = Ramps(architecture.spread), inputs * architecture.spread
        elif architecture.numbers == "periodic":
            spread, inputs = Waves(inputs, architecture.spread), inputs * 2 * (architecture.spread // 2)
        self.trunk = nn.Sequential(
            spread,
            nn.Linear(inputs, width),
            nn.ReLU(),
            nn.Dropout(architecture.dropout),
            *(Layer(width, architecture.dropout) for _ in range(architecture.depth - 1)),
        )
        self.head = Head(width, architecture.embedding, architecture.outputs)
        self.past: nn.Linear | None = None
        if architecture.skip is not None:
            self.past = nn.Linear(math.prod(architecture.input), architecture.outputs)
            with torch.no_grad():
                self.past.weight.zero_()
                self.past.weight[:, architecture.skip.column] = architecture.skip.scale
                self.past.bias.fill_(architecture.skip.offset)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(n, *input) float32 -> answer and embedding."""
        flat = x.flatten(1)
        answer, embedding = self.head(self.trunk(flat))
        return (answer if self.past is None else answer + self.past(flat)), embedding
