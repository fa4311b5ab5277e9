"""Tables in pieces: memory, order, kinds of cells."""

import time
import tracemalloc

import numpy as np
import pytest

from cloud_trainer.drift import cells
from cloud_trainer.drift.cells import Odd
from cloud_trainer.drift.opening import open_table
from cloud_trainer.drift.ordered import blocks, times_of
from cloud_trainer.drift.scalars import Choice, plan
from shared.errors import UsageError
from tests.cloud_trainer.drift.conftest import write_csv

ALL = Choice()


def silent(fraction, text):
    assert 0 <= fraction <= 1
    assert text


def all_rows(table, choice=ALL):
    times = times_of(table, choice.time, silent) if choice.time else None
    found = list(blocks(table, plan(table, choice), times, {}))
    return np.concatenate([block.rows for block in found]), found


@pytest.mark.parametrize("ending", ["npy", "npz"])
def test_a_long_file_of_arrays_is_never_whole_in_memory(tmp_path, ending):
    path = tmp_path / f"d.{ending}"
    x = np.random.default_rng(0).normal(size=(400_000, 4))
    np.save(path, x) if ending == "npy" else np.savez(path, x=x)
    del x
    table = open_table(path)
    chosen = plan(table, Choice())
    tracemalloc.start()
    rows = sum(len(block.rows) for block in blocks(table, chosen, None, {}))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert rows == 400_000
    assert peak < 2e6  # of 12.8e6 bytes


def test_an_unsorted_file_is_sorted_on_disk_in_pieces(tmp_path):
    n = 200_000
    rng = np.random.default_rng(0)
    order = rng.permutation(n)
    np.savez(tmp_path / "d.npz", t=order.astype(float), a=order % 7.0, b=rng.normal(size=n), c=rng.normal(size=n))
    table = open_table(tmp_path / "d.npz")
    times = times_of(table, "t", silent)
    chosen = plan(table, Choice(time="t"))
    tracemalloc.start()
    at = 0
    for block in blocks(table, chosen, times, {}):
        expected = np.arange(at, at + len(block.rows))
        np.testing.assert_array_equal(block.times, expected)
        np.testing.assert_array_equal(block.rows[:, 0], expected % 7)
        at += len(block.rows)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert at == n
    assert peak < 2e6  # of 4.8e6 bytes


def test_semicolons_bring_decimal_commas(tmp_path):
    path = tmp_path / "d.csv"
    path.write_text("a;b\n" + "".join(f"{i},5;{i % 3}\n" for i in range(60)))
    rows, _ = all_rows(open_table(path), Choice(columns=("a", "b")))
    assert rows[7].tolist() == [7.5, 1.0]


def test_quotes_in_tabbed_text_are_text(tmp_path):
    path = tmp_path / "d.tsv"
    path.write_text("label\ttext\n" + 'ham\t"quoted start of a line\nspam\tfree " call\n' * 40)
    rows, _ = all_rows(open_table(path))
    assert len(rows) == 80


def test_a_header_is_recognized_and_can_be_denied(tmp_path):
    numbers = write_csv(tmp_path / "n.csv", {"1.5": [1, 2], "2.5": [3, 4]})
    assert open_table(numbers).names == ("c1", "c2")
    words = write_csv(tmp_path / "w.csv", {"a": ["x"], "b": ["y"]})
    assert open_table(words).names == ("a", "b")
    assert open_table(words, header=False).names == ("c1", "c2")


def test_a_matrix_may_name_its_columns(tmp_path):
    np.savez(tmp_path / "d.npz", x=np.zeros((60, 2)), columns=np.array(["left", "right"]), y=np.zeros(60), other=[1, 2])
    assert open_table(tmp_path / "d.npz").names == ("left", "right", "y")
    np.savez(tmp_path / "e.npz", x=np.zeros((60, 2)), image=np.zeros((60, 4, 4)))
    table = open_table(tmp_path / "e.npz")
    assert table.names == ("x_0", "x_1")
    assert "image" in table.left_out


