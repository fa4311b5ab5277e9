"""Step five: from numbers to what a person or another system wants to read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import numpy as np
from msgspec import Meta, Struct

from shared.pipeline.decode import Fields, Row


class Labels(Struct, frozen=True, tag="labels", tag_field="op", forbid_unknown_fields=True):
    """``source`` (n,) of class indices → ``target`` (n,) of their names; ``unsure`` where ``score`` is below
    ``minimum_score``."""

    names: tuple[str, ...]
    source: str = "index"
    target: str = "label"
    minimum_score: Annotated[float, Meta(ge=0, le=1)] = 0.0
    unsure: str = "unsure"

    def __call__(self, fields: Fields) -> Fields:
        """Adds ``target`` (n,) of str objects."""
        label = np.asarray(self.names, dtype=object)[fields[self.source]]
        if self.minimum_score > 0:
            label = np.where(fields["score"] < self.minimum_score, self.unsure, label)
        return {**fields, self.target: label}

    def bind(self) -> Callable[[Row], None]:
        """Sets ``target`` to a str."""
        names, source, target = self.names, self.source, self.target
        minimum, unsure = self.minimum_score, self.unsure

        def run(row: Row) -> None:
            row[target] = names[row[source]] if not row["score"] < minimum else unsure

        return run


class TopK(Struct, frozen=True, tag="top_k", tag_field="op", forbid_unknown_fields=True):
    """``source`` (n, classes) → ``target`` (n, k): indices of the k largest, best first, ties by lower index."""

    k: Annotated[int, Meta(ge=1)]
    source: str = "scores"
    target: str = "top"

    def __call__(self, fields: Fields) -> Fields:
        """Adds ``target`` (n, min(k, classes)) intp."""
        order = np.argsort(-fields[self.source], axis=-1, kind="stable")
        return {**fields, self.target: order[..., : self.k]}

    def bind(self) -> Callable[[Row], None]:
        """Sets ``target`` (min(k, classes),) intp."""
        k, source, target = self.k, self.source, self.target

        def run(row: Row) -> None:
            row[target] = np.argsort(-row[source], kind="stable")[:k]

        return run
