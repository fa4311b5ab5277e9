"""Depthwise-separable convolutions (Howard et al. 2017, arXiv 1704.04861), in the small form that keyword spotting
made known (Zhang et al. 2017, "Hello Edge", arXiv 1711.07128): for images and spectra.

A convolution over all channels first, then stages of ``depth`` pairs of depthwise 3 x 3 and pointwise 1 x 1, each
later stage at half the resolution and twice the channels.
"""

from __future__ import annotations

from torch import Tensor, nn

from cloud_trainer.models.layers import Head, convolution
from cloud_trainer.models.pictures import PictureArchitecture


class DsCnn(PictureArchitecture, frozen=True, kw_only=True, tag="ds-cnn"):
    """``width``: channels of the first stage. ``kernel``: of the first convolution."""

    width: int = 32
    depth: int = 2
    kernel: int = 3

    def network(self) -> SeparableNetwork:
        """A :class:`SeparableNetwork`."""
        return SeparableNetwork(self)


def separable(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    """Depthwise, then pointwise, each with batch normalisation and ReLU."""
    return nn.Sequential(
        *convolution(inputs, inputs, stride, groups=inputs),
        nn.ReLU(),
        *convolution(inputs, outputs, kernel=1),
        nn.ReLU(),
    )


class SeparableNetwork(nn.Module):
    """``forward(x)`` -> (answer (n, outputs), embedding (n, embedding))."""

    def __init__(self, architecture: DsCnn) -> None:
        super().__init__()
        self.architecture = architecture
        width = architecture.width
        layers: list[nn.Module] = [
            *convolution(architecture.channels, width, architecture.stride, kernel=architecture.kernel),
            nn.ReLU(),
        ]
        for stage in range(architecture.stages):
            for block in range(architecture.depth):
                down = stage > 0 and block == 0
                layers += separable(width, 2 * width if down else width, 2 if down else 1)
                width = 2 * width if down else width
        self.trunk = nn.Sequential(*layers)
        self.head = Head(architecture.features(width), architecture.embedding, architecture.outputs)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(n, *input) float32 -> answer and embedding."""
        answer, embedding = self.head(self.architecture.pooled(self.trunk(self.architecture.planes(x))))
        return answer, embedding
