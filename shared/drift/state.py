"""Detector states as bytes: a magic, a version, the profile's digest, MessagePack, a checksum."""

from __future__ import annotations

import zlib
from typing import Any, TypeVar

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from shared.errors import UNREADABLE, ProfileError

VERSION = 1
MAX_BYTES = 256 << 20

S = TypeVar("S", bound=Struct)


class Packed(Struct, frozen=True):
    """An array: dtype, shape, little-endian bytes."""

    dtype: str
    shape: tuple[int, ...]
    data: bytes


def pack_array(array: NDArray[Any]) -> Packed:
    """``array`` as a field of a state."""
    little = array.astype(array.dtype.newbyteorder("<"), copy=False)
    return Packed(little.dtype.str, array.shape, little.tobytes())


def unpack_array(
    packed: Packed, like: NDArray[Any] | None = None, *, shape: tuple[int, ...] | None = None, dtype: Any = None
) -> NDArray[Any]:
    """The array, if it has the shape and dtype expected (of ``like``, or given).

    Raises:
        ProfileError: it has another shape or dtype.
    """
    want_shape = like.shape if like is not None else shape
    want = np.dtype(like.dtype if like is not None else dtype).newbyteorder("<")
    size = int(np.prod(packed.shape, dtype=np.int64)) * want.itemsize
    if (
        packed.dtype != want.str
        or (want_shape is not None and packed.shape != want_shape)
        or min(packed.shape, default=0) < 0
        or size != len(packed.data)
    ):
        raise ProfileError(
            f"drift state: an array of {packed.dtype} {packed.shape} where {want.str} {want_shape} belongs"
        )
    return np.frombuffer(packed.data, want).reshape(packed.shape).astype(want.newbyteorder("="))


def seal(magic: bytes, digest: str, state: Struct) -> bytes:
    """``state`` as bytes that :func:`unseal` accepts."""
    body = magic + bytes([VERSION]) + bytes.fromhex(digest) + msgspec.msgpack.encode(state)
    return body + zlib.crc32(body).to_bytes(4, "little")


def unseal(magic: bytes, digest: str, data: bytes, type_: type[S]) -> S:
    """The state in ``data``.

    Raises:
        ProfileError: not such a state, another version, another profile's, truncated or damaged.
    """
    head = len(magic)
    if len(data) > MAX_BYTES:
        raise ProfileError(f"drift state: {len(data)} bytes; at most {MAX_BYTES} are allowed")
    if len(data) < head + 13 or data[:head] != magic:
        raise ProfileError("drift state: not a state of this detector, or truncated")
    if data[head] != VERSION:
        raise ProfileError(f"drift state: version {data[head]}, but this version of sanderling reads version {VERSION}")
    if zlib.crc32(data[:-4]) != int.from_bytes(data[-4:], "little"):
        raise ProfileError("drift state: damaged or truncated (checksum differs)")
    found = data[head + 1 : head + 9].hex()
    if found != digest:
        raise ProfileError(f"drift state: belongs to profile {found}, not to {digest}")
    try:
        return msgspec.msgpack.decode(data[head + 9 : -4], type=type_)
    except UNREADABLE as error:
        raise ProfileError(f"drift state: {error}") from error
