"""What a sample must be, for one input and for several."""

import numpy as np
import pytest

from edge_agent.inputs import Inputs, Signature
from shared.errors import InputError
from shared.manifest import SampleSpec

ROW = SampleSpec("float32", (3,))
ANY = SampleSpec("float32", (-1, 2), name="series")
TEXT = SampleSpec("str", (), kind="text", name="message")


def test_an_array_of_the_very_kind_passes_without_a_copy():
    x = np.ones(3, np.float32)
    assert Inputs(ROW).one(x) is x


SHAPES = [(3,), (16,), (17,), (2, 2), (80, 80)]  # each of these is looked through in a way of its own


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("bad", [(np.nan, np.nan), (np.inf, np.inf), (-np.inf, np.inf), (np.inf, np.nan)])
def test_values_that_are_no_numbers_are_refused_and_counted(shape, dtype, bad):
    x = np.ones(shape, dtype)
    x.flat[1:3] = bad
    inputs = Inputs(SampleSpec(dtype, shape))
    with pytest.raises(InputError, match="2 values that are NaN or infinite"):
        inputs.one(x)
    with pytest.raises(InputError, match="1 of 2 samples have NaN or infinite values, first 1"):
        inputs.many(np.stack([np.ones(shape, dtype), x]))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("dtype", "most"), [("float32", 3e38), ("float64", 1.7e308)])
def test_values_whose_sums_or_squares_overflow_are_numbers_all_the_same(shape, dtype, most):
    x = np.full(shape, most, dtype)
    with np.errstate(over="ignore"):
        assert Inputs(SampleSpec(dtype, shape)).one(x) is x


def test_missing_values_pass_where_the_pipeline_fills_them_in():
    x = np.array([1, np.nan, 3], np.float32)
    assert Inputs(ROW, missing=True).one(x) is x


def test_minus_one_is_any_size_and_the_others_hold():
    inputs = Inputs(ANY)
    for size in (0, 1, 7):
        assert inputs.one(np.zeros((size, 2), np.float32)).shape == (size, 2)
    with pytest.raises(InputError, match=r"series: expected shape \(any, 2\), got \(4, 3\)"):
        Inputs(ANY, where="series: ").one(np.zeros((4, 3), np.float32))
    with pytest.raises(InputError, match="expected shape"):
        inputs.one(np.zeros(2, np.float32))
    assert inputs.many(np.zeros((5, 9, 2), np.float32)).shape == (5, 9, 2)
    assert inputs.many([]).shape == (0, 0, 2)


def test_text_comes_as_str_and_as_numpy_text():
    assert Inputs(TEXT).one("hello").item() == "hello"
    assert Inputs(TEXT).many(["a", "bc"]).tolist() == ["a", "bc"]
    assert Inputs(TEXT).many(np.array(["a", "bc"])).dtype == object
    for bad in (3, [1, 2], b"bytes", [None]):
        with pytest.raises(InputError):
            Inputs(TEXT).many(bad)


def test_a_single_input_may_be_named_or_not():
    signature = Signature([ROW])
    np.testing.assert_array_equal(signature.one([1.0, 2, 3]), signature.one({"input": [1.0, 2, 3]}))
    with pytest.raises(InputError, match="missing input; unknown inputs; the model takes input"):
        signature.one({"inputs": [1.0, 2, 3]})


def test_several_inputs_come_by_name():
    signature = Signature([ROW, ANY, TEXT])
    sample = {"message": "hello", "input": [1.0, 2, 3], "series": [[1.0, 2]]}
    assert list(signature.one(sample)) == ["input", "series", "message"]
    with pytest.raises(InputError, match="the model has several inputs; expected a dict of input, series, message"):
        signature.one([1.0, 2, 3])
    with pytest.raises(InputError, match="missing message; the model takes"):
        signature.one({"input": [1.0, 2, 3], "series": [[1.0, 2]]})
    with pytest.raises(InputError, match="series: expected shape"):
        signature.one(sample | {"series": [1.0]})


def test_several_inputs_are_as_many_samples_each():
    signature = Signature([ROW, TEXT])
    count, samples = signature.many({"input": np.zeros((2, 3), np.float32), "message": ["a", "b"]})
    assert count == 2
    assert list(samples) == ["input", "message"]
    with pytest.raises(InputError, match="inputs differ in the number of samples: input 2, message 3"):
        signature.many({"input": np.zeros((2, 3), np.float32), "message": ["a", "b", "c"]})
