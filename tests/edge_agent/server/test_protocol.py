"""The Open Inference Protocol, with the client of others and with bytes of our own."""

from __future__ import annotations

import gzip
import json

import numpy as np
import pytest

from shared.errors import BackendError, DeadlineError, OverloadError
from tests.edge_agent.server.client import Client, infer_binary, infer_json
from tests.edge_agent.server.engines import LABELS, WEIGHTS, LinearEngine, ManyInputsEngine, TextEngine

X = np.random.default_rng(1).normal(size=(5, 16)).astype(np.float32)
INFER = "/v2/models/compass/infer"


@pytest.fixture
def client(serve):
    with Client(serve().port) as client:
        yield client


def outputs(reply) -> dict[str, object]:
    assert reply.status == 200, reply.body
    return {tensor["name"]: tensor["data"] for tensor in reply.json["outputs"]}


def test_health_and_metadata(client):
    assert client.ask("GET", "/v2/health/live").json == {"live": True}
    assert client.ask("GET", "/v2/health/ready").json == {"ready": True}
    assert client.ask("GET", "/v2").json["name"] == "sanderling"
    expected = client.ask("GET", "/v2/models/compass").json
    assert expected["versions"] == ["3"]
    assert expected["inputs"] == [{"name": "input", "datatype": "FP32", "shape": [-1, 16]}]
    assert {"name": "scores", "datatype": "FP32", "shape": [-1, 4]} in expected["outputs"]
    assert {"name": "label", "datatype": "BYTES", "shape": [-1]} in expected["outputs"]
    assert client.ask("GET", "/v2/models/compass/versions/3").json == expected
    assert client.ask("GET", "/v2/models/compass/ready").json["ready"] is True
    assert client.ask("GET", "/v2/models/comp%61ss/versions/3/ready?x=1").status == 200
    assert client.ask("POST", "/v2/repository/index").json[0]["state"] == "READY"


@pytest.mark.parametrize("shape", [(1, 16), (16,)])
def test_one_sample_in_json(client, shape):
    found = client.ask("POST", INFER, infer_json(X[0].reshape(shape), id="a1"))
    assert found.json["id"] == "a1"
    assert found.json["model_version"] == "3"
    values = outputs(found)
    np.testing.assert_allclose(values["scores"], X[0] @ WEIGHTS, rtol=1e-5)
    assert values["label"] == [LABELS[int((X[0] @ WEIGHTS).argmax())]]


def test_several_samples_have_ids_of_their_own(client):
    body = infer_json(X, id="batch", outputs=[{"name": "id"}, {"name": "scores"}])
    values = outputs(client.ask("POST", INFER, body))
    assert values["id"] == [f"batch-{index}" for index in range(5)]
    np.testing.assert_allclose(np.reshape(values["scores"], (5, 4)), X @ WEIGHTS, rtol=1e-5)


@pytest.mark.parametrize("count", [1, 5])
def test_binary_in_and_out(client, count):
    body, header = infer_binary(X[:count], parameters={"binary_data_output": True})
    for _ in range(3):  # the second finds the plan of the first
        found = client.ask("POST", INFER, body, inference_header_content_length=header)
        length = int(found.headers["inference-header-content-length"])
        told = json.loads(found.body[:length])["outputs"]
        assert [tensor["name"] for tensor in told] == ["scores", "index", "score", "label"]
        data = found.body[length:]
        assert sum(tensor["parameters"]["binary_data_size"] for tensor in told) == len(data)
        scores = np.frombuffer(data[: 16 * count], "<f4").reshape(count, 4)
        np.testing.assert_allclose(scores, X[:count] @ WEIGHTS, rtol=1e-5)


def test_classification_gives_the_largest(client):
    wanted = [{"name": "scores", "parameters": {"classification": 2}}]
    values = outputs(client.ask("POST", INFER, infer_json(X[:2], outputs=wanted)))
    scores = X[:2] @ WEIGHTS
    order = np.argsort(-scores, axis=1)[:, :2]
    found = [text.split(":") for text in values["scores"]]
    assert [(int(index), label) for _, index, label in found] == [(i, LABELS[i]) for i in order.ravel()]
    np.testing.assert_allclose(
        [float(value) for value, _, _ in found], np.take_along_axis(scores, order, 1).ravel(), 1e-4
    )


def test_feedback(client):
    id_ = client.ask("POST", INFER, infer_json(X[:1])).json["id"]
    path = "/v2/models/compass/feedback"
    known = client.ask("POST", path, json.dumps({"id": id_, "truth": "north"}).encode())
    assert known.json == {"known": True, "correct": True}
    assert client.ask("POST", path, b'{"id": "old", "truth": "south"}').json == {"known": False}
    assert client.ask("POST", path, b'{"id": "old", "truth": "up"}').status == 400
    assert client.ask("POST", path, b'{"id": 3}').status == 400


