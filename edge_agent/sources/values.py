"""Samples out of JSON: one array, or one for each input of the model."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from edge_agent.inputs import row_of
from edge_agent.sources import Sample
from shared.errors import UNREADABLE, InputError
from shared.manifest import SampleSpec

Array = NDArray[Any]


class Given(Struct):
    """One input: raw little-endian ``data`` (base64; with its ``shape`` where the model leaves it open), or
    ``values``."""

    data: bytes | None = None
    values: Any = None
    shape: tuple[int, ...] | None = None


class Line(Given):
    """One sample. ``inputs`` is for models with several: values or a :class:`Given` by name; ``text`` is what training
    data calls it."""

    id: str | int | None = None
    inputs: dict[str, Any] | None = None
    text: Any = None


def parse_line(line: bytes, signature: SampleSpec | Sequence[SampleSpec]) -> Sample:
    """One line as a sample of ``signature``'s dtypes and shapes. A row of named columns may be an object with a value
    for each, as ``values`` or by itself.

    Raises:
        InputError: it is no JSON object, lacks an input, or has another size than the model takes.

    >>> parse_line(b'{"id": "a", "values": [1, 2]}', SampleSpec("uint8", (2,)))
    Sample(id='a', data=array([1, 2], dtype=uint8))
    """
    specs = (signature,) if isinstance(signature, SampleSpec) else signature
    try:
        found = msgspec.json.decode(line, type=Line)
    except UNREADABLE as error:
        raise InputError(f"not a sample in JSON: {error}") from error
    name = None if found.id is None else str(found.id)
    if found.data is None and len(specs) == 1 and _has_columns(specs[0]):
        row = found.values if found.values is not None else _columns_of(line, specs[0])
        if isinstance(row, dict):
            return Sample(name, _row(row, specs[0]))
    if found.inputs is not None:
        return Sample(name, _inputs(found.inputs, specs))
    if specs[0].dtype == "str" and found.values is None and found.data is None:
        found.values = found.text
    if len(specs) > 1:
        raise InputError(f"the model has several inputs; expected 'inputs' with {', '.join(s.name for s in specs)}")
    return Sample(name, as_array(found, specs[0]))


def _has_columns(spec: SampleSpec) -> bool:
    return bool(spec.columns) and spec.shape == (len(spec.columns),)


def _columns_of(line: bytes, spec: SampleSpec) -> dict[str, Any] | None:
    """The columns that stand in a line beside its id, if any of ``spec``'s does."""
    found = {name: value for name, value in msgspec.json.decode(line).items() if name != "id" or name in spec.columns}
    return found if not found.keys().isdisjoint(spec.columns) else None


def _row(values: dict[str, Any], spec: SampleSpec) -> Array:
    return row_of(values, spec.columns, np.dtype(object if spec.dtype == "str" else spec.dtype))


def parse_values(payload: bytes, signature: Sequence[SampleSpec]) -> Sample:
    """A message: a line as of :func:`parse_line`, or bare values.

    Raises:
        InputError: it is neither.

    >>> parse_values(b'[3, 4]', [SampleSpec("uint8", (2,))])
    Sample(id=None, data=array([3, 4], dtype=uint8))
    """
    if payload.lstrip()[:1] == b"{" or len(signature) > 1:
        return parse_line(payload, signature)
    try:
        values = msgspec.json.decode(payload)
    except UNREADABLE as error:
        raise InputError(f"not a sample in JSON: {error}") from error
    return Sample(None, as_array(Given(values=values), signature[0]))


def parse_raw(payload: bytes, signature: Sequence[SampleSpec]) -> Sample:
    """A message of raw little-endian values of a model with one input.

    Raises:
        InputError: its size is not the sample's.
    """
    return Sample(None, as_array(Given(data=payload), signature[0]))


