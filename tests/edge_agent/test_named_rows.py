"""Rows of words and numbers, by the names of their columns: through the engine, from files and lines, and watched."""

from __future__ import annotations

import csv
import json

import msgspec
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edge_agent.backends import open_backend
from edge_agent.bare import describe
from edge_agent.engine import Engine
from edge_agent.inputs import Inputs
from edge_agent.readers import open_reader
from edge_agent.readers.base import ReadOptions
from edge_agent.sources.values import parse_line, parse_values
from edge_agent.steps import Direct, General, make_steps
from shared.drift import WatchSpec
from shared.drift.bins import CATEGORY, VALUE
from shared.drift.capture import Recorder
from shared.errors import InputError, ProfileError
from shared.manifest import SampleSpec
from shared.pipeline.encode import Categories, OneHot
from shared.pipeline.postprocess import Value
from shared.pipeline.preprocess import Impute, Parse
from shared.pipeline.spec import Pipeline

COLUMNS = ("temp", "season", "load")
ROW = SampleSpec("str", (3,), kind="row", columns=COLUMNS)
NUMBERS = SampleSpec("float32", (2,), kind="row", columns=("a", "b"))
SEASONS = Categories(1, ("spring", "winter"))
PIPELINE = Pipeline(
    preprocess=(Parse(3, (SEASONS,)), Impute((20.0, 0.0, 1.0))),
    encode=(OneHot((Categories(1, (0, 1)),)),),
    postprocess=(Value(source="output"),),
)
WEIGHTS = np.array([[1.0], [100.0], [200.0], [1000.0]], np.float32)


@pytest.fixture
def model(tmp_path):
    """temp + 100 in spring or 200 in winter + 1000 * load."""
    tensors = [
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", size])]
        for name, size in (("input", 4), ("output", 1))
    ]
    node = helper.make_node("MatMul", ["input", "w"], ["output"])
    graph = helper.make_graph([node], "graph", *tensors, [numpy_helper.from_array(WEIGHTS, "w")])
    file = tmp_path / "model.onnx"
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(made, file)
    return file


def manifest_of(model):
    return msgspec.structs.replace(describe(model), task="regression", sample=ROW, pipeline=PIPELINE)


@pytest.fixture
def engine(model):
    manifest = manifest_of(model)
    return Engine(manifest, model.parent, manifest.variants[0])


def test_a_row_by_names_is_answered_like_the_row_as_text(engine):
    by_name = engine.infer({"temp": 3, "season": "winter", "load": 0.5})
    as_text = engine.infer(np.array(["3", "winter", "0.5"], object))
    assert by_name.value == as_text.value == 703.0


def test_what_is_missing_is_imputed_and_an_unknown_word_is_no_category(engine):
    assert engine.infer({"season": "spring"}).value == 20 + 100 + 1000
    assert engine.infer({"temp": None, "season": "autumn", "load": ""}).value == 1020.0


def test_columns_of_many_rows_and_lists_of_rows_give_the_same(engine):
    columns = {"temp": [1, 2.5], "season": ["spring", "winter"], "load": np.array([0.0, np.nan])}
    rows = [{"temp": 1, "season": "spring", "load": 0.0}, {"temp": 2.5, "season": "winter"}]
    values = [answer.value for answer in engine.infer_batch(columns)]
    assert values == [answer.value for answer in engine.infer_batch(rows)] == [101.0, 1202.5]


def test_an_unknown_column_is_named(engine):
    with pytest.raises(InputError, match="no column wind; the model takes temp, season, load"):
        engine.infer({"temp": 3, "wind": 2})
    with pytest.raises(InputError, match="one value for each sample"):
        engine.infer_batch({"temp": [1, 2], "season": ["spring"]})


def test_compiled_steps_give_what_general_ones_give(model):
    manifest = manifest_of(model)
    variant = manifest.variants[0]
    direct = make_steps(manifest, variant, PIPELINE, open_backend(variant, model))
    general = General(manifest, variant, PIPELINE, open_backend(variant, model))
    assert isinstance(direct, Direct)
    rows = np.array([["1", "spring", "2"], ["", "?", "x"], ["-4e2", "winter", "nan"]], object)
    many = direct.many(rows, 3)["value"]
    for i, row in enumerate(rows):
        with direct.guard:
            assert direct.one(row)["value"] == general.one(row)["value"] == many[i]


