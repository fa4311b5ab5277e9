"""JSON, JSON lines, text and Parquet."""

import json
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.readers import open_reader
from shared.errors import InputError, MissingExtraError, UsageError
from shared.manifest import SampleSpec

PAIR = SampleSpec("float32", (2,))
TEXT = SampleSpec("str", ())
TWO = (SampleSpec("float32", (2,), name="a"), SampleSpec("int64", (), name="b"))


def read(path, *specs, size=100):
    return list(open_reader(path, specs or (PAIR,)).read(size))


def lines(tmp_path, *items, name="x.jsonl"):
    path = tmp_path / name
    path.write_text("\n".join(item if isinstance(item, str) else json.dumps(item) for item in items) + "\n")
    return path


@given(
    rows=st.lists(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=2, max_size=2)),
    kind=st.sampled_from(["jsonl", "json", "parquet"]),
    named=st.booleans(),
    size=st.integers(1, 5),
)
def test_round_trip(tmp_path_factory, rows, kind, named, size):
    path = tmp_path_factory.mktemp("any") / f"x.{kind}"
    items = [{"id": f"r{i}", "values": row} for i, row in enumerate(rows)] if named else rows
    if kind == "json":
        path.write_text(json.dumps(items))
    elif kind == "jsonl":
        path.write_text("".join(json.dumps(item) + "\n\n" for item in items))
    else:
        columns = {"x": pa.array(rows, pa.list_(pa.float32()))}
        pq.write_table(pa.table(columns | ({"id": [f"r{i}" for i in range(len(rows))]} if named else {})), path)
    chunks = read(path, size=size)
    assert [row for chunk in chunks for row in chunk.samples.tolist()] == rows
    assert [id_ for chunk in chunks for id_ in chunk.ids] == [f"r{i}" if named else str(i) for i in range(len(rows))]


def test_missing_numbers_are_nan_for_floats_only(tmp_path):
    (chunk,) = read(lines(tmp_path, [1, None]))
    np.testing.assert_array_equal(chunk.samples, [[1, np.nan]])
    (chunk,) = read(lines(tmp_path, [1, None]), SampleSpec("int32", (2,)))
    assert "x.jsonl:1: expected int32 values, got a mixture" in chunk.bad[0].text


def test_several_inputs_by_name(tmp_path):
    items = [{"id": 5, "a": [1, 2], "b": 3}, {"values": {"a": [4, 5], "b": 6}}]
    (chunk,) = read(lines(tmp_path, *items), *TWO)
    assert chunk.ids == ["5", "1"]
    assert chunk.samples["a"].tolist() == [[1, 2], [4, 5]]
    assert chunk.samples["b"].tolist() == [3, 6]


def test_shapes_that_change_end_a_chunk(tmp_path):
    chunks = read(lines(tmp_path, [1], [2], [3, 4], "[", [5, 6], [7]), SampleSpec("float32", (-1,)))
    assert [(c.start, c.samples.tolist(), len(c.bad)) for c in chunks] == [
        (0, [[1], [2]], 0), (2, [[3, 4], [5, 6]], 1), (5, [[7]], 0),
    ]  # fmt: skip


def test_texts(tmp_path):
    path = tmp_path / "x.txt"
    path.write_bytes("grüße\r\n\nzwei, drei\n".encode())
    (chunk,) = read(path, TEXT)
    assert chunk.samples.tolist() == ["grüße", "zwei, drei"]
    (chunk,) = read(lines(tmp_path, '"one"', {"id": "b", "values": "two"}), TEXT)
    assert (chunk.ids, chunk.samples.tolist()) == (["0", "b"], ["one", "two"])
    (chunk,) = read(lines(tmp_path, {"text": "three", "label": "number"}), TEXT)  # as in training data
    assert chunk.samples.tolist() == ["three"]


