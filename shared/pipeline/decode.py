"""Step four: from the model's outputs to scores and choices. Operations read and return named fields."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

Fields = dict[str, NDArray[Any]]


class Softmax(Struct, frozen=True, tag="softmax", tag_field="op", forbid_unknown_fields=True):
    """``source`` (n, classes) of logits → ``target`` of probabilities that sum to one.

    The variant's own calibration temperature multiplies ``temperature`` (Guo et al. 2017, arXiv 1706.04599).
    """

    source: str = "logits"
    target: str = "scores"
    temperature: Annotated[float, Meta(gt=0)] = 1.0

    def __call__(self, fields: Fields) -> Fields:
        """Adds ``target`` (n, classes) float32."""
        logits = fields[self.source].astype(np.float32, copy=False)
        if self.temperature != 1.0:
            logits = logits * np.float32(1 / self.temperature)
        exp = np.exp(logits - logits.max(axis=-1, keepdims=True))
        return {**fields, self.target: exp / exp.sum(axis=-1, keepdims=True)}


class Argmax(Struct, frozen=True, tag="argmax", tag_field="op", forbid_unknown_fields=True):
    """``source`` (n, classes) → ``target`` (n,) index of the largest, and its value as ``score``."""

    source: str = "scores"
    target: str = "index"

    def __call__(self, fields: Fields) -> Fields:
        """Adds ``target`` (n,) intp and ``score`` (n,)."""
        scores = fields[self.source]
        index = scores.argmax(axis=-1)
        return {**fields, self.target: index, "score": np.take_along_axis(scores, index[..., None], -1)[..., 0]}
