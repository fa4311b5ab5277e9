"""Whatever is wrong with the files or the options: one line that says what and where, and exit code 2."""

import json

import numpy as np
import pytest

from tests.cloud_trainer.drift.conftest import normal_table, write_csv


def refused(result, *texts):
    code, out, error = result
    assert (code, out) == (2, ""), error
    assert error.count("\n") == 1, error
    assert error.startswith("cloud-trainer drift: ")
    for text in texts:
        assert text in error
    return True


def test_a_file_that_is_not_there(drift, files, tmp_path):
    refused(drift(tmp_path / "none.csv", files[1]), "none.csv: no such file")
    refused(drift(files[0], tmp_path / "none.npz"), "none.npz: no such file")
    refused(drift(files[0], tmp_path), "it is a directory")


def test_a_file_of_another_kind(drift, files, tmp_path):
    other = tmp_path / "data.xlsx"
    other.write_bytes(b"PK")
    refused(drift(files[0], other), "data.xlsx: expected a file that ends in .csv")


@pytest.mark.parametrize(("name", "content"), [("e.csv", b""), ("h.csv", b"temp,hum,line\n"), ("b.csv", b"\n\n\n")])
def test_an_empty_file(drift, files, tmp_path, name, content):
    empty = tmp_path / name
    empty.write_bytes(content)
    assert refused(drift(empty, files[1]), name)
    assert refused(drift(files[0], empty), name)


@pytest.mark.parametrize("name", ["d.npz", "d.npy", "d.parquet", "d.csv"])
def test_a_damaged_file(drift, files, tmp_path, name):
    pytest.importorskip("pyarrow")
    damaged = tmp_path / name
    damaged.write_bytes(b"\xff\xfe\x00 this is nothing\x00\x01")
    refused(drift(files[0], damaged), name)