def test_parquet_has_nulls_dates_and_truths(tmp_path):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    when = np.datetime64("2024-01-01T00:00:00", "us") + np.arange(100) * np.timedelta64(1, "h")
    table = pa.table(
        {
            "when": when,
            "number": pa.array([None if i % 10 == 3 else i % 7 for i in range(100)], pa.int32()),
            "truth": [bool(i % 2) for i in range(100)],
            "word": pa.array(["a", "b", None, "a"] * 25).dictionary_encode(),
            "list": [[1, 2]] * 100,
        }
    )
    pq.write_table(table, tmp_path / "d.parquet", row_group_size=33)
    source = open_table(tmp_path / "d.parquet")
    assert source.left_out == {"list": "it is of type list<element: int64>"}
    rows, found = all_rows(source, Choice(time="when"))
    assert found[0].times[1] - found[0].times[0] == 3600
    assert np.isnan(rows[:, 0]).sum() == 10
    assert rows[:, 1].tolist() == [0.0, 1.0] * 50
    assert np.isnan(rows[:, 2]).sum() == 25
    assert rows[0, 2] == cells.code_of("a")


def test_free_text_is_watched_by_what_can_be_counted(tmp_path):
    texts = [f"message number {i} of them all" for i in range(100)]
    path = write_csv(tmp_path / "d.csv", {"text": texts, "kind": ["a", "b"] * 50})
    chosen = plan(open_table(path), Choice())
    assert [s.name for s in chosen.scalars] == ["text.length", "text.words", "text.non_ascii", "kind"]
    rows, _ = all_rows(open_table(path))
    assert rows[5, :3].tolist() == [len(texts[5]), 6.0, 0.0]


def test_numbers_may_be_categories_and_are_the_same_ones_in_every_file(tmp_path):
    path = write_csv(tmp_path / "d.csv", {"code": ["7", "7.0", " 8 ", "red"] * 20})
    assert cells.codes(np.array(["7", "7.0", " 8 ", None, "red"], object))[:3].tolist() == [7.0, 7.0, 8.0]
    chosen = plan(open_table(path), Choice(category=("code",)))
    assert chosen.kinds == ("category",)
    assert cells.codes(np.array([7, 8])).tolist() == [7.0, 8.0]
    assert cells.code_of("red") < -(2**47)


def test_a_counter_is_left_out_unless_it_is_named(tmp_path):
    path = write_csv(tmp_path / "d.csv", {"n": range(100), "x": [0.5, 1.5] * 50})
    chosen = plan(open_table(path), Choice())
    assert [s.name for s in chosen.scalars] == ["x"]
    assert chosen.left_out == {"n": "it counts up from row to row"}
    assert [s.name for s in plan(open_table(path), Choice(columns=("n",))).scalars] == ["n"]


def test_cells_that_are_no_numbers_are_noted_once_with_their_place():
    odd = Odd()
    found = cells.values(np.array(["1", "ERR", "", "2e3", "bad", "-"], object), odd, lambda i: f"line {i}")
    np.testing.assert_array_equal(found, [1, np.nan, np.nan, 2000, np.nan, np.nan])
    assert (odd.count, odd.value, odd.place) == (2, "ERR", "line 1")


def test_offsets_of_time_zones_count_and_the_computers_own_does_not(tmp_path, monkeypatch):
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    path = write_csv(tmp_path / "d.csv", {"t": ["2024-01-01T00:00:00Z", "2024-01-01T00:00:00+01:00", "2024-01-01"]})
    times = times_of(open_table(path), "t", silent)
    assert (times.values - times.values[0]).tolist() == [0.0, -3600.0, 0.0]
    assert times.order.tolist() == [1, 0, 2]
    monkeypatch.undo()
    time.tzset()


def test_a_file_that_is_damaged_further_on_says_where(tmp_path):
    path = tmp_path / "d.csv"
    path.write_bytes(b"a,b\n" + b"1,2\n" * 5000 + b"\xff\xfe,3\n")
    table = open_table(path)
    with pytest.raises(UsageError, match=r"d\.csv:\d+: .*utf-8"):
        all_rows(table, Choice(columns=("a",)))
