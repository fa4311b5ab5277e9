"""Quantized tensors: round half to even, saturate, and back."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.backends import tensors
from shared.errors import BackendError
from shared.manifest import TensorSpec


def stored(spec, values):
    values = np.asarray(values, np.float32)
    out = np.empty(values.shape, spec.dtype)
    tensors.quantizer(spec, values.shape)(values, out)
    return out


def test_halves_go_to_even():
    spec = TensorSpec("input", "int8", (1, 6), scale=1.0, zero_point=0)
    assert stored(spec, [[0.5, 1.5, 2.5, -0.5, -1.5, 0.6]]).tolist() == [[0, 2, 2, 0, -2, 1]]


def test_the_zero_point_is_added_after_rounding():
    spec = TensorSpec("input", "int8", (1, 2), scale=1.0, zero_point=1)
    assert stored(spec, [[0.5, 1.5]]).tolist() == [[1, 3]]


@pytest.mark.parametrize(("dtype", "low", "high"), [("int8", -128, 127), ("uint8", 0, 255)])
def test_values_out_of_range_saturate(dtype, low, high):
    spec = TensorSpec("input", dtype, (1, 2), scale=0.1, zero_point=3)
    assert stored(spec, [[-1e9, 1e9]]).tolist() == [[low, high]]


@given(
    st.floats(1e-4, 10),
    st.integers(-128, 127),
    st.lists(st.integers(-128, 127), min_size=1, max_size=20),
)
def test_stored_values_survive_the_round_trip(scale, zero, values):
    spec = TensorSpec("input", "int8", (1, None), scale=scale, zero_point=zero)
    original = np.array([values], np.int8)
    real = np.empty(original.shape, np.float32)
    tensors.dequantizer(spec)(original, real)
    np.testing.assert_array_equal(stored(spec, real), original)


def test_plain_tensors_are_copied_as_they_are():
    spec = TensorSpec("input", "float32", (1, 2))
    assert stored(spec, [[0.25, -7]]).tolist() == [[0.25, -7]]
    assert tensors.real_dtype(spec) == np.float32


def test_dynamic_dimensions_fit_any_size_and_fixed_ones_do_not():
    spec = TensorSpec("input", "float32", (None, 4))
    tensors.check(spec, "float32", (1, 4), "file")
    with pytest.raises(BackendError, match=r"file: input is float32 \(1, 5\) in the file.*float32 \(n, 4\)"):
        tensors.check(spec, "float32", (1, 5), "file")
    assert tensors.single(spec) == (1, 4)
    assert tensors.single(TensorSpec("x", "float32", (None, None))) is None
