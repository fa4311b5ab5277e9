"""The training loop: AdamW, one-cycle learning rate, cross-entropy, and softened teacher scores where there are any."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from msgspec import Struct
from numpy.typing import NDArray
from torch import Tensor, nn

from cloud_trainer.progress import Progress, silent

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(logits (b, classes), classes (b,), row numbers (b,)) -> scalar."""


class Plan(Struct, frozen=True):
    """What the loop needs to know. ``learning_rate`` is the peak of the cycle (Smith 2018, arXiv 1803.09820)."""

    epochs: int
    batch: int
    learning_rate: float
    weight_decay: float
    seed: int


class Curve(Struct, frozen=True):
    """One training, epoch by epoch: mean loss, and accuracy on the validation split."""

    name: str
    loss: tuple[float, ...]
    accuracy: tuple[float, ...]


class Encoded(Struct, frozen=True, eq=False):
    """A split as the network reads it: ``x`` (n, *input) float32, ``y`` (n,) int64."""

    x: Tensor
    y: Tensor

    @classmethod
    def of(cls, x: NDArray[np.float32], y: NDArray[np.int64]) -> Encoded:
        """Tensors over the arrays."""
        return cls(torch.from_numpy(x), torch.from_numpy(y))


def cross_entropy(logits: Tensor, y: Tensor, rows: Tensor) -> Tensor:
    """Against the labels alone."""
    del rows
    return nn.functional.cross_entropy(logits, y)


def train(
    model: nn.Module,
    data: Encoded,
    validation: Encoded,
    plan: Plan,
    *,
    loss: Loss = cross_entropy,
    name: str = "model",
    progress: Progress = silent,
) -> Curve:
    """Train ``model`` in place and leave it in evaluation mode. Same arguments, same weights.

    A last batch of one sample is left out of its epoch: batch normalisation can't be computed from one.
    """
    order = torch.Generator().manual_seed(plan.seed)
    optimizer = torch.optim.AdamW(model.parameters(), plan.learning_rate, weight_decay=plan.weight_decay)
    steps = sum(len(rows) > 1 for rows in torch.split(torch.arange(len(data.y)), plan.batch))
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, plan.learning_rate, total_steps=max(2, plan.epochs * steps))
    losses, accuracies = [], []
    for epoch in range(plan.epochs):
        model.train()
        total = 0.0
        for rows in torch.split(torch.randperm(len(data.y), generator=order), plan.batch):
            if len(rows) < 2:
                continue
            optimizer.zero_grad(set_to_none=True)
            value = loss(model(data.x[rows])[0], data.y[rows], rows)
            value.backward()  # type: ignore[no-untyped-call]  # torch leaves it so
            optimizer.step()
            cycle.step()
            total += value.item() * len(rows)
        losses.append(total / len(data.y))
        accuracies.append(accuracy(model, validation))
        progress(
            name,
            (epoch + 1) / plan.epochs,
            f"epoch {epoch + 1} of {plan.epochs}, loss {losses[-1]:.3f}, validation accuracy {accuracies[-1]:.1%}",
        )
    return Curve(name, tuple(losses), tuple(accuracies))


def logits(model: nn.Module, x: Tensor, batch: int = 1024) -> Tensor:
    """(n, *input) -> (n, classes), without gradients, in evaluation mode."""
    model.eval()
    with torch.no_grad():
        return torch.cat([model(part)[0] for part in torch.split(x, batch)])


def accuracy(model: nn.Module, data: Encoded) -> float:
    """Share of samples whose largest logit is the right class."""
    return float((logits(model, data.x).argmax(1) == data.y).double().mean())
