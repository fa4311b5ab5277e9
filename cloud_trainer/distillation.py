"""A student learns from its teachers: Hinton, Vinyals, Dean 2015, "Distilling the Knowledge in a Neural Network".

:func:`teach` asks the teachers once; the objective says how their answers and the truth are weighed. Beside the answers
a student can learn to see as its teacher does: a linear projection of its embedding, trained along and thrown away, is
drawn towards the teacher's (feature matching: Romero et al. 2015, arXiv 1412.6550).

Several teachers are averaged: their answers (logits of classifiers, that is the geometric mean of their probabilities;
numbers as they are), each as much as it weighs, and their embeddings side by side.

**Altered samples.** A student that is trained on altered samples must hear what its teacher says of the very same ones.
Asking it in every epoch costs ``epochs`` times the teacher; so where that would be very many samples
(:func:`cloud_trainer.fit.teaching.copies_of`), and there is memory for it, some altered copies of the train split are
made and answered once, and the epochs take turns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from msgspec import Struct
from numpy.typing import NDArray
from torch import Tensor, nn

from cloud_trainer.fit.forward import BATCH, both
from cloud_trainer.fit.teaching import Teaching
from shared.errors import TrainingError

__all__ = ["Teacher", "Teaching", "Weighted", "answering", "teach"]

Answering = nn.Module | Callable[[NDArray[Any]], NDArray[Any]]
"""A network, or what gives answers (n, outputs) to samples (n, *input) in numpy."""


class Weighted(Struct, frozen=True, eq=False):
    """A teacher that counts ``weight`` times as much as one without."""

    teacher: Any
    weight: float


Teacher = Answering | Weighted


def answering(teacher: Teacher) -> Answering:
    """Whoever answers, without its weight."""
    return teacher.teacher if isinstance(teacher, Weighted) else teacher


def teach(
    teachers: Sequence[Teacher],
    x: Tensor,
    *,
    feature_weight: float = 0.0,
    batch: int = BATCH,
    dtype: torch.dtype = torch.float32,
) -> Teaching:
    """What ``teachers`` say of the samples ``x`` (n, *input); ``dtype`` is what their layers compute in.

    Networks are left in evaluation mode. ``feature_weight`` of the distance between embeddings needs a teacher that has
    one; teachers without (trees) only answer.

    Raises:
        TrainingError: no teacher, or one whose answers do not fit the samples or the other teachers, or are not finite.
    """
    if not teachers:
        raise TrainingError("distillation needs at least one teacher")
    first, embedding = _asked(teachers, x, batch, dtype)
    if embedding is None or feature_weight <= 0:
        return Teaching(first, None, 0.0, _Ask(tuple(teachers), batch, dtype))
    middle = embedding.mean(dim=0)
    scale = (embedding - middle).square().mean().sqrt().clamp(min=1e-6)
    return Teaching(
        first, (embedding - middle) / scale, feature_weight, _Ask(tuple(teachers), batch, dtype, middle, scale)
    )


class _Ask(Struct, frozen=True, eq=False):
    """Asks teachers about other samples; no closure, so that it can be sent to workers."""

    teachers: tuple[Any, ...]
    batch: int
    dtype: torch.dtype
    middle: Tensor | None = None
    scale: Tensor | None = None

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        answer, embedding = _asked(self.teachers, x, self.batch, self.dtype)
        if embedding is None or self.middle is None or self.scale is None:
            return answer, None
        return answer, (embedding - self.middle) / self.scale


def _asked(teachers: Sequence[Teacher], x: Tensor, batch: int, dtype: torch.dtype) -> tuple[Tensor, Tensor | None]:
    answers: list[Tensor] = []
    embeddings: list[Tensor] = []
    for i, teacher in enumerate(map(answering, teachers)):
        if isinstance(teacher, nn.Module):
            answer, embedding = both(teacher, x, batch, dtype)
        else:
            answer, embedding = torch.from_numpy(np.asarray(teacher(x.numpy()), np.float32)), None
        if len(answer) != len(x) or (answers and answer.shape != answers[0].shape):
            wanted = tuple(answers[0].shape) if answers else (len(x), "outputs")
            raise TrainingError(f"teacher {i + 1} answered {tuple(answer.shape)}; expected {wanted}")
        if not answer.isfinite().all():
            row = int((~answer.isfinite().reshape(len(answer), -1).all(dim=1)).nonzero()[0])
            raise TrainingError(f"teacher {i + 1}: its answer to sample {row} is not finite")
        answers.append(answer)
        if embedding is not None:
            embeddings.append(embedding)
    whole = answers[0] if len(answers) == 1 else torch.stack(answers).mean(dim=0)
    weights = [one.weight if isinstance(one, Weighted) else 1.0 for one in teachers]
    if len(set(weights)) > 1:
        shares = torch.tensor(weights, dtype=torch.float64) / sum(weights)
        whole = torch.tensordot(shares.float(), torch.stack(answers), 1)
    return whole, torch.cat(embeddings, dim=1) if embeddings else None