def tensor(**changes):
    base = {"name": "input", "datatype": "FP32", "shape": [1, 16], "data": [0.5] * 16}
    return {name: value for name, value in {**base, **changes}.items() if value is not ...}


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"inputs": []}, "takes the inputs input, got none"),
        ({"inputs": [tensor(name="x")]}, "takes the inputs input, got x"),
        ({"inputs": [tensor(), tensor()]}, "takes the inputs"),
        ({"inputs": [tensor(datatype="FP64")]}, "expected FP32, got FP64"),
        ({"inputs": [tensor(datatype="FP8")]}, "no datatype 'FP8'"),
        ({"inputs": [tensor(shape=[1, 15])]}, "expected shape [-1, 16], got [1, 15]"),
        ({"inputs": [tensor(shape=[0, 16], data=[])]}, "holds no values"),
        ({"inputs": [tensor(shape=[2**31, 16])]}, "at most 1024"),
        ({"inputs": [tensor(shape=[2**70, 16])]}, "`int` <= 2147483648"),
        ({"inputs": [tensor(shape=[-1, 16])]}, ">= 0"),
        ({"inputs": [tensor(shape=[1] * 33)]}, "<= 32"),
        ({"inputs": [tensor(data=[0.5] * 15)]}, "16 values, but data has 15"),
        ({"inputs": [tensor(data=[[0.5] * 15, [0.5]])]}, "irregularly"),
        ({"inputs": [tensor(data=["a"] * 16)]}, "which is no FP32"),
        ({"inputs": [tensor(data=[None] * 16)]}, "NaN or infinite"),
        ({"inputs": [tensor(data=[1e300] * 16)]}, "NaN or infinite"),
        ({"inputs": [tensor(data={"a": 1})]}, "must be a list"),
        ({"inputs": [tensor(data=...)]}, "neither data nor binary_data_size"),
        ({"inputs": [tensor(parameters={"binary_data_size": 64})]}, "both data and binary_data_size"),
        ({"inputs": [tensor(data=..., parameters={"binary_data_size": 64})]}, "but 0 bytes came"),
        ({"inputs": [tensor(parameters={"shared_memory_region": "r"})]}, "shared memory"),
        ({"inputs": [tensor()], "outputs": [{"name": "nothing"}]}, "no output 'nothing'"),
        (
            {"inputs": [tensor()], "outputs": [{"name": "label", "parameters": {"classification": 1}}]},
            "no list of scores",
        ),
        ({"inputs": [tensor()], "id": "x" * 300}, "length <= 256"),
        ({"inputs": [tensor()], "id": 7}, "Expected `str`"),
        ([], "Expected `object`"),
    ],
)
def test_wrong_request_is_explained_and_the_next_is_answered(client, wrong, told):
    found = client.ask("POST", INFER, json.dumps(wrong).encode())
    assert found.status == 400, found.body
    assert told in found.json["error"]
    assert client.ask("POST", INFER, infer_json(X[:1])).status == 200


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"", "truncated"),
        (b"{", "truncated"),
        (b"\xff\xfe", "malformed"),
        (b"[" * 100_000, "not an inference request"),
        (
            b'{"inputs":[{"name":"input","datatype":"FP32","shape":[1,16],"data":'
            + b"[" * 60_000
            + b"]" * 60_000
            + b"}]}",
            "",
        ),
        (b'{"inputs":[{"name":"input","datatype":"FP32","shape":[1,16],"data":[NaN]}]}', "malformed"),
    ],
)
def test_body_that_is_no_request(client, body, told):
    found = client.ask("POST", INFER, body)
    assert found.status == 400
    assert told in found.json["error"]
    assert client.ask("POST", INFER, infer_json(X[:1])).status == 200


@pytest.mark.parametrize(("header", "status"), [("9999", 400), ("x", 400), ("-1", 400), ("9" * 30, 400)])
def test_lying_header_length(client, header, status):
    body, _ = infer_binary(X[:1])
    assert client.ask("POST", INFER, body, inference_header_content_length=header).status == status


def test_binary_sizes_that_do_not_fit(client):
    body, header = infer_binary(X[:1])
    for wrong in (body[:-1], body + b"1"):
        found = client.ask("POST", INFER, wrong, inference_header_content_length=header)
        assert found.status == 400
        assert "add up to 64" in found.json["error"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/v2/nothing", 404),
        ("GET", "/v2/models/other", 404),
        ("GET", "/v2/models/compass/versions/4", 404),
        ("GET", "/v2/models/compass/versions", 404),
        ("GET", "/v2/models/compass/infer/more", 404),
        ("GET", "/v2/models/%ff%00", 404),
        ("GET", INFER, 405),
        ("POST", "/v2", 405),
        ("DELETE", "/metrics", 405),
    ],
)
def test_wrong_path_or_method(client, method, path, status):
    found = client.ask(method, path)
    assert found.status == status
    assert "error" in found.json


