"""Step two: from clean values to the tensor that the model file declares. Quantized inputs are the backend's."""

from __future__ import annotations

from shared.pipeline.layout import AddChannel, Cast, Layout, Reshape
from shared.pipeline.tables import Categories, EmbeddingIndex, OneHot, Ordinal
from shared.pipeline.text import HashedNgrams, Tokens

__all__ = [
    "AddChannel", "Cast", "Categories", "EmbeddingIndex", "HashedNgrams", "Layout", "OneHot", "Ordinal", "Reshape",
    "Tokens",
]  # fmt: skip
