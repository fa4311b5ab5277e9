"""Bulk work through the real entry point, and through real processes that are killed."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from edge_agent.bulk.job import chunk_rows
from edge_agent.cli import main
from edge_agent.engine import Engine
from tests.releases import LABELS, digits

CHUNK = 4096
SLOWED = """
import sys, time
from edge_agent.bulk import journal
append = journal.Journal.append
def slow(self, *words):
    append(self, *words)
    time.sleep(0.05)
journal.Journal.append = slow
from edge_agent.cli import main
sys.exit(main(sys.argv[1:]))
"""
FORMATS = ("jsonl", "csv", "npz", "parquet")


@pytest.fixture
def samples(tmp_path):
    x, y = digits(5, seed=3)
    np.savez(tmp_path / "x.npz", x=x, ids=[f"cam-{i}" for i in range(5)])
    return tmp_path / "x.npz", x, [LABELS[i] for i in y]


@pytest.fixture(scope="session")
def many(tmp_path_factory):
    """Five whole chunks and a bit."""
    path = tmp_path_factory.mktemp("many") / "many.npz"
    base = digits(1000, seed=4)[0]
    np.savez(path, x=np.concatenate([np.roll(base, k, axis=2) for k in range(21)])[: 5 * CHUNK + 77])
    return path


@pytest.fixture(scope="session")
def whole(release, many, tmp_path_factory):
    """What an undisturbed run makes of ``many``, by format."""
    made = {}
    for suffix in FORMATS:
        out = tmp_path_factory.mktemp("whole") / f"a.{suffix}"
        assert infer(release, many, "--out", out) == 0
        made[suffix] = out.read_bytes()
    return made


def infer(release, *words):
    return main(["infer", str(release), *map(str, words), "--variant", "fp32-onnx"])


def test_infer_prints_a_table_for_people(release, samples, capsys):
    path, _, labels = samples
    assert infer(release, path) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["id", "label", "score"]
    assert [line.split()[:2] for line in lines[1:]] == [[f"cam-{i}", label] for i, label in enumerate(labels)]


def test_infer_prints_one_json_document_for_programs(release, samples, capsys):
    path, _, labels = samples
    assert infer(release, path, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["variant"] == "fp32-onnx"
    assert [answer["label"] for answer in found["answers"]] == labels
    assert found["answers"][0]["id"] == "cam-0"
    assert found["answers"][0]["release"] == 1


@pytest.mark.parametrize("kind", ["npy", "one.npy", "json", "objects.json", "jsonl"])
def test_infer_reads_every_kind_of_file_and_writes_json_lines(release, samples, tmp_path, kind, capsys):
    _, x, labels = samples
    path, out = tmp_path / f"samples.{kind}", tmp_path / "answers.jsonl"
    if kind == "one.npy":
        x, labels = x[0], labels[:1]
    if kind.endswith("npy"):
        np.save(path, x)
    elif kind == "json":
        path.write_text(json.dumps(x.tolist()))
    elif kind == "objects.json":
        path.write_text(json.dumps([{"id": str(i), "values": row.tolist()} for i, row in enumerate(x)]))
    else:
        path.write_text("\n".join(json.dumps({"values": row.tolist()}) for row in x) + "\n\n")
    assert infer(release, path, "--out", out) == 0
    answers = [json.loads(line) for line in out.read_text().splitlines()]
    assert [answer["label"] for answer in answers] == labels
    assert [answer["id"] for answer in answers] == [str(i) for i in range(len(labels))]
    assert f"{len(labels)} answers of fp32-onnx" in capsys.readouterr().out


def test_infer_measures_when_no_variant_is_named(release, samples, capsys):
    assert main(["infer", str(release), str(samples[0]), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [answer["label"] for answer in found["answers"]] == samples[2]


@pytest.mark.parametrize(
    ("name", "content", "code", "text"),
    [
        ("x.docx", b"1,2", 2, "expected a directory or a file ending in .csv"),
        ("x.npz", b"no zip", 1, "x.npz: "),
        ("x.npy", b"\x93NUMPY broken", 1, "x.npy: "),
        ("x.json", b"{}", 1, "expected a list of samples, got an object"),
        ("x.json", b"[1,", 1, "x.json: "),
        ("x.json", b'[{"id": "a"}]', 1, "sample 0: has no 'values'"),
        ("x.json", b"[[[1, 2], [3]]]", 1, "regular arrays of numbers"),
        ("x.json", b"[[1, 2]]", 1, "sample 0: expected shape (16, 16), got (2,)"),
        ("x.jsonl", b"[1\n[2]\n", 1, "x.jsonl:1: Input data was truncated"),
        ("x.npy", None, 2, "x.npy: No such file"),
    ],
)
def test_infer_says_in_one_line_what_is_wrong_with_a_file(release, tmp_path, capsys, name, content, code, text):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    assert infer(release, tmp_path / name) == code
    error = capsys.readouterr().err
    assert error.startswith("edge-agent infer: ")
    assert text in error
    assert error.count("\n") == 1


def test_infer_refuses_pickles_and_archives_without_x(release, tmp_path, capsys):
    np.save(tmp_path / "x.npy", np.array([{}], dtype=object))
    assert infer(release, tmp_path / "x.npy") == 1
    np.savez(tmp_path / "x.npz", y=np.zeros(3))
    assert infer(release, tmp_path / "x.npz") == 1
    assert "has no array x; it has y" in capsys.readouterr().err


def test_infer_into_a_missing_directory_and_from_a_damaged_release(release, own_release, samples, tmp_path, capsys):
    assert infer(release, samples[0], "--out", tmp_path / "no" / "a.jsonl") == 2
    (own_release / "variants/fp32-onnx.onnx").write_bytes(b"x")
    assert infer(own_release, samples[0]) == 1
    error = capsys.readouterr().err
    assert "No such file or directory" in error
    assert "the file is damaged" in error


def test_infer_names_the_file_whose_samples_do_not_fit(release, tmp_path, capsys):
    np.savez(tmp_path / "wrong.npz", x=np.zeros((2, 8, 8), np.uint8))
    assert infer(release, tmp_path / "wrong.npz") == 1
    assert f"{tmp_path / 'wrong.npz'}: expected shape (2, 16, 16), got (2, 8, 8)" in capsys.readouterr().err


def test_infer_with_a_variant_that_there_is_not(release, samples, capsys):
    assert main(["infer", str(release), str(samples[0]), "--variant", "int4-onnx"]) == 2
    assert "has no variant 'int4-onnx'; it has fp32-onnx" in capsys.readouterr().err


def test_infer_says_which_variants_are_not_there(own_release, samples, capsys):
    (own_release / "variants/int8-onnx.onnx").unlink()
    assert main(["infer", str(own_release), str(samples[0]), "--json"]) == 0
    captured = capsys.readouterr()
    assert captured.err == f"edge-agent infer: not in {own_release}: int8-onnx\n"
    assert len(json.loads(captured.out)["answers"]) == 5


def test_numbers_in_every_format_are_those_of_the_engine(release, samples, tmp_path):
    path, x, labels = samples
    engine = Engine.load(release, variant="fp32-onnx", learn=0)
    expected = engine.outputs(x)
    engine.close()
    for suffix in FORMATS:
        assert infer(release, path, "--out", tmp_path / f"a.{suffix}") == 0
    ids = [f"cam-{i}" for i in range(5)]
    with (tmp_path / "a.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["id"], row["label"], float(row["score"])) for row in rows] == list(
        zip(ids, labels, expected["score"].tolist(), strict=True)
    )
    with np.load(tmp_path / "a.npz") as file:
        assert file["ids"].tolist() == ids
        assert file["label"].tolist() == labels
        for name in ("logits", "scores", "score", "embedding", "index"):
            np.testing.assert_array_equal(file[name], expected[name])
            assert file[name].dtype == expected[name].dtype
    table = pq.read_table(tmp_path / "a.parquet").to_pydict()
    assert (table["id"], table["label"]) == (ids, labels)
    np.testing.assert_array_equal(np.array(table["logits"], np.float32), expected["logits"])
    assert table["error"] == [None] * 5
    lines = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert [line["score"] for line in lines] == expected["score"].tolist()
    assert {line["variant"] for line in lines} == {"fp32-onnx"}


def test_nothing_but_the_answers_is_left(release, many, whole, tmp_path):
    for suffix in FORMATS:
        assert infer(release, many, "--out", tmp_path / f"a.{suffix}") == 0
        assert (tmp_path / f"a.{suffix}").read_bytes() == whole[suffix]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(f"a.{suffix}" for suffix in FORMATS)


@pytest.mark.parametrize("suffix", FORMATS)
def test_killed_again_and_again_it_ends_as_if_undisturbed(release, many, whole, tmp_path, suffix, capsys):
    out, journal = tmp_path / f"a.{suffix}", tmp_path / f"a.{suffix}.journal"
    words = ["infer", str(release), str(many), "--out", str(out), "--variant", "fp32-onnx"]
    done = []
    for _ in range(2):
        process = subprocess.Popen([sys.executable, "-c", SLOWED, *words], cwd=Path(__file__).parents[2])
        before = journal.read_bytes().count(b"\n") if journal.exists() else 0
        deadline = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < deadline:
            if journal.exists() and journal.read_bytes().count(b"\n") >= max(before, 1) + 2:
                break
            time.sleep(0.002)
        assert process.poll() is None
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert not out.exists()
        done.append(journal.read_bytes().count(b"\n"))
    assert done[1] > done[0] > 1
    assert main([*words, "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["rows"] == 5 * CHUNK + 77
    assert summary["resumed"] >= 3 * CHUNK
    assert out.read_bytes() == whole[suffix]
    assert [path.name for path in tmp_path.iterdir()] == [out.name]


@pytest.mark.parametrize("of", [2, 3, 7])
@pytest.mark.parametrize("suffix", ["jsonl", "csv"])
def test_shards_end_to_end_are_the_whole(release, many, whole, tmp_path, of, suffix):
    parts = []
    for i in range(1, of + 1):
        out = tmp_path / f"{i}.{suffix}"
        assert infer(release, many, "--out", out, "--shard", f"{i}/{of}") == 0
        parts.append(out.read_bytes())
    assert b"".join(parts) == whole[suffix]
    assert sum(bool(part) for part in parts) > 1


def test_shards_of_arrays_join_to_the_whole(release, many, whole, tmp_path):
    (tmp_path / "whole.npz").write_bytes(whole["npz"])
    for i in (1, 2):
        assert infer(release, many, "--out", tmp_path / f"{i}.npz", "--shard", f"{i}/2") == 0
    with np.load(tmp_path / "1.npz") as a, np.load(tmp_path / "2.npz") as b, np.load(tmp_path / "whole.npz") as c:
        for name in c:
            np.testing.assert_array_equal(np.concatenate([a[name], b[name]]), c[name])


def test_another_job_does_not_touch_what_one_has_begun(release, many, samples, tmp_path, capsys, monkeypatch):
    out = tmp_path / "a.jsonl"

    def fail(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("edge_agent.bulk.journal.Journal.finish", fail)
        assert infer(release, many, "--out", out) == 130
    begun = {path.name: path.read_bytes() for path in tmp_path.glob("a.*")}
    assert set(begun) == {"a.jsonl.partial", "a.jsonl.journal"}
    capsys.readouterr()
    for words, what in [
        ([samples[0]], "inputs"),
        ([many, "--shard", "1/2"], "shard"),
        ([many, "--resize"], "options"),
    ]:
        assert infer(release, *words, "--out", out) == 2
        error = capsys.readouterr().err
        assert f"begun by another job ({what} differ)" in error
        assert "--restart" in error
        assert error.count("\n") == 1
        assert {path.name: path.read_bytes() for path in tmp_path.glob("a.*")} == begun
    assert main(["infer", str(release), str(many), "--out", str(out)]) == 0  # the variant that the job began with
    assert f"({5 * CHUNK + 77} of them from before)" in capsys.readouterr().out
    with monkeypatch.context() as patch:
        patch.setattr("edge_agent.bulk.journal.Journal.finish", fail)
        assert infer(release, many, "--out", out) == 130
    assert infer(release, samples[0], "--out", out, "--restart") == 0
    assert len(out.read_text().splitlines()) == 5


def image_folder(directory):
    """Three digits, the second of which is no image."""
    x, y = digits(3, seed=8)
    directory.mkdir()
    for i, image in enumerate(x):
        Image.fromarray(image).save(directory / f"{i}.png")
    (directory / "1.png").write_bytes(b"broken")
    return directory, [LABELS[i] for i in y]


@pytest.mark.parametrize("suffix", FORMATS)
def test_skipped_rows_are_told_in_their_place(release, tmp_path, suffix, capsys):
    folder, labels = image_folder(tmp_path / "folder")
    out = tmp_path / f"a.{suffix}"
    assert infer(release, folder, "--out", out) == 1
    assert f"{folder / '1.png'}: no image that can be read" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]
    assert infer(release, folder, "--out", out, "--on-error", "skip") == 1
    assert "2 answers of fp32-onnx" in capsys.readouterr().out
    names, text = ["0.png", "1.png", "2.png"], f"{folder / '1.png'}: no image that can be read"
    if suffix == "jsonl":
        lines = [json.loads(line) for line in out.read_text().splitlines()]
        assert [line["id"] for line in lines] == names
        assert [line.get("label") for line in lines] == [labels[0], None, labels[2]]
        assert lines[1] == {"id": "1.png", "error": text}
    elif suffix == "csv":
        with out.open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert [(row["id"], row["label"], row["error"]) for row in rows] == [
            ("0.png", labels[0], ""), ("1.png", "", text), ("2.png", labels[2], ""),
        ]  # fmt: skip
    elif suffix == "npz":
        with np.load(out) as file:
            assert file["ids"].tolist() == ["0.png", "2.png"]
            assert (file["bad_ids"].tolist(), file["errors"].tolist()) == (["1.png"], [text])
    else:
        table = pq.read_table(out).to_pydict()
        assert table["id"] == names
        assert table["label"] == [labels[0], None, labels[2]]
        assert table["logits"][1] is None
        assert table["error"] == [None, text, None]


def test_an_input_of_bad_rows_alone_still_makes_a_file(release, tmp_path):
    (tmp_path / "x.jsonl").write_text("[1]\n[2]\n")
    for suffix in FORMATS:
        assert infer(release, tmp_path / "x.jsonl", "--out", tmp_path / f"a.{suffix}", "--on-error", "skip") == 1
    assert pq.read_table(tmp_path / "a.parquet").num_rows == 2
    with np.load(tmp_path / "a.npz") as file:
        assert len(file["errors"]) == 2


@pytest.mark.parametrize("suffix", FORMATS)
def test_no_rows_are_no_answers_in_a_whole_file(release, tmp_path, suffix):
    np.save(tmp_path / "x.npy", np.zeros((0, 16, 16), np.uint8))
    assert infer(release, tmp_path / "x.npy", "--out", tmp_path / f"a.{suffix}") == 0
    assert (tmp_path / f"a.{suffix}").exists()


def test_several_inputs_and_images_are_the_same_rows_as_arrays(release, tmp_path, capsys):
    x, _ = digits(4, seed=6)
    np.save(tmp_path / "all.npy", x)
    np.save(tmp_path / "first.npy", x[:2])
    (tmp_path / "rest").mkdir()
    for i in (2, 3):
        Image.fromarray(x[i]).save(tmp_path / "rest" / f"{i}.png")
    assert infer(release, tmp_path / "all.npy", "--json") == 0
    expected = json.loads(capsys.readouterr().out)["answers"]
    assert infer(release, tmp_path / "first.npy", tmp_path / "rest", "--json") == 0
    found = json.loads(capsys.readouterr().out)["answers"]
    assert [answer["id"] for answer in found] == ["first.npy#0", "first.npy#1", "2.png", "3.png"]
    assert [answer["label"] for answer in found] == [answer["label"] for answer in expected]


def test_progress_is_shown_when_it_is_asked_for(release, many, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("edge_agent.bulk.progress.LINES_S", 0.0)
    assert infer(release, many, "--out", tmp_path / "a.jsonl", "--progress") == 0
    captured = capsys.readouterr()
    assert f"{CHUNK} of {5 * CHUNK + 77} rows (19 %), " in captured.err
    assert "rows/s, " in captured.out
    assert "of the time in the model" in captured.out


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["X", "--shard", "0/2"], 2, "--shard 0/2: expected I/N"),
        (["X", "--shard", "3/2"], 2, "--shard 3/2: expected I/N"),
        (["X", "--shard", "half"], 2, "--shard half: expected I/N"),
        (["X", "--threads", "0"], 2, "--threads must be at least 1"),
        (["X", "--on-error", "ask"], 2, "invalid choice: 'ask'"),
        (["X", "--rate", "fast"], 2, "invalid int value"),
        (["X", "--out", "D/a.xlsx"], 2, "a.xlsx: expected a file ending in .jsonl, .csv, .npz, .parquet"),
        (["X", "--out", "D/a"], 2, "a: expected a file ending in .jsonl, .csv, .npz, .parquet"),
        (["X", "--out", "D"], 2, "it is a directory, not a file"),
        (["X", "--out", "D/no/a.jsonl"], 2, "No such file or directory"),
        (["X", "--out", "X"], 2, "is an input itself, or lies in one"),
        (["D", "--out", "D/a.jsonl"], 2, "is an input itself, or lies in one"),
        (["X", "D/none.csv"], 2, "none.csv: No such file or directory"),
        (["X", "D/x.docx"], 2, "x.docx: expected a directory or a file ending in"),
        (["D/empty"], 2, "empty: no file in it ends in"),
        ([], 2, "the following arguments are required: input"),
        (["X", "D/table.csv"], 1, "table.csv:1: expected 256 columns"),
        (["X", "D/wrong.npy"], 1, "wrong.npy: expected shape (2, 16, 16), got (2, 8, 8)"),
        (["D/wrong.png"], 1, "wrong.png: is 8 x 8 (H x W), but the model takes (16, 16); --resize"),
        (["D/sound.wav"], 1, "sound.wav: sound, but the model takes uint8 of shape (16, 16)"),
        (["D/values.jsonl"], 1, "values.jsonl:2: expected uint8 values, got int64 that it cannot hold"),
        (["X", "--variant", "int4-onnx"], 2, "has no variant 'int4-onnx'"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(release, samples, tmp_path, capfd, words, code, text):
    (tmp_path / "empty").mkdir()
    (tmp_path / "x.docx").write_bytes(b"")
    (tmp_path / "table.csv").write_text("1,2\n")
    (tmp_path / "sound.wav").write_bytes(b"")
    np.save(tmp_path / "wrong.npy", np.zeros((2, 8, 8), np.uint8))
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "wrong.png")
    zeros = np.zeros((16, 16), int).tolist()
    (tmp_path / "values.jsonl").write_text(f"{zeros}\n{[[300] * 16, *zeros[1:]]}\n")
    before = sorted(path.name for path in tmp_path.iterdir())
    words = [word.replace("D", str(tmp_path), 1) if word.startswith("D") else word for word in words]
    words = [str(samples[0]) if word == "X" else word for word in words]
    if "--variant" not in words:
        words += ["--variant", "fp32-onnx"]
    try:
        found = main(["infer", str(release), *words])
    except SystemExit as leaving:  # argparse's way
        found = leaving.code
    error = capfd.readouterr().err
    assert found == code
    assert text in error
    assert error.startswith("edge-agent infer: ")
    assert error.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_chunks_are_those_that_this_file_counts_with(release):
    engine = Engine.load(release, variant="fp32-onnx", learn=0)
    assert chunk_rows(engine.signature) == CHUNK
    engine.close()
