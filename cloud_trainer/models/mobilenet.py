"""Inverted residuals with linear bottlenecks (Sandler et al. 2018, arXiv 1801.04381).

ReLU6 is the default: it is clipped into the scale of the convolution before it, so that int8 has no extra step.
Hard-swish (Howard et al. 2019, arXiv 1905.02244) is a little better in float and slower in int8. There is no
squeeze-and-excitation: its product of a map and one number a channel is what int8 keeps least of.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from cloud_trainer.models.layers import Head, convolution
from cloud_trainer.models.pictures import PictureArchitecture


class MobileNet(PictureArchitecture, frozen=True, kw_only=True, tag="mobilenet"):
    """``width``: channels of the first stage's bottleneck; ``expand``: how many times as many there are inside."""

    width: int = 16
    depth: int = 2
    expand: int = 4
    activation: Literal["relu6", "hard-swish"] = "relu6"

    def network(self) -> InvertedNetwork:
        """An :class:`InvertedNetwork`."""
        return InvertedNetwork(self)


class Inverted(nn.Module):
    """Widen, filter each channel, narrow; around it the sum where the shapes allow."""

    def __init__(self, inputs: int, outputs: int, stride: int, expand: int, activation: type[nn.Module]) -> None:
        super().__init__()
        inside = inputs * expand
        self.keeps = stride == 1 and inputs == outputs
        self.layers = nn.Sequential(
            *convolution(inputs, inside, kernel=1),
            activation(),
            *convolution(inside, inside, stride, groups=inside),
            activation(),
            *convolution(inside, outputs, kernel=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(n, inputs, h, w) -> (n, outputs, h / stride, w / stride)."""
        y: Tensor = self.layers(x)
        return x + y if self.keeps else y


class InvertedNetwork(nn.Module):
    """``forward(x)`` -> (answer (n, outputs), embedding (n, embedding))."""

    def __init__(self, architecture: MobileNet) -> None:
        super().__init__()
        self.architecture = architecture
        activation = {"relu6": nn.ReLU6, "hard-swish": nn.Hardswish}[architecture.activation]
        width, expand = architecture.width, architecture.expand
        layers: list[nn.Module] = [*convolution(architecture.channels, width, architecture.stride), activation()]
        for stage in range(architecture.stages):
            for block in range(architecture.depth):
                down = stage > 0 and block == 0
                outputs = 2 * width if down else width
                layers.append(Inverted(width, outputs, 2 if down else 1, expand, activation))
                width = outputs
        layers += [*convolution(width, 2 * width, kernel=1), activation()]
        self.trunk = nn.Sequential(*layers)
        self.head = Head(architecture.features(2 * width), architecture.embedding, architecture.outputs)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(n, *input) float32 -> answer and embedding."""
        answer, embedding = self.head(self.architecture.pooled(self.trunk(self.architecture.planes(x))))
        return answer, embedding
