"""A small encoder of transformer blocks (Vaswani et al. 2017, arXiv 1706.03762; normalised first, Xiong et al. 2020,
arXiv 2002.04745) on ``scaled_dot_product_attention``, which is FlashAttention where the GPU has it.

For token ids (length,) of which 0 is padding, and for windows of sensors (time, channels), ``patch`` time steps a
token.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cloud_trainer.models.base import Architecture
from cloud_trainer.models.layers import Head
from cloud_trainer.models.tokens import TokenArchitecture, mean_of_tokens

FAR = -1e4  # added to scores of padding: nothing is left of them, and a row of padding alone has no NaN


class Attention(nn.Module):
    """Every token looks at every other that is no padding."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """(n, length, width), mask (n, 1, 1, length) to be added -> (n, length, width)."""
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in self.qkv(x).chunk(3, -1))
        y = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        out: Tensor = self.out(y.transpose(1, 2).flatten(2))
        return out


class EncoderBlock(nn.Module):
    """Attention, then two dense layers, each added to what comes in."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.dense = nn.Sequential(nn.Linear(width, 2 * width), nn.ReLU(), nn.Linear(2 * width, width))

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """(n, length, width) -> the same."""
        x = x + self.attention(self.norm1(x), mask)
        y: Tensor = x + self.dense(self.norm2(x))
        return y


class Encoder(nn.Module):
    """``depth`` blocks between learned positions and a last normalisation."""

    def __init__(self, length: int, width: int, depth: int, heads: int) -> None:
        super().__init__()
        self.positions = nn.Parameter(torch.randn(length, width) * 0.02)
        self.blocks = nn.ModuleList(EncoderBlock(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """(n, length, width) -> the same."""
        x = x + self.positions
        for block in self.blocks:
            x = block(x, mask)
        y: Tensor = self.norm(x)
        return y


class Transformer(TokenArchitecture, frozen=True, kw_only=True, tag="transformer"):
    """For token ids."""

    width: int = 32
    depth: int = 2
    heads: int = 2

    def with_width(self, width: int) -> Transformer:
        """The same, of the largest width up to ``width`` that the heads share evenly (one number each at least)."""
        return super().with_width(max(self.heads, width - width % self.heads))

    def network(self) -> TokenTransformer:
        """A :class:`TokenTransformer`."""
        self.expect("(length,)", 1)
        return TokenTransformer(self)


class WindowTransformer(Architecture, frozen=True, kw_only=True, tag="window-transformer"):
    """For windows (time, channels); what is left over of ``time`` by ``patch`` steps is cut off at the start."""

    width: int = 32
    depth: int = 2
    heads: int = 2
    patch: int = 8

    def with_width(self, width: int) -> WindowTransformer:
        """The same, of the largest width up to ``width`` that the heads share evenly (one number each at least)."""
        return super().with_width(max(self.heads, width - width % self.heads))

    def network(self) -> PatchTransformer:
        """A :class:`PatchTransformer`."""
        self.expect("(time, channels)", 2)
        return PatchTransformer(self)


class TokenTransformer(nn.Module):
    """``forward(x)`` -> (answer (n, outputs), embedding (n, embedding))."""

    def __init__(self, architecture: Transformer) -> None:
        super().__init__()
        self.architecture = architecture
        self.table = nn.Embedding(architecture.vocabulary, architecture.width, padding_idx=0)
        self.encoder = Encoder(architecture.input[0], architecture.width, architecture.depth, architecture.heads)
        self.head = Head(architecture.width, architecture.embedding, architecture.outputs)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(n, length) int64 -> answer and embedding."""
        there = (x != 0).float()
        y = self.encoder(self.table(x), ((1 - there) * FAR).unsqueeze(1).unsqueeze(1))
        answer, embedding = self.head(mean_of_tokens(y, there))
        return answer, embedding


class PatchTransformer(nn.Module):
    """``forward(x)`` -> (answer (n, outputs), embedding (n, embedding))."""

    def __init__(self, architecture: WindowTransformer) -> None:
        super().__init__()
        self.architecture = architecture
        time, channels = architecture.input
        self.patch = min(architecture.patch, time)
        self.tokens = time // self.patch
        self.project = nn.Linear(self.patch * channels, architecture.width)
        self.encoder = Encoder(self.tokens, architecture.width, architecture.depth, architecture.heads)
        self.head = Head(architecture.width, architecture.embedding, architecture.outputs)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(n, time, channels) float32 -> answer and embedding."""
        x = x[:, x.shape[1] - self.tokens * self.patch :]
        x = x.reshape(-1, self.tokens, self.patch * x.shape[2])
        answer, embedding = self.head(self.encoder(self.project(x)).mean(1))
        return answer, embedding
