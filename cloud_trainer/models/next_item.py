"""Which item comes next, from the ids of the last ones: every item has a place, and the scores are the products of all
places with where the history points to.

``pool``: a mean of the history, in which each age has a weight of its own, and its latest item (Liu et al. 2018, STAMP,
without its attention).
``transformer``: SASRec (Kang & McAuley 2018, arXiv 1808.09781), read out at the latest item.
"""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from msgspec import Meta
from torch import Tensor, nn

from cloud_trainer.models.attention import FAR, Encoder
from cloud_trainer.models.tokens import TokenArchitecture

YOUNGER = 2.0
"""The oldest item begins with exp(-2) of the latest one's weight."""
PARTS = 64
"""A history of less than such a part of all weights is divided by that part."""


class NextItem(TokenArchitecture, frozen=True, kw_only=True, tag="next-item"):
    """Samples are ids (history,), oldest first, 0 in front where the history is short; item ``i`` of the ``outputs``
    has the id ``i + 1``. ``depth``: dense layers, or transformer blocks. ``tied``: the places of items are those that
    scores are made with. ``dropout``: of the places in training. The embedding has ``width`` numbers."""

    width: int = 32
    mix: Literal["pool", "transformer"] = "pool"
    heads: int = 2
    tied: bool = True
    dropout: Annotated[float, Meta(ge=0, lt=1)] = 0.0

    def with_width(self, width: int) -> NextItem:
        """The same, of the largest width up to ``width`` that the heads share evenly (one number each at least)."""
        heads = self.heads if self.mix == "transformer" else 1
        return super().with_width(max(heads, width - width % heads))

    def network(self) -> ItemNetwork:
        """An :class:`ItemNetwork`."""
        self.expect("(history,)", 1)
        return ItemNetwork(self)


class ItemNetwork(nn.Module):
    """``forward(x)`` -> (scores (n, outputs), embedding (n, width): where the history points to)."""

    def __init__(self, architecture: NextItem) -> None:
        super().__init__()
        self.architecture = architecture
        width = architecture.width
        self.table = nn.Embedding(max(architecture.vocabulary, architecture.outputs + 1), width, padding_idx=0)
        nn.init.normal_(self.table.weight, std=width**-0.5)
        if architecture.mix == "transformer":
            self.encoder = Encoder(architecture.input[0], width, architecture.depth, architecture.heads)
        self.age = nn.Parameter(torch.linspace(-YOUNGER, 0, architecture.input[0]))
        self.drop = nn.Dropout(architecture.dropout)
        dense = architecture.depth if architecture.mix == "pool" else 1
        self.point = nn.Sequential(
            *(layer for _ in range(dense) for layer in (nn.Linear(2 * width, 2 * width), nn.ReLU(), self.drop)),
            nn.Linear(2 * width, width),
        )
        self.straight = nn.Linear(2 * width, width, bias=False)
        if architecture.tied:
            self.bias = nn.Parameter(torch.zeros(architecture.outputs))
        else:
            self.score = nn.Linear(width, architecture.outputs)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(n, history) int64 -> scores and embedding."""
        there = (x != 0).float()
        y = self.drop(self.table(x)) * there.unsqueeze(2)
        if self.architecture.mix == "transformer":
            y = self.encoder(y, ((1 - there) * FAR).unsqueeze(1).unsqueeze(1))
        ages = self.age.exp()
        weight = there * ages
        # never so little that it is 0 in int8
        whole = torch.maximum(weight.sum(1, keepdim=True), ages.sum() / PARTS)
        mean = (y * weight.unsqueeze(2)).sum(1) / whole
        known = torch.cat([mean, y[:, -1]], 1)
        embedding = self.straight(known) + self.point(known)
        pointed = self.drop(embedding)
        if not self.architecture.tied:
            return self.score(pointed), embedding
        places = self.table.weight[1 : self.architecture.outputs + 1]
        return nn.functional.linear(pointed, places, self.bias), embedding
