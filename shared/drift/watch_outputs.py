"""What is watched of an answer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from numbers import Real
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from shared.drift.bins import CATEGORY, VALUE, Floats
from shared.drift.statistics import SUMMARY, summary
from shared.errors import InputError, ProfileError
from shared.uniform import Uniform

MOST_NUMBERS = 16
PROJECTIONS = 8
EMBEDDING = "embedding"
NOT_WATCHED = frozenset({"label", "score", "scores", "index", "value"})
"""Fields that are looked at in their own way, or say what another one says."""


class ClassWatch(Struct, frozen=True):
    """Confidence and predicted class of ``scores`` (n, ``classes``), and projections of the embedding (n, E) on
    ``directions`` (P, E) after ``center`` (E,) is taken off; P may be 0."""

    classes: int
    center: Floats
    directions: Floats

    @property
    def names(self) -> tuple[str, ...]:
        """Of the scalars."""
        return ("confidence", "class", *(f"embedding{k}" for k in range(len(self.directions))))

    @property
    def families(self) -> tuple[str, ...]:
        """Of the scalars."""
        return ("confidence", "classes", *("embedding" for _ in self.directions))

    @property
    def kinds(self) -> tuple[str, ...]:
        """Of the scalars."""
        return (VALUE, CATEGORY, *(VALUE for _ in self.directions))

    def of(self, scores: NDArray[Any], embedding: NDArray[Any] | None) -> Floats:
        """Watched numbers (n, F). An answer whose scores are not all numbers counts as missing.

        Raises:
            InputError: shapes differ.
        """
        scores = np.asarray(scores)
        if scores.ndim != 2 or scores.shape[1] != self.classes:
            raise InputError(f"scores of shape {scores.shape}; expected (n, {self.classes})")
        found = np.empty((len(scores), len(self.names)))
        found[:, 0] = scores.max(axis=1)
        found[:, 1] = scores.argmax(axis=1)
        found[np.isnan(found[:, 0]), 1] = np.nan
        if len(self.directions):
            wanted = (len(scores), len(self.center))
            if embedding is None or np.shape(embedding) != wanted:
                raise InputError(
                    f"embedding of shape {np.shape(embedding) if embedding is not None else None}; expected {wanted}"
                )
            found[:, 2:] = (np.asarray(embedding, dtype=np.float64) - self.center) @ self.directions.T
        return found


class FieldWatch(Struct, frozen=True):
    """One field of answers that are no classes.

    ``what``: "number" (n,); "numbers" (n, ...) that each are watched; "summary" (n, ...); "projections" (n, E) on
    directions that need no reference (:func:`random_directions`), E being ``size``; or "boxes": lists whose entries
    have a ``score``, watched by their number and the best score (missing where there is none).
    """

    field: str
    what: str
    names: tuple[str, ...]
    size: int = 0

    @property
    def families(self) -> tuple[str, ...]:
        """Of the scalars."""
        return (EMBEDDING if self.what == "projections" else "outputs",) * len(self.names)

    @property
    def kinds(self) -> tuple[str, ...]:
        """Of the scalars."""
        return (VALUE,) * len(self.names)

    def of(self, values: Sequence[Any] | NDArray[Any]) -> Floats:
        """Watched numbers (n, F) of the field's ``values``, one an answer; what is none counts as missing."""
        if self.what == "projections" and isinstance(values, np.ndarray) and values.shape[1:] == (self.size,):
            return self.project(values)
        return np.array([self.one(value) for value in values]).reshape(len(values), len(self.names))

    def one(self, value: Any) -> tuple[float, ...]:
        """Watched numbers of one answer."""
        if self.what == "boxes":
            return _boxes(value)
        try:
            numbers = np.asarray(value, dtype=np.float64)
        except (TypeError, ValueError):
            return (math.nan,) * len(self.names)
        if self.what == "projections":
            if numbers.shape != (self.size,):
                return (math.nan,) * len(self.names)
            return tuple(self.project(numbers[None])[0].tolist())
        if self.what == "summary":
            return tuple(summary(numbers[None])[0].tolist())
        return tuple(numbers.ravel().tolist()) if numbers.size == len(self.names) else (math.nan,) * len(self.names)

    def project(self, rows: NDArray[Any]) -> Floats:
        """Projections (n, F) of ``rows`` (n, E)."""
        found: Floats = rows.astype(np.float64) @ random_directions(self.size, len(self.names)).T
        return found

    def valid(self) -> bool:
        """Whether names and what is watched belong together."""
        widths = {"number": 1, "boxes": 2, "summary": len(SUMMARY)}
        most = {"numbers": MOST_NUMBERS, "projections": PROJECTIONS}
        return (
            bool(self.field)
            and (self.size >= 2) == (self.what == "projections")
            and (
                1 <= len(self.names) <= most[self.what]
                if self.what in most
                else widths.get(self.what) == len(self.names)
            )
        )