def test_numbers_by_name_need_them_all_unless_the_pipeline_imputes():
    whole, gaps = Inputs(NUMBERS), Inputs(NUMBERS, missing=True)
    np.testing.assert_array_equal(whole.one({"b": 2, "a": "1.5"}), np.array([1.5, 2], np.float32))
    with pytest.raises(InputError, match="column b is missing"):
        whole.one({"a": 1})
    np.testing.assert_array_equal(gaps.one({"a": 1}), [1, np.nan])
    with pytest.raises(InputError, match="column a: expected a number, got 'warm'"):
        gaps.one({"a": "warm"})
    with pytest.raises(InputError, match="column a: expected a number, got list"):
        gaps.one({"a": [1], "b": 2})
    np.testing.assert_array_equal(whole.one({"input": [1.0, 2.0]}), [1, 2])


ROWS = [["3", "winter", "0.5"], ["", "spring", "1"], ["2.5", "", "?"]]


def read(path):
    reader = open_reader(path, [ROW], ReadOptions())
    found = [(ids, x) for ids, x in reader.chunks(2)]
    reader.close()
    return [id_ for ids, _ in found for id_ in ids], np.concatenate([x for _, x in found]).tolist()


def test_files_of_rows_give_the_same_rows(tmp_path):
    table = tmp_path / "rows.csv"
    with table.open("w", newline="") as file:
        csv.writer(file).writerows([("load", "season", "temp", "other"), *((c, b, a, "z") for a, b, c in ROWS)])
    assert read(table)[1] == ROWS
    lines = tmp_path / "rows.jsonl"
    objects = [{"id": "a", "temp": 3, "season": "winter", "load": 0.5}, {"season": "spring", "load": 1.0}]
    objects.append({"values": {"temp": 2.5, "load": "?"}})
    lines.write_text("\n".join(map(json.dumps, objects)))
    assert read(lines) == (["a", "1", "2"], ROWS)


def test_parquet_columns_of_any_type_become_rows_of_text(tmp_path):
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    file = tmp_path / "rows.parquet"
    columns = {"temp": [3.0, None, 2.5], "season": ["winter", "spring", None], "load": ["0.5", "1", "?"]}
    parquet.write_table(pa.table(columns), file)
    assert read(file)[1] == ROWS


def test_a_bad_row_of_a_file_is_named_and_the_others_are_read(tmp_path):
    lines = tmp_path / "rows.jsonl"
    lines.write_text('{"temp": 3}\n{"wind": 1}\n{"temp": 4, "wind": 1}\n')
    (chunk,) = open_reader(lines, [ROW], ReadOptions()).read(8)
    assert [bad.position for bad in chunk.bad] == [1]
    assert "has no 'values'" in chunk.bad[0].text


def test_a_line_may_hold_the_columns_by_name():
    for line in (
        b'{"id": "a", "temp": 3, "season": "winter", "load": 0.5}',
        b'{"id": "a", "values": {"temp": 3, "season": "winter", "load": 0.5}}',
        b'{"id": "a", "values": ["3", "winter", "0.5"]}',
    ):
        sample = parse_line(line, ROW)
        assert (sample.id, sample.data.tolist()) == ("a", ROWS[0])
    assert parse_values(b'{"season": "spring", "load": 1}', [ROW]).data.tolist() == ROWS[1]
    with pytest.raises(InputError, match="no column wind"):
        parse_line(b'{"values": {"wind": 3}}', ROW)
    np.testing.assert_array_equal(parse_line(b'{"b": 3}', NUMBERS).data, [np.nan, 3])


def test_columns_of_text_rows_are_watched_as_numbers_and_categories(engine):
    answer = engine.infer({"temp": 3, "season": "winter", "load": 0.5})
    watch = WatchSpec.choose(engine.signature, answer.outputs, "regression", pipeline=PIPELINE)
    assert watch.input_names == COLUMNS
    assert watch.input_kinds == (VALUE, CATEGORY, VALUE)
    rows = np.array(ROWS, object)
    expected = [[3, 1, 0.5], [np.nan, 0, 1], [2.5, -1, np.nan]]
    np.testing.assert_array_equal(watch.inputs(rows), expected)
    again = WatchSpec.from_arrays(watch.to_arrays())
    np.testing.assert_array_equal(again.inputs(rows.astype(str)), expected)
    recorder = Recorder(again, ["str"])
    kept = [recorder.capture(row, answer.outputs) for row in rows]
    np.testing.assert_array_equal(recorder.fold(kept)[:, :3], expected)
    with pytest.raises(InputError, match="parse: takes rows of text"):
        watch.inputs(np.zeros((2, 3)))


def test_a_watch_of_rows_without_their_operation_is_refused():
    watch = WatchSpec.fit(ROW, 2, None, pipeline=PIPELINE)
    assert watch.statistics == "row"
    arrays = watch.to_arrays()
    arrays["parts"] = np.array([str(arrays["parts"][0]).replace('"width":3', '"width":4')])
    with pytest.raises(ProfileError):
        WatchSpec.from_arrays(arrays)
