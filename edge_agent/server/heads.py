"""What was read of a request, and the heads that are kept so that httptools need not read them again."""

from __future__ import annotations

KEPT_HEADS = 256
KEPT_HEAD_BYTES = 1024
"""Longer heads are rare and are read each time."""
HEAD_END = b"\r\n\r\n"
UNKEPT = (b"transfer-encoding", b"upgrade", b"expect")
"""Headers with which there is more to a request than its head and a length."""


class Head:
    """What a request says before its body. ``headers`` have names in lower case; ``length`` is that of the body."""

    __slots__ = ("headers", "keep", "length", "method", "url")

    def __init__(self, method: bytes, url: bytes, headers: dict[bytes, bytes], length: int, *, keep: bool) -> None:
        self.method = method
        self.url = url
        self.headers = headers
        self.length = length
        self.keep = keep


class Heads:
    """Heads that were read and admitted, by their bytes: the same bytes would be read the same way again.

    Looked up by hash, which is seeded, so the time it takes tells nothing about a token in another client's head.
    """

    def __init__(self) -> None:
        self._known: dict[bytes, Head] = {}
        self.find = self._known.get

    def keep(self, data: bytes, head: Head) -> None:
        """``data`` was one request, its head read from the initial state of a parser, and perhaps something behind it.

        Kept is what leaves no doubt where the head ends: each line of it ends in CRLF, the first empty line is its
        end, and the body is all that follows.
        """
        end = data.find(HEAD_END) + 4
        if end < 4 or end > KEPT_HEAD_BYTES or len(data) != end + head.length or not head.keep:
            return
        text = data[:end]
        lines = text.count(b"\r\n")
        if text.startswith(b"\r\n") or text.count(b"\n") != lines or text.count(b"\r") != lines:
            return
        if any(name in head.headers for name in UNKEPT):
            return
        if len(self._known) >= KEPT_HEADS:
            self._known.clear()
        self._known[text] = head


class Request:
    """One whole request; its body is what ``data`` has from ``start`` on.

    ``alone``: nothing else of this client waits or has come, so the answer may be given at once.
    """

    __slots__ = ("alone", "data", "head", "start")

    def __init__(self, head: Head, data: bytes, start: int = 0, *, alone: bool = False) -> None:
        self.head = head
        self.data = data
        self.start = start
        self.alone = alone

    @property
    def body(self) -> bytes:
        """The body by itself."""
        return self.data[self.start :] if self.start else self.data
