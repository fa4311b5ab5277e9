"""Answers of a network to many samples, without gradients."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn

BATCH = 1024


def answers(model: nn.Module, x: Tensor, batch: int = BATCH) -> Tensor:
    """(n, *input) -> (n, outputs) on the CPU, in evaluation mode, which ``model`` is left in."""
    return both(model, x, batch)[0]


def embeddings(model: nn.Module, x: Tensor, batch: int = BATCH) -> Tensor | None:
    """(n, *input) -> (n, embedding) on the CPU; ``None``: the network gives no second output."""
    return both(model, x, batch)[1]


def both(
    model: nn.Module, x: Tensor, batch: int = BATCH, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor | None]:
    """:func:`answers` and :func:`embeddings` at once, float32; ``dtype`` is what the layers compute in."""
    device = device_of(model)
    model.eval()
    first, second = [], []
    with torch.no_grad(), torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
        for part in torch.split(x, batch):
            answer, embedding = outputs(model(part.to(device)))
            first.append(answer.float().cpu())
            if embedding is not None:
                second.append(embedding.float().cpu())
    return torch.cat(first), torch.cat(second) if second else None


def outputs(given: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, Tensor | None]:
    """What a network returned as (answer, embedding): one's own network may give the answer alone."""
    if isinstance(given, Tensor):
        return given, None
    return given[0], given[1] if len(given) > 1 else None


def device_of(model: nn.Module) -> torch.device:
    """Where the network's first parameter or buffer is; the CPU for one without any."""
    first = next(itertools.chain(model.parameters(), model.buffers()), None)
    return torch.device("cpu") if first is None else first.device
