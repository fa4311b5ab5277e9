"""Networks of token ids (length,) int64, of which 0 is padding: the mean of what each token means, and a small MLP.

Joulin et al. 2016 (fastText, arXiv 1607.01759): often as good as far bigger networks at telling texts apart.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from cloud_trainer.models.base import Architecture
from cloud_trainer.models.layers import Head


class TokenArchitecture(Architecture, frozen=True, kw_only=True):
    """``vocabulary``: how many ids there are, 0 included."""

    vocabulary: int
    tokens: ClassVar[bool] = True


class Bag(TokenArchitecture, frozen=True, kw_only=True, tag="bag"):
    """``width``: numbers a token, of which hardly more help, and which cost next to no MACs but a table of
    ``vocabulary`` times ``width`` weights; ``depth``: dense layers, the embedding included."""

    width: int = 32
    max_width: ClassVar[int] = 64

    def network(self) -> BagOfTokens:
        """A :class:`BagOfTokens`."""
        self.expect("(length,)", 1)
        return BagOfTokens(self)


def mean_of_tokens(x: Tensor, there: Tensor) -> Tensor:
    """(n, length, width) -> (n, width): mean of the tokens where ``there`` (n, length) is 1; 0 where there are none."""
    weight = there.unsqueeze(2)
    return (x * weight).sum(1) / weight.sum(1).clamp(min=1.0)


class BagOfTokens(nn.Module):
    """``forward(x)`` -> (answer (n, outputs), embedding (n, embedding))."""

    def __init__(self, architecture: Bag) -> None:
        super().__init__()
        self.architecture = architecture
        width = architecture.width
        self.table = nn.Embedding(architecture.vocabulary, width, padding_idx=0)
        nn.init.normal_(self.table.weight, std=0.3)
        self.hidden = nn.Sequential(
            *(layer for _ in range(architecture.depth - 1) for layer in (nn.Linear(width, width), nn.ReLU()))
        )
        self.head = Head(width, architecture.embedding, architecture.outputs)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(n, length) int64 -> answer and embedding."""
        answer, embedding = self.head(self.hidden(mean_of_tokens(self.table(x), (x != 0).float())))
        return answer, embedding
