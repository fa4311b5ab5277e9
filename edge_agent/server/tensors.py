"""Tensors of the Open Inference Protocol v2: JSON and the binary tensor extension, to and from numpy.

https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/inference_rest.md and
https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md

Binary values are little-endian and in row order; a BYTES tensor is, for each element, its length as uint32 and then
its bytes. Text travels as BYTES in UTF-8. In JSON, ``null`` is a number that is missing or none (NaN).
"""

from __future__ import annotations

import math
import struct
from array import array as packed
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from shared.errors import UNREADABLE, InputError, one_line

Array = NDArray[Any]
Buffer = bytes | bytearray | memoryview
Shape = tuple[int, ...]

DTYPES = {
    "BOOL": np.dtype(bool),
    "INT8": np.dtype("<i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "UINT8": np.dtype("<u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
    "BYTES": np.dtype(object),
}
DATATYPES = {dtype: name for name, dtype in DTYPES.items()}
MANY = 1 << 16
"""Bytes of JSON above which elements are counted before they are made: a Python float costs twelve times its text."""

_floats = msgspec.json.Decoder(list[float])
_whole = msgspec.json.Decoder(list[int])
_texts = msgspec.json.Decoder(list[str])
_anything = msgspec.json.Decoder()
_FLAT: dict[str, msgspec.json.Decoder[Any]] = {
    "b": msgspec.json.Decoder(list[bool]),
    "i": _whole,
    "u": _whole,
    "f": _floats,
    "O": _texts,
}


def datatype_of(dtype: np.dtype[Any] | str) -> str:
    """The protocol's name of a numpy dtype, or of a sample's (``str`` is BYTES).

    >>> datatype_of("float32"), datatype_of(np.dtype(np.uint8)), datatype_of("str")
    ('FP32', 'UINT8', 'BYTES')
    """
    if dtype == "str":
        return "BYTES"
    return DATATYPES.get(np.dtype(dtype).newbyteorder("<"), "BYTES")


def from_json(data: Buffer, datatype: str, shape: Shape) -> Array:
    """Values of a JSON array, flat or nested, as an array of ``shape``; BYTES as ``object`` array of ``str``.

    Raises:
        InputError: not as many values as ``shape`` has, or one that ``datatype`` cannot hold.
    """
    dtype, count = DTYPES[datatype], math.prod(shape)
    if len(data) > MANY and dtype.kind != "O":
        commas = bytes(data).count(b",")
        if commas + 1 != count:
            raise InputError(f"shape {list(shape)} has {count} values, but data has {commas + 1}")
    values: list[Any]
    try:
        values = _FLAT[dtype.kind].decode(data)
    except UNREADABLE:  # nested, or wrong
        values = _flat(data)
        values = [_value(value, datatype) for value in values]
    if len(values) != count:
        raise InputError(f"shape {list(shape)} has {count} values, but data has {len(values)}")
    if dtype.kind == "O":
        texts = np.empty(count, object)
        texts[:] = values
        return texts.reshape(shape)
    try:
        if dtype.kind in "iu":
            return _narrowed(values, dtype).reshape(shape)
        if datatype == "FP32":  # packed() is silent about what becomes infinite, and quicker than errstate
            return np.frombuffer(packed("f", values), np.float32).reshape(shape)
        with np.errstate(over="ignore"):  # infinite then, which the engine refuses in words
            array = np.array(values, dtype)
    except (ValueError, TypeError, OverflowError) as error:
        raise InputError(f"data has values that {datatype} cannot hold ({one_line(error)})") from error
    return array.reshape(shape)


def _narrowed(values: list[int], dtype: np.dtype[Any]) -> Array:
    limits = np.iinfo(dtype)
    if min(values, default=0) < limits.min or max(values, default=0) > limits.max:
        raise InputError(f"data has values that {DATATYPES[dtype]} cannot hold: {limits.min} to {limits.max}")
    return np.array(values, dtype)


def _flat(data: Buffer) -> list[Any]:
    """The scalars of nested JSON lists, in row order."""
    try:
        found = _anything.decode(data)
    except UNREADABLE as error:
        raise InputError(f"data is not valid JSON: {error}") from error
    if not isinstance(found, list):
        raise InputError(f"data must be a list, got {type(found).__name__}")
    level = found
    while any(isinstance(item, list) for item in level):
        if len({len(item) if isinstance(item, list) else -1 for item in level}) > 1:
            raise InputError("data is nested irregularly")
        level = [value for item in level for value in item]
    return level


def _value(value: Any, datatype: str) -> Any:
    kind = DTYPES[datatype].kind
    if kind == "f":
        if value is None:
            return math.nan
        fits = isinstance(value, float | int) and not isinstance(value, bool)
    elif kind == "b":
        fits = isinstance(value, bool) or (isinstance(value, int) and value in {0, 1})
    elif kind == "O":
        fits = isinstance(value, str)
    else:
        fits = isinstance(value, int) and not isinstance(value, bool)
    if not fits:
        told = "an object" if isinstance(value, dict) else one_line(ValueError(repr(value)[:40]))
        raise InputError(f"data has {told}, which is no {datatype}")
    return value


def from_binary(data: Buffer, offset: int, size: int, datatype: str, shape: Shape) -> Array:
    """The tensor in ``size`` bytes at ``offset`` of ``data``: a read-only view of them where they are aligned.

    Raises:
        InputError: ``size`` is not what ``shape`` takes, or a text is cut short or not UTF-8.
    """
    dtype, count = DTYPES[datatype], math.prod(shape)
    if dtype.kind == "O":
        return _from_bytes_tensor(bytes(memoryview(data)[offset : offset + size]), count).reshape(shape)
    if size != count * dtype.itemsize:
        raise InputError(f"{datatype} of shape {list(shape)} takes {count * dtype.itemsize} bytes, got {size}")
    if dtype.kind == "b" and any(byte > 1 for byte in set(memoryview(data)[offset : offset + size])):
        raise InputError("BOOL bytes must be 0 or 1")
    array: Array = np.frombuffer(data, dtype, count, offset)
    if not array.flags.aligned:  # some processors cannot read such floats, and some runtimes do not look
        array = array.copy()
    return array.reshape(shape)


def _from_bytes_tensor(data: bytes, count: int) -> Array:
    if count * 4 > len(data):
        raise InputError(f"{count} texts take at least {count * 4} bytes, got {len(data)}")
    texts = np.empty(count, object)
    at = 0
    for index in range(count):
        (length,) = struct.unpack_from("<I", data, at) if at + 4 <= len(data) else (1 << 32,)
        at += 4
        if at + length > len(data):
            raise InputError(f"text {index} of {count} is cut short")
        try:
            texts[index] = data[at : at + length].decode()
        except UnicodeDecodeError:
            raise InputError(f"text {index} of {count} is not UTF-8") from None
        at += length
    if at != len(data):
        raise InputError(f"{len(data) - at} bytes are left over after {count} texts")
    return texts


def to_binary(array: Array) -> bytes:
    """The bytes of ``array``: numbers, or an ``object`` array of ``str``."""
    if array.dtype.kind == "O":
        encoded = [text.encode() for text in array.flat]
        return b"".join(part for text in encoded for part in (struct.pack("<I", len(text)), text))
    return array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()


def to_json(array: Array) -> bytes:
    """The values of ``array`` as one flat JSON list; NaN and infinite as ``null``."""
    return msgspec.json.encode(array.ravel().tolist())


def as_text(value: Any) -> str:
    """A field that is no regular array, as JSON text: detections, ranked lists."""
    return msgspec.json.encode(value, enc_hook=_plain).decode()


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    raise NotImplementedError(f"a field holds a {type(value).__name__}, which is no JSON")


def as_array(values: Sequence[Any], dtype: np.dtype[Any] | None = None) -> Array:
    """One field of ``len(values)`` answers as (n, ...); numbers of ``dtype`` where it is known. What is no regular
    array of numbers becomes text.

    >>> as_array(["seven", "one"]).tolist(), as_array([0.5], np.dtype("float32")).dtype.name
    (['seven', 'one'], 'float32')
    """
    first = values[0]
    if isinstance(first, np.ndarray) and first.dtype.kind in "biuf":
        try:
            return first[None] if len(values) == 1 else np.stack(values)
        except ValueError:
            pass
    elif isinstance(first, bool | int | float | np.generic):
        try:
            array = np.array(values, dtype)
        except (ValueError, TypeError, OverflowError):
            pass
        else:
            if array.dtype.kind in "biuf":
                return array
    texts = np.empty(len(values), object)
    if isinstance(first, np.ndarray) and first.dtype.kind in "OU" and all(isinstance(t, str) for t in first.flat):
        return np.stack([value.astype(object) for value in values])
    texts[:] = [value if isinstance(value, str) else as_text(value) for value in values]
    return texts
