"""What a student hears from its teachers, batch by batch; made by :mod:`cloud_trainer.distillation`."""

from __future__ import annotations

from collections.abc import Callable

import torch
from msgspec import Struct
from torch import Generator, Tensor, nn

from cloud_trainer.fit.forward import BATCH
from cloud_trainer.fit.randomness import generator

COPIES, COPIES_SAMPLES, COPIES_BYTES = 4, 100_000, 1 << 30
"""Altered copies of the train split: at least, and as many as have so many samples. Few copies of little data would be
learned by heart: with 4 of 480 spectra a student was right on 90 % of them and on 56 % of others."""
Ask = Callable[[Tensor], tuple[Tensor, Tensor | None]]
"""(n, *input) -> answers (n, outputs), and embeddings (n, e) where the teachers have some."""
Augment = Callable[[Tensor, Generator], Tensor]
"""A batch of encoded samples (b, *input) -> the same, altered; never in place."""


class Teaching(Struct, frozen=True, eq=False):
    """What teachers said of the train split: ``answers`` (n, outputs) float32; ``embeddings`` (n, e) float32, centred
    and scaled, used where ``feature_weight`` is above 0. ``ask``: the same of other samples."""

    answers: Tensor
    embeddings: Tensor | None = None
    feature_weight: float = 0.0
    ask: Ask | None = None


class Projection(nn.Module):
    """The student's embedding (n, s) brought to the teacher's size (n, e), and how far it is from there."""

    def __init__(self, student: int, teacher: int, weight: float) -> None:
        super().__init__()
        self.linear = nn.Linear(student, teacher)
        self.weight = weight

    def forward(self, embedding: Tensor, taught: Tensor) -> Tensor:
        """Mean squared distance, weighted; 1 is that of a teacher's average embedding."""
        return self.weight * nn.functional.mse_loss(self.linear(embedding), taught)


class AlteredCopies:
    """Altered copies of the train split and what the teachers say of them; made when their turn comes."""

    def __init__(self, x: Tensor, teaching: Teaching, augment: Augment, copies: int, seed: int) -> None:
        self._x, self._teaching, self._augment = x, teaching, augment
        self._copies, self._seed = copies, seed
        self._made: dict[int, tuple[Tensor, Tensor, Tensor | None]] = {}

    def of(self, epoch: int) -> tuple[Tensor, Tensor, Tensor | None]:
        """Samples, answers and embeddings of an epoch's copy; the same for the same seed."""
        turn = epoch % self._copies
        if turn not in self._made:
            assert self._teaching.ask is not None
            parts = torch.split(self._x, BATCH)
            altered = torch.cat([self._augment(part, generator(self._seed, turn, i)) for i, part in enumerate(parts)])
            self._made[turn] = (altered, *self._teaching.ask(altered))
        return self._made[turn]


def copies_of(x: Tensor, epochs: int) -> int:
    """How many altered copies are made; 0: the teachers are asked about every batch."""
    copies = max(COPIES, COPIES_SAMPLES // max(1, len(x)))
    fits = copies * x.numel() * x.element_size() <= COPIES_BYTES
    return copies if epochs > copies and fits else 0
