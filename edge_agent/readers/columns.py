"""Which columns of a table make up a sample."""

from __future__ import annotations

import math
from collections.abc import Sequence

from msgspec import Struct

from shared.errors import InputError
from shared.manifest import SampleSpec

ID = "id"
SHOWN = 6


class Part(Struct, frozen=True):
    """One input of the model and the table's columns, by position, that hold its values in C order."""

    spec: SampleSpec
    columns: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """The sample's shape; a single free dimension takes what the columns leave."""
        return self.spec.shape


class Plan(Struct, frozen=True):
    """How to read a table: ``id_column`` by position or ``None``, and each input's columns."""

    id_column: int | None
    parts: tuple[Part, ...]


def names_of(spec: SampleSpec) -> tuple[str, ...]:
    """Column names that ``spec`` asks for: its own, else its name, numbered where it has several values.

    >>> names_of(SampleSpec("float32", (2,), name="x"))
    ('x_0', 'x_1')
    """
    if spec.columns:
        return spec.columns
    size = math.prod(spec.shape)
    return (spec.name,) if size in {1, -1} else tuple(f"{spec.name}_{i}" for i in range(max(size, 0)))


def is_header(first: Sequence[str], signature: Sequence[SampleSpec]) -> bool:
    """Whether the first row of a table names its columns: it has the names asked for, or cells that are no numbers."""
    names = {name for spec in signature for name in names_of(spec)}
    if names and names <= {cell.strip() for cell in first}:
        return True
    if list(first) == [str(i) for i in range(len(first))] and len(first) > 1:
        return True  # numbered by a program that had no names
    if any(spec.dtype == "str" for spec in signature):
        return ID in first
    return not all(_is_number(cell) for cell in first)


def match(header: Sequence[str] | None, width: int, signature: Sequence[SampleSpec]) -> Plan:
    """Find the inputs' columns in a table of ``width`` columns.

    Named columns may stand in any order and among others; without names their count must be the sample's.

    Raises:
        InputError: columns are missing, twice there, or too many or too few.
    """
    wanted = [names_of(spec) for spec in signature]
    if header is None:
        return _by_count(list(range(width)), signature, None)
    header = [name.strip() for name in header]
    needed = [name for names in wanted for name in names]
    id_column = header.index(ID) if ID in header and ID not in needed else None
    missing = [name for name in needed if name not in header]
    if not missing:
        twice = [name for name in needed if header.count(name) > 1]
        if twice:
            raise InputError(f"column {twice[0]!r} is there {header.count(twice[0])} times")
        if all(-1 not in spec.shape or spec.columns for spec in signature):
            parts = (Part(s, tuple(map(header.index, names))) for s, names in zip(signature, wanted, strict=True))
            return Plan(id_column, tuple(parts))
    if missing and any(spec.columns for spec in signature):
        raise InputError(f"has no column {_listed(missing)}; it has {_listed(header)}")
    return _by_count([i for i in range(width) if i != id_column], signature, id_column)


def _by_count(positions: Sequence[int], signature: Sequence[SampleSpec], id_column: int | None) -> Plan:
    sizes = [math.prod(spec.shape) for spec in signature]
    free = [i for i, size in enumerate(sizes) if size < 0]
    if any(sum(n < 0 for n in spec.shape) > 1 for spec in signature) or len(free) > 1:
        raise InputError("a table cannot hold samples with more than one free dimension")
    if free:
        sizes[free[0]] = len(positions) - sum(size for size in sizes if size >= 0)
    if sum(sizes) != len(positions) or min(sizes) < 0:
        names = [name for spec in signature for name in names_of(spec)]
        asked = f"{sum(sizes)} columns ({_listed(names)})" if len(sizes) > 1 or names else f"{sum(sizes)} columns"
        raise InputError(f"expected {asked}, got {len(positions)}")
    parts, at = [], 0
    for spec, size in zip(signature, sizes, strict=True):
        parts.append(Part(spec, tuple(positions[at : at + size])))
        at += size
    return Plan(id_column, tuple(parts))


def _listed(names: Sequence[str]) -> str:
    more = f", ... ({len(names)} in all)" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _is_number(cell: str) -> bool:
    try:
        float(cell or "nan")
    except ValueError:
        return cell.strip().lower() in {"true", "false", ""}
    return True
