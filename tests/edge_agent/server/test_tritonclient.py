"""The unmodified client of Triton (tritonclient[http])."""

from __future__ import annotations

import numpy as np
import pytest

from tests.edge_agent.server.engines import WEIGHTS, ManyInputsEngine, TextEngine

triton = pytest.importorskip("tritonclient.http")
from tritonclient.utils import InferenceServerException, np_to_triton_dtype  # noqa: E402

X = np.random.default_rng(2).normal(size=(3, 16)).astype(np.float32)


@pytest.fixture
def connect(serve):
    clients = []

    def connect(*arguments, **keywords):
        clients.append(triton.InferenceServerClient(f"127.0.0.1:{serve(*arguments, **keywords).port}"))
        return clients[-1]

    yield connect
    for client in clients:
        client.close()


def tensor(name, values, *, binary=True):
    made = triton.InferInput(name, list(values.shape), np_to_triton_dtype(values.dtype))
    return made.set_data_from_numpy(values, binary_data=binary)


def test_health_and_metadata(connect):
    client = connect()
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("compass")
    assert client.is_model_ready("compass", "3")
    assert not client.is_model_ready("compass", "4")
    assert client.get_server_metadata()["name"] == "sanderling"
    assert client.get_model_metadata("compass")["inputs"][0]["shape"] == [-1, 16]
    assert client.get_model_config("compass")["input"][0]["dims"] == [16]
    assert client.get_model_repository_index()[0]["name"] == "compass"


@pytest.mark.parametrize("binary_out", [True, False, None])
@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("count", [1, 3])
def test_infer(connect, binary_in, binary_out, count):
    wanted = None
    if binary_out is not None:
        wanted = [triton.InferRequestedOutput(name, binary_data=binary_out) for name in ("scores", "label")]
    found = connect().infer("compass", [tensor("input", X[:count], binary=binary_in)], outputs=wanted, request_id="r7")
    np.testing.assert_allclose(found.as_numpy("scores"), X[:count] @ WEIGHTS, rtol=1e-5)
    assert found.as_numpy("label").shape == (count,)
    assert found.get_response()["id"] == "r7"


@pytest.mark.parametrize("compression", ["gzip", "deflate"])
def test_compressed(connect, compression):
    found = connect().infer("compass", [tensor("input", X)], request_compression_algorithm=compression)
    np.testing.assert_allclose(found.as_numpy("scores"), X @ WEIGHTS, rtol=1e-5)


@pytest.mark.parametrize("binary", [True, False])
def test_texts(connect, binary):
    texts = np.array(["sandpiper", "früh"], dtype=object)
    found = connect(TextEngine()).infer("compass", [tensor("input", texts, binary=binary)])
    assert [text.decode() for text in found.as_numpy("upper")] == ["SANDPIPER", "FRÜH"]
    np.testing.assert_allclose(found.as_numpy("share"), [3 / 9, 0])


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("count", [1, 2])
def test_every_datatype_comes_back_as_it_went(connect, binary, count):
    engine = ManyInputsEngine()
    random = np.random.default_rng(3)
    given = {}
    for spec in engine.signature:
        shape = (count, *(4 if size == -1 else size for size in spec.shape))
        dtype = np.dtype(spec.dtype)
        if dtype.kind in "iu" and spec.name != "length":
            limits = np.iinfo(dtype)
            given[spec.name] = random.integers(limits.min, limits.max, shape, dtype, endpoint=True)
        else:
            given[spec.name] = (random.normal(size=shape) * 2).clip(0, 3).astype(dtype)
    found = connect(engine).infer("compass", [tensor(name, values, binary=binary) for name, values in given.items()])
    for name, values in given.items():
        back = found.as_numpy(f"{name}_back")
        assert back.dtype == values.dtype
        np.testing.assert_array_equal(back, values)


def test_errors_say_what_was_wrong(connect):
    client = connect()
    with pytest.raises(InferenceServerException, match="expected shape"):
        client.infer("compass", [tensor("input", X[:, :4].copy())])
    with pytest.raises(InferenceServerException, match="no model 'other'"):
        client.infer("other", [tensor("input", X)])
    with pytest.raises(InferenceServerException, match="no output 'x'"):
        client.infer("compass", [tensor("input", X)], outputs=[triton.InferRequestedOutput("x")])
    with pytest.raises(InferenceServerException, match="NaN or infinite"):
        client.infer("compass", [tensor("input", np.full((1, 16), np.nan, np.float32))])
    assert client.infer("compass", [tensor("input", X)]).as_numpy("scores").shape == (3, 4)


def test_token(connect, tmp_path):
    (tmp_path / "token").write_text("sesame\n")
    (tmp_path / "token").chmod(0o600)
    client = connect(token_file=str(tmp_path / "token"))
    assert client.is_server_live()
    with pytest.raises(InferenceServerException, match="bearer token"):
        client.get_server_metadata()
    headers = {"Authorization": "Bearer sesame"}
    assert client.get_server_metadata(headers=headers)["name"] == "sanderling"
    client.infer("compass", [tensor("input", X)], headers=headers)
