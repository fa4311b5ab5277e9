"""Quantiles are numpy's, and leave nothing of numpy's behind."""

import subprocess
import sys

import numpy as np
import pytest

from shared.quantiles import quantiles


@pytest.mark.parametrize("n", [1, 2, 3, 10, 101, 1024])
def test_quantiles_are_those_of_numpy_to_the_last_bit(n):
    random, shares = np.random.default_rng(n), (0.0, 0.01, 0.25, 0.5, 0.75, 0.99, 1.0)
    for values in (random.normal(size=n), random.integers(0, 3, n).astype(float), random.lognormal(0, 20, n)):
        assert quantiles(values, shares) == tuple(np.quantile(values, shares).tolist())


def test_infinite_values_at_the_ends_leave_the_middle_alone():
    assert quantiles([-np.inf, 1.0, 2.0, 3.0, np.inf], (0.25, 0.5, 0.75)) == (1.0, 2.0, 3.0)


def test_masked_arrays_are_not_loaded():
    code = (
        "import sys; from shared.quantiles import quantiles; quantiles([1, 2], [0.3]); print('numpy.ma' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "False"
