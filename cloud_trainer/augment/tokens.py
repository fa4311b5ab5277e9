"""Texts, as ids or as hashed counts: HideWords, LoseWords, LoseBuckets."""

from __future__ import annotations

import torch
from msgspec import Struct
from torch import Generator, Tensor

from cloud_trainer.augment.base import uniform


class HideWords(Struct, frozen=True):
    """Words that the vocabulary does not know: ``share`` of the ids become ``unknown``. What stands in ``keep``
    (padding, marks of begin and end) stays."""

    share: float = 0.1
    unknown: int = 1
    keep: tuple[int, ...] = (0,)

    def __call__(self, x: Tensor, generator: Generator) -> Tensor:
        """(b, length) int64 -> (b, length) int64."""
        chosen = uniform(tuple(x.shape), generator, x) < self.share
        return x.masked_fill(chosen & ~_any_of(x, self.keep), self.unknown)


class LoseWords(Struct, frozen=True):
    """Words that are left out: ``share`` of the ids fall away, the others move up, ``padding`` fills the end. What
    stands in ``keep`` is never left out; a row of one word keeps it."""

    share: float = 0.1
    padding: int = 0
    keep: tuple[int, ...] = ()

    def __call__(self, x: Tensor, generator: Generator) -> Tensor:
        """(b, length) int64 -> (b, length) int64."""
        words = x != self.padding
        lost = (uniform(tuple(x.shape), generator, x) < self.share) & words & ~_any_of(x, self.keep)
        lost &= (words.sum(1, keepdim=True) > lost.sum(1, keepdim=True)).expand_as(x)
        order = torch.sort((lost | ~words).to(torch.uint8), dim=1, stable=True).indices
        return torch.gather(x.masked_fill(lost, self.padding), 1, order)


class LoseBuckets(Struct, frozen=True):
    """The same for hashed n-grams: ``share`` of the buckets are 0; the others grow, so that the sum stays what it is on
    average (dropout of the input, Srivastava et al. 2014)."""

    share: float = 0.1

    def __call__(self, x: Tensor, generator: Generator) -> Tensor:
        """(b, buckets) float32 -> (b, buckets) float32."""
        left = uniform(tuple(x.shape), generator, x) >= self.share
        return x * left / (1 - self.share)


def _any_of(x: Tensor, ids: tuple[int, ...]) -> Tensor:
    return torch.isin(x, torch.tensor(ids, dtype=x.dtype, device=x.device)) if ids else torch.zeros_like(x).bool()