def test_an_archive_that_is_cut_short(drift, files, tmp_path):
    np.savez(tmp_path / "d.npz", **normal_table(500, 1))
    whole = (tmp_path / "d.npz").read_bytes()
    (tmp_path / "d.npz").write_bytes(whole[: len(whole) // 2])
    refused(drift(files[0], tmp_path / "d.npz"), "d.npz")


def test_arrays_of_python_objects_are_not_read(drift, files, tmp_path):
    np.savez(tmp_path / "d.npz", temp=np.array([{}, []], object))
    refused(drift(files[0], tmp_path / "d.npz"), "holds Python objects")


def test_parquet_without_pyarrow_names_the_extra(drift, files, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    (tmp_path / "d.parquet").write_bytes(b"PAR1")
    refused(drift(files[0], tmp_path / "d.parquet"), "pip install 'sanderling[parquet]'")


def test_columns_that_do_not_exist(drift, files):
    refused(drift(*files[:2], "--columns", "temp,humm"), "--columns", "'humm'", "did you mean 'hum'?")
    refused(drift(*files[:2], "--ignore", "zzz"), "--ignore", "it has temp, hum, line")
    refused(drift(*files[:2], "--category", "zzz"), "--category")
    refused(drift(*files[:2], "--time", "when"), "--time", "no column 'when'")


def test_data_without_a_column_of_the_reference(drift, files, tmp_path):
    table = normal_table(500, 1)
    del table["hum"]
    data = write_csv(tmp_path / "d.csv", table)
    refused(drift(files[0], data), "d.csv has no column 'hum', which")
    refused(drift(files[0], write_csv(tmp_path / "x.csv", {"a": range(100)})), "no column in common")
    saved = tmp_path / "p.npz"
    drift(*files[:2], "--save-profile", saved, "--no-report")
    refused(drift(saved, data), "has no column 'hum', which", "p.npz")


def test_data_without_the_time_column(drift, files, tmp_path):
    table = {"t": range(500), **normal_table(500, 1)}
    reference = write_csv(tmp_path / "r.csv", table)
    refused(drift(reference, files[1], "--time", "t", "--independent"), "no column 't'")


def test_nothing_to_watch(drift, tmp_path):
    ids = write_csv(tmp_path / "ids.csv", {"id": [f"part-{i}" for i in range(100)], "n": range(100)})
    refused(drift(ids, ids), "no column can be watched", "counts up", "like a name or an id")
    refused(drift(ids, ids, "--ignore", "id,n"), "no column is left to watch")


def test_a_reference_of_few_rows(drift, files, tmp_path):
    few = write_csv(tmp_path / "few.csv", normal_table(49, 1))
    refused(drift(few, files[1]), "few.csv: a reference of 49 rows; at least 50 are needed")


def test_a_column_without_values(drift, files, tmp_path):
    table = {**normal_table(200, 1), "gone": [""] * 200, "rare": ["1"] * 3 + ["nan"] * 197}
    reference = write_csv(tmp_path / "r.csv", table)
    data = write_csv(tmp_path / "d.csv", table)
    refused(drift(reference, data), "fewer than 10 values", "gone, rare", "--ignore gone,rare")
    code, out, _ = drift(reference, data, "--ignore", "gone,rare")
    assert (code, "No change" in out) == (0, True)


def test_a_column_that_empties_in_the_data_is_drift(drift, files, tmp_path):
    data = write_csv(tmp_path / "d.csv", {**normal_table(500, 2), "hum": [""] * 500})
    found = json.loads(drift(files[0], data, "--json")[1])
    assert found["columns"][0]["name"] == "hum"
    assert found["columns"][0]["missing_after"] == 1.0


def test_a_row_of_another_width(drift, files, tmp_path):
    path = tmp_path / "d.csv"
    path.write_text("temp,hum,line\n1,2,A\n1,2\n")
    refused(drift(files[0], path), "d.csv:3: 2 cells for 3 columns")


def test_a_name_twice(drift, files, tmp_path):
    path = tmp_path / "d.csv"
    path.write_text("temp,temp,line\n1,2,A\n")
    refused(drift(files[0], path), "d.csv:1: column 'temp' is there 2 times")


@pytest.mark.parametrize("cell", ["yesterday", "", "2024-13-01", "nan"])
def test_a_time_that_cannot_be_read(drift, tmp_path, cell):
    times = [f"2024-01-01 {i // 60:02d}:{i % 60:02d}" for i in range(200)]
    reference = write_csv(tmp_path / "r.csv", {"when": times, **normal_table(200, 1)})
    times[17] = cell
    data = write_csv(tmp_path / "d.csv", {"when": times, **normal_table(200, 2)})
    refused(drift(reference, data, "--time", "when", "--independent"), "d.csv:19: time column 'when' has", repr(cell))


def test_times_that_change_their_kind(drift, tmp_path):
    times = [str(i) for i in range(4096)] + [f"2024-01-01 00:00:{i:02d}" for i in range(10)]
    table = write_csv(tmp_path / "d.csv", {"when": times, **normal_table(len(times), 1)})
    refused(drift(table, table, "--time", "when", "--independent"), "changes from numbers to dates")


def test_twin_times_keep_the_order_of_the_file(drift, tmp_path):
    days = [f"2024-01-{1 + i // 24:02d}" for i in range(480)]
    table = write_csv(tmp_path / "d.csv", {"day": days, **normal_table(480, 1)})
    code, _, error = drift(table, table, "--time", "day", "--independent", "--no-report")
    assert code == 0
    assert "460 rows have the time of the row before them; these stay in the file's order" in error


def test_infinities_are_counted_and_told(drift, files, tmp_path):
    table = {name: list(column) for name, column in normal_table(500, 2).items()}
    table["temp"][3], table["temp"][4] = "inf", "-inf"
    code, _, error = drift(files[0], write_csv(tmp_path / "d.csv", table), "--no-report")
    assert code == 0
    assert "temp: 2 infinite values in the data count as beyond everything" in error


def test_cells_that_are_no_numbers_count_as_missing_and_are_told(drift, files, tmp_path):
    table = {name: list(column) for name, column in normal_table(500, 2).items()}
    table["temp"][3] = "ERR"
    code, _, error = drift(files[0], write_csv(tmp_path / "d.csv", table), "--no-report")
    assert code == 0
    assert "temp: 1 cell that is no number counts as missing (the first: 'ERR'" in error
    assert "d.csv:5)" in error


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--false-alarm-every", "often"), "expected a number of rows, or a duration like 90d"),
        (("--false-alarm-every", "90d"), "a duration needs the time of rows"),
        (("--false-alarm-every", "0"), "above 1"),
        (("--window", "0"), "window must be a whole number from 1 to"),
        (("--tolerance", "-1"), "tolerance must be"),
        (("--replaced", "1"), "replaced must be"),
        (("--independent",), "--time"),
        (("--out", "nowhere/x.html"), "--out nowhere/x.html: no such directory"),
        (("--save-profile", "nowhere/p.npz"), "--save-profile nowhere/p.npz: no such directory"),
    ],
)
def test_options_that_make_no_sense(drift, files, options, text):
    refused(drift(*files[:2], *options), text)


def test_options_that_a_saved_profile_answers_already(drift, files, tmp_path):
    saved = tmp_path / "p.npz"
    drift(*files[:2], "--save-profile", saved, "--no-report")
    refused(drift(saved, files[1], "--columns", "temp"), "--columns has no meaning with a saved profile")


def test_a_duration_without_a_rate(drift, tmp_path):
    table = {"t": [0.5] * 300, "n": range(300), **normal_table(300, 1)}
    path = write_csv(tmp_path / "d.csv", table)
    options = ("--independent", "--false-alarm-every", "9d")
    refused(drift(path, path, "--time", "n", *options), "plain numbers, not timestamps")
    same = write_csv(tmp_path / "s.csv", {**table, "t": [1.7e9] * 300})
    refused(drift(same, same, "--time", "t", *options), "all rows have the same time")


def test_a_damaged_profile(drift, files, tmp_path):
    saved = tmp_path / "p.npz"
    drift(*files[:2], "--save-profile", saved, "--no-report")
    with np.load(saved) as arrays:
        content = dict(arrays)
    content["gaps"] = -content["gaps"]
    np.savez(saved, **content)
    refused(drift(saved, files[1]), "p.npz", "malformed")
    content["format"] = np.array([99])
    np.savez(saved, **content)
    refused(drift(saved, files[1]), "p.npz", "format [99]")


def test_a_wrong_run_leaves_no_report(drift, files, tmp_path):
    path = tmp_path / "d.csv"
    path.write_text("temp,hum,line\n" + "1,2,A\n" * 500 + "1,2\n")
    refused(drift(files[0], path), "d.csv:502")
    assert not (tmp_path / "drift.html").exists()
