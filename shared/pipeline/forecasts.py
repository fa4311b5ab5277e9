"""Forecasts and regression: Inverse brings a model's numbers back into the units of its training data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Self

import numpy as np
from msgspec import Meta

from shared.pipeline.base import Array, FieldOperation, Fields, check_size, number_field, refuse
from shared.pipeline.scaling import Scale, Standardize


class Inverse(FieldOperation, frozen=True, tag="inverse"):
    """``source * std + mean`` in float64, given as float32: what ``Standardize`` did, undone; one pair for all, or one
    for each entry of the last axis.

    >>> Inverse.of(Scale(factor=0.5, offset=1.0), source="y")({"y": np.array([[2.0]])})["value"]
    array([[2.]], dtype=float32)
    """

    source: str
    mean: tuple[float, ...]
    std: Annotated[tuple[float, ...], Meta(min_length=1)]
    target: str = "value"

    def __post_init__(self) -> None:
        if len(self.mean) != len(self.std):
            raise ValueError(f"inverse: {len(self.mean)} means for {len(self.std)} standard deviations")
        check_size(self, 2 * len(self.mean))

    def apply(self, fields: Mapping[str, Array]) -> Fields:
        """Sets ``target`` (n, ..., c) float32, the shape of ``source``."""
        values = number_field(self, fields, self.source)
        if len(self.mean) != 1 and (values.ndim < 2 or values.shape[-1] != len(self.mean)):
            raise refuse(self, f"(n, ..., {len(self.mean)}) in field {self.source!r}", values)
        wide = values.astype(np.float64) * np.array(self.std) + np.array(self.mean)
        return {self.target: wide.astype(np.float32)}

    @classmethod
    def of(
        cls, operation: Standardize | Scale, *, source: str, columns: tuple[int, ...] = (), target: str = "value"
    ) -> Self:
        """The inverse of ``operation``; of a Standardize by column, only of ``columns`` (what the model gives)."""
        if isinstance(operation, Scale):
            factor, offset = operation.factor, operation.offset
            return cls(source=source, mean=(-offset / factor,), std=(1 / factor,), target=target)
        mean, std = operation.mean, operation.std
        if columns and len(mean) > 1:
            mean, std = tuple(mean[c] for c in columns), tuple(std[c] for c in columns)
        return cls(source=source, mean=mean, std=std, target=target)

    @classmethod
    def fit(cls, values: Array, *, source: str, per_column: bool = False) -> Self:
        """The inverse of standardizing the targets ``values`` (n, ..., c) of training."""
        return cls.of(Standardize.fit(values, per_column=per_column), source=source)
