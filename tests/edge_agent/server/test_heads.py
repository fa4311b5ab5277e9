"""Heads that were read before: no request is taken for another, however it arrives."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.scheduler.config import SchedulerConfig
from edge_agent.server.heads import KEPT_HEAD_BYTES, KEPT_HEADS, Head, Heads
from tests.edge_agent.server.client import infer_binary, infer_json, request
from tests.edge_agent.server.inprocess import Client, Peer

INFER = "/v2/models/compass/infer"
X = np.random.default_rng(2).normal(size=(4, 1, 16)).astype(np.float32)
BINARY, HEADER = infer_binary(X[0], id="b", outputs=[{"name": "scores", "parameters": {"binary_data": True}}])
JSON = request("POST", INFER, infer_json(X[0], id="j"))
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
"""Said while the client waits for it, so not where the body came along."""
CHUNKED = request("POST", INFER, content_length=None, transfer_encoding="chunked")
REQUESTS = (
    JSON,
    request("POST", INFER, infer_json(X[1], id="k")),
    request("POST", INFER, infer_json(X[2])),
    request("POST", INFER, infer_json(X[:2, 0], id="two")),
    request("POST", INFER, BINARY, inference_header_content_length=HEADER),
    request("POST", INFER, BINARY, inference_header_content_length=HEADER - 1),
    request("POST", INFER, b"{}"),
    request("POST", INFER, infer_json(X[3]), connection="close"),
    request("GET", "/v2/models/compass"),
    request("HEAD", "/v2/models/compass"),
    request("POST", "/v2/models/compass"),
    request("GET", "/nothing"),
    request("GET", "/v2", expect="100-continue"),
    request("POST", INFER, infer_json(X[0], id="u"), upgrade="h2c", connection="Upgrade"),
    CHUNKED + b"%x\r\n%b\r\n0\r\n\r\n" % (len(infer_json(X[0], id="c")), infer_json(X[0], id="c")),
    b"GET /v2 HTTP/1.0\r\nconnection: keep-alive\r\n\r\n",
    b"\r\n" + request("GET", "/v2/health/live"),
    b"GET /v2/health/live HTTP/1.1\r\nx: a\r\n b\r\n\r\n",
    b"GET /v2/health/live HTTP/1.1\nhost: a\n\n",
)


def in_single_bytes(peer: Peer, data: bytes) -> tuple[bytes, bool]:
    """What no head is found for: it is never whole."""
    client = Client(peer)
    found = client.feed(*(data[i : i + 1] for i in range(len(data)))), client.transport.closed
    client.leave()
    return found


@settings(max_examples=60, deadline=None)
@given(
    chosen=st.lists(st.sampled_from(REQUESTS), min_size=1, max_size=6),
    cuts=st.lists(st.integers(0, 2000), max_size=4),
    whole=st.booleans(),
)
def test_how_requests_arrive_changes_no_answer(chosen, cuts, whole):
    """One by one, pipelined, or cut anywhere; twice over the same connection, so that heads are known."""
    data = b"".join(chosen) * 2
    quick, slow = Peer(), Peer()
    client = Client(quick)
    if whole:
        packets = chosen * 2
    else:
        edges = [0, *sorted(cut % len(data) for cut in cuts), len(data)]
        packets = [data[a:b] for a, b in itertools.pairwise(edges) if a < b]
    found, expected = (client.feed(*packets), client.transport.closed), in_single_bytes(slow, data)
    assert found[0].replace(CONTINUE, b"") == expected[0].replace(CONTINUE, b"")
    assert found[1] == expected[1]


@pytest.mark.parametrize("whole", [JSON, REQUESTS[4], request("GET", "/v2", authorization="bearer sesame")])
@pytest.mark.parametrize("flip", [1, 32])
def test_a_head_that_differs_in_one_byte_is_another(whole, flip):
    token = b"sesame" if b"sesame" in whole else None
    quick, slow = Peer(token=token), Peer(token=token)
    expected = in_single_bytes(slow, whole)
    for at in range(whole.index(b"\r\n\r\n") + 4):
        client = Client(quick)
        assert (client.feed(whole), client.transport.closed) == expected, "known by now"
        client.leave()
        other = whole[:at] + bytes([whole[at] ^ flip]) + whole[at + 1 :]
        client = Client(quick)
        assert (client.feed(other), client.transport.closed) == in_single_bytes(slow, other), other
        client.leave()


@pytest.mark.parametrize("whole", [JSON, REQUESTS[4], request("GET", "/v2")])
def test_a_known_head_cut_anywhere_or_with_another_behind(whole):
    client = Client(Peer())
    good = client.feed(whole)
    for cut in range(1, len(whole)):
        client.give(whole[:cut])
        assert client.transport.written == b""
        assert client.connection._first is None
        assert client.feed(whole[cut:]) == good
        if whole is not REQUESTS[4]:  # as many ids are made as there are requests
            assert client.feed(whole + whole[:cut]) == good
            assert client.feed(whole[cut:] + whole) == good * 2


def test_a_known_request_inside_a_body_is_a_body():
    client = Client(Peer())
    client.feed(JSON)
    head = request("POST", INFER, content_length=len(JSON))
    assert client.feed(head) == b""
    assert client.feed(JSON).startswith(b"HTTP/1.1 400")
    assert client.feed(head, JSON).count(b"HTTP/1.1") == 1


def test_a_known_request_waits_for_the_one_before_and_for_a_client_who_does_not_read():
    client = Client(Peer())
    second = request("POST", INFER, infer_json(X[1], id="second"))
    live = request("GET", "/v2/health/live")
    good = client.feed(JSON), client.feed(second), client.feed(live)
    Client(client.peer)  # no longer alone: answers come from the queue
    for whole in (JSON, live, second):
        client.give(whole)
    assert client.transport.written == b""
    assert client.feed(b"") == good[0] + good[2] + good[1]
    client.connection.pause_writing()
    assert client.feed(JSON, second) == b""
    client.connection.resume_writing()
    assert client.feed(b"") == good[0] + good[1]


def test_a_binary_answer_says_that_it_is_the_last():
    client = Client(Peer())
    whole = request("POST", INFER, BINARY, inference_header_content_length=HEADER, connection="close")
    head, _, _ = client.feed(whole).partition(b"\r\n\r\n")
    assert b"Connection: close" in head.split(b"\r\n")
    assert client.transport.closed


def test_same_head_and_another_body():
    client = Client(Peer())
    bodies = [infer_json(np.round(x, 2), id=f"id-{i}") for i, x in enumerate(X)]
    size = max(map(len, bodies))
    for i, body in enumerate(bodies):
        assert b'"id":"id-%d"' % i in client.feed(request("POST", INFER, body.ljust(size)))


def test_a_known_head_is_not_read_again(monkeypatch):
    client = Client(Peer())
    first = client.feed(JSON)
    client.connection._parser = None
    assert client.feed(JSON) == first
    other = Client(client.peer)
    other.connection._parser = None
    assert other.feed(JSON) == first, "heads are the server's, not the connection's"


def test_a_wrong_token_is_never_known():
    peer = Peer(token=b"sesame")
    for _ in range(3):
        for token, status in ((b"sesame", b"200"), (b"sesamf", b"401"), (b"", b"401")):
            client = Client(peer)
            reply = client.feed(request("GET", "/metrics", authorization="bearer " + token.decode()))
            assert reply.startswith(b"HTTP/1.1 " + status)


def kept(data: bytes, length: int = 0, headers: dict[bytes, bytes] | None = None, *, keep: bool = True) -> bool:
    heads = Heads()
    heads.keep(data, Head(b"GET", b"/", headers or {}, length, keep=keep))
    return heads.find(data[: data.find(b"\r\n\r\n") + 4]) is not None


def test_only_heads_that_leave_no_doubt_are_kept():
    assert kept(b"GET / HTTP/1.1\r\na: b\r\n\r\n")
    assert kept(b"GET / HTTP/1.1\r\na: b\r\n\r\nbody", 4)
    assert not kept(b"GET / HTTP/1.1\r\na: b\r\n\r\nbodyGET", 4)
    assert not kept(b"GET / HTTP/1.1\r\na: b\r\n\r\nbo", 4)
    assert not kept(b"GET / HTTP/1.1\r\na: b\r\n\r\n", keep=False)
    assert not kept(b"\r\nGET / HTTP/1.1\r\na: b\r\n\r\n")
    assert not kept(b"\r\n\r\nGET / HTTP/1.1\r\na: b\r\n\r\n", 24)
    assert not kept(b"GET / HTTP/1.1\na: b\n\nbody\r\n\r\n")
    assert not kept(b"GET / HTTP/1.1\r\na: b\rc: d\r\n\r\n")
    assert not kept(b"GET / HTTP/1.1\r\na: b")
    assert not kept(b"GET / HTTP/1.1\r\na: %b\r\n\r\n" % (b"x" * KEPT_HEAD_BYTES))
    for name in (b"transfer-encoding", b"upgrade", b"expect"):
        assert not kept(b"GET / HTTP/1.1\r\n%b: b\r\n\r\n" % name, headers={name: b"b"})


def test_what_is_kept_is_bounded():
    peer = Peer()
    client = Client(peer)
    for i in range(2 * KEPT_HEADS):
        client.feed(request("GET", "/v2/health/live", x=str(i)))
        assert 0 < len(peer.app.heads._known) <= KEPT_HEADS


def test_an_update_is_seen_by_known_heads():
    peer = Peer()
    client = Client(peer)
    assert client.feed(JSON).startswith(b"HTTP/1.1 200")
    peer.engine = None
    assert client.feed(JSON).startswith(b"HTTP/1.1 503")
    peer.engine = type(Peer().engine)(version=4)
    assert b'"model_version":"4"' in client.feed(JSON)


def test_a_client_alone_is_answered_at_once_and_two_through_the_queue():
    peer = Peer()
    one = Client(peer)
    one.feed(JSON)
    turns = peer.loop.turns
    one.give(JSON)
    assert one.transport.written.startswith(b"HTTP/1.1 200")
    assert peer.loop.turns == turns
    other = Client(peer)
    for client in (one, other):
        client.transport.written = b""
        client.give(JSON)
        assert client.transport.written == b""
    peer.loop.run()
    assert one.transport.written == other.transport.written != b""
    one.connection.app.date = b""
    peer.tick()
    one.feed(JSON)
    peer.tick()  # only one asked since the last
    one.give(JSON)
    assert one.transport.written.startswith(b"HTTP/1.1 200")


def test_a_failure_at_once_is_told_like_any_other():
    peer = Peer()
    client = Client(peer)
    good = client.feed(JSON)
    peer.engine.fail = ZeroDivisionError("oh")
    failed = client.feed(JSON)
    assert failed.startswith(b"HTTP/1.1 500")
    assert b"the engine failed" in failed
    infinite = request(
        "POST", INFER, infer_json(X[0], id="j").replace(b"[[0.", b"[[1e300, 0.").replace(b"1, 16", b"1, 17")
    )
    assert client.feed(infinite).startswith(b"HTTP/1.1 400")
    peer.engine.fail = None
    assert client.feed(JSON) == good


@pytest.mark.parametrize("timeout", [0.001, 60e6])
def test_a_deadline_goes_through_the_queue(timeout):
    peer = Peer()
    client = Client(peer)
    whole = request("POST", INFER, infer_json(X[0], parameters={"timeout": timeout}))
    for _ in range(3):
        turns = peer.loop.turns
        assert client.feed(whole).startswith(b"HTTP/1.1 504" if timeout < 1 else b"HTTP/1.1 200")
        assert peer.loop.turns > turns


def test_a_deadline_for_all_goes_through_the_queue():
    peer = Peer(scheduler=SchedulerConfig(deadline_ms=1e-6))
    assert Client(peer).feed(JSON, JSON).startswith(b"HTTP/1.1 504")
