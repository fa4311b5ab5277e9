"""A profile as arrays, and back, checked: files come from strangers.

Format 1 has one column a scalar. Format 2 adds what a time-ordered reference remembers: rows of numbers, the
coefficients of models, and the columns of levels. A profile in which nothing has a memory is written as format 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.drift.arrays import Arrays, take
from shared.drift.autoregression import MOST_ORDER, Autoregression
from shared.drift.bins import CATEGORY, VALUE, Column, Floats
from shared.drift.memory import Memory
from shared.drift.prewhitening import Z_LIMIT, Serial
from shared.errors import ProfileError

FORMAT = 1
FORMAT_TIME = 2
MAX_COLUMNS = 4096
MAX_BINS = 64
MAX_LENGTH = 1 << 40
_RAGGED = ("edges", "tiebreaks", "gaps", "scores", "centers", "sketch")
_NUMBERS = (
    "center",
    "scale",
    "low",
    "high",
    "length",
    "unit",
    "tau",
    "seen",
    "band",
    "settled",
    "slack",
    "bursts",
    "intercept",
)


def to_arrays(
    names: Sequence[str], families: Sequence[str], columns: Sequence[Column], memories: Sequence[Memory | None]
) -> Arrays:
    """The content as arrays: one entry a scalar, or all scalars' end to end with ``<name>_lengths``."""
    time_ordered = any(memory is not None for memory in memories)
    arrays: Arrays = {
        "format": np.array([FORMAT_TIME if time_ordered else FORMAT]),
        "names": np.array(names),
        "families": np.array(families),
        "kinds": np.array([column.kind for column in columns]),
        **_of_columns(columns, ""),
    }
    if time_ordered:
        at = [k for k, memory in enumerate(memories) if memory is not None]
        kept = [memory for memory in memories if memory is not None]
        arrays["memory_of"] = np.array(at)
        arrays["memory"] = np.array([_numbers(memory) for memory in kept])
        arrays |= _ragged("coefficients", [memory.serial.model.coefficients for memory in kept])
        arrays["level_of"] = np.array([m for m, memory in enumerate(kept) if memory.level is not None], dtype=np.int64)
        arrays |= _of_columns([memory.level for memory in kept if memory.level is not None], "level_")
    return arrays


def _numbers(memory: Memory) -> list[float]:
    serial = memory.serial
    places: tuple[Any, ...] = (serial, memory, serial.model)
    return [float(next(getattr(p, name) for p in places if hasattr(p, name))) for name in _NUMBERS]


def _of_columns(columns: Sequence[Column], prefix: str) -> Arrays:
    arrays: Arrays = {
        f"{prefix}unit": np.array([column.unit for column in columns], dtype=np.float64),
        f"{prefix}rows": np.array([(c.present, c.missing) for c in columns], dtype=np.int64).reshape(-1, 2),
    }
    for field in _RAGGED:
        arrays |= _ragged(prefix + field, [getattr(column, field) for column in columns])
    return arrays


def _ragged(name: str, parts: Sequence[Floats]) -> Arrays:
    return {
        name: np.concatenate([np.zeros(0), *parts]),
        f"{name}_lengths": np.array([len(part) for part in parts], dtype=np.int64),
    }


def columns_from(
    arrays: Mapping[str, NDArray[np.generic]],
) -> tuple[tuple[str, ...], tuple[str, ...], list[Column], list[Memory | None]]:
    """Names, families, columns and memories that :func:`to_arrays` took apart.

    Raises:
        ProfileError: arrays are missing, malformed, or of another version.
    """
    found = take(arrays, "format", "i")
    if len(found) != 1 or int(found[0]) not in {FORMAT, FORMAT_TIME}:
        raise ProfileError(
            f"drift profile: format {found.tolist()}, but this version of sanderling reads formats {FORMAT} "
            f"and {FORMAT_TIME}"
        )
    names, families, kinds = (tuple(take(arrays, key, "U").tolist()) for key in ("names", "families", "kinds"))
    width = len(names)
    if not 1 <= width <= MAX_COLUMNS or {len(families), len(kinds)} != {width}:
        raise ProfileError("drift profile: names, families and kinds differ in length")
    columns = _columns(arrays, "", kinds)
    for name, column in zip(names, columns, strict=True):
        _check_column(name, column)
    memories: list[Memory | None] = [None] * width
    if int(found[0]) == FORMAT_TIME:
        _fill_memories(arrays, names, columns, memories)
    return names, families, columns, memories


def _columns(arrays: Mapping[str, NDArray[np.generic]], prefix: str, kinds: Sequence[str]) -> list[Column]:
    unit, rows = take(arrays, f"{prefix}unit", "f"), take(arrays, f"{prefix}rows", "i", 2)
    width = len(kinds)
    if len(unit) != width or rows.shape != (width, 2):
        raise ProfileError(f"drift profile: {prefix}unit and {prefix}rows differ in length from what they are of")
    ragged = {field: _split(arrays, prefix + field, width) for field in _RAGGED}
    return [
        Column(
            kind=kinds[k],
            unit=float(unit[k]),
            present=int(rows[k, 0]),
            missing=int(rows[k, 1]),
            **{field: ragged[field][k] for field in _RAGGED},
        )
        for k in range(width)
    ]


