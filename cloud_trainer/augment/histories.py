"""Histories of items: LoseItems."""

from __future__ import annotations

import torch
from msgspec import Struct
from torch import Generator, Tensor

from cloud_trainer.augment.base import uniform


class LoseItems(Struct, frozen=True):
    """Items that nobody saw: ``share`` of the ids fall away, those before them move up, 0 fills the front. A history of
    one item keeps it."""

    share: float = 0.3

    def __call__(self, x: Tensor, generator: Generator) -> Tensor:
        """(b, history) int64, 0 in front where there is nothing -> the same."""
        there = x != 0
        lost = (uniform(tuple(x.shape), generator, x) < self.share) & there
        lost &= (there.sum(1, keepdim=True) > lost.sum(1, keepdim=True)).expand_as(x)
        kept = there & ~lost
        order = torch.sort(kept.to(torch.uint8), dim=1, stable=True).indices
        return torch.gather(x.masked_fill(~kept, 0), 1, order)
