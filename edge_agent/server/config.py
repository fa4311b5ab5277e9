"""Limits of the HTTP server. Every one has a safe default."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from shared.errors import ConfigError

LOOPBACK = ("127.0.0.1", "::1", "localhost")


class HttpConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """Where the server listens, who may ask, and how much.

    ``port`` 0 takes any free one. ``token_file`` holds the bearer token that every request but the two health checks
    must carry. A request may have ``max_body_bytes`` of body, ``max_header_bytes`` of header and ``max_batch`` samples;
    all bodies that are being received share four times ``max_body_bytes``. A client has ``read_seconds`` for its header
    and then as long as 64 KiB a second take for the body; a connection without a request is closed after
    ``idle_seconds``.
    """

    host: str = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65_535)] = 8000
    token_file: str | None = None
    max_body_bytes: Annotated[int, Meta(ge=1 << 10, le=1 << 30)] = 16 << 20
    max_header_bytes: Annotated[int, Meta(ge=1 << 10, le=1 << 20)] = 16 << 10
    max_connections: Annotated[int, Meta(ge=1, le=65_536)] = 256
    max_batch: Annotated[int, Meta(ge=1, le=1 << 20)] = 1024
    read_seconds: Annotated[float, Meta(gt=0, le=3600)] = 10.0
    idle_seconds: Annotated[float, Meta(gt=0, le=86_400)] = 60.0

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach the server."""
        return self.host in LOOPBACK or self.host.startswith("127.")


def parse_address(text: str) -> tuple[str, int]:
    """Host and port of ``HOST:PORT``, ``:PORT`` (loopback) or ``[IPv6]:PORT``.

    Raises:
        ConfigError: it is none of these.

    >>> parse_address("0.0.0.0:8000"), parse_address("[::1]:8000"), parse_address(":8000")
    (('0.0.0.0', 8000), ('::1', 8000), ('127.0.0.1', 8000))
    """
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        colon = ""
    if not colon or not (port.isascii() and port.isdigit() and int(port) < 1 << 16):
        raise ConfigError(f"HTTP address {text!r}: expected HOST:PORT, like 127.0.0.1:8000")
    return host or "127.0.0.1", int(port)