@pytest.mark.parametrize(
    ("error", "status"),
    [(OverloadError("full"), 429), (DeadlineError("late"), 504), (BackendError("broke"), 500), (KeyError("bug"), 500)],
)
def test_engine_that_fails(serve, error, status):
    engine = LinearEngine()
    with Client(serve(engine).port) as client:
        assert client.ask("POST", INFER, infer_json(X[:1])).status == 200
        engine.fail = error
        assert client.ask("POST", INFER, infer_json(X[:1])).status == status
        assert client.ask("POST", INFER, infer_json(X)).status == status
        engine.fail = None
        assert client.ask("POST", INFER, infer_json(X[:1])).status == 200


def test_deadline_that_cannot_be_met(serve):
    body = infer_json(X[:1], parameters={"timeout": 1e-6})
    with Client(serve().port) as client:
        assert client.ask("POST", INFER, body).status == 504


def test_no_release_then_one_then_another(serve):
    now = []
    with Client(serve(lambda: now[-1] if now else None).port) as client:
        assert client.ask("GET", "/v2/health/live").status == 200
        assert client.ask("GET", "/v2/health/ready").status == 503
        assert client.ask("GET", "/v2/models/compass/ready").status == 503
        assert client.ask("POST", INFER, infer_json(X[:1])).status == 503
        assert client.ask("POST", "/v2/repository/index").json == []
        assert client.ask("GET", "/metrics").status == 200
        now.append(LinearEngine())
        assert client.ask("GET", "/v2/health/ready").status == 200
        assert client.ask("POST", INFER, infer_json(X[:1])).json["model_version"] == "3"
        now.append(LinearEngine(version=4))
        assert client.ask("GET", "/v2/models/compass").json["versions"] == ["4"]
        assert client.ask("POST", INFER, infer_json(X[:1])).json["model_version"] == "4"
        assert client.ask("GET", "/v2/models/compass/versions/3").status == 404


def test_texts_in_and_ragged_lists_out(serve):
    with Client(serve(TextEngine()).port) as client:
        ask = {"name": "input", "datatype": "BYTES", "shape": [2], "data": ["sandpiper", "früh"]}
        values = outputs(client.ask("POST", INFER, json.dumps({"inputs": [ask]}).encode()))
        assert values["letters"] == [9, 4]
        assert values["upper"] == ["SANDPIPER", "FRÜH"]
        assert [json.loads(value) for value in values["value"]] == [["a", "i", "e"], []]


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"\x05\x00\x00\x00abc", "cut short"),
        (b"\xff\xff\xff\xffabc", "cut short"),
        (b"\x02\x00\x00\x00\xff\xfe", "not UTF-8"),
        (b"\x01\x00\x00\x00ab", "left over"),
        (b"", "at least 4 bytes"),
    ],
)
def test_damaged_binary_texts(serve, data, told):
    ask = {"name": "input", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": len(data)}}
    head = json.dumps({"inputs": [ask]}).encode()
    with Client(serve(TextEngine()).port) as client:
        found = client.ask("POST", INFER, head + data, inference_header_content_length=len(head))
        assert found.status == 400
        assert told in found.json["error"]


def test_runtime_that_refuses_a_value_blames_the_value(serve):
    engine = ManyInputsEngine()
    inputs = []
    for spec in engine.signature:
        shape = [1, *(2 if size == -1 else size for size in spec.shape)]
        name = {"bool": "BOOL"}.get(spec.dtype, spec.dtype.upper().replace("FLOAT", "FP"))
        data = [False if spec.dtype == "bool" else 6] * int(np.prod(shape))
        inputs.append({"name": spec.name, "datatype": name, "shape": shape, "data": data})
    with Client(serve(engine).port) as client:
        found = client.ask("POST", INFER, json.dumps({"inputs": inputs}).encode())
        assert found.status == 400
        assert "cannot answer this sample" in found.json["error"]


def test_compressed_requests(serve):
    with Client(serve(max_body_bytes=4096).port) as client:
        body = infer_json(X[:1])
        assert client.ask("POST", INFER, gzip.compress(body), content_encoding="gzip").status == 200
        assert client.ask("POST", INFER, body, content_encoding="gzip").status == 400
        assert client.ask("POST", INFER, gzip.compress(body)[:-9], content_encoding="gzip").status == 400
        assert client.ask("POST", INFER, body, content_encoding="br").status == 415
        assert client.ask("POST", INFER, gzip.compress(bytes(1 << 20)), content_encoding="gzip").status == 413
