"""A network as data: what every family of the zoo keeps to.

1. ``build(architecture, seed)`` gives the same first weights for the same arguments.
2. ``forward(x)`` of a batch (n, *input) -> (answer (n, outputs), embedding (n, e)), float32 both: row by row, whatever
   n is, so that export with a dynamic batch and with a batch of one give the same model.
3. It is made of layers that torch.export, ONNX and TFLite know; batch normalisation stands right behind a convolution
   in an ``nn.Sequential``, where export folds it.
"""

from __future__ import annotations

from typing import ClassVar, Self

import torch
from msgspec import Struct
from torch import Tensor, nn


class Architecture(Struct, frozen=True, tag_field="family", forbid_unknown_fields=True, kw_only=True):
    """Everything that a network is built from. ``input``: an encoded sample's shape, without the batch; ``outputs``:
    numbers of the answer (classes, steps of a forecast, ...)."""

    input: tuple[int, ...]
    outputs: int
    tokens: ClassVar[bool] = False  # samples are int64 ids instead of float32 numbers

    @property
    def label(self) -> str:
        """Short name for tables and file names, e.g. ``resnet-w12``; lower case, digits and dashes."""
        raise NotImplementedError

    def network(self) -> nn.Module:
        """A new network; its weights come from torch's global generator."""
        raise NotImplementedError

    def with_width(self, width: int) -> Self:
        """The same, of another width: the one number that a size is found by."""
        raise NotImplementedError

    def sample(self, n: int = 1) -> Tensor:
        """A batch (n, *input) of zeros in the right dtype."""
        return torch.zeros(n, *self.input, dtype=torch.int64 if self.tokens else torch.float32)


def build(architecture: Architecture, seed: int) -> nn.Module:
    """A network whose first weights depend on ``seed`` alone; torch's global generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return architecture.network()
