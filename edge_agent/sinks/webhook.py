"""Answers POSTed to an HTTP address, in a thread of its own."""

from __future__ import annotations

import http.client
import logging
import ssl
import threading
import time
from collections import deque
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

import edge_agent
from edge_agent.retry import Backoff, Retry
from edge_agent.sinks.config import WebhookSink
from shared.errors import ConfigError
from shared.files import reason
from shared.messages import AnswerRecord

log = logging.getLogger("edge_agent.sink")

AGAIN = frozenset({408, 425, 429})
"""Refusals that a later try may overcome, beside all of 5xx."""
GOODBYE_SECONDS = 1.0


class Refused(Exception):  # noqa: N818  (an answer, not an error of ours)
    """The address does not want these answers, now or ever."""


class Webhook:
    """POSTs JSON arrays of answers. An address that is away is tried again, later each time, while up to ``queue``
    answers wait; it gets answers at least once: one whose reply was lost comes again.

    Raises:
        ConfigError: the token cannot be read, or the address is none.
    """

    def __init__(
        self, config: WebhookSink, *, context: ssl.SSLContext | None = None, retry: Retry | None = None
    ) -> None:
        self.lost = 0
        self.trouble = ""
        self._config = config
        self._headers = {"Content-Type": "application/json", "User-Agent": f"sanderling/{edge_agent.__version__}"}
        if config.token_file:
            self._headers["Authorization"] = f"Bearer {_token(config.token_file)}"
        self._connection = _connection(config, context)
        url = urlsplit(config.url)
        self._target = (url.path or "/") + (f"?{url.query}" if url.query else "")
        self._encoder = msgspec.json.Encoder()
        self._retry = retry or Retry(Backoff())
        self._waiting: deque[bytes] = deque()
        self._ready = False
        self._ends: float | None = None
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="webhook", daemon=True)
        self._thread.start()

    def write(self, answer: AnswerRecord) -> None:
        """See :class:`edge_agent.sinks.Sink`."""
        line = self._encoder.encode(answer)
        with self._changed:
            self._waiting.append(line)
            if len(self._waiting) > self._config.queue:
                self._waiting.popleft()
                self.lost += 1
            if len(self._waiting) >= self._config.batch:
                self._wake()

    def flush(self) -> None:
        """See :class:`edge_agent.sinks.Sink`."""
        with self._changed:
            if self._waiting:
                self._wake()

    def close(self) -> None:
        """See :class:`edge_agent.sinks.Sink`. What cannot be sent within a second is lost."""
        with self._changed:
            if self._ends is None:
                self._ends = time.monotonic() + GOODBYE_SECONDS
            self._wake()
        self._thread.join(GOODBYE_SECONDS + 0.5)
        with self._changed:
            self.lost += len(self._waiting)
            self._waiting.clear()

    def _wake(self) -> None:
        self._ready = True
        self._changed.notify()

    def _run(self) -> None:
        while (batch := self._next()) is not None:
            self._retry.begun()
            try:
                self._post(batch)
            except (OSError, http.client.HTTPException) as error:
                self._failed(str(error) or type(error).__name__)
                self._put_back(batch)
            except Refused as refusal:
                self._failed(str(refusal))
                with self._changed:
                    self.lost += len(batch)
            except Exception as error:  # this thread must outlive everything; what went wrong is told in full
                log.exception("answers cannot be sent to %s", self._config.url)
                self._failed(f"{type(error).__name__}: {error}")
                with self._changed:
                    self.lost += len(batch)
            else:
                self._retry.worked()
                if self.trouble:
                    log.info("answers reach %s again", self._config.url)
                    self.trouble = ""
        self._connection.close()

    def _next(self) -> list[bytes] | None:
        """The next answers to send; None when all is done, or time is up."""
        with self._changed:
            while True:
                ends, wait = self._ends, self._retry.wait()
                if ends is not None and (not self._waiting or time.monotonic() + wait >= ends):
                    return None
                if self._waiting and self._ready and not wait:
                    break
                self._changed.wait(wait if self._waiting and self._ready else None)
            count = min(self._config.batch, len(self._waiting))
            batch = [self._waiting.popleft() for _ in range(count)]
            self._ready = bool(self._waiting) and (len(self._waiting) >= self._config.batch or self._ends is not None)
            return batch

    def _put_back(self, batch: list[bytes]) -> None:
        with self._changed:
            room = max(0, self._config.queue - len(self._waiting))
            kept = batch[len(batch) - room :] if room < len(batch) else batch
            self.lost += len(batch) - len(kept)
            self._waiting.extendleft(reversed(kept))
            self._ready = True

    def _post(self, batch: list[bytes]) -> None:
        body = b"[" + b",".join(batch) + b"]"
        used = self._connection.sock is not None
        try:
            try:
                response = self._ask(body)
            except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError):
                if not used:
                    raise
                self._connection.close()  # a server closes what was idle for long: nothing is wrong with it
                response = self._ask(body)
            response.read(1 << 16)
            if response.will_close or not response.isclosed():
                self._connection.close()
        except BaseException:
            self._connection.close()
            raise
        if response.status in AGAIN or response.status >= 500:
            raise OSError(f"{response.status} {response.reason}")
        if not 200 <= response.status < 300:
            raise Refused(f"{response.status} {response.reason}")

    def _ask(self, body: bytes) -> http.client.HTTPResponse:
        self._connection.request("POST", self._target, body, self._headers)
        return self._connection.getresponse()

    def _failed(self, error: str) -> None:
        delay = self._retry.failed()
        if error != self.trouble:
            self.trouble = error
            log.error("answers cannot be sent to %s: %s; trying again in %.3g s", self._config.url, error, delay)


def _token(name: str) -> str:
    try:
        token = Path(name).read_text(encoding="ascii").strip()
    except OSError as error:
        raise ConfigError(f"sink: token_file cannot be read: {reason(error)}", file=name) from error
    except UnicodeDecodeError as error:
        raise ConfigError("sink: token_file is no text", file=name) from error
    if not token or not token.isprintable():
        raise ConfigError("sink: token_file must hold one line, the token", file=name)
    return token


def _connection(config: WebhookSink, context: ssl.SSLContext | None) -> http.client.HTTPConnection:
    url = urlsplit(config.url)
    try:
        host, port = url.hostname or "", url.port
    except ValueError as error:
        raise ConfigError(f"sink: {config.url}: {error}") from error
    if url.username or not host:
        raise ConfigError('sink: expected url = "https://HOST[:PORT]/PATH"; a password belongs into token_file')
    if url.scheme == "https":
        context = context or ssl.create_default_context()
        return http.client.HTTPSConnection(host, port, timeout=config.timeout_seconds, context=context)
    return http.client.HTTPConnection(host, port, timeout=config.timeout_seconds)
