"""Tiny networks of every family, and samples for them."""

from __future__ import annotations

import torch

from cloud_trainer.models import Architecture, architecture, build
from cloud_trainer.models.base import Architecture as Base

TOKENS = {"vocabulary": 12, "input": (6,)}

# one of each family goes through every exporter
ZOO: dict[str, Architecture] = {
    "mlp": architecture("mlp", input=(7,), outputs=3, width=8, numbers="piecewise"),
    "resnet": architecture("resnet", input=(1, 9, 8), outputs=4, width=4),
    "ds-cnn": architecture("ds-cnn", input=(14, 10), outputs=4, width=4, depth=1),
    "mobilenet": architecture("mobilenet", input=(9, 8, 3), outputs=4, width=4, depth=1),
    "cnn1d": architecture("cnn1d", input=(31, 3), outputs=4, width=4),
    "tcn": architecture("tcn", input=(12, 2), outputs=5, width=4, depth=2, forecast=True),
    "linear-forecast": architecture("linear-forecast", input=(12, 2), outputs=5),
    "transformer": architecture("transformer", outputs=3, width=8, depth=1, **TOKENS),
    "window-transformer": architecture("window-transformer", input=(26, 3), outputs=3, width=8, depth=1),
    "bag": architecture("bag", outputs=3, width=8, depth=2, **TOKENS),
    "autoencoder": architecture("autoencoder", input=(7, 9, 3), outputs=189, width=4),
    "next-item": architecture("next-item", outputs=11, width=8, **TOKENS),
}

# other settings, tried in torch alone
MORE: dict[str, Architecture] = {
    "mlp-periodic": architecture("mlp", input=(7,), outputs=3, width=8, numbers="periodic", depth=3),
    "mlp-image": architecture("mlp", input=(4, 4), outputs=1, width=8),
    "resnet-stride-1": architecture("resnet", input=(7, 9, 3), outputs=4, width=4, depth=2, stride=1),
    "resnet-fine": architecture("resnet", input=(1, 9, 8), outputs=4, width=4, fine=True),
    "mobilenet-hard-swish": architecture("mobilenet", input=(1, 8, 8), outputs=4, width=4, activation="hard-swish"),
    "cnn1d-deep": architecture("cnn1d", input=(40, 2), outputs=4, width=4, depth=2),
    "tcn-pool": architecture("tcn", input=(12, 2), outputs=4, width=4),
    "dlinear": architecture("linear-forecast", input=(12, 1), outputs=5, method="dlinear", average=5),
    "dlinear-channels": architecture("linear-forecast", input=(12, 3), outputs=5, method="dlinear"),
    "autoencoder-stride-1": architecture("autoencoder", input=(1, 6, 6), outputs=36, width=4, depth=2, stride=1),
    "next-item-transformer": architecture("next-item", outputs=11, width=8, mix="transformer", **TOKENS),
    "next-item-free": architecture("next-item", outputs=11, width=8, tied=False, **TOKENS),
}


def samples(a: Base, n: int, seed: int = 0) -> torch.Tensor:
    """(n, *input): normal numbers, or ids of which the first rows have padding in front, all over, and behind."""
    generator = torch.Generator().manual_seed(seed)
    if not a.tokens:
        return torch.randn(n, *a.input, generator=generator)
    x = torch.randint(1, TOKENS["vocabulary"], (n, *a.input), generator=generator)
    for row, hidden in enumerate((slice(0, 2), slice(None), slice(4, None))):
        if row < n:
            x[row, hidden] = 0
    return x


def warmed(a: Base, seed: int = 0) -> torch.nn.Module:
    """A network in evaluation mode whose batch normalisation has seen samples, as after a training."""
    model = build(a, seed).train()
    with torch.no_grad():
        for i in range(3):
            model(samples(a, 16, i) if a.tokens else samples(a, 16, i) * 2 + 0.5)
    return model.eval()
