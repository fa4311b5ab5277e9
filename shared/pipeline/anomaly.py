"""AnomalyScore: how unlike the training data a sample is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cached_property, lru_cache
from typing import Annotated, Literal, Self

import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from shared.pipeline.base import (
    LIMIT_NUMBERS,
    Array,
    FieldOperation,
    Fields,
    check_size,
    number_field,
    refuse,
    short,
)
from shared.pipeline.clusters import k_means, some, spread

Method = Literal["reconstruction", "distance", "neighbours"]
PROTOTYPES = 256
NARROWEST = 1e-6
"""Of the variance of all samples: no group is taken for narrower, as one of equal samples would be."""
NOISE = 1e-9
"""Of the mean square of what samples are made of: no variance is taken for less, for it would be rounding errors."""
CHUNK = 1024
ROUNDING = 1e-5


class AnomalyScore(FieldOperation, frozen=True, tag="anomaly_score", dict=True):
    """One number a sample, larger for stranger ones, by ``method``:

    - ``reconstruction``: mean square of (``source`` - the tensor that went into the model); for autoencoders.
    - ``distance``: from ``source`` to ``centre``, sqrt((x - c)ᵀ P (x - c)) with ``precision`` P, the inverse
      covariance (Mahalanobis 1936); without it the Euclidean one. With ``prototypes``, and no centre, that to the
      nearest of them: a mixture of normal distributions with one covariance, of which the likeliest counts.
    - ``neighbours``: mean Euclidean distance to the ``k`` nearest of ``prototypes`` (at most 256).

    With a ``grid``, ``source`` holds pictures, (n, H, W), (n, 1, H, W) or (n, H, W, C), and what is looked at are the
    means over ``grid`` x ``grid`` fields of them, colours averaged; ``input`` is the model's input.
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
        if len(self.prototypes) < self.k and (self.prototypes or self.method == "neighbours"):
            raise ValueError(f"anomaly_score: {self.method} needs at least k = {self.k} prototypes")
        if self.method == "distance" and bool(self.centre) == bool(self.prototypes):
            raise ValueError("anomaly_score: distance needs either a centre or prototypes")
        sizes = {len(row) for row in (*self.precision, *self.prototypes, *([self.centre] if self.centre else []))}
        if len(sizes) > 1 or 0 in sizes or (self.precision and len(self.precision) not in sizes):
            raise ValueError(
                f"anomaly_score: centre, prototypes, rows and columns of precision ({len(self.precision)} x "
                f"{len(self.precision[0]) if self.precision else 0}) must have one length; found {sorted(sizes)}"
            )
        check_size(self, len(self.centre) + sum(len(row) for row in (*self.precision, *self.prototypes)))
        if self.precision:
            _check_precision(np.array(self.precision), strictly=bool(self.prototypes))

    @property
    def needs_input(self) -> bool:  # type: ignore[override]
        """A reconstruction is compared with the model's input; a distance may be one of it."""
        return self.method == "reconstruction" or self.source == "input"

    def apply(self, fields: Mapping[str, Array]) -> Fields:
        """Sets ``target`` (n,) float64."""
        values = number_field(self, fields, self.source)
        if self.method == "reconstruction":
            given = number_field(self, fields, "input")
            if given.shape[1:] != values.shape[1:] and given.size != values.size:
                raise refuse(self, f"{given.shape}, the model's input, in field {self.source!r}", values)
            return {self.target: _mean_square(_flat(values), _flat(given))}
        x = fields_of(values, self.grid) if self.grid else _flat(values)
        size = len(self.centre or self.prototypes[0])
        if x.shape[1] != size:
            what = f"pictures of {size} fields" if self.grid else f"(n, {size})"
            raise refuse(self, f"{what} in field {self.source!r}", values)
        if self.centre:
            return {self.target: _distance(x - self._centre, self._learned)}
        if self._learned is not None:  # turned so that a plain distance is the one asked for
            x = np.matmul(x[:, None], self._learned)[:, 0]
        return {self.target: _nearest(x, self._prototypes, self.k)}

    def of_noise(self, size: float) -> float:
        """The distance, root mean square, of a sample that is a prototype but for noise of this ``size``."""
        scale = np.trace(np.array(self.precision)) if self.precision else len(self.centre or self.prototypes[0])
        return size * float(np.sqrt(scale))

    @cached_property
    def _learned(self) -> NDArray[np.float64] | None:
        precision = np.array(self.precision) if self.precision else None
        return np.linalg.cholesky(precision) if precision is not None and self.prototypes else precision

    @cached_property
    def _centre(self) -> NDArray[np.float64]:
        return np.array(self.centre)

    @cached_property
    def _prototypes(self) -> NDArray[np.float64]:
        prototypes = np.array(self.prototypes)
        return prototypes if self._learned is None else np.matmul(prototypes[:, None], self._learned)[:, 0]

    @classmethod
    def fit(
        cls,
        values: Array,
        method: Literal["distance", "neighbours"] = "distance",
        *,
        source: str = "embedding",
        target: str = "score",
        shrink: float = 0.05,
        prototypes: int | None = None,
        k: int = 1,
        grid: int = 0,
    ) -> Self:
        """Learn from good data: embeddings (n, d), or with a ``grid`` pictures.

        ``distance``: mean and covariance, ``shrink`` of it replaced by its mean diagonal, so that the inverse exists
        (Ledoit and Wolf 2004 for the form). With several ``prototypes`` (default: one centre) these are the means of as
        many groups, found by k-means, and the covariance is that within them; a ``shrink`` of 1 leaves the Euclidean
        distance. ``neighbours`` (64 unless said): the sample nearest to the mean, then always the sample furthest from
        those chosen (greedy k-centre, Gonzalez 1985).

        Raises:
            ValueError: fewer than two samples, some that are not finite, ``prototypes`` that are not 1 to 256, or a
                result that would make a manifest too large.
        """
        if prototypes is not None and not 1 <= prototypes <= PROTOTYPES:
            raise ValueError(f"anomaly_score: {prototypes} prototypes; expected 1 to {PROTOTYPES}")
        x = fields_of(values, grid) if grid else _flat(np.asarray(values))
        if len(x) < 2:
            raise ValueError(f"anomaly_score: {len(x)} samples to learn from; at least 2 are needed")
        if not np.isfinite(x).all():
            raise ValueError("anomaly_score: samples to learn from must be finite")
        if method == "neighbours":
            chosen = short(x[spread(x, prototypes or 64)])
            return cls(method, source, prototypes=chosen, k=k, target=target, grid=grid)
        check_size_of(x.shape[1], prototypes or 1)
        noise = NOISE * float(np.square(x).mean())
        if prototypes is None or prototypes == 1:
            precision = _inverse(_shrunk(x, shrink, noise), shrink)
            return cls(method, source, centre=short(x.mean(axis=0)), precision=precision, target=target, grid=grid)
        x = some(x)
        group = k_means(x - x.mean(axis=0), prototypes)
        means = np.stack([x[group == one].mean(axis=0) for one in range(group.max() + 1)])
        least = max(NARROWEST * float(np.var(x, axis=0).mean()), noise)
        precision = _inverse(_shrunk(x - means[group], shrink, least), shrink)
        return cls(method, source, prototypes=short(means), precision=precision, target=target, grid=grid)


