"""What every operation of a pipeline is built on: the two kinds of operation, and checks with one-line messages.

Invariants, held for every operation by ``tests/shared/pipeline/test_conformance.py``:

1. Operations are pure: same batch in, same batch out; the input is never written to.
2. Row ``i`` of the answer depends on row ``i`` of the batch alone. Sums run over the last axis of C-ordered memory, or
   by element-wise additions, and matrix products are stacks of one product a row: both add in an order that the number
   of rows doesn't change, so a batch and its rows one by one agree to the last bit.
3. ``to JSON → from JSON`` gives an equal operation.
4. A batch that does not fit raises ``ValueError`` with the operation's name, what it takes and what came.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, ClassVar

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

Array = NDArray[Any]
Floats = NDArray[np.float32]
Fields = dict[str, Array]
Row = dict[str, Any]
"""One sample's fields: arrays without the batch axis, scalars as Python numbers, text as ``str``."""

LIMIT_NUMBERS = 24_576
"""The most numbers that one operation may hold: a manifest, indented, stays below its 1 MiB."""
LIMIT_WORDS = 32_768
"""The most words of a vocabulary, for the same reason."""


class ArrayOperation(Struct, frozen=True, tag_field="op", forbid_unknown_fields=True):
    """An operation of ``preprocess`` or ``encode``: one array in, one array out, the batch first."""

    def __call__(self, batch: Array) -> Array:
        """(n, ...) -> (n, ...); a new array, a view of ``batch``, or ``batch`` itself."""
        raise NotImplementedError


class FieldOperation(Struct, frozen=True, tag_field="op", forbid_unknown_fields=True):
    """An operation of ``decode`` or ``postprocess``: reads named fields, the batch first, and sets others.

    Where a field's rows are no numbers (text, lists, dicts), it is an array (n,) of objects. Single numbers are worked
    on in float64: a row has them as Python floats.
    """

    needs_input: ClassVar[bool] = False
    """Whether the operation reads the tensor that went into the model, as the field ``input``."""

    def apply(self, fields: Mapping[str, Array]) -> Fields:
        """The fields that the operation sets."""
        raise NotImplementedError

    def __call__(self, fields: Fields) -> Fields:
        """``fields`` and what the operation sets, as a new dict."""
        return {**fields, **self.apply(fields)}

    def bind(self) -> Callable[[Row], None]:
        """The same for one row, without the batch axis: a function that sets the row's entries."""
        apply = self.apply

        def run(row: Row) -> None:
            for name, values in apply(_One(row)).items():
                value = values[0]
                row[name] = value.item() if isinstance(value, np.generic) else value

        return run


class _One(Mapping[str, Array]):
    """A row, read as a batch of one."""

    def __init__(self, row: Row) -> None:
        self._row = row

    def __getitem__(self, name: str) -> Array:
        value = self._row[name]
        if isinstance(value, np.ndarray | np.generic):
            return np.asarray(value)[None]
        return np.array([value]) if isinstance(value, int | float) else objects([value])

    def __iter__(self) -> Iterator[str]:
        return iter(self._row)

    def __len__(self) -> int:
        return len(self._row)


def objects(values: Iterable[Any]) -> Array:
    """``values`` as an array (n,) of objects, also when they are lists of one length."""
    rows = list(values)
    out = np.empty(len(rows), dtype=object)
    for i, value in enumerate(rows):
        out[i] = value
    return out


def name_of(operation: Struct) -> str:
    """The operation's name in a manifest, e.g. ``log_mel``."""
    return str(operation.__struct_config__.tag)


def refuse(operation: Struct, takes: str, batch: Array) -> ValueError:
    """The error for a batch that does not fit."""
    dtype = "text" if batch.dtype.kind in "UO" else batch.dtype.name
    return ValueError(f"{name_of(operation)}: takes {takes}, got {dtype} {batch.shape}")


def check_numbers(operation: Struct, batch: Array, dimensions: tuple[int, ...] = (), takes: str = "numbers") -> None:
    """Refuse what is no real number, or has another number of dimensions than one of ``dimensions``."""
    if batch.dtype.kind not in "biuf" or (dimensions and batch.ndim not in dimensions):
        raise refuse(operation, takes, batch)


def field(operation: Struct, fields: Mapping[str, Array], name: str) -> Array:
    """The field called ``name``.

    Raises:
        ValueError: there is none; the message lists those there are.
    """
    try:
        return fields[name]
    except KeyError:
        known = ", ".join(fields) or "none"
        raise ValueError(f"{name_of(operation)}: there is no field {name!r}; there are: {known}") from None


def number_field(operation: Struct, fields: Mapping[str, Array], name: str) -> Array:
    """The field called ``name``, which must hold numbers."""
    values = field(operation, fields, name)
    if values.dtype.kind not in "biuf":
        raise refuse(operation, f"numbers in field {name!r}", values)
    return values


def singles(operation: Struct, fields: Mapping[str, Array], name: str) -> NDArray[np.float64]:
    """The field called ``name``, one number a row, as (n,) float64."""
    values = number_field(operation, fields, name)
    if values.ndim < 1 or values.size != len(values):
        raise refuse(operation, f"one number a row in field {name!r}", values)
    return values.reshape(len(values)).astype(np.float64)


def short(values: Array) -> Any:
    """``values`` as nested tuples of the shortest decimals that give the same float32."""
    if values.ndim == 0:
        return float(str(np.float32(values)))
    return tuple(short(value) for value in values)


def check_size(operation: Struct, numbers: int) -> None:
    """Refuse an operation that would make its manifest too large.

    Raises:
        ValueError: more than ``LIMIT_NUMBERS``.
    """
    if numbers > LIMIT_NUMBERS:
        raise ValueError(f"{name_of(operation)}: {numbers} numbers; a manifest has room for {LIMIT_NUMBERS}")
