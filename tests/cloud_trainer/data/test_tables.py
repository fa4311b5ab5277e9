"""CSV, Parquet, JSON lines and npz columns, for the kinds of tasks that come in rows."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cloud_trainer.data import join, load_splits
from cloud_trainer.data.loading import load
from shared.errors import ConfigError, DataError, UsageError
from tests.cloud_trainer.data.samples import rows, task, write_csv, write_jsonl


def all_of(splits):
    return join(list(splits.parts().values()))


def found(splits, check):
    return [finding for finding in splits.findings if finding.check == check]


@pytest.mark.parametrize("format_", ["csv", "parquet", "jsonl", "npz"])
def test_every_format_gives_the_same_rows(tmp_path, format_):
    columns = rows()
    path = tmp_path / f"d.{format_}"
    if format_ == "csv":
        write_csv(path, columns)
    elif format_ == "parquet":
        pq.write_table(
            pa.table({name: list(map(str, v)) if v.dtype.kind == "U" else v for name, v in columns.items()}), path
        )
    elif format_ == "jsonl":
        write_jsonl(path, columns)
    else:
        np.savez(path, **columns)
    data = load(task(format=format_, path=str(path), target="label")).data
    assert data.columns == ("a", "b", "color")
    assert data.labels == ("no", "yes")
    assert data.x.dtype == object
    assert data.x[3].tolist() == [str(columns["a"][3]), str(columns["b"][3]), columns["color"][3]]
    assert data.labels[data.y[3]] == columns["label"][3]


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_separator_is_found(tmp_path, separator):
    path = write_csv(tmp_path / "d.csv", rows(), separator)
    assert load(task(format="csv", path=path, target="label")).data.columns == ("a", "b", "color")


def test_decimal_comma_quotes_byte_order_mark_and_missing_markers(tmp_path):
    lines = ["\ufeffa;b;word;y"] + [
        f'{i},5;{["", "NA", "nan", "null", "?"][i % 5]};"x;{i % 3}";{i % 2}' for i in range(200)
    ]
    lines[1] = '0,5;1e3;"x;0";0'
    (tmp_path / "d.csv").write_text("\n".join(lines), encoding="utf-8")
    x = load(task(format="csv", path=str(tmp_path / "d.csv"), target="y")).data.x
    assert x[0].tolist() == ["0.5", "1000", "x;0"]
    assert set(x[1:, 1].tolist()) == {""}


def test_numbers_alone_are_float32_with_nan_where_they_are_missing(tmp_path):
    columns = rows()
    del columns["color"]
    columns["b"] = np.where(np.arange(400) % 50 == 0, "NA", columns["b"].astype(str))
    data = load(task(format="csv", path=write_csv(tmp_path / "d.csv", columns), target="label")).data
    assert data.x.dtype == np.float32
    assert np.isnan(data.x[:, 1]).sum() == 8


def test_file_without_a_header_takes_its_names_from_the_task(tmp_path):
    path = write_csv(
        tmp_path / "d.tsv", {"l": ["ham", "spam"] * 200, "t": [f'said "{i}' for i in range(400)]}, "\t", header=False
    )
    data = load(task("text-classification", format="csv", path=path, names=("label", "text"), target="label")).data
    assert len(data) == 400
    assert data.x[1] == 'said "1'
    with pytest.raises(UsageError, match="2 cells, but 3 names are given"):
        load(task("text-classification", format="csv", path=path, names=("a", "b", "c"), target="a"))


def test_a_few_words_in_a_numeric_column_are_missing_and_named(tmp_path):
    columns = rows() | {"b": [str(i) for i in range(400)]}
    columns["b"][16] = "broken"
    splits = load_splits(task(format="csv", path=write_csv(tmp_path / "d.csv", columns), target="label"))
    (finding,) = found(splits, "words in numbers")
    assert finding.where == "b"
    assert f"1 of 400 cells are not ({tmp_path}/d.csv:18 has 'broken'): taken as missing" in finding.text
    assert (all_of(splits).x[:, 1] == "").sum() == 1


def test_many_words_in_a_numeric_column_make_it_words_and_are_named(tmp_path):
    columns = rows() | {"b": [str(i) if i % 20 else "off" for i in range(400)]}
    splits = load_splits(task(format="csv", path=write_csv(tmp_path / "d.csv", columns), target="label"))
    (finding,) = found(splits, "words in numbers")
    assert "20 of 400 cells are not" in finding.text
    assert "taken as words" in finding.text
    assert (all_of(splits).x[:, 1] == "off").sum() == 20


def test_time_column_gives_times_and_stays_a_feature(tmp_path):
    columns = rows()
    dates = [f"2024-01-{1 + i // 24:02d}T{i % 24:02d}:00" for i in range(400)]
    path = write_csv(tmp_path / "d.csv", {"when": dates, **columns})
    splits = load_splits(task(format="csv", path=path, target="label", time="when"))
    assert splits.train.times.max() < splits.validation.times.min()
    assert splits.train.x[0, 0] == "2024-01-01T00:00"
    del columns["color"]
    path = write_csv(tmp_path / "n.csv", {"when": dates, **columns})
    splits = load_splits(task(format="csv", path=path, target="label", time="when"))
    assert splits.train.x.dtype == np.float64
    assert (splits.train.x[:, 0] == splits.train.times).all()


def test_group_column_is_no_feature_and_on_one_side_only(tmp_path):
    path = write_csv(tmp_path / "d.csv", {**rows(), "machine": [f"m{i % 12}" for i in range(400)]})
    splits = load_splits(task(format="csv", path=path, target="label", group="machine"))
    assert splits.train.columns == ("a", "b", "color")
    seen = [set(part.groups.tolist()) for part in splits.parts().values()]
    assert sum(map(len, seen)) == 12


def test_regression_takes_numbers_and_leaves_out_rows_without(tmp_path):
    columns = rows()
    columns["y"] = [str(i) if i % 40 else "" for i in range(400)]
    splits = load_splits(
        task("tabular-regression", format="csv", path=write_csv(tmp_path / "d.csv", columns), target="y")
    )
    assert splits.train.y.dtype == np.float32
    assert len(all_of(splits)) == 390
    assert "10 of 400 rows have no usable target 'y'" in found(splits, "labels missing")[0].text


def test_rows_without_a_label_are_left_out_and_named(tmp_path):
    columns = rows()
    columns["label"][:5] = ""
    splits = load_splits(task(format="csv", path=write_csv(tmp_path / "d.csv", columns), target="label"))
    assert len(all_of(splits)) == 395
    assert len(found(splits, "labels missing")) == 1


def test_columns_ignore_and_categorical(tmp_path):
    path = write_csv(tmp_path / "d.csv", {**rows(), "zip": np.arange(400) % 9})
    data = load(task(format="csv", path=path, target="label", columns=("a", "zip"), categorical=("zip",))).data
    assert data.columns == ("a", "zip")
    assert data.x[3].tolist()[1] == "3"
    data = load(task(format="csv", path=path, target="label", ignore=("color", "zip"))).data
    assert data.x.dtype == np.float32


@pytest.mark.parametrize(
    ("more", "error", "message"),
    [
        ({}, DataError, "data.target is missing: which column is it? There are 'a', 'b', 'color', 'label'"),
        (
            {"target": "labl"},
            DataError,
            "no column 'labl' (data.target); there are 'a', 'b', 'color', 'label'; did you mean 'label'?",
        ),
        ({"target": "label", "group": "who"}, DataError, "no column 'who' (data.group)"),
        ({"target": "label", "columns": ("label",)}, DataError, "is the target; it cannot be a feature"),
        ({"target": "label", "ignore": ("a", "b", "color")}, DataError, "no column is left to learn from"),
        ({"target": "label", "split": "time"}, ConfigError, "data.split: 'time' needs data.time"),
        ({"target": "label", "time": "color"}, UsageError, "time column 'color' has"),
        ({"target": "a"}, DataError, "too many to be classes; numbers are foretold by kind 'tabular-regression'"),
        ({"target": "label", "separator": ";;"}, ConfigError, "data.separator: expected one character"),
    ],
)
def test_wrong_descriptions_of_a_table_are_refused_in_one_line(tmp_path, more, error, message):
    path = write_csv(tmp_path / "d.csv", rows())
    with pytest.raises(error) as raised:
        load_splits(task(format="csv", path=path, **more))
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is empty"),
        ("a,label\n", "a header, but no rows"),
        ("a,label\n1,x\n", "1 sample; at least 100 are needed"),
        ("a,label\n" + "1,x\n" * 300, "1 class; classification needs at least two"),
        ("a,label\n" + "1,\n" * 300, "target column 'label' is empty in every row"),
        ("a,label\n" + "1,x\n" * 200 + "1,2,3\n", ":202: 3 cells for 2 columns"),
        ("a,a,label\n1,1,x\n", "column 'a' is there 2 times"),
        ("a,label\n" + "".join(f"{i},x\n" for i in range(200)) + "7,rare\n", "class 'rare' has 1 samples, too few"),
    ],
)
def test_bad_csv_files(tmp_path, text, message):
    (tmp_path / "d.csv").write_text(text)
    with pytest.raises((DataError, UsageError)) as raised:
        load_splits(task(format="csv", path=str(tmp_path / "d.csv"), target="label"))
    assert message in str(raised.value)


def test_numbers_with_words_in_the_target_name_column_row_and_value(tmp_path):
    columns = {"a": range(300), "y": [str(i) if i % 10 else "high" for i in range(300)]}
    path = write_csv(tmp_path / "d.csv", columns)
    with pytest.raises(DataError, match=r"d.csv:2: target column 'y' has 'high'; 30 of its 300 cells are no numbers"):
        load_splits(task("tabular-regression", format="csv", path=path, target="y"))


def test_file_that_is_no_text(tmp_path):
    (tmp_path / "d.csv").write_bytes(b"a,label\n\xff\xfe\x00,x\n")
    with pytest.raises(UsageError, match=r"UTF-8|utf-8"):
        load_splits(task(format="csv", path=str(tmp_path / "d.csv"), target="label"))


def test_huge_file_is_refused_before_it_is_read(tmp_path):
    with (tmp_path / "d.csv").open("wb") as file:
        file.write(b"a,label\n")
        file.truncate(5 << 30)
    with pytest.raises(DataError, match="5120 MiB; at most 4096 MiB are read at once"):
        load_splits(task(format="csv", path=str(tmp_path / "d.csv"), target="label"))


@pytest.mark.parametrize("format_", ["csv", "parquet", "jsonl", "image-folder", "audio-folder"])
def test_data_that_is_not_there_is_wrong_use(tmp_path, format_):
    with pytest.raises(UsageError, match=f"{tmp_path}/gone: no such"):
        load_splits(task(format=format_, path=str(tmp_path / "gone"), target="y"))
    with pytest.raises(ConfigError, match=f"data.path: missing; format '{format_}' needs"):
        load_splits(task(format=format_, target="y"))


def test_damaged_parquet_file(tmp_path):
    (tmp_path / "d.parquet").write_bytes(b"PAR1 no more")
    with pytest.raises(UsageError, match="not a Parquet file, or damaged"):
        load_splits(task(format="parquet", path=str(tmp_path / "d.parquet"), target="y"))


def test_parquet_dates_numbers_and_nulls(tmp_path):
    when = np.datetime64("2024-03-01T00:00") + np.arange(300) * np.timedelta64(1, "h")
    values = [None if i % 50 == 0 else float(i) for i in range(300)]
    pq.write_table(
        pa.table(
            {
                "when": when.astype("datetime64[us]"),
                "v": values,
                "flag": [i % 3 == 0 for i in range(300)],
                "y": ["a", "b"] * 150,
                "l": [[1]] * 300,
            }
        ),
        tmp_path / "d.parquet",
    )
    loaded = load(task(format="parquet", path=str(tmp_path / "d.parquet"), target="y", time="when"))
    assert loaded.data.x.dtype == np.float64
    assert loaded.data.times[1] - loaded.data.times[0] == 3600
    assert np.isnan(loaded.data.x[0, 1])
    assert loaded.data.x[:3, 2].tolist() == [1, 0, 0]
    assert [finding.where for finding in loaded.findings] == ["l"]


def test_texts_in_json_lines_with_a_few_broken_ones(tmp_path):
    lines = [json.dumps({"text": f"message {i} here", "label": "ab"[i % 2]}) for i in range(300)]
    lines[7], lines[9] = "{broken", json.dumps({"text": "", "label": "a"})
    (tmp_path / "d.jsonl").write_text("\n".join(lines))
    splits = load_splits(task("text-classification", format="jsonl", path=str(tmp_path / "d.jsonl"), target="label"))
    assert splits.train.x.dtype == object
    assert splits.train.x.ndim == 1
    assert len(all_of(splits)) == 298
    assert "d.jsonl:8" in found(splits, "unreadable")[0].text
    assert "d.jsonl:10" in found(splits, "missing")[0].text


def test_json_lines_of_which_most_are_broken(tmp_path):
    (tmp_path / "d.jsonl").write_text('{"text": "a b", "label": "x"}\nnot json\n')
    with pytest.raises(DataError, match="1 of 2 lines cannot be read, more than 10%"):
        load_splits(task("text-classification", format="jsonl", path=str(tmp_path / "d.jsonl"), target="label"))


def test_text_column_must_be_named_where_there_are_several(tmp_path):
    path = write_jsonl(tmp_path / "d.jsonl", {"subject": ["a"] * 9, "body": ["b"] * 9, "label": ["x"] * 9})
    with pytest.raises(DataError, match=r"data.text is missing: which column is the text. There are 'subject', 'body'"):
        load_splits(task("text-classification", format="jsonl", path=path, target="label"))


def test_kind_that_does_not_come_in_rows(tmp_path):
    path = write_csv(tmp_path / "d.csv", rows())
    with pytest.raises(ConfigError, match="'csv' does not hold samples of image-classification; use 'image-folder'"):
        load_splits(task("image-classification", format="csv", path=path, target="label"))


def test_histories_and_the_next_item(tmp_path):
    n = 600
    columns = {"user": [f"u{i % 20}" for i in range(n)], "item": [f"i{i % 7}" for i in range(n)], "t": range(n)}
    path = write_csv(tmp_path / "d.csv", columns)
    splits = load_splits(task("recommendation", format="csv", path=path, user="user", item="item", time="t", history=3))
    assert splits.train.labels == tuple(f"i{i}" for i in range(7))
    assert splits.train.x.shape[1:] == (3,)
    assert splits.train.times.max() < splits.validation.times.min() < splits.test.times.min()
    assert splits.train.x[0].tolist() == ["", "", "i0"]  # user 0 took item 0 at 0, item 6 at 20
    assert splits.train.labels[splits.train.y[0]] == "i6"
    assert splits.train.groups[0] == "u0"
    assert len(all_of(splits)) == n - 20


def test_candidates_are_grouped_by_query(tmp_path):
    rng = np.random.default_rng(0)
    columns = {"query": np.arange(400) // 5, "price": rng.normal(size=400), "relevance": rng.integers(0, 4, 400)}
    path = write_csv(tmp_path / "d.csv", columns)
    splits = load_splits(task("recommendation", format="csv", path=path, target="relevance", group="query"))
    assert splits.train.columns == ("price",)
    assert splits.train.y.dtype == np.float32
    assert not set(splits.train.groups.tolist()) & set(splits.test.groups.tolist())


def test_users_with_one_item_each_have_nothing_to_learn_from(tmp_path):
    path = write_csv(tmp_path / "d.csv", {"user": range(200), "item": [f"i{i % 3}" for i in range(200)]})
    with pytest.raises(DataError, match="no user has two items"):
        load_splits(task("recommendation", format="csv", path=path, user="user", item="item"))
