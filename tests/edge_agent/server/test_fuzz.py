"""Anything may come. After each case the next good request is answered, and nothing is logged as our fault.

``SANDERLING_FUZZ`` is how many cases each test tries.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.edge_agent.server.client import Client, infer_binary, infer_json, request

ROOT = Path(__file__).parents[3]
CASES = int(os.environ.get("SANDERLING_FUZZ", "150"))
INFER = "/v2/models/compass/infer"
GOOD = request("POST", INFER, infer_json(np.ones((1, 16)), id="good"))
BODY, HEADER = infer_binary(np.ones((2, 16)))
BINARY = request("POST", INFER, BODY, inference_header_content_length=HEADER)

fuzzed = settings(max_examples=CASES, deadline=None, suppress_health_check=list(HealthCheck))


SERVER = """
import logging, sys
from edge_agent.health import rss_mib
from edge_agent.server import HttpConfig, Server
from tests.edge_agent.server.engines import LinearEngine
faults = []
handler = logging.Handler(logging.ERROR)
handler.emit = faults.append
for name in ("edge_agent", "asyncio"):
    logging.getLogger(name).addHandler(handler)
engine = LinearEngine()
server = Server(lambda: engine, HttpConfig(port=0, max_body_bytes=1 << 16))
server.start()
print(server.port, flush=True)
for _ in sys.stdin:
    print(rss_mib(), *(record.getMessage() for record in faults), flush=True)
server.stop()
"""
"""In a process of its own: what grows in this one is what hypothesis remembers."""


@pytest.fixture(scope="module")
def port():
    """A server that must log no error and not grow."""
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    )

    def asked() -> list[str]:
        print(file=process.stdin, flush=True)
        return process.stdout.readline().split(" ", 1)

    with process:
        port = int(process.stdout.readline())
        for _ in range(20):
            survives(port, b"")
        before = float(asked()[0])
        yield port
        after, *faults = asked()
        process.stdin.close()
        assert process.wait(10) == 0
    assert not faults
    assert float(after) < before + 16


def survives(port: int, data: bytes) -> None:
    with Client(port) as client:
        try:
            client.send(data)
            client.socket.shutdown(socket.SHUT_WR)
            client.at_end()
        except OSError:
            pass  # it may cut a bad client
        for reply in client.replies:
            assert reply.status < 500
    with Client(port) as client:
        client.send(GOOD)
        assert client.read().json["id"] == "good"


@fuzzed
@given(st.binary(max_size=2000))
def test_random_bytes(port, data):
    survives(port, data)


@fuzzed
@given(
    st.sampled_from([GOOD, BINARY, GOOD + BINARY]),
    st.lists(st.tuples(st.integers(0, 2000), st.binary(max_size=8)), max_size=6),
    st.integers(0, 3000),
)
def test_mutated_requests(port, data, changes, cut):
    changed = bytearray(data)
    for at, piece in changes:
        changed[at % len(data) : at % len(data) + len(piece)] = piece
    survives(port, bytes(changed[: len(changed) - cut % 400 if cut > 1000 else None]))


sizes = st.one_of(st.integers(-2, 70), st.sampled_from([2**31, 2**32, 2**63, 2**64, 10**30]))
scalars = st.one_of(st.floats(), st.integers(), st.booleans(), st.none(), st.text(max_size=5))
data = st.recursive(scalars, lambda inner: st.lists(inner, max_size=20), max_leaves=40)
datatypes = st.sampled_from(["FP32", "FP64", "BYTES", "BOOL", "INT8", "UINT64", "", "fp32"])
tensors = st.fixed_dictionaries(
    {"name": st.sampled_from(["input", "x", ""]), "datatype": datatypes, "shape": st.lists(sizes, max_size=5)},
    optional={
        "data": data,
        "parameters": st.dictionaries(st.sampled_from(["binary_data_size", "classification"]), sizes),
    },
)
well_formed = st.fixed_dictionaries(
    {"name": st.just("input"), "datatype": st.just("FP32"), "shape": st.just([1, 16])}, optional={"data": data}
)
requests = st.fixed_dictionaries(
    {"inputs": st.lists(st.one_of(tensors, well_formed), max_size=3)},
    optional={
        "id": st.one_of(st.text(max_size=300), st.integers()),
        "outputs": st.lists(
            st.fixed_dictionaries({"name": st.sampled_from(["scores", "label", "id", "y"])}), max_size=3
        ),
        "parameters": st.dictionaries(st.sampled_from(["binary_data_output", "timeout"]), scalars),
    },
)


@fuzzed
@given(requests, st.one_of(st.none(), sizes), st.binary(max_size=200))
def test_requests_that_look_right(port, asked, header, rest):
    body = json.dumps(asked).encode() + (rest if header is not None else b"")
    survives(port, request("POST", INFER, body, inference_header_content_length=header))


@fuzzed
@given(st.sampled_from([GOOD, BINARY]), st.integers(-100, 10**20), st.integers(1, 600))
def test_lying_lengths_and_truncated_bodies(port, whole, length, kept):
    head, _, body = whole.partition(b"\r\n\r\n")
    lines = [line for line in head.split(b"\r\n") if not line.startswith(b"content-length")]
    survives(port, b"\r\n".join([*lines, b"content-length: %d" % length]) + b"\r\n\r\n" + body[:kept])
