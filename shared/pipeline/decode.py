"""Step four: from the model's outputs to scores and choices. Operations read and return named fields.

``__call__`` takes fields with the batch first. ``bind`` gives the same for a single sample: a function that reads and
sets the entries of one row, without the batch axis.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

Fields = dict[str, NDArray[Any]]
Row = dict[str, Any]
"""One sample's fields: arrays without the batch axis, scalars as Python numbers."""


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

    def bind(self) -> Callable[[Row], None]:
        """Sets ``target`` (classes,) float32, a new array."""
        source, target, inverse = self.source, self.target, np.float32(1 / self.temperature)
        exp, largest, total = np.exp, np.maximum.reduce, np.add.reduce

        scaled, float32 = self.temperature != 1.0, np.dtype(np.float32)

        def run(row: Row) -> None:
            logits = row[source]
            if logits.dtype is not float32:
                logits = logits.astype(float32)
            if scaled:
                logits = logits * inverse
            scores = logits - largest(logits)
            exp(scores, scores)
            scores /= total(scores)
            row[target] = scores

        return run


class Argmax(Struct, frozen=True, tag="argmax", tag_field="op", forbid_unknown_fields=True):
    """``source`` (n, classes) → ``target`` (n,) index of the largest, and its value as ``score``."""

    source: str = "scores"
    target: str = "index"

    def __call__(self, fields: Fields) -> Fields:
        """Adds ``target`` (n,) intp and ``score`` (n,)."""
        scores = fields[self.source]
        index = scores.argmax(axis=-1)
        return {**fields, self.target: index, "score": np.take_along_axis(scores, index[..., None], -1)[..., 0]}

    def bind(self) -> Callable[[Row], None]:
        """Sets ``target`` and ``score`` as Python numbers."""
        source, target = self.source, self.target

        def run(row: Row) -> None:
            scores = row[source]
            row[target] = index = int(scores.argmax())
            row["score"] = scores.item(index)

        return run
