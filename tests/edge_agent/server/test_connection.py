"""What clients do to a connection, and who may connect."""

from __future__ import annotations

import logging
import socket
import threading
import time

import numpy as np
import pytest

from edge_agent.server import HttpConfig, Server
from shared.errors import ConfigError
from tests.edge_agent.server.client import Client, infer_binary, infer_json, request
from tests.edge_agent.server.engines import LinearEngine

X = np.ones((1, 16), np.float32)
INFER = "/v2/models/compass/infer"


def test_pipelined_requests_are_answered_in_order(serve):
    ids = [f"r{index}" for index in range(100)]
    with Client(serve().port) as client:
        client.send(b"".join(request("POST", INFER, infer_json(X, id=id_)) for id_ in ids))
        assert [client.read().json["id"] for _ in ids] == ids


def test_request_in_single_bytes(serve):
    body, header = infer_binary(X)
    with Client(serve().port) as client:
        for byte in request("POST", INFER, body, inference_header_content_length=header):
            client.send(bytes([byte]))
        assert client.read().status == 200


def test_chunked_body(serve):
    body = infer_json(X)
    head = request("POST", INFER, content_length=None, transfer_encoding="chunked")
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (body[:7], body[7:]))
    with Client(serve().port) as client:
        client.send(head + chunks + b"0\r\nx-trailer: 1\r\n\r\n")
        assert client.read().status == 200
        assert client.ask("GET", "/v2").status == 200


def test_answers_before_a_refusal_come_first(serve):
    with Client(serve().port) as client:
        client.send(request("POST", INFER, infer_json(X, id="good")) + b"NONSENSE\r\n\r\n" + request("GET", "/v2"))
        assert client.read().json["id"] == "good"
        refused = client.read()
        assert refused.status == 400
        assert refused.headers["connection"] == "close"
        assert client.at_end()


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (request("POST", INFER, content_length=5000), 413),
        (request("POST", INFER, content_length=None), 411),
        (request("POST", INFER, content_length=None, transfer_encoding="chunked") + b"1000\r\n" + b"x" * 4096, 413),
        (request("GET", "/v2", x="y" * 3000), 431),
        (b"GET /" + b"x" * 3000, 431),
        (b"GET /v2 HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n", 400),
        (b"CONNECT a:1 HTTP/1.1\r\nhost: a\r\n\r\n", 405),
    ],
)
def test_refused_and_closed(serve, data, status):
    server = serve(max_body_bytes=2048, max_header_bytes=2048)
    with Client(server.port) as client:
        client.send(data)
        assert client.read().status == status
        assert client.at_end()
    with Client(server.port) as client:
        assert client.ask("GET", "/v2").status == 200


def test_upgrade_offer_is_ignored(serve):
    with Client(serve().port) as client:
        offer = {"connection": "Upgrade, HTTP2-Settings", "upgrade": "h2c", "http2_settings": "AAMAAABkAAQA"}
        assert client.ask("POST", INFER, infer_json(X, id="j"), **offer).json["id"] == "j"
        assert client.ask("GET", "/v2", **offer).status == 200


def test_head_has_no_body_and_old_clients_are_closed(serve):
    server = serve()
    with Client(server.port) as client:
        client.send(b"HEAD /v2 HTTP/1.1\r\n\r\n")
        time.sleep(0.05)
        head = client.socket.recv(4096)
        assert head.startswith(b"HTTP/1.1 200")
        assert head.endswith(b"\r\n\r\n")
        assert client.ask("GET", "/v2").status == 200
    with Client(server.port) as client:
        client.send(b"GET /v2 HTTP/1.0\r\n\r\n")
        assert client.read().status == 200
        assert client.at_end()


def test_slow_client_is_told_and_idle_one_closed(serve):
    server = serve(read_seconds=0.2, idle_seconds=0.2)
    with Client(server.port) as slow, Client(server.port) as silent:
        slow.send(b"GET /v2 HTTP/1.1\r\nx: ")
        assert slow.read().status == 408
        assert silent.at_end()


def test_room_is_made_for_newcomers(serve):
    server = serve(max_connections=2)
    with Client(server.port) as first, Client(server.port) as second:
        assert first.ask("GET", "/v2").status == 200
        second.send(b"GET /v2 HTTP/1.1\r\n")
        time.sleep(0.1)
        with Client(server.port) as third:
            assert third.ask("GET", "/v2").status == 200
            assert first.at_end()
            third.send(b"GET ")
            time.sleep(0.1)
            with Client(server.port) as fourth:
                assert fourth.read().status == 503


def test_token(serve, tmp_path, caplog):
    file = tmp_path / "token"
    file.write_text("sesame\n")
    file.chmod(0o644)
    with caplog.at_level(logging.WARNING):
        port = serve(token_file=str(file)).port
    assert "chmod 600" in caplog.text
    for header, status in ((None, 401), ("Bearer nothing", 401), ("Basic sesame", 401), ("bearer sesame", 200)):
        with Client(port) as client:
            assert client.ask("GET", "/metrics", authorization=header).status == status
    with Client(port) as client:
        assert client.ask("GET", "/v2/health/ready").status == 200


@pytest.mark.parametrize("content", [None, b"", b"two words", b"\xff\xfe", b"x" * 5000])
def test_token_file_that_cannot_be_used(tmp_path, content):
    file = tmp_path / "token"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigError, match="HTTP token file"):
        Server(LinearEngine, HttpConfig(port=0, token_file=str(file))).start()


def test_address_that_cannot_be_used(serve):
    taken = serve().port
    for config in (HttpConfig(port=taken), HttpConfig(host="203.0.113.1", port=0), HttpConfig(host="no such host")):
        with pytest.raises(ConfigError, match="HTTP server cannot listen on"):
            Server(LinearEngine, config).start()


def test_reach_beyond_this_machine_without_token_is_warned_about(serve, caplog):
    with caplog.at_level(logging.WARNING):
        serve(host="0.0.0.0")
    assert "whoever reaches this address may use the model" in caplog.text


def test_stop_answers_what_is_under_way(serve):
    server = serve()
    whole = request("POST", INFER, infer_json(X, id="late"))
    with Client(server.port) as client:
        client.send(whole[:-20])
        with Client(server.port) as other:  # after its answer the server has seen the beginning of the first request
            assert other.ask("GET", "/v2").status == 200
        stopping = threading.Thread(target=server.stop)
        stopping.start()
        client.send(whole[-20:])
        assert client.read().json["id"] == "late"
        stopping.join()
        assert client.at_end()


def test_stop_closes_connections_and_frees_the_port(serve):
    server = serve()
    with Client(server.port) as client:
        assert client.ask("GET", "/v2").status == 200
        server.stop()
        server.stop()
        assert client.at_end()
    with socket.create_server(("127.0.0.1", server.port)):
        pass
