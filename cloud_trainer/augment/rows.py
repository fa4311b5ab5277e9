"""Rows of a table: values from other rows."""

from __future__ import annotations

import torch
from msgspec import Struct
from torch import Generator, Tensor


class SwapColumns(Struct, frozen=True):
    """With a chance of ``share`` each column of a row, all numbers that come from it together, is taken from another
    row of the batch: every column keeps its distribution, and what columns say together is broken up here and there
    (Bahri et al. 2022, "SCARF", arXiv 2106.15147, corrupts alike). A student hears from its teacher what such a row is.

    ``sources`` (inputs,): for each number of an encoded row the column that it comes from.
    """

    sources: tuple[int, ...]
    share: float = 0.1

    def __call__(self, x: Tensor, generator: Generator) -> Tensor:
        """(b, inputs) -> the same, altered."""
        columns = max(self.sources) + 1
        source = torch.tensor(self.sources, device=x.device)
        draw = torch.rand(len(x), columns, generator=generator, device=generator.device)
        other = torch.randint(len(x), (len(x), columns), generator=generator, device=generator.device)
        swapped = (draw < self.share).to(x.device)[:, source]
        return torch.where(swapped, torch.gather(x, 0, other.to(x.device)[:, source]), x)
