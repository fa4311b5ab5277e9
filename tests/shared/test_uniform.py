"""Uniform numbers from a counter."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from shared.uniform import Uniform

MASK = (1 << 64) - 1


def by_hand(state, count):
    """The published algorithm, with Python's own whole numbers."""
    found = []
    for _ in range(count):
        state = (state + 0x9E3779B97F4A7C15) & MASK
        z = state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        found.append(z ^ (z >> 31))
    return found


def test_the_algorithm_by_hand_is_the_published_one():
    assert by_hand(1234567, 3) == [6457827717110365317, 3203168211198807973, 9817491932198370423]


@given(st.integers(0, MASK), st.integers(0, 1 << 40), st.integers(0, 20))
def test_it_is_splitmix_from_anywhere(seed, drawn, count):
    uniform = Uniform(seed, drawn)
    assert uniform.bits(count).tolist() == by_hand((uniform._start + drawn * 0x9E3779B97F4A7C15) & MASK, count)
    assert uniform.drawn == drawn + count


@given(st.integers(-5, 5), st.lists(st.integers(0, 9), max_size=6))
def test_blocks_of_any_size_give_the_same(seed, sizes):
    parts, whole = Uniform(seed), Uniform(seed)
    found = [parts.random(size) for size in sizes]
    np.testing.assert_array_equal(np.concatenate([np.empty(0), *found]), whole.random(sum(sizes)))


@pytest.mark.parametrize("seed", [0, 1, 2**63])
def test_numbers_are_uniform_and_seeds_do_not_resemble_each_other(seed):
    x = Uniform(seed).random(200_000)
    assert 0 <= x.min() < x.max() < 1
    assert stats.kstest(x, "uniform").pvalue > 1e-4
    for other in (Uniform(seed + 1).random(200_000), x[np.r_[1 : len(x), 0]]):
        assert abs(np.corrcoef(x, other)[0, 1]) < 0.012


def test_some_of_many_are_each_there_once():
    found = Uniform(3).some(np.arange(100), 40)
    assert len(set(found.tolist())) == 40
    assert Uniform(3).some(np.arange(5), 9).shape == (5,)


def test_it_does_not_load_numpys():
    code = (
        "import sys; from shared.uniform import Uniform; Uniform(1).random(9); sys.exit('numpy.random' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
