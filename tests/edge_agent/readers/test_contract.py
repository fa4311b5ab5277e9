"""What every reader must keep, whatever it reads."""

import csv
import json
import wave

import numpy as np
import pytest

from edge_agent.readers import open_reader, open_readers
from shared.manifest import SampleSpec

N, SIZE = 23, 4
X = np.arange(N * 3, dtype=np.float32).reshape(N, 3) / 7
SPEC = (SampleSpec("float32", (3,), columns=("a", "b", "c")),)
WINDOW = (SampleSpec("float32", (3,)),)


def write(kind, directory):
    path = directory / f"rows.{kind.split('-')[0]}"
    if kind == "csv":
        with path.open("w", newline="") as file:
            csv.writer(file).writerows([["a", "b", "c"], *X.tolist()])
    elif kind == "npy":
        np.save(path, X)
    elif kind == "npz":
        np.savez(path, x=X)
    elif kind == "npz-compressed":
        np.savez_compressed(path, x=X, ids=[f"r{i}" for i in range(N)])
    elif kind == "npz-fortran":
        np.savez(path, x=np.asfortranarray(X))
    elif kind == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in X.tolist()))
    elif kind == "json":
        path.write_text(json.dumps(X.tolist()))
    elif kind == "parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.table(dict(zip("abc", X.T, strict=True))), path, row_group_size=5)
    elif kind == "parquet-lists":
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.table({"x": X.tolist()}), path, row_group_size=7)
    elif kind == "wav":
        with wave.open(str(path), "wb") as file:
            file.setparams((1, 2, 8000, 0, "NONE", ""))
            file.writeframes(np.rint(X * 1000).astype("<i2").tobytes())
    elif kind == "folder":
        path = directory / "folder"
        path.mkdir()
        np.save(path / "a.npy", X[:7])
        (path / "b.jsonl").write_text("".join(json.dumps(row) + "\n" for row in X[7:11].tolist()))
        np.savez(path / "c.npz", x=X[11:])
    return path


KINDS = (
    "csv", "npy", "npz", "npz-compressed", "npz-fortran", "jsonl", "json", "parquet", "parquet-lists", "wav", "folder",
)  # fmt: skip


@pytest.fixture(params=KINDS)
def reader(request, tmp_path):
    made = open_reader(write(request.param, tmp_path), SPEC)
    made.expected = np.rint(X * 1000) / 32768 if request.param == "wav" else X
    yield made
    made.close()


def flat(chunks):
    return [(chunk.start, chunk.ids, chunk.samples.tolist()) for chunk in chunks]


def test_all_rows_come_in_order_with_their_values_and_ids_of_their_own(reader):
    chunks = list(reader.read(SIZE))
    np.testing.assert_allclose(np.concatenate([chunk.samples for chunk in chunks]), reader.expected, rtol=0, atol=1e-7)
    ids = [id_ for chunk in chunks for id_ in chunk.ids]
    assert len(set(ids)) == N
    assert [chunk.start for chunk in chunks] == np.cumsum([0, *(len(chunk.ids) for chunk in chunks[:-1])]).tolist()
    assert {chunk.samples.dtype for chunk in chunks} == {np.dtype("float32")}


def test_reading_from_any_boundary_gives_the_chunks_of_a_whole_reading(reader):
    whole = flat(reader.read(SIZE))
    for i, (start, _, _) in enumerate(whole):
        assert flat(reader.read(SIZE, start)) == whole[i:]


def test_count_and_cut_agree_with_what_is_read(reader):
    assert reader.count() == reader.rows == N
    starts = {start for start, _, _ in flat(reader.read(SIZE))}
    cuts = [reader.cut(row, SIZE) for row in range(N)]
    assert set(cuts) == starts
    assert all(cut <= row for row, cut in enumerate(cuts))


def test_a_row_that_is_not_a_boundary_is_a_place_to_start_too(reader):
    rows = [row for chunk in reader.read(SIZE, 5) for row in chunk.samples.tolist()]
    np.testing.assert_allclose(rows, reader.expected[5:], rtol=0, atol=1e-7)


def test_nothing_is_left_after_the_last_row(reader):
    assert list(reader.read(SIZE, N)) == []
    assert list(reader.read(SIZE, N + 100)) == []


def test_chunks_hold_at_most_what_was_asked_for(reader):
    assert max(len(ids) for ids, _ in reader.chunks(SIZE)) <= SIZE
    assert sum(len(samples) for _, samples in reader.chunks(10**6)) == N


def test_two_readings_at_once_do_not_disturb_each_other(reader):
    first, second = reader.read(SIZE), reader.read(SIZE)
    next(first)
    assert flat(second) == flat(reader.read(SIZE))
    assert flat(first) == flat(reader.read(SIZE))[1:]


def test_several_inputs_are_one_after_the_other_with_names_that_tell_them_apart(tmp_path):
    np.save(tmp_path / "a.npy", X[:2])
    np.savez(tmp_path / "b.npz", x=X[2:4], ids=["own", "names"])
    (tmp_path / "c.csv").write_text("c,b,a\n3,2,1\n")
    reader = open_readers([tmp_path / name for name in ("b.npz", "a.npy", "c.csv")], SPEC)
    ids, rows = zip(
        *((i, row) for ids, x in reader.chunks(9) for i, row in zip(ids, x.tolist(), strict=True)), strict=True
    )
    assert ids == ("own", "names", "a.npy#0", "a.npy#1", "c.csv#0")
    np.testing.assert_array_equal(rows, [*X[2:4], *X[:2], [1, 2, 3]])
    assert reader.count() == 5