def fields_of(pictures: Array, grid: int) -> NDArray[np.float64]:
    """(n, H, W), (n, 1, H, W) or (n, H, W, C) -> (n, fields): means over ``grid`` x ``grid`` fields, row by row; of a
    side with fewer pixels each is a field. (n, 1, W, C) is taken for (n, 1, H, W).

    >>> fields_of(np.arange(16.0).reshape(1, 4, 4), 2).tolist()
    [[2.5, 4.5, 10.5, 12.5]]
    """
    if pictures.ndim not in (3, 4):
        raise ValueError(
            f"anomaly_score: a grid needs pictures (n, H, W), (n, 1, H, W) or (n, H, W, C), not {pictures.shape}"
        )
    starts = range(0, max(len(pictures), 1), CHUNK)  # one float64 copy of all pictures would be large
    return np.concatenate([_fields_of(pictures[start : start + CHUNK], grid) for start in starts])


def _fields_of(pictures: Array, grid: int) -> NDArray[np.float64]:
    x = np.asarray(pictures, np.float64)
    if x.ndim == 4:
        x = x[:, 0] if x.shape[1] == 1 else np.ascontiguousarray(x).sum(axis=-1) / x.shape[-1]
    across, down = _averages(x.shape[2], grid), _averages(x.shape[1], grid)
    return _flat(np.matmul(down.T, np.matmul(x, across)))