def test_lines_of_text_for_a_model_of_numbers(tmp_path):
    path = tmp_path / "x.txt"
    path.write_text("1 2\n")
    with pytest.raises(InputError, match="lines of text, but the model takes float32"):
        read(path)


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("[1, 2", ":2: Input data was truncated"),
        ('{"id": "a"}', ":2: has no 'values'"),
        ("[1, 2, 3]", ":2: expected shape (2,), got (3,)"),
        ('["a", "b"]', ":2: expected float32 values, got text"),
        ("[[1], [2, 3]]", ":2: samples must be regular arrays of numbers"),
        ("null", ":2: "),
    ],
)
def test_a_bad_line_is_named(tmp_path, line, text):
    (chunk,) = read(lines(tmp_path, [1, 2], line, [3, 4]))
    assert chunk.bad[0].position == 1
    assert chunk.bad[0].text.startswith(str(tmp_path / "x.jsonl"))
    assert text in chunk.bad[0].text
    assert chunk.samples.tolist() == [[1, 2], [3, 4]]


def test_a_document_that_is_no_list(tmp_path):
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(InputError, match="expected a list of samples, got an object"):
        read(tmp_path / "x.json")


def test_parquet_columns_by_name_with_nulls_among_others(tmp_path):
    table = {"note": ["x", "y", "z"], "v": [1.0, None, 3.0], "id": [7, 8, 9], "u": [10, 11, 12]}
    pq.write_table(pa.table(table), tmp_path / "x.parquet", row_group_size=2)
    (chunk,) = read(tmp_path / "x.parquet", SampleSpec("float32", (2,), columns=("u", "v")))
    assert chunk.ids == ["7", "8", "9"]
    np.testing.assert_array_equal(chunk.samples, [[10, 1], [11, np.nan], [12, 3]])


def test_parquet_of_several_inputs_and_texts(tmp_path):
    pq.write_table(pa.table({"b": [3, 4], "a": [[1.0, 2.0], [5.0, 6.0]], "t": ["p", "q"]}), tmp_path / "x.parquet")
    (chunk,) = read(tmp_path / "x.parquet", *TWO, SampleSpec("str", (), name="t"))
    assert chunk.samples["a"].tolist() == [[1, 2], [5, 6]]
    assert chunk.samples["b"].tolist() == [3, 4]
    assert chunk.samples["t"].tolist() == ["p", "q"]


def test_bad_parquet_rows_are_named(tmp_path):
    pq.write_table(pa.table({"n": [1, None, 300, 4]}), tmp_path / "x.parquet")
    (chunk,) = read(tmp_path / "x.parquet", SampleSpec("uint8", (1,), name="n"))
    assert [(row.position, row.text) for row in chunk.bad] == [
        (1, f"{tmp_path / 'x.parquet'}: row 1: column n: expected uint8, got nan"),
        (2, f"{tmp_path / 'x.parquet'}: row 2: column n: expected uint8, got 300"),
    ]
    assert chunk.samples.tolist() == [[1], [4]]
    pq.write_table(pa.table({"x": [[1.0, 2.0], [3.0]]}), tmp_path / "x.parquet")
    (chunk,) = read(tmp_path / "x.parquet")
    assert chunk.bad[0].text.endswith("row 1: expected shape (2,), got (1,)")


def test_parquet_files_that_cannot_be_used(tmp_path, monkeypatch):
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"u": [1.0]}), path)
    with pytest.raises(InputError, match="has no column v; it has u"):
        read(path, SampleSpec("float32", (2,), columns=("u", "v")))
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(InputError, match=r"x\.parquet: "):
        read(path)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'sanderling\[parquet\]'"):
        read(path)


def test_what_is_no_input_at_all(tmp_path):
    (tmp_path / "x.docx").write_bytes(b"")
    (tmp_path / "empty").mkdir()
    for name, text in [("x.docx", "expected a directory or a file ending in"), ("empty", "no file in it ends in")]:
        with pytest.raises(UsageError, match=text):
            open_reader(tmp_path / name, (PAIR,))
    with pytest.raises(UsageError, match="No such file"):
        open_reader(tmp_path / "none.csv", (PAIR,))
