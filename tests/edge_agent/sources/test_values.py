from __future__ import annotations

import base64
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.sources.values import parse_line, parse_raw, parse_values
from shared.errors import InputError
from shared.manifest import SampleSpec

ROW = SampleSpec("float32", (3,))
TWO = (SampleSpec("float32", (2,), name="a"), SampleSpec("int64", (-1,), name="b"))


def line(**fields) -> bytes:
    return json.dumps(fields).encode()


def test_several_inputs_come_by_name_as_values_or_raw_bytes():
    raw = base64.b64encode(np.array([7, 8, 9], "<i8").tobytes()).decode()
    sample = parse_line(line(id="s", inputs={"a": [1, 2], "b": {"data": raw}}), TWO)
    np.testing.assert_array_equal(sample.data["a"], np.array([1, 2], np.float32))
    np.testing.assert_array_equal(sample.data["b"], [7, 8, 9])
    assert (sample.data["a"].dtype, sample.data["b"].dtype) == (np.float32, np.int64)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"values": [1, 2]}, "several inputs; expected 'inputs' with a, b"),
        ({"inputs": {"a": [1, 2]}}, "input b is missing"),
        ({"inputs": {"a": [1, 2], "b": [1], "c": 0}}, "no such input: c"),
        ({"inputs": {"a": [1, 2, 3], "b": [1]}}, "input a: 3 values"),
        ({"inputs": {"a": [1, 2], "b": [[1]]}}, r"input b: expected shape \(any\), got \(1, 1\)"),
        ({"inputs": {"a": {"data": 5}, "b": [1]}}, "input a: Expected"),
    ],
)
def test_inputs_that_do_not_fit_are_named(fields, expected):
    with pytest.raises(InputError, match=expected):
        parse_line(line(**fields), TWO)


def test_open_dimensions_take_any_size_and_raw_bytes_tell_it():
    spec = SampleSpec("float32", (-1, 2))
    assert parse_line(line(values=[[1, 2], [3, 4], [5, 6]]), spec).data.shape == (3, 2)
    assert parse_raw(np.zeros(10, "<f4").tobytes(), [spec]).data.shape == (5, 2)
    with pytest.raises(InputError, match="needs its 'shape'"):
        parse_raw(b"12345", [spec])
    with pytest.raises(InputError, match=r"expected shape \(any, 2\), got \(4,\)"):
        parse_line(line(values=[1, 2, 3, 4]), spec)


def test_text_is_taken_as_text_and_numbers_are_not():
    spec = SampleSpec("str", (1,))
    assert parse_line(line(values="hello"), spec).data.tolist() == ["hello"]
    assert parse_values(b'["hello"]', [spec]).data.tolist() == ["hello"]
    with pytest.raises(InputError, match="expected text"):
        parse_line(line(values=[5]), spec)


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=3, max_size=3))
def test_bare_values_lines_and_raw_bytes_are_the_same_sample(values):
    expected = np.array(values, np.float32)
    for sample in (
        parse_values(json.dumps(values).encode(), [ROW]),
        parse_values(line(values=values), [ROW]),
        parse_raw(expected.astype("<f4").tobytes(), [ROW]),
    ):
        np.testing.assert_array_equal(sample.data, expected)


@given(st.binary(max_size=60) | st.text(max_size=40).map(str.encode))
def test_any_bytes_are_a_sample_or_an_input_error(payload):
    for parse, signature in ((parse_values, [ROW]), (parse_raw, [ROW]), (parse_line, TWO)):
        try:
            parse(payload, signature)
        except InputError:
            continue


def test_a_text_may_stand_under_the_name_that_training_data_has_it_under():
    spec = SampleSpec("str", (), kind="text")
    for one in (line(id=3, text="hello", label="a"), line(id=3, values="hello")):
        assert parse_line(one, spec).data.item() == "hello"
    with pytest.raises(InputError, match="expected text"):
        parse_line(line(label="a"), spec)
