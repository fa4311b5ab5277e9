"""Compressed request bodies, as clients of the protocol may send them."""

from __future__ import annotations

import zlib

from edge_agent.server.replies import HttpError
from shared.errors import InputError

_WINDOW = {b"gzip": 16 + zlib.MAX_WBITS, b"deflate": zlib.MAX_WBITS}


def plain_body(body: bytes, encoding: bytes, limit: int) -> bytes:
    """``body`` without its ``Content-Encoding``; a small body that unfolds to a huge one is refused on the way.

    Raises:
        HttpError: 415 for an unknown encoding, 413 beyond ``limit`` bytes.
        InputError: ``body`` is damaged.
    """
    encoding = encoding.strip().lower()
    if encoding in {b"", b"identity"}:
        return body
    if encoding not in _WINDOW:
        told = encoding[:32].decode("utf-8", "replace")
        raise HttpError(415, f"Content-Encoding {told!r} is not supported; there are gzip and deflate")
    unpacker = zlib.decompressobj(_WINDOW[encoding])
    try:
        plain = unpacker.decompress(body, limit + 1)
    except zlib.error as error:
        raise InputError(f"the {encoding.decode()} body is damaged: {error}") from error
    if len(plain) > limit:
        raise HttpError(413, f"the unpacked body is larger than {limit} bytes")
    if not unpacker.eof:
        raise InputError(f"the {encoding.decode()} body is cut short")
    return plain
