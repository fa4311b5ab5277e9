"""Values as a file gives them, as arrays that the model takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edge_agent.inputs import row_of
from edge_agent.readers.base import Array, Samples
from shared.errors import InputError
from shared.manifest import SampleSpec


def fits(shape: tuple[int, ...], spec: SampleSpec) -> bool:
    """Whether ``shape`` is that of a sample; -1 in the spec is any size."""
    return len(shape) == len(spec.shape) and all(want in {-1, got} for want, got in zip(spec.shape, shape, strict=True))


def shape_text(spec: SampleSpec) -> str:
    """The shape for people.

    >>> shape_text(SampleSpec("uint8", (-1, 3)))
    '(any, 3)'
    """
    inner = ", ".join("any" if size < 0 else str(size) for size in spec.shape)
    return f"({inner},)" if len(spec.shape) == 1 else f"({inner})"


def to_array(values: Any, spec: SampleSpec) -> Array:
    """One sample from nested lists; ``None`` is a missing number where the model takes floats.

    Raises:
        InputError: it is no sample of ``spec``.
    """
    return _checked(_raw(values, spec), spec, batch=False)


def to_batch(values: Sequence[Any], spec: SampleSpec) -> Array | None:
    """Many samples at once, or ``None`` if that does not work out and each must be looked at."""
    try:
        return _checked(_raw(values, spec), spec, batch=True)
    except InputError:
        return None


def to_samples(values: Any, signature: Sequence[SampleSpec]) -> Samples:
    """One sample of a model with one or several inputs; of several, ``values`` maps their names, and of rows those of
    their columns.

    Raises:
        InputError: an input is missing, unknown, or no sample of its spec.
    """
    if len(signature) == 1:
        spec = signature[0]
        if isinstance(values, Mapping) and set(values) == {spec.name}:
            values = values[spec.name]
        if isinstance(values, Mapping) and spec.columns and spec.shape == (len(spec.columns),):
            return row_of(values, spec.columns, np.dtype(object if spec.dtype == "str" else spec.dtype))
        return to_array(values, spec)
    names = [spec.name for spec in signature]
    if not isinstance(values, Mapping) or set(values) != set(names):
        found = ", ".join(map(str, values)) if isinstance(values, Mapping) else type(values).__name__
        raise InputError(f"expected an object with {', '.join(names)}, got {found or 'nothing'}")
    samples = {}
    for spec in signature:
        try:
            samples[spec.name] = to_array(values[spec.name], spec)
        except InputError as error:
            raise InputError(f"{spec.name}: {error}") from error
    return samples


def cast(array: Array, spec: SampleSpec) -> Array:
    """``array`` in the spec's dtype.

    Raises:
        InputError: it holds something else than numbers, or numbers that the dtype cannot hold.
    """
    dtype = np.dtype(spec.dtype)
    if array.dtype == dtype:
        return array
    if array.dtype.kind not in "biuf":
        raise InputError(f"expected {dtype.name} values, got {_kind(array)}")
    with np.errstate(invalid="ignore", over="ignore"):
        made: Array = array.astype(dtype)
        same = dtype.kind == "f" or bool((made == array).all())
    if not same:
        raise InputError(f"expected {dtype.name} values, got {array.dtype.name} that it cannot hold")
    return made


def _raw(values: Any, spec: SampleSpec) -> Array:
    if spec.dtype == "str":
        return np.asarray(values, dtype=object)
    try:
        array: Array = np.asarray(values)
    except (ValueError, TypeError, OverflowError) as error:
        raise InputError("samples must be regular arrays of numbers") from error
    if array.dtype == object and np.dtype(spec.dtype).kind == "f" and array.ndim:
        missing = np.array([value is None for value in array.flat]).reshape(array.shape)
        try:
            return np.where(missing, np.nan, array).astype(np.float64)
        except (ValueError, TypeError) as error:
            raise InputError(f"expected {spec.dtype} values, got {_kind(array)}") from error
    return array


def _checked(array: Array, spec: SampleSpec, *, batch: bool) -> Array:
    shape = array.shape[1:] if batch else array.shape
    if not fits(shape, spec):
        raise InputError(f"expected shape {shape_text(spec)}, got {shape}")
    if spec.dtype != "str":
        return cast(array, spec)
    for value in array.flat:
        if not isinstance(value, str):
            raise InputError(f"expected text, got {type(value).__name__}")
    return array


def _kind(array: Array) -> str:
    return {"U": "text", "S": "bytes", "O": "a mixture"}.get(array.dtype.kind, array.dtype.name)
