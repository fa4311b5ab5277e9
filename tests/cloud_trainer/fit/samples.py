"""Small data and networks that the tests of the loop share."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from cloud_trainer.fit import Encoded, Plan
from cloud_trainer.models import ResNet, build

SHAPE = ResNet(input=(1, 8, 8), outputs=4, width=4, embedding=5)
PLAN = Plan(epochs=4, batch=32, learning_rate=1e-2, weight_decay=1e-4, seed=3, device="cpu")


def stripes(n=256, seed=0, side=8):
    """Four classes: lying or standing stripes, fine or coarse."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 4, n)
    x = rng.normal(0, 0.3, (n, 1, side, side)).astype(np.float32)
    fine, coarse = np.arange(side) % 2, np.arange(side) // 2 % 2
    for i, k in enumerate(y):
        x[i, 0] += (fine[None], fine[:, None], coarse[None], coarse[:, None])[k]
    return Encoded.of(x, y)


def resnet(seed=0):
    return build(SHAPE, seed)


class Dropped(nn.Module):
    """A perceptron with dropout: its answers depend on the random numbers that layers draw."""

    def __init__(self, inputs=64, outputs=4, seed=0):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.embed = nn.Sequential(nn.Flatten(), nn.Linear(inputs, 16), nn.ReLU(), nn.Dropout(0.3))
            self.classify = nn.Linear(16, outputs)

    def forward(self, x):
        embedding = self.embed(x)
        return self.classify(embedding), embedding


def same_weights(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def noisy(x, generator):
    """An augmentation: noise, and a sign for every sample."""
    return x + 0.1 * torch.randn(x.shape, generator=generator)