def as_array(given: Given, spec: SampleSpec) -> Array:
    """``given`` as an array of ``spec``'s dtype and shape.

    Raises:
        InputError: values, size or shape do not fit.
    """
    if spec.dtype == "str":
        return _text(given, spec)
    dtype = np.dtype(spec.dtype)
    if given.data is not None:
        shape = given.shape or _open_shape(len(given.data), spec, dtype.itemsize)
        size = math.prod(shape)
        if min(shape, default=0) < 0 or len(given.data) != size * dtype.itemsize:
            raise InputError(
                f"data has {len(given.data)} bytes; {spec.dtype} of shape {shape} needs {size * dtype.itemsize}"
            )
        array = np.frombuffer(given.data, dtype.newbyteorder("<")).astype(dtype, copy=False)
        try:
            array = array.reshape(shape)
        except (ValueError, OverflowError) as error:  # no values in too many, or too large, dimensions
            raise InputError(f"data of no usable shape: {error}") from error
    elif given.values is not None:
        array = _numbers(given.values, spec, dtype)
    else:
        raise InputError("a sample needs 'data' (base64) or 'values'")
    return _shaped(array, spec)


def _numbers(values: Any, spec: SampleSpec, dtype: np.dtype[Any]) -> Array:
    try:
        given = np.asarray(values)
        with np.errstate(invalid="ignore", over="ignore"):
            array = given.astype(dtype)
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise InputError(f"values are no {spec.dtype} array: {error}") from error
    if spec.fixed and array.size != math.prod(spec.shape):
        raise InputError(f"{array.size} values; shape {spec.shape} needs {math.prod(spec.shape)}")
    if dtype.kind in "iub" and not np.array_equal(array, given):
        raise InputError(f"values do not fit into {spec.dtype}")
    return array


def _shaped(array: Array, spec: SampleSpec) -> Array:
    if spec.fixed and array.size == math.prod(spec.shape):
        return array.reshape(spec.shape)
    fits = array.ndim == len(spec.shape) and all(w in {-1, f} for f, w in zip(array.shape, spec.shape, strict=True))
    if not fits:
        wanted = ", ".join("any" if size == -1 else str(size) for size in spec.shape)
        raise InputError(f"expected shape ({wanted}), got {array.shape}")
    return array


def _open_shape(size: int, spec: SampleSpec, item: int) -> tuple[int, ...]:
    """The shape of raw values: the spec's, its one open dimension found from the number of bytes."""
    if spec.shape.count(-1) == 0:
        return spec.shape
    known = math.prod(n for n in spec.shape if n != -1) * item
    if spec.shape.count(-1) > 1 or not known or size % known:
        raise InputError("raw data of an open shape needs its 'shape'")
    return tuple(size // known if n == -1 else n for n in spec.shape)


def _text(given: Given, spec: SampleSpec) -> Array:
    try:
        text = given.data.decode() if given.data is not None else given.values
    except UnicodeDecodeError as error:
        raise InputError(f"data is no UTF-8 text: {error}") from error
    try:
        array = np.array(text, dtype=object)
    except ValueError as error:
        raise InputError(f"values are no array of text: {error}") from error
    if not array.size or not all(isinstance(one, str) for one in array.ravel()):  # .flat has fewer dimensions
        raise InputError("expected text")
    return _shaped(array.reshape(spec.shape) if array.size == 1 and spec.shape in {(), (1,)} else array, spec)


def _inputs(found: Mapping[str, Any], specs: Sequence[SampleSpec]) -> Array | dict[str, Array]:
    arrays = {}
    for spec in specs:
        if spec.name not in found:
            raise InputError(f"input {spec.name} is missing")
        value = found[spec.name]
        try:
            given = msgspec.convert(value, Given) if isinstance(value, dict) else Given(values=value)
            arrays[spec.name] = as_array(given, spec)
        except (InputError, msgspec.ValidationError) as error:
            raise InputError(f"input {spec.name}: {error}") from error
    if unknown := found.keys() - arrays.keys():
        raise InputError(f"no such input: {', '.join(sorted(unknown))}; the model takes {', '.join(arrays)}")
    return arrays if len(specs) > 1 else next(iter(arrays.values()))
