"""Layers that several families are made of."""

from __future__ import annotations

from torch import Tensor, nn


def convolution(inputs: int, outputs: int, stride: int = 1, *, kernel: int = 3, groups: int = 1) -> nn.Sequential:
    """Square convolution that keeps the size (or halves it), and batch normalisation, which export folds into one."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False), nn.BatchNorm2d(outputs)
    )


def temporal(inputs: int, outputs: int, kernel: int, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    """The same along the last axis of (n, channels, 1, time): two-dimensional, for that is what runtimes are fast at
    and what quantizers know."""
    padding = dilation * (kernel - 1) // 2
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, (1, kernel), (1, stride), (0, padding), (1, dilation), bias=False),
        nn.BatchNorm2d(outputs),
    )


class Head(nn.Module):
    """Features (n, f) -> answer (n, outputs) and embedding (n, e), by way of the embedding."""

    def __init__(self, features: int, embedding: int, outputs: int) -> None:
        super().__init__()
        self.embed = nn.Sequential(nn.Linear(features, embedding), nn.ReLU())
        self.answer = nn.Linear(embedding, outputs)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Both."""
        embedding = self.embed(x)
        return self.answer(embedding), embedding
