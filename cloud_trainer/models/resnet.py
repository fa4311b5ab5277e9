"""A small residual network for small images: teacher and student are two widths of it.

Stem (3 x 3, stride 2), then stages of one residual block (He et al. 2016, arXiv 1512.03385), each later stage at half
the resolution and twice the channels until the map is about 4 x 4; then the mean over the map, the embedding, and the
classes. Measured on 16 x 16 digits: as accurate as blocks at full resolution, at a third of the time to train.
"""

from __future__ import annotations

import msgspec
import torch
from msgspec import Struct
from torch import Tensor, nn

SMALLEST_MAP = 4
MAX_WIDTH = 256


class Shape(Struct, frozen=True):
    """Everything that the network is built from. ``input`` is (C, H, W), or (H, W, C) with ``channels_last``."""

    input: tuple[int, int, int]
    classes: int
    width: int
    embedding: int
    channels_last: bool = False

    @property
    def channels(self) -> int:
        """Of the input."""
        return self.input[2] if self.channels_last else self.input[0]

    @property
    def stages(self) -> int:
        """Of residual blocks; the stem halves the picture, and so does each stage but the first."""
        side = min(self.input[:2]) if self.channels_last else min(self.input[1:])
        stages, side = 1, (side + 1) // 2
        while side > SMALLEST_MAP:
            stages, side = stages + 1, (side + 1) // 2
        return stages

    def with_width(self, width: int) -> Shape:
        """The same, of another width."""
        return msgspec.structs.replace(self, width=width)


def convolution(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    """3 x 3 convolution and batch normalisation, which export folds into one."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs))


class Block(nn.Module):
    """``relu(x + f(x))`` with two convolutions."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = convolution(width, width)
        self.second = convolution(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(n, width, h, w) -> the same."""
        return torch.relu(x + self.second(torch.relu(self.first(x))))


class SmallResNet(nn.Module):
    """``forward(x)`` -> (logits (n, classes), embedding (n, embedding))."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        layers: list[nn.Module] = [convolution(shape.channels, shape.width, 2), nn.ReLU(), Block(shape.width)]
        width = shape.width
        for _ in range(shape.stages - 1):
            layers += [convolution(width, 2 * width, 2), nn.ReLU(), Block(2 * width)]
            width *= 2
        self.trunk = nn.Sequential(*layers)
        self.embed = nn.Linear(width, shape.embedding)
        self.classify = nn.Linear(shape.embedding, shape.classes)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(n, *input) float32 -> logits and embedding."""
        if self.shape.channels_last:
            x = x.permute(0, 3, 1, 2)
        embedding = torch.relu(self.embed(self.trunk(x).mean((2, 3))))
        return self.classify(embedding), embedding


def build(shape: Shape, seed: int) -> SmallResNet:
    """A network whose first weights depend on ``seed`` alone; torch's global generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return SmallResNet(shape)