def _fill_memories(
    arrays: Mapping[str, NDArray[np.generic]],
    names: Sequence[str],
    columns: Sequence[Column],
    memories: list[Memory | None],
) -> None:
    of, numbers, level_of = (
        take(arrays, "memory_of", "i"),
        take(arrays, "memory", "f", 2),
        take(arrays, "level_of", "i"),
    )
    if (
        not len(of)
        or numbers.shape != (len(of), len(_NUMBERS))
        or not (_ascending(of, len(names)) and _ascending(level_of, len(of)))
    ):
        raise ProfileError("drift profile: memory_of, memory and level_of don't fit each other")
    coefficients = _split(arrays, "coefficients", len(of))
    levels = dict(zip(level_of.tolist(), _columns(arrays, "level_", (VALUE,) * len(level_of)), strict=True))
    for m, k in enumerate(of.tolist()):
        memory = _memory(dict(zip(_NUMBERS, numbers[m].tolist(), strict=True)), coefficients[m], levels.get(m))
        if memory.level is not None:
            _check_column(names[k], memory.level)
        if not _possible(memory, columns[k].kind):
            raise ProfileError(f"drift profile: memory of column {names[k]!r} is malformed")
        memories[k] = memory


def _ascending(index: NDArray[Any], size: int) -> bool:
    return bool((index >= 0).all() and (index < size).all() and (np.diff(index) > 0).all())


def _memory(number: Mapping[str, float], coefficients: Floats, level: Column | None) -> Memory:
    whole = {name: int(number[name]) if 0 <= number[name] <= MAX_LENGTH else -1 for name in ("length", "seen")}
    return Memory(
        serial=Serial(
            Autoregression(number["intercept"], coefficients),
            number["center"],
            number["scale"],
            number["low"],
            number["high"],
            whole["length"],
        ),
        unit=number["unit"],
        tau=number["tau"],
        seen=whole["seen"],
        level=level,
        band=number["band"],
        settled=bool(number["settled"]),
        slack=number["slack"],
        bursts=bool(number["bursts"]),
    )


def _possible(memory: Memory, kind: str) -> bool:
    serial = memory.serial
    model = serial.model
    plain = np.array(
        [serial.center, serial.scale, serial.low, serial.high, memory.unit, memory.tau, memory.band, memory.slack]
    )
    return bool(
        np.isfinite(plain).all()
        and np.isfinite(model.coefficients).all()
        and np.isfinite(model.intercept)
        and model.order <= MOST_ORDER
        and (kind == VALUE or not model.order)
        and serial.scale > 0
        and -Z_LIMIT <= serial.low <= serial.high <= Z_LIMIT
        and min(memory.unit, memory.tau, memory.band, memory.slack, memory.seen, serial.length) >= 0
        and (memory.level is None) == (serial.length == 0)
        and (memory.level is None or model.order > 0)
    )


def _split(arrays: Mapping[str, NDArray[np.generic]], field: str, width: int) -> list[Floats]:
    flat, lengths = take(arrays, field, "f"), take(arrays, f"{field}_lengths", "i")
    if len(lengths) != width or (lengths < 0).any() or lengths.sum() != len(flat):
        raise ProfileError(f"drift profile: array {field!r} doesn't have the length that {field}_lengths says")
    return [np.array(part, dtype=np.float64) for part in np.split(flat, np.cumsum(lengths)[:-1])][:width]


def _check_column(name: str, column: Column) -> None:
    """Refuse what could not have come from ``fit``."""
    bins = len(column.gaps)
    wrong = (
        column.kind not in {VALUE, CATEGORY}
        or not 2 <= bins <= MAX_BINS + 2
        or {len(column.edges), len(column.tiebreaks) if column.kind == VALUE else bins - 1} != {bins - 1}
        or {len(column.scores), len(column.centers)} != {bins}
        or (column.kind == VALUE and not len(column.sketch))
        or not (column.present >= 1 and column.missing >= 0)
        or not (np.isfinite(column.unit) and column.unit >= 0)
        or not (column.gaps >= 1).all()
        or not (
            np.isfinite(column.gaps).all() and np.isfinite(column.scores).all() and np.isfinite(column.centers).all()
        )
        or np.isnan(column.edges).any()
        or (column.edges[1:] < column.edges[:-1]).any()
        or np.isnan(column.sketch).any()
        or (column.sketch[1:] < column.sketch[:-1]).any()
    )
    if wrong:
        raise ProfileError(f"drift profile: column {name!r} is malformed")
