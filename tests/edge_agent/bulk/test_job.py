"""Long jobs over every kind of input, on a bare model file: killed with SIGKILL or split, they give the rows of an
undisturbed run. The formats of the output are in ``tests/edge_agent/test_commands_infer.py``."""

import json
import os
import signal
import subprocess
import sys
import time
import wave
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from onnx import TensorProto, helper
from PIL import Image

from edge_agent.bulk import job
from edge_agent.cli import main

ROWS, CHUNK, WIDTH = 20 * 8 + 3, 8, 16
HERE = {"cwd": Path(__file__).parents[3], "stderr": subprocess.DEVNULL}
SLOWED = f"""
import sys, time
from edge_agent.bulk import job, journal
job.CHUNK_MAX = {CHUNK}
append = journal.Journal.append
def slow(self, *words):
    append(self, *words)
    time.sleep(0.03)
journal.Journal.append = slow
from edge_agent.cli import main
sys.exit(main(sys.argv[1:]))
"""
KINDS = ("csv", "jsonl", "json", "npz", "npy", "parquet", "wav", "images", "mixed")


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(job, "CHUNK_MAX", CHUNK)


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    """(n, 16) -> the sum and the largest of each row."""
    nodes = [
        helper.make_node("ReduceSum", ["x", "axis"], ["sum"], keepdims=1),
        helper.make_node("ReduceMax", ["x"], ["most"], axes=[1], keepdims=1),
        helper.make_node("Concat", ["sum", "most"], ["y"], axis=1),
    ]
    return save(
        tmp_path_factory.mktemp("model") / "sums.onnx", nodes, [WIDTH], [helper.make_tensor("axis", 7, [1], [1])]
    )


@pytest.fixture(scope="session")
def picture_model(tmp_path_factory):
    """(n, 16, 16, 3) -> the mean of each image and a half of it."""
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["mean"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Unsqueeze", ["mean", "axis"], ["column"]),
        helper.make_node("Concat", ["column", "column"], ["y"], axis=1),
    ]
    constants = [helper.make_tensor("axis", 7, [1], [1])]
    return save(tmp_path_factory.mktemp("model") / "means.onnx", nodes, [16, 16, 3], constants)


def save(path, nodes, shape, constants):
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", *shape])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])],
        constants,
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(made.SerializeToString())
    return path


def write(directory, kind, x):
    """``x`` (rows, 16) as a file of this kind, or as a folder: the words of the command that say it."""
    path, ids = directory / f"in.{kind}", [f"row-{i}" for i in range(len(x))]
    if kind == "csv":
        lines = [",".join(["id", *(f"x_{i}" for i in range(WIDTH))])]
        lines += [",".join([name, *map(repr, row)]) for name, row in zip(ids, x.tolist(), strict=True)]
        path.write_text("\n".join(lines) + "\n")
    elif kind == "jsonl":
        path.write_text(
            "".join(json.dumps({"id": i, "values": r.tolist()}) + "\n" for i, r in zip(ids, x, strict=True))
        )
    elif kind == "json":
        path.write_text(json.dumps(x.tolist()))
    elif kind == "npz":
        np.savez_compressed(path, x=x, ids=ids)
    elif kind == "npy":
        np.save(path, x)
    elif kind == "parquet":
        columns = {"id": ids, **{f"x_{i}": x[:, i] for i in range(WIDTH)}}
        pq.write_table(pa.table(columns), path, row_group_size=50)
    elif kind == "wav":
        with wave.open(str(path), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(16_000)
            file.writeframes((x.ravel() * 3000).astype("<i2").tobytes())
    elif kind == "images":
        path.mkdir()
        for i in range(len(x)):
            values = np.random.default_rng(i).integers(0, 256, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(values).save(path / f"{i:04}.png")
        return [str(path), "--pixels", "1"]
    else:  # several files in one job, chunks end where files end
        path.mkdir()
        np.save(path / "a.npy", x[:45])
        (path / "b.jsonl").write_text("".join(json.dumps(row.tolist()) + "\n" for row in x[45:50]))
        np.save(path / "c.npy", x[50:])
    return [str(path)]


def journal_lines(out):
    journal = out.with_name(out.name + ".journal")
    return journal.read_bytes().count(b"\n") if journal.exists() else 0


@pytest.mark.parametrize("kind", KINDS)
def test_killed_and_split_jobs_give_the_rows_of_an_undisturbed_one(model, picture_model, tmp_path, kind, capsys):
    x = np.random.default_rng(7).normal(0, 1, (ROWS, WIDTH)).astype(np.float32)
    words = ["infer", str(picture_model if kind == "images" else model), *write(tmp_path, kind, x)]
    whole, out = tmp_path / "whole.jsonl", tmp_path / "out.jsonl"
    assert main([*words, "--out", str(whole)]) == 0
    answers = [json.loads(line) for line in whole.read_text().splitlines()]
    assert len({answer["id"] for answer in answers}) == ROWS
    if kind not in {"images", "wav"}:
        found = np.array([answer["value"] for answer in answers])
        np.testing.assert_allclose(found, np.stack([x.sum(axis=1), x.max(axis=1)], axis=1), atol=1e-5)

    process = subprocess.Popen([sys.executable, "-c", SLOWED, *words, "--out", str(out)], **HERE)
    deadline = time.monotonic() + 30
    while process.poll() is None and journal_lines(out) < 5 and time.monotonic() < deadline:
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not out.exists()
    capsys.readouterr()
    assert main([*words, "--out", str(out), "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["rows"] == ROWS
    assert 3 * CHUNK <= summary["resumed"] < ROWS
    assert out.read_bytes() == whole.read_bytes()

    parts = b""
    for i in (1, 2, 3):
        assert main([*words, "--out", str(tmp_path / f"{i}.jsonl"), "--shard", f"{i}/3"]) == 0
        part = (tmp_path / f"{i}.jsonl").read_bytes()
        assert part
        parts += part
    assert parts == whole.read_bytes()


def test_a_shard_that_is_killed_goes_on_too(model, tmp_path, capsys):
    x = np.random.default_rng(8).normal(0, 1, (ROWS, WIDTH)).astype(np.float32)
    words = ["infer", str(model), *write(tmp_path, "csv", x)]
    whole, first, second = tmp_path / "whole.csv", tmp_path / "1.csv", tmp_path / "2.csv"
    assert main([*words, "--out", str(whole)]) == 0
    assert main([*words, "--out", str(first), "--shard", "1/2"]) == 0
    resumed = [*words, "--out", str(second), "--shard", "2/2"]
    process = subprocess.Popen([sys.executable, "-c", SLOWED, *resumed], **HERE)
    deadline = time.monotonic() + 30
    while process.poll() is None and journal_lines(second) < 4 and time.monotonic() < deadline:
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    capsys.readouterr()
    assert main([*resumed, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["resumed"] >= 2 * CHUNK
    assert first.read_bytes() + second.read_bytes() == whole.read_bytes()
