"""Samples are checked before anything runs: one line says what was expected and what came."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from shared.errors import InputError
from shared.manifest import SampleSpec

Array = NDArray[Any]


class Inputs:
    """Checks for one kind of sample.

    An array of the very shape and dtype passes as it is, without a copy. Lists, and arrays of another numeric dtype
    whose values the sample's dtype can hold, are converted; but an array of whole numbers is not taken for floats: it
    is most likely raw (0 to 255) where the training data was scaled (0 to 1), and the answers would be silently wrong.

    >>> Inputs(SampleSpec("uint8", (2,))).one([3, 300])
    Traceback (most recent call last):
    shared.errors.InputError: expected uint8 values, got int64 that it cannot hold
    """

    def __init__(self, sample: SampleSpec) -> None:
        self._dtype = np.dtype(sample.dtype)
        self._shape = sample.shape
        self._floating = self._dtype.kind == "f"

    def one(self, sample: ArrayLike) -> Array:
        """``sample`` as an array of exactly the spec's shape and dtype.

        Raises:
            InputError: shape, dtype or values do not fit.
        """
        if type(sample) is np.ndarray and sample.dtype is self._dtype and sample.shape == self._shape:
            x: Array = sample
        else:
            x = self._converted(self._as_array(sample), self._shape)
        if self._floating and not np.isfinite(x).all():
            raise InputError(f"sample has {int((~np.isfinite(x)).sum())} values that are NaN or infinite")
        return x

    def many(self, samples: ArrayLike) -> Array:
        """``samples`` as an array (n, *shape); an empty list is n = 0.

        Raises:
            InputError: shape, dtype or values do not fit.
        """
        array = self._as_array(samples)
        if array.shape == (0,):
            array = np.empty((0, *self._shape), self._dtype)
        x = self._converted(array, (len(array) if array.ndim else 0, *self._shape))
        if self._floating and not np.isfinite(x).all():
            bad = ~np.isfinite(x).reshape(len(x), -1).all(axis=1)
            raise InputError(f"{int(bad.sum())} of {len(x)} samples have NaN or infinite values, first {bad.argmax()}")
        return x

    def _converted(self, array: Array, shape: tuple[int, ...]) -> Array:
        if array.shape != shape:
            raise InputError(f"expected shape {shape}, got {array.shape}")
        if array.dtype == self._dtype:
            return array.astype(self._dtype, copy=False)
        if array.dtype.kind not in "biuf":
            raise InputError(f"expected {self._dtype.name} values, got {array.dtype.name}")
        with np.errstate(invalid="ignore", over="ignore"):
            x = array.astype(self._dtype)
            same = self._floating or bool((x == array).all())
        if not same:
            raise InputError(f"expected {self._dtype.name} values, got {array.dtype.name} that it cannot hold")
        return x

    def _as_array(self, values: ArrayLike) -> Array:
        try:
            array = np.asarray(values)
        except (ValueError, TypeError) as error:
            raise InputError(f"samples must be regular arrays of numbers: {error}") from error
        counted = isinstance(values, list | tuple) and array.dtype == np.asarray([0]).dtype  # no dtype was given
        if self._floating and array.dtype.kind in "iu" and not counted:
            raise InputError(
                f"expected {self._dtype.name} values, got {array.dtype.name}; "
                "convert them the way the training data was"
            )
        return array
