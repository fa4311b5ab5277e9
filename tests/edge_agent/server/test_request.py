"""What is kept of requests that were read: it changes nothing about those that come later."""

from __future__ import annotations

import json

import numpy as np
import pytest

from edge_agent.server.request import KEPT_BYTES, KEPT_PLANS, Plans
from shared.errors import InputError
from shared.manifest import SampleSpec
from tests.edge_agent.server.client import infer_binary, infer_json

ROW = SampleSpec("float32", (3,), name="input")
X = np.array([[0.25, -1.5, 3e-8]], np.float32)
GOOD = infer_json(X, parameters={"binary_data_output": True})


def plans(*specs: SampleSpec) -> Plans:
    return Plans(specs or (ROW,), max_batch=4)


def outcome(reader: Plans, body: bytes, header: int | None = None, begin: int = 0):
    try:
        plan, sample = reader.read(body, header, begin)
    except InputError as error:
        return str(error)
    array = np.asarray(sample)
    return plan.id, plan.count, plan.outputs, plan.binary, plan.deadline_ms, array.dtype, array.shape, array.tobytes()


def same(reader: Plans, body: bytes, header: int | None = None) -> None:
    expected = outcome(plans(), body, header)
    assert outcome(reader, body, header) == expected, body
    assert outcome(reader, b"head" + body, header, 4) == expected, body


@pytest.mark.parametrize("flip", [1, 2, 16, 32, 128])
def test_json_that_differs_in_one_byte(flip):
    reader = plans()
    for at in range(len(GOOD)):
        same(reader, GOOD)
        same(reader, GOOD[:at] + bytes([GOOD[at] ^ flip]) + GOOD[at + 1 :])
        same(reader, GOOD[:at] + GOOD[at + 1 :])


@pytest.mark.parametrize("flip", [1, 2, 16, 32, 128])
def test_a_binary_request_that_differs_in_one_byte(flip):
    reader = plans()
    good, header = infer_binary(X, parameters={"timeout": 5e6})
    for at in range(len(good)):
        same(reader, good, header)
        same(reader, good[:at] + bytes([good[at] ^ flip]) + good[at + 1 :], header)
    for other in range(header + 20):
        same(reader, good, other)


def body(data: str, *, before: str = "", behind: str = "") -> bytes:
    text = f'{{"inputs":[{{{before}"name":"input","datatype":"FP32","shape":[1,3],"data":{data}{behind}}}]}}'
    return text.encode()


@pytest.mark.parametrize(
    "data",
    [
        "[1,2,3]",
        " [ 1e400,-1e300,null ] ",
        "[[[7],[8],[9]]]",
        "[[1,2],3]",
        "[1,2]",
        "[1,2,true]",
        '[1,2,"]"]',
        '[1,2,3],"data":[4,5,6]',
        '[1,2,3],"shape":[3]',
        '[1,2,3]}],"id":"x","inputs":[{"name":"input","datatype":"FP32","shape":[1,3],"data":[4,5,6]',
        "[1,2,3]]",
        "[1,2,NaN]",
        "",
        "{}",
        "null",
        "1e3",
        "[" * 5000,
        "[1,2,99999999999999999999999999999999999999999999999]",
    ],
)
@pytest.mark.parametrize(("before", "behind"), [("", ""), ('"x":1,', ' ,"y":[2] '), ('"data":[9,9,9],', "")])
def test_other_data_in_a_known_text(data, before, behind):
    reader = plans()
    for known in ("[1,2,3]", " [ 4 , 5, 6 ]"):
        same(reader, body(known, before=before, behind=behind))
        same(reader, body(data, before=before, behind=behind))


@pytest.mark.parametrize(
    ("before", "behind"),
    [
        ('"data":[9,9,9],', ""),
        ("", ',"data":[9,9,9]'),
        ("", ',"d\\u0061ta":[9,9,9]'),
        ('"x":"\\"data\\":",', ""),
        ('"parameters":{"data":[1,2,3]},', ""),
        ('"x":{"data":[1,2,3]},', ""),
    ],
)
def test_a_key_that_is_there_twice(before, behind):
    """The last one counts, as ever."""
    reader = plans()
    for data in ("[1,2,3]", "[4,5,6]"):
        same(reader, body(data, before=before, behind=behind))
    assert reader._texts == {}


def test_known_texts_are_not_read_again(monkeypatch):
    reader = plans()
    reader.read(body("[1,2,3]"), None)
    monkeypatch.setattr(reader, "_plan", None)
    _, sample = reader.read(body("[4, 5, 6.5]"), None)
    assert sample.tolist() == [4, 5, 6.5]
    good, header = infer_binary(X)
    with pytest.raises(TypeError):
        reader.read(good, header)


def test_what_is_kept_is_bounded_and_holds_no_data():
    reader = plans()
    for i in range(2 * KEPT_PLANS):
        reader.read(body("[1,2,3]", before=f'"x":{i},'), None)
        good, header = infer_binary(X, own=i)
        reader.read(good, header)
    reader.read(body("[1,2,3]", before=f'"long":"{"x" * KEPT_BYTES}",'), None)
    for kept in (reader._texts, reader._kept):
        assert 0 < len(kept) <= KEPT_PLANS
        assert all(len(key) <= KEPT_BYTES for key in kept)
    assert all(part.data is None for _, plan, part in reader._texts.values() for part in (*plan.parts, part))


def test_requests_with_ids_of_their_own_are_not_kept():
    reader = plans()
    for i in range(3):
        plan, _ = reader.read(infer_json(X, id=f"id-{i}"), None)
        assert plan.id == f"id-{i}"
    assert reader._texts == {}


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int64", "float16", "float32", "float64"])
@pytest.mark.parametrize("count", [1, 3])
def test_numbers_of_every_kind(dtype, count):
    spec = SampleSpec(dtype, (2, 3), name="input")
    names = {"int8": "INT8", "uint8": "UINT8", "int64": "INT64", "float16": "FP16"}
    x = np.arange(count * 6).reshape(count, 2, 3).astype(dtype)
    tensor = {"name": "input", "datatype": names.get(dtype, dtype.replace("float", "FP")), "shape": list(x.shape)}
    reader = plans(spec)
    for _ in range(2):
        text = json.dumps({"inputs": [{**tensor, "data": x.tolist()}]}).encode()
        plan, found = reader.read(text, None)
        assert (plan.count, found.dtype, found.tolist()) == (count, x.dtype, (x[0] if count == 1 else x).tolist())
        head = json.dumps({"inputs": [{**tensor, "parameters": {"binary_data_size": x.nbytes}}]}).encode()
        for pad in range(8):  # wherever it stands, it is aligned for the model
            plan, found = reader.read(b"x" * pad + head + x.tobytes(), len(head), pad)
            assert found.flags.aligned
            assert found.tolist() == (x[0] if count == 1 else x).tolist()


def test_a_number_that_float32_cannot_hold_is_infinite():
    _, sample = plans().read(body("[1e39,-1e300,16777217]"), None)
    assert sample.tolist() == [np.inf, -np.inf, 16777216.0]
