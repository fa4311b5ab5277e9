"""A client that can send anything, and reads responses with httptools."""

from __future__ import annotations

import json
import socket
from typing import Any, Self

import httptools
import numpy as np


class Reply:
    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status, self.headers, self.body = status, headers, body

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Client:
    """One connection."""

    def __init__(self, port: int, timeout: float = 10.0) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout)
        self.parser = httptools.HttpResponseParser(self)
        self.replies: list[Reply] = []
        self.closed = False
        self._headers: dict[str, str] = {}
        self._body = b""

    def on_message_begin(self) -> None:
        self._headers, self._body = {}, b""

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode().lower()] = value.decode()

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        if self.parser.get_status_code() >= 200:
            self.replies.append(Reply(self.parser.get_status_code(), self._headers, self._body))

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def read(self) -> Reply:
        """The next response."""
        while not self.replies:
            data = self.socket.recv(1 << 16)
            if not data:
                raise EOFError("the server closed the connection")
            self.parser.feed_data(data)
        return self.replies.pop(0)

    def at_end(self) -> bool:
        """Whether the server closes the connection now."""
        try:
            while data := self.socket.recv(1 << 16):
                self.parser.feed_data(data)
        except ConnectionResetError:
            pass
        return True

    def ask(self, method: str, path: str, body: bytes = b"", **headers: Any) -> Reply:
        self.send(request(method, path, body, **headers))
        return self.read()

    def close(self) -> None:
        self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def request(method: str, path: str, body: bytes = b"", **headers: Any) -> bytes:
    """Bytes of one request; ``None`` leaves a header out, ``_`` in a name is ``-``."""
    lines = {"host": "test", "content-length": len(body) if method == "POST" else None}
    lines.update({name.replace("_", "-"): value for name, value in headers.items()})
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items() if value is not None)
    return f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + body


def infer_json(x: Any, **more: Any) -> bytes:
    """A JSON inference request for the linear engine."""
    x = np.asarray(x, np.float32)
    tensor = {"name": "input", "datatype": "FP32", "shape": list(x.shape), "data": x.tolist()}
    return json.dumps({"inputs": [tensor], **more}).encode()


def infer_binary(x: Any, **more: Any) -> tuple[bytes, int]:
    """A binary one, and the length of its JSON."""
    x = np.asarray(x, np.float32)
    parameters = {"binary_data_size": x.nbytes}
    tensor = {"name": "input", "datatype": "FP32", "shape": list(x.shape), "parameters": parameters}
    head = json.dumps({"inputs": [tensor], **more}).encode()
    return head + x.tobytes(), len(head)
