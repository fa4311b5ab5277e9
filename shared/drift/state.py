"""Detector states as bytes: a magic, a version, the profile's digest, MessagePack (from version 2 on compressed), a
checksum."""

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


def seal(magic: bytes, digest: str, state: Struct, *, version: int = VERSION) -> bytes:
    """``state`` as bytes that :func:`unseal` accepts."""
    packed = msgspec.msgpack.encode(state)
    body = magic + bytes([version]) + bytes.fromhex(digest) + (packed if version == VERSION else zlib.compress(packed))
    return body + zlib.crc32(body).to_bytes(4, "little")


def version_of(magic: bytes, data: bytes) -> int:
    """The version that ``data`` says it is; 0 if it is no such state."""
    return data[len(magic)] if len(data) > len(magic) and data[: len(magic)] == magic else 0


def unseal(magic: bytes, digest: str, data: bytes, type_: type[S], *, version: int = VERSION) -> S:
    """The state in ``data``.

    Raises:
        ProfileError: not such a state, another version, another profile's, truncated or damaged.
    """
    head = len(magic)
    if len(data) > MAX_BYTES:
        raise ProfileError(f"drift state: {len(data)} bytes; at most {MAX_BYTES} are allowed")
    if len(data) < head + 13 or data[:head] != magic:
        raise ProfileError("drift state: not a state of this detector, or truncated")
    if data[head] != version:
        raise ProfileError(f"drift state: version {data[head]}, but this version of sanderling reads version {version}")
    if zlib.crc32(data[:-4]) != int.from_bytes(data[-4:], "little"):
        raise ProfileError("drift state: damaged or truncated (checksum differs)")
    found = data[head + 1 : head + 9].hex()
    if found != digest:
        raise ProfileError(f"drift state: belongs to profile {found}, not to {digest}")
    packed = data[head + 9 : -4]
    try:
        return msgspec.msgpack.decode(packed if version == VERSION else _decompressed(packed), type=type_)
    except (*UNREADABLE, zlib.error) as error:
        raise ProfileError(f"drift state: {error}") from error


def _decompressed(packed: bytes) -> bytes:
    unpacker = zlib.decompressobj()
    found = unpacker.decompress(packed, MAX_BYTES)
    if not unpacker.eof or unpacker.unused_data:
        raise ProfileError(f"drift state: more than {MAX_BYTES} bytes unpacked, or incomplete")
    return found
