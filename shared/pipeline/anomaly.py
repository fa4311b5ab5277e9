"""AnomalyScore: how unlike the training data a sample is."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Literal, Self

import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from shared.pipeline.base import Array, FieldOperation, Fields, check_size, number_field, refuse, short

Method = Literal["reconstruction", "distance", "neighbours"]
PROTOTYPES = 256


class AnomalyScore(FieldOperation, frozen=True, tag="anomaly_score", dict=True):
    """One number a sample, larger for stranger ones, by ``method``:

    - ``reconstruction``: mean square of (``source`` - the tensor that went into the model); for autoencoders.
    - ``distance``: from ``source`` to ``centre``, sqrt((x - c)ᵀ P (x - c)) with ``precision`` P, the inverse
      covariance (Mahalanobis 1936); without it the Euclidean one.
    - ``neighbours``: mean Euclidean distance to the ``k`` nearest of ``prototypes`` (at most 256).

    With a ``grid``, a distance is one of ``source`` and of what it may not tell: the means of the model's input over
    ``grid`` x ``grid`` fields of the picture, (n, H, W), (n, 1, H, W) or (n, H, W, C), colours averaged.
    """

    method: Method
    source: str = "embedding"
    centre: tuple[float, ...] = ()
    precision: tuple[tuple[float, ...], ...] = ()
    prototypes: Annotated[tuple[tuple[float, ...], ...], Meta(max_length=PROTOTYPES)] = ()
    k: Annotated[int, Meta(ge=1, le=PROTOTYPES)] = 1
    target: str = "score"
    grid: Annotated[int, Meta(ge=0, le=12)] = 0

    def __post_init__(self) -> None:
        size = len(self.centre)
        if self.method == "distance" and (not size or any(len(row) != size for row in self.precision)):
            raise ValueError(f"anomaly_score: distance needs a centre, and rows of precision as long as it ({size})")
        if self.precision and len(self.precision) != size:
            raise ValueError(f"anomaly_score: {len(self.precision)} rows of precision for a centre of {size}")
        if self.method == "neighbours" and (
            len(self.prototypes) < self.k or len({len(row) for row in self.prototypes}) != 1 or not self.prototypes[0]
        ):
            raise ValueError(f"anomaly_score: neighbours needs at least k = {self.k} prototypes of one length")
        check_size(self, size + size * len(self.precision) + sum(len(row) for row in self.prototypes))

    @property
    def needs_input(self) -> bool:  # type: ignore[override]
        """A reconstruction is compared with the model's input, a grid laid over it."""
        return self.method == "reconstruction" or self.grid > 0

    def apply(self, fields: Mapping[str, Array]) -> Fields:
        """Sets ``target`` (n,) float64."""
        values = number_field(self, fields, self.source)
        if self.method == "reconstruction":
            given = number_field(self, fields, "input")
            if given.shape[1:] != values.shape[1:] and given.size != values.size:
                raise refuse(self, f"{given.shape}, the model's input, in field {self.source!r}", values)
            return {self.target: _mean_square(_flat(values), _flat(given))}
        x, size = _flat(values), len(self.centre) or len(self.prototypes[0])
        if self.grid:
            x = np.concatenate([x, fields_of(number_field(self, fields, "input"), self.grid)], axis=1)
        if x.shape[1] != size:
            raise refuse(self, f"(n, {size}) in field {self.source!r}", values)
        if self.method == "distance":
            return {self.target: _distance(x - np.array(self.centre), self._learned if self.precision else None)}
        return {self.target: _nearest(x, self._learned, self.k)}

    @cached_property
    def _learned(self) -> NDArray[np.float64]:
        return np.array(self.precision or self.prototypes)

    @classmethod
    def fit(
        cls,
        embeddings: Array,
        method: Literal["distance", "neighbours"] = "distance",
        *,
        source: str = "embedding",
        shrink: float = 0.05,
        prototypes: int = 64,
        k: int = 1,
        grid: int = 0,
        pictures: Array | None = None,
    ) -> Self:
        """Learn from good data (n, d), with a ``grid`` also from the ``pictures`` that they are of.

        ``distance``: mean and covariance, ``shrink`` of it replaced by its mean diagonal, so that the inverse exists
        (Ledoit and Wolf 2004 for the form). ``neighbours``: the sample nearest to the mean, then always the sample
        furthest from those chosen (greedy k-centre, Gonzalez 1985).

        Raises:
            ValueError: fewer than two samples, or a result that would make a manifest too large.
        """
        x = _flat(np.asarray(embeddings))
        if grid and pictures is not None:
            x = np.concatenate([x, fields_of(pictures, grid)], axis=1)
        if len(x) < 2:
            raise ValueError(f"anomaly_score: {len(x)} samples to learn from; at least 2 are needed")
        if method == "neighbours":
            chosen = short(x[_spread(x, min(prototypes, PROTOTYPES))])
            return cls(method, source, prototypes=chosen, k=k, grid=grid)
        check_size_of(x.shape[1])
        parts = (x.shape[1] - grid_size(pictures, grid), x.shape[1]) if grid and pictures is not None else (x.shape[1],)
        unit = _units(x, parts)  # an embedding and a picture have each a unit of their own
        covariance = np.atleast_2d(np.cov(x / unit, rowvar=False, bias=True))
        size = len(covariance)
        diagonal = float(np.trace(covariance)) / size or 1.0
        covariance = (1 - shrink) * covariance + shrink * diagonal * np.eye(size)
        precision = np.linalg.inv(covariance) / np.outer(unit, unit)
        return cls(method, source, centre=short(x.mean(axis=0)), precision=short(precision), grid=grid)


