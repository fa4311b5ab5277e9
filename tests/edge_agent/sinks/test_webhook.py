"""Answers over HTTP, to real servers on loopback that are down, rude or slow."""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Self

import pytest

from edge_agent.config import WebhookSink
from edge_agent.retry import Backoff, Retry
from edge_agent.sinks import open_sink
from edge_agent.sinks.webhook import Webhook
from shared.errors import ConfigError
from shared.messages import AnswerRecord
from tests.brokers import free_port


class Address:
    """An HTTP server on ``port`` that keeps what it accepts; ``statuses`` are its next replies, then 204."""

    def __init__(self, port: int = 0, statuses: tuple[int, ...] = ()) -> None:
        self.batches: list[list[str]] = []
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.statuses = list(statuses)
        self.hold = threading.Event()
        self.hold.set()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.hold.wait(20)
                status = outer.statuses.pop(0) if outer.statuses else 204
                outer.requests.append((self.path, dict(self.headers)))
                if status == 204:
                    outer.batches.append([one["id"] for one in json.loads(body)])
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()
                self.close_connection = True  # so that a server that stops is away at once

            def log_message(self, *_: object) -> None:
                pass

        self._server = HTTPServer(("127.0.0.1", port), Handler)
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    @property
    def ids(self) -> list[str]:
        return [name for batch in self.batches for name in batch]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.hold.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)


def answers(first: int, last: int) -> list[AnswerRecord]:
    return [AnswerRecord(id=str(n), label="seven", score=0.5, release=1, variant="v") for n in range(first, last)]


def names(first: int, last: int) -> list[str]:
    return [str(n) for n in range(first, last)]


def sink_to(port: int, **values) -> Webhook:
    config = WebhookSink(url=f"http://127.0.0.1:{port}/in?of=7", **values)
    return Webhook(config, retry=Retry(Backoff(first=0.02, most=0.05)))


def give(sink: Webhook, given: list[AnswerRecord]) -> None:
    for one in given:
        sink.write(one)
    sink.flush()


def wait(condition, sink: Webhook | None = None) -> None:
    end = time.monotonic() + 20
    while not condition():
        if sink is not None:
            sink.flush()  # as the agent does twice a second
        assert time.monotonic() < end
        time.sleep(0.01)


def test_answers_come_in_order_in_batches_with_the_token(tmp_path):
    (tmp_path / "token").write_text("secret\n")
    with Address() as address:
        sink = sink_to(address.port, batch=4, token_file=str(tmp_path / "token"))
        give(sink, answers(0, 10))
        sink.close()
        sink.close()
        assert address.ids == names(0, 10)
        assert max(len(batch) for batch in address.batches) == 4
        path, headers = address.requests[0]
        assert path == "/in?of=7"
        assert headers["Authorization"] == "Bearer secret"
        assert headers["Content-Type"] == "application/json"
    assert (sink.lost, sink.trouble) == (0, "")


def test_an_address_that_is_down_gets_everything_when_it_comes_and_again_after_it_went(caplog):
    caplog.set_level("INFO")
    port = free_port()
    sink = sink_to(port, batch=3)
    give(sink, answers(0, 10))
    wait(lambda: sink.trouble)
    assert "refused" in sink.trouble
    with Address(port) as address:
        wait(lambda: len(address.ids) == 10, sink)
        assert address.ids == names(0, 10)
        wait(lambda: not sink.trouble)
    give(sink, answers(10, 15))
    wait(lambda: sink.trouble)
    with Address(port) as address:
        wait(lambda: len(address.ids) >= 5, sink)
        sink.close()
        assert address.ids == names(10, 15)
    assert sink.lost == 0
    assert caplog.text.count("trying again") == 2
    assert caplog.text.count("again\n") == 2


def test_a_server_that_closes_idle_connections_is_no_trouble(caplog):
    with Address() as address:
        sink = sink_to(address.port)
        for number in range(5):
            give(sink, answers(number, number + 1))
            wait(lambda: len(address.ids) > number)  # noqa: B023  (used at once)
        sink.close()
        assert address.ids == names(0, 5)
    assert not caplog.records


@pytest.mark.parametrize("status", [500, 503, 429, 408])
def test_a_refusal_that_may_pass_is_tried_again(status):
    with Address(statuses=(status, status)) as address:
        sink = sink_to(address.port)
        give(sink, answers(0, 3))
        wait(lambda: address.ids)
        sink.close()
        assert address.ids == names(0, 3)
        assert len(address.requests) == 3
    assert sink.lost == 0


def test_answers_that_are_never_wanted_are_counted_and_the_next_ones_sent():
    with Address(statuses=(400,)) as address:
        sink = sink_to(address.port)
        give(sink, answers(0, 3))
        wait(lambda: sink.lost)
        assert sink.trouble == "400 Bad Request"
        give(sink, answers(3, 5))
        wait(lambda: address.ids)
        sink.close()
        assert address.ids == names(3, 5)
    assert sink.lost == 3


def test_of_more_answers_than_may_wait_the_oldest_are_lost_and_counted():
    port = free_port()
    sink = sink_to(port, queue=10, batch=4)
    give(sink, answers(0, 25))
    wait(lambda: sink.trouble)
    with Address(port) as address:
        wait(lambda: len(address.ids) >= 10, sink)
        sink.close()
        assert address.ids == names(15, 25)
    assert sink.lost == 15


def test_one_that_accepts_nothing_holds_up_neither_the_agent_nor_its_end():
    with Address() as address:
        address.hold.clear()
        sink = sink_to(address.port, batch=1, timeout_seconds=0.2)
        give(sink, answers(0, 100))
        wait(lambda: sink.trouble)
        sink.close()
        assert sink.lost == 100
        address.hold.set()


def test_what_cannot_be_sent_at_the_end_is_counted():
    sink = sink_to(free_port())
    give(sink, answers(0, 7))
    sink.close()
    assert sink.lost == 7


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"url": "http://me:secret@127.0.0.1/x"}, "a password belongs into token_file"),
        ({"url": "http://127.0.0.1:99999/x"}, "Port out of range"),
        ({"url": "http://127.0.0.1/x", "token_file": "missing"}, "token_file cannot be read: No such file"),
        ({"url": "http://127.0.0.1/x", "token_file": "two"}, "must hold one line"),
        ({"url": "http://127.0.0.1/x", "token_file": "binary"}, "is no text"),
    ],
)
def test_what_is_wrong_with_the_configuration_is_said_at_the_start(tmp_path, monkeypatch, values, text):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "two").write_text("one\ntwo\n")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match=text):
        open_sink(WebhookSink(**values), lambda _: True)