@lru_cache(maxsize=64)
def _averages(side: int, grid: int) -> NDArray[np.float64]:
    """(side, fields): a row of pixels times this are the means of its fields, which differ by at most one pixel."""
    count = min(grid, side)
    edges = (np.arange(count + 1) * side + count // 2) // count
    field = np.repeat(np.arange(count), np.diff(edges))
    found: NDArray[np.float64] = (field[:, None] == np.arange(count)) / np.diff(edges)
    return found


def check_size_of(size: int, prototypes: int = 1) -> None:
    """Refuse embeddings whose precision matrix would make a manifest too large, before it is computed."""
    if size > 155:
        raise ValueError(f"anomaly_score: embeddings of {size} numbers; distance takes at most 155, use neighbours")
    if size * (size + prototypes) > LIMIT_NUMBERS:
        raise ValueError(
            f"anomaly_score: {prototypes} prototypes of {size} numbers; a manifest has room for "
            f"{LIMIT_NUMBERS // size - size}"
        )


def _check_precision(precision: NDArray[np.float64], *, strictly: bool) -> None:
    """Of a covariance it is symmetric and positive definite, but for rounding; ``strictly``, as a square root of it is
    wanted.

    Raises:
        ValueError: it is not.
    """
    size = float(np.abs(precision).max())
    if not np.isfinite(precision).all():
        raise ValueError("anomaly_score: precision has numbers that are not finite")
    if np.abs(precision - precision.T).max() > ROUNDING * size:
        raise ValueError("anomaly_score: precision is not symmetric")
    least = 0.0 if strictly else -ROUNDING * size * len(precision)
    lowest = float(np.linalg.eigvalsh(precision)[0])
    if lowest < least or (strictly and not lowest > 0):
        raise ValueError(f"anomaly_score: precision is not positive definite: it has an eigenvalue of {lowest:.3g}")


def _shrunk(x: NDArray[np.float64], shrink: float, least: float) -> NDArray[np.float64]:
    """The covariance of ``x``, partly its mean diagonal, which is taken for ``least`` at least."""
    covariance = np.atleast_2d(np.cov(x, rowvar=False, bias=True))
    size = len(covariance)
    diagonal = max(float(np.trace(covariance)) / size, least) or 1.0
    found: NDArray[np.float64] = (1 - shrink) * covariance + shrink * diagonal * np.eye(size)
    return found


def _inverse(covariance: NDArray[np.float64], shrink: float) -> tuple[tuple[float, ...], ...]:
    if shrink >= 1:
        return ()
    with np.errstate(over="ignore"):
        try:
            inverse = np.linalg.inv(covariance).astype(np.float32)
        except np.linalg.LinAlgError:
            inverse = np.full_like(covariance, np.nan)
    if not np.isfinite(inverse).all():
        raise ValueError(
            "anomaly_score: the samples' covariance has no inverse in float32; shrink it more, or scale the samples"
        )
    found: tuple[tuple[float, ...], ...] = short(inverse)
    return found


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
        squares = np.square(prototypes - row).sum(axis=-1)
        out[i] = math.sqrt(squares.min()) if k == 1 else np.sqrt(np.sort(squares)[:k]).sum() / k
    return out
