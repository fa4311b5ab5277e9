"""What the loop is given: how to train, and the samples as the network reads them."""

from __future__ import annotations

from typing import Any, Literal

import torch
from msgspec import Struct
from numpy.typing import NDArray
from torch import Tensor

Precision = Literal["auto", "fp32", "bf16", "fp16"]
Compile = Literal["auto", "always", "never"]
Device = Literal["auto", "cpu", "cuda"]


class Plan(Struct, frozen=True):
    """What the loop needs to know. ``learning_rate`` is the peak of one cycle over all epochs (Smith 2018, arXiv
    1803.09820): up for the first 30 % of the updates, then down to next to nothing.

    ``patience``: epochs without a better validation score that end the training; the best epoch's weights are kept.
    0: all epochs are trained, and the last weights kept. ``clip_norm``: the gradient's length is cut to it; 0: never.
    ``precision`` auto: bf16 (else fp16) on a GPU, fp32 on a CPU. ``compile`` auto: on a GPU, where there are updates
    enough to earn the time back. ``checkpoint_seconds``: between checkpoints; 0: after every epoch.
    """

    epochs: int
    batch: int
    learning_rate: float
    weight_decay: float
    seed: int
    patience: int = 0
    clip_norm: float = 0.0
    precision: Precision = "auto"
    compile: Compile = "auto"
    compile_backend: str = "inductor"
    device: Device = "auto"
    checkpoint_seconds: float = 30.0


class Encoded(Struct, frozen=True, eq=False):
    """A split as the network reads it: ``x`` (n, *input) float32, or int64 token ids; ``y`` (n,) int64 classes, or
    float32 targets (n,) or (n, outputs)."""

    x: Tensor
    y: Tensor

    def __len__(self) -> int:
        return len(self.y)

    @classmethod
    def of(cls, x: NDArray[Any], y: NDArray[Any]) -> Encoded:
        """Tensors over the arrays."""
        return cls(torch.from_numpy(x), torch.from_numpy(y))