def fields_of(pictures: Array, grid: int) -> NDArray[np.float64]:
    """(n, H, W), (n, 1, H, W) or (n, H, W, C) -> (n, fields): means over ``grid`` x ``grid`` fields, row by row; of a
    side with fewer pixels each is a field.

    >>> fields_of(np.arange(16.0).reshape(1, 4, 4), 2).tolist()
    [[2.5, 4.5, 10.5, 12.5]]
    """
    if pictures.ndim not in (3, 4):
        raise ValueError(
            f"anomaly_score: a grid needs pictures (n, H, W), (n, 1, H, W) or (n, H, W, C), not {pictures.shape}"
        )
    x = np.asarray(pictures, np.float64)
    if x.ndim == 4:
        x = x[:, 0] if x.shape[1] == 1 else np.ascontiguousarray(x).sum(axis=-1) / x.shape[-1]
    for axis in (2, 1):
        edges = _edges(x.shape[axis], grid)
        shape = [1, 1, 1]
        shape[axis] = len(edges) - 1
        x = np.add.reduceat(x, edges[:-1], axis=axis) / np.diff(edges).reshape(shape)
    return _flat(x)


def grid_size(pictures: Array, grid: int) -> int:
    """How many fields a ``grid`` has on such pictures."""
    return int(fields_of(pictures[:1], grid).shape[1])


def _edges(side: int, grid: int) -> NDArray[np.intp]:
    count = min(grid, side)
    return (np.arange(count + 1) * side + count // 2) // count


def _units(x: NDArray[np.float64], ends: tuple[int, ...]) -> NDArray[np.float64]:
    """The root mean variance of the columns up to each of ``ends``, a number for each column; 1 where all are still."""
    out, start = np.ones(x.shape[1]), 0
    for end in ends if len(ends) > 1 else ():
        out[start:end] = float(np.sqrt(x[:, start:end].var(axis=0).mean())) or 1.0
        start = end
    return out


def check_size_of(size: int) -> None:
    """Refuse embeddings whose precision matrix would make a manifest too large, before it is computed."""
    if size > 155:
        raise ValueError(f"anomaly_score: embeddings of {size} numbers; distance takes at most 155, use neighbours")


def _flat(values: Array) -> NDArray[np.float64]:
    """(n, ...) -> (n, m) float64 in C order."""
    size = int(np.prod(values.shape[1:]))
    return np.ascontiguousarray(values, np.float64).reshape(len(values), size)


def _mean_square(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    out: NDArray[np.float64] = np.square(x - y).sum(axis=-1) / max(x.shape[1], 1)
    return out


def _distance(x: NDArray[np.float64], precision: NDArray[np.float64] | None) -> NDArray[np.float64]:
    turned = np.matmul(x[:, None], precision)[:, 0] if precision is not None else x
    out: NDArray[np.float64] = np.sqrt(np.maximum((turned * x).sum(axis=-1), 0.0))
    return out


def _nearest(x: NDArray[np.float64], prototypes: NDArray[np.float64], k: int) -> NDArray[np.float64]:
    out = np.empty(len(x))
    for i, row in enumerate(x):  # row by row: (n, prototypes, d) at once would be large
        distance = np.sqrt(np.square(prototypes - row).sum(axis=-1))
        out[i] = np.sort(distance)[:k].sum() / k
    return out


def _spread(x: NDArray[np.float64], count: int) -> NDArray[np.intp]:
    chosen = [int(np.square(x - x.mean(axis=0)).sum(axis=1).argmin())]
    nearest = np.square(x - x[chosen[0]]).sum(axis=1)
    while len(chosen) < count and nearest.max() > 0:
        chosen.append(int(nearest.argmax()))
        nearest = np.minimum(nearest, np.square(x - x[chosen[-1]]).sum(axis=1))
    return np.array(chosen, np.intp)
