"""A convolutional autoencoder for images (and spectra) in which something may be wrong: what it cannot redraw is new.

Stages of a strided convolution down to a map of about 4 x 4, a dense bottleneck (the embedding), and the way back by
doubling every value and convolutions, which leaves no checkerboard (Odena et al. 2016, doi 10.23915/distill.00003).
"""

from __future__ import annotations

import math

from torch import Tensor, nn

from cloud_trainer.models.layers import convolution
from cloud_trainer.models.pictures import PictureArchitecture
from shared.errors import TrainingError


class Autoencoder(PictureArchitecture, frozen=True, kw_only=True, tag="autoencoder"):
    """The answer is the picture again, flattened: ``outputs`` is the product of ``input``."""

    width: int = 16

    @property
    def maps(self) -> tuple[tuple[int, int], ...]:
        """Height and width of the picture and of every stage's map."""
        sizes = [self.sides]
        for stride in self.strides:
            height, width = sizes[-1]
            sizes.append((-(-height // stride), -(-width // stride)))
        return tuple(sizes)

    @property
    def strides(self) -> tuple[int, ...]:
        """Of every stage's convolution."""
        return (self.stride, *(2,) * (self.stages - 1))

    def network(self) -> Redrawer:
        """A :class:`Redrawer`.

        Raises:
            TrainingError: ``outputs`` is not the number of values of a sample.
        """
        if self.outputs != math.prod(self.input):
            raise TrainingError(
                f"autoencoder answers with its input: {math.prod(self.input)} values, not {self.outputs}"
            )
        return Redrawer(self)


class Enlarged(nn.Module):
    """Every value ``times`` x ``times``, cut to ``size``: resizing by a whole number is the same in every runtime."""

    def __init__(self, times: int, size: tuple[int, int]) -> None:
        super().__init__()
        self.times, self.size = times, size

    def forward(self, x: Tensor) -> Tensor:
        """(n, channels, h, w) -> (n, channels, *size)."""
        x = nn.functional.interpolate(x, scale_factor=float(self.times), mode="nearest")
        return x[:, :, : self.size[0], : self.size[1]]


class Redrawer(nn.Module):
    """``forward(x)`` -> (the picture again (n, prod(input)), embedding (n, embedding): the bottleneck)."""

    def __init__(self, architecture: Autoencoder) -> None:
        super().__init__()
        self.architecture = architecture
        maps, strides = architecture.maps, architecture.strides
        channels = [architecture.channels, *(architecture.width * 2**i for i in range(len(maps) - 1))]
        down: list[nn.Module] = []
        up: list[nn.Module] = []
        for i in range(1, len(maps)):
            down += [*convolution(channels[i - 1], channels[i], strides[i - 1]), nn.ReLU()]
            for _ in range(architecture.depth - 1):
                down += [*convolution(channels[i], channels[i]), nn.ReLU()]
            narrow = max(channels[i - 1], architecture.width)
            up = [Enlarged(strides[i - 1], maps[i - 1]), *convolution(channels[i], narrow), nn.ReLU(), *up]
        self.down, self.up = nn.Sequential(*down), nn.Sequential(*up)
        self.smallest = (channels[-1], *maps[-1])
        self.embed = nn.Linear(math.prod(self.smallest), architecture.embedding)
        self.unfold = nn.Sequential(nn.Linear(architecture.embedding, math.prod(self.smallest)), nn.ReLU())
        self.draw = nn.Conv2d(architecture.width, architecture.channels, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(n, *input) float32 -> answer and embedding."""
        embedding = self.embed(self.down(self.architecture.planes(x)).flatten(1))
        y = self.draw(self.up(self.unfold(embedding).unflatten(1, self.smallest)))
        return (y.permute(0, 2, 3, 1) if self.architecture.channels_last else y).flatten(1), embedding
