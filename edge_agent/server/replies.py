"""Responses as bytes, and which status an error has."""

from __future__ import annotations

from http import HTTPStatus

import msgspec

from shared.errors import DeadlineError, InputError, OverloadError, SanderlingError, UsageError

JSON = b"application/json"
TEXT = b"text/plain; version=0.0.4; charset=utf-8"
CLOSE = b"Connection: close\r\n"
_STARTS: dict[tuple[int, bytes], bytes] = {}


class HttpError(SanderlingError):
    """A request that is answered with ``status``. ``headers``: further lines, each ending in CRLF."""

    def __init__(self, status: int, message: str, headers: bytes = b"") -> None:
        self.status = status
        self.headers = headers
        super().__init__(message)


def status_of(error: SanderlingError) -> tuple[int, bytes]:
    """Status and further header lines for ``error``; 500 for what no client can do anything about."""
    if isinstance(error, HttpError):
        return error.status, error.headers
    if isinstance(error, InputError):
        return 400, b""
    if isinstance(error, OverloadError):
        return 429, b"Retry-After: 1\r\n"
    if isinstance(error, DeadlineError):
        return 504, b""
    if isinstance(error, UsageError):  # the engine was closed under way: an update or the end
        return 503, b"Retry-After: 1\r\n"
    return 500, b""


def reply(
    status: int, body: bytes, kind: bytes = JSON, *, headers: bytes = b"", date: bytes = b"", head_only: bool = False
) -> bytes:
    """A whole response. ``headers`` are further lines, each ending in CRLF, as is ``date``."""
    start = _STARTS.get((status, kind))
    if start is None:
        phrase = HTTPStatus(status).phrase.encode()
        start = b"HTTP/1.1 %d %b\r\nContent-Type: %b\r\nContent-Length: " % (status, phrase, kind)
        _STARTS[status, kind] = start
    return b"%b%d\r\n%b%b\r\n%b" % (start, len(body), date, headers, b"" if head_only else body)


def binary_reply(json: bytes, tensors: bytes, date: bytes, *, keep: bool) -> bytes:
    """The whole response to an inference whose ``tensors`` stand behind ``json``."""
    return (
        b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: %d\r\n%b"
        b"Inference-Header-Content-Length: %d\r\n%b\r\n%b%b"
        % (len(json) + len(tensors), date, len(json), b"" if keep else CLOSE, json, tensors)
    )


def error_body(message: str) -> bytes:
    """``{"error": ...}``, as the protocol says."""
    return msgspec.json.encode({"error": message.encode("utf-8", "replace").decode()})
