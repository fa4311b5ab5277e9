"""A network as data: what every family of the zoo keeps to.

1. ``build(architecture, seed)`` gives the same first weights for the same arguments.
2. ``forward(x)`` of a batch (n, *input) -> (answer (n, outputs), embedding (n, e)), float32 both: row by row, whatever
   n is, so that export with a dynamic batch and with a batch of one give the same model.
3. It is made of layers that torch.export, ONNX and TFLite know; batch normalisation stands right behind a convolution
   in an ``nn.Sequential``, where export folds it.
4. ``width`` and ``depth`` are what a size is found by: more of either never costs less.
"""

from __future__ import annotations

from typing import ClassVar, Self

import msgspec
import torch
from msgspec import Struct
from torch import Tensor, nn

from shared.errors import TrainingError


class Architecture(Struct, frozen=True, tag_field="family", forbid_unknown_fields=True, kw_only=True):
    """Everything that a network is built from. ``input``: an encoded sample's shape, without the batch; ``outputs``:
    numbers of the answer (classes, steps of a forecast, ...); ``width``: channels or units of its narrowest hidden
    layer; ``depth``: blocks, or blocks a stage; ``embedding``: numbers of the second output."""

    input: tuple[int, ...]
    outputs: int
    width: int
    depth: int = 1
    embedding: int = 32
    tokens: ClassVar[bool] = False  # samples are int64 ids instead of float32 numbers
    max_width: ClassVar[int] = 1024
    max_depth: ClassVar[int] = 8

    @property
    def family(self) -> str:
        """As in ``task.toml``, e.g. ``ds-cnn``."""
        return str(self.__struct_config__.tag)

    @property
    def label(self) -> str:
        """Short name for tables and file names, e.g. ``resnet-w12`` or ``tcn-w8-d3``; lower case, digits, dashes."""
        default = next((f.default for f in msgspec.structs.fields(self) if f.name == "depth"), 1)
        return f"{self.family}-w{self.width}" + (f"-d{self.depth}" if self.depth != default else "")

    def network(self) -> nn.Module:
        """A new network; its weights come from torch's global generator."""
        raise NotImplementedError

    def with_width(self, width: int) -> Self:
        """The same, of another width."""
        return msgspec.structs.replace(self, width=width)

    def with_depth(self, depth: int) -> Self:
        """The same, of another depth."""
        return msgspec.structs.replace(self, depth=depth)

    def sample(self, n: int = 1) -> Tensor:
        """A batch (n, *input) of zeros in the right dtype."""
        return torch.zeros(n, *self.input, dtype=torch.int64 if self.tokens else torch.float32)

    def expect(self, axes: str, *ranks: int) -> None:
        """Refuse an input that has not as many axes as the family reads.

        Raises:
            TrainingError: with the shape that it has and the ``axes`` that it should have.
        """
        if len(self.input) not in ranks:
            raise TrainingError(f"{self.family} reads samples {axes}; these are {self.input}")


def build(architecture: Architecture, seed: int) -> nn.Module:
    """A network whose first weights depend on ``seed`` alone; torch's global generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return architecture.network()