OutputWatch = ClassWatch | FieldWatch


def watch_outputs(row: Mapping[str, Any], task: str = "") -> tuple[OutputWatch, ...]:
    """How to watch answers like ``row``, the fields that one sample's pipeline gave: classes, the best score of a
    ranking, the ``value`` (a number, numbers or boxes), or else the first output of the model that is numbers; and
    projections of its ``embedding``. Nothing, where there is none."""
    found = _said(row, task)
    embedding = row.get(EMBEDDING)
    if not isinstance(embedding, np.ndarray) or embedding.ndim != 1 or _size(embedding) < 2:
        return found
    if any(isinstance(part, FieldWatch) and (part.field, part.what) == (EMBEDDING, "numbers") for part in found):
        return found
    names = tuple(f"{EMBEDDING}{k}" for k in range(min(PROJECTIONS, len(embedding))))
    return (*found, FieldWatch(EMBEDDING, "projections", names, len(embedding)))


def _said(row: Mapping[str, Any], task: str) -> tuple[OutputWatch, ...]:
    scores, value = row.get("scores"), row.get("value")
    if task == "ranking" and isinstance(row.get("score"), Real):
        return (FieldWatch("score", "number", ("best_score",)),)
    if task == "detection" or (isinstance(value, list) and value and _is_box(value[0])):
        return (FieldWatch("value", "boxes", ("boxes", "best_score")),)
    if isinstance(scores, np.ndarray) and scores.ndim == 1 and len(scores) > 1 and "score" in row:
        return (ClassWatch(len(scores), np.zeros(0), np.zeros((0, 0))),)
    if isinstance(value, Real):
        return (FieldWatch("value", "number", ("value",)),)
    if isinstance(value, np.ndarray | list | tuple) and _size(value):
        return (_numbers("value", _size(value)),)
    for field, found in row.items():
        if field not in NOT_WATCHED and isinstance(found, np.ndarray | Real) and _size(found):
            return (_numbers(field, _size(found)),)
    return ()


@lru_cache(maxsize=8)
def random_directions(size: int, count: int) -> Floats:
    """``count`` directions (P, E) for vectors of ``size`` numbers: random signs over √E, the same on every machine
    (Achlioptas 2003, "Database-friendly random projections", JCSS 66(4))."""
    bits = Uniform(size).bits(-(-size * count // 64)).astype("<u8")
    signs = np.unpackbits(bits.view(np.uint8), bitorder="little")[: size * count].reshape(count, size)
    return (2.0 * signs.astype(np.float64) - 1) / math.sqrt(size)


def principal(embedding: NDArray[np.floating] | None, projections: int) -> tuple[Floats, Floats]:
    """Center (E,) and principal directions (P, E), scaled to give projections of unit variance; each has its largest
    entry positive, so that the same data gives the same signs.

    Raises:
        ProfileError: the embedding is no finite table.
    """
    if embedding is None:
        return np.zeros(0), np.zeros((0, 0))
    table = np.asarray(embedding, dtype=np.float64)
    if table.ndim != 2 or len(table) < 2 or not np.isfinite(table).all():
        raise ProfileError(f"embedding of shape {table.shape}; expected a finite table of at least 2 rows")
    center = table.mean(0)
    _, singular, directions = np.linalg.svd(table - center, full_matrices=False)
    deviation = singular / math.sqrt(len(table) - 1)
    kept = int(np.count_nonzero(deviation[:projections] > 1e-6 * max(float(deviation[0]), 1e-300)))
    directions, deviation = directions[:kept], deviation[:kept]
    signs = np.sign(directions[np.arange(kept), np.abs(directions).argmax(1)])
    return center, directions * (signs / deviation)[:, None]


def _numbers(field: str, size: int) -> FieldWatch:
    if size == 1:
        return FieldWatch(field, "number", (field,))
    if size <= MOST_NUMBERS:
        return FieldWatch(field, "numbers", tuple(f"{field}[{k}]" for k in range(size)))
    return FieldWatch(field, "summary", tuple(f"{field}.{name}" for name in SUMMARY))


def _size(value: Any) -> int:
    """How many numbers ``value`` holds; 0 if it holds anything else."""
    try:
        array = np.asarray(value)
    except ValueError:
        return 0
    return array.size if array.dtype.kind in "fiub" else 0


def _is_box(value: Any) -> bool:
    return isinstance(value, Mapping) and "score" in value


def _boxes(value: Any) -> tuple[float, float]:
    if not isinstance(value, list | tuple) or not all(_is_box(box) for box in value):
        return math.nan, math.nan
    return float(len(value)), max((float(box["score"]) for box in value), default=math.nan)
