"""Samples are checked before anything runs: one line says what was expected and what came."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from math import isfinite
from typing import Any

import numpy as np
from numpy import vdot
from numpy.typing import ArrayLike, NDArray

from shared.errors import InputError
from shared.manifest import SampleSpec
from shared.pipeline.columns import number_of, text_of

Array = NDArray[Any]
Sample = Array | dict[str, Array]
"""An array for models of one input, else one for each input by its name."""

FEW = 16
"""Values up to which Python's own sum finds NaN faster than numpy starts."""
MOST_REFUSED = 1 << 16
"""Samples without an answer that one refused batch counts for, at most."""
SMALL = 4096
"""Values up to which a dot product finds NaN faster than looking at each; above, it may use several threads."""


class Inputs:
    """Checks for one input.

    An array of the very shape and dtype passes as it is, without a copy. Lists, and arrays of another numeric dtype
    whose values the sample's dtype can hold, are converted; but an array of whole numbers is not taken for floats: it
    is most likely raw (0 to 255) where the training data was scaled (0 to 1), and the answers would be silently wrong.
    NaN stands for a missing value where the pipeline fills it in (``missing``), and is refused elsewhere. A row whose
    columns have names may be a dict with a value for each; one that is left out is missing, too.

    >>> Inputs(SampleSpec("uint8", (2,))).one([3, 300])
    Traceback (most recent call last):
    shared.errors.InputError: expected uint8 values, got int64 that it cannot hold
    """

    def __init__(self, sample: SampleSpec, *, missing: bool = False, where: str = "") -> None:
        self._name = sample.name
        self._text = sample.dtype == "str"
        self._dtype = np.dtype(object) if self._text else np.dtype(sample.dtype)
        self._shape = sample.shape
        self._any = -1 in sample.shape
        self._floating = self._dtype.kind == "f"
        self._finite = self._floating and not missing
        self._columns = sample.columns if sample.columns and self._shape == (len(sample.columns),) else ()
        self._missing = missing
        blas = self._finite and self._dtype.itemsize >= 4
        size = math.prod(self._shape) if sample.fixed else 0
        self._few = self._finite and len(self._shape) == 1 and 0 < size <= FEW
        self._small = blas and 0 < size <= SMALL
        self._where = where

    def one(self, sample: ArrayLike | Mapping[str, ArrayLike]) -> Array:
        """``sample`` as an array of exactly the spec's shape and dtype; it may come as ``{name: sample}``.

        Raises:
            InputError: shape, dtype or values do not fit.
        """
        if type(sample) is np.ndarray and sample.dtype is self._dtype and sample.shape == self._shape:
            x: Array = sample
        else:
            values = self._of_mapping(sample, row_of) if isinstance(sample, Mapping) else sample
            x = self._converted(self._as_array(values), self._shape)
        if self._finite:
            # NaN and infinity survive a sum, and one of squares; an overflow is looked at again
            if self._few:
                if isfinite(sum(x.tolist())):
                    return x
            elif self._small and isfinite(vdot(x, x)):
                return x
            if not np.isfinite(x).all():
                count = int((~np.isfinite(x)).sum())
                raise InputError(f"{self._where}sample has {count} values that are NaN or infinite")
        return x

    def many(self, samples: ArrayLike | Mapping[str, ArrayLike]) -> Array:
        """``samples`` as an array (n, *shape), or ``{name: samples}``; an empty list is n = 0.

        Raises:
            InputError: shape, dtype or values do not fit.
        """
        if isinstance(samples, Mapping):
            samples = self._of_mapping(samples, rows_of_columns)
        elif self._columns and isinstance(samples, list | tuple) and samples and isinstance(samples[0], Mapping):
            samples = np.stack([self.one(sample) for sample in samples])
        array = self._as_array(samples)
        if array.shape == (0,):
            array = np.empty((0, *(max(size, 0) for size in self._shape)), self._dtype)
        x = self._converted(array, (len(array) if array.ndim else 0, *self._shape))
        if self._finite and not np.isfinite(x).all():
            bad = ~np.isfinite(x).reshape(len(x), -1).all(axis=1)
            raise InputError(
                f"{self._where}{int(bad.sum())} of {len(x)} samples have NaN or infinite values, first {bad.argmax()}"
            )
        return x

    def _of_mapping(self, sample: Mapping[str, Any], make: Callable[..., Array]) -> ArrayLike:
        """The values of ``{name: values}``, or of a row or rows by the names of their columns."""
        if not self._columns or (set(sample) == {self._name} and self._name not in self._columns):
            return _only(sample, self._name)
        return make(sample, self._columns, self._dtype, missing=self._missing)

    def _converted(self, array: Array, shape: tuple[int, ...]) -> Array:
        if array.shape != shape and not self._fits(array.shape, shape):
            wanted = ", ".join("any" if size == -1 else str(size) for size in shape) + ("," if len(shape) == 1 else "")
            raise InputError(f"{self._where}expected shape ({wanted}), got {array.shape}")
        if self._text:
            return self._texts(array)
        if array.dtype == self._dtype:
            return array.astype(self._dtype, copy=False)
        if array.dtype.kind not in "biuf":
            raise InputError(f"{self._where}expected {self._dtype.name} values, got {array.dtype.name}")
        with np.errstate(invalid="ignore", over="ignore"):
            x = array.astype(self._dtype)
            same = self._floating or bool((x == array).all())
        if not same:
            raise InputError(
                f"{self._where}expected {self._dtype.name} values, got {array.dtype.name} that it cannot hold"
            )
        return x

    def _fits(self, found: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
        return self._any and len(found) == len(wanted) and all(w in {-1, f} for f, w in zip(found, wanted, strict=True))

    def _texts(self, array: Array) -> Array:
        if array.dtype.kind == "U":
            return array.astype(object)
        if array.dtype.kind != "O" or not all(isinstance(value, str) for value in array.flat):
            raise InputError(f"{self._where}expected text, got {array.dtype.name} values")
        return array

    def _as_array(self, values: ArrayLike) -> Array:
        try:
            array = np.asarray(values)
        except (ValueError, TypeError) as error:
            raise InputError(f"{self._where}samples must be regular arrays of numbers: {error}") from error
        counted = isinstance(values, list | tuple | int) and array.dtype == np.asarray([0]).dtype  # no dtype was given
        if self._floating and array.dtype.kind in "iu" and not counted:
            raise InputError(
                f"{self._where}expected {self._dtype.name} values, got {array.dtype.name}; "
                "convert them the way the training data was"
            )
        return array


class Signature:
    """Checks for all inputs of a model: an array where there is one, a dict of arrays by name where there are more."""

    def __init__(self, specs: Sequence[SampleSpec], *, missing: bool = False) -> None:
        first, *others = specs
        primary = Inputs(first, missing=missing, where=f"{first.name}: " if others else "")
        self._inputs = {first.name: primary} | {spec.name: Inputs(spec, where=f"{spec.name}: ") for spec in others}
        self._single = None if others else primary
        self.one: Callable[[ArrayLike | Mapping[str, ArrayLike]], Sample] = self._one if others else primary.one
        """One sample, checked: ``InputError`` where a name, shape, dtype or value does not fit."""

    def _one(self, sample: ArrayLike | Mapping[str, ArrayLike]) -> Sample:
        return {name: self._inputs[name].one(values) for name, values in _named(sample, tuple(self._inputs)).items()}

    def many(self, samples: ArrayLike | Mapping[str, ArrayLike]) -> tuple[int, Sample]:
        """How many samples there are, and the samples, each input (n, *shape).

        Raises:
            InputError: a name, shape, dtype or value does not fit, or inputs differ in n.
        """
        if self._single is not None:
            batch = self._single.many(samples)
            return len(batch), batch
        named = _named(samples, tuple(self._inputs))
        found = {name: self._inputs[name].many(values) for name, values in named.items()}
        counts = {name: len(values) for name, values in found.items()}
        if len(set(counts.values())) > 1:
            told = ", ".join(f"{name} {count}" for name, count in counts.items())
            raise InputError(f"inputs differ in the number of samples: {told}")
        return next(iter(counts.values())), found


def row_of(sample: Mapping[str, Any], columns: Sequence[str], dtype: np.dtype[Any], *, missing: bool = True) -> Array:
    """A row (c,) of text (``dtype`` object) or of numbers, out of values by the names of its ``columns``. What is not
    there, or ``None``, is missing: NaN, or text of no length.

    Raises:
        InputError: a column is unknown, or no number where one is needed, or lacks its value where none may
            (``missing``).

    >>> row_of({"b": 2, "a": None}, ("a", "b"), np.dtype("float32"))
    array([nan,  2.], dtype=float32)
    """
    unknown = sample.keys() - set(columns)
    if unknown:
        raise InputError(f"no column {', '.join(sorted(map(str, unknown)))}; the model takes {', '.join(columns)}")
    found = [sample.get(name) for name in columns]
    if not missing and None in found:
        raise InputError(f"column {', '.join(n for n, v in zip(columns, found, strict=True) if v is None)} is missing")
    if dtype.kind == "O":
        return np.array([text_of(value) for value in found], object)
    numbers = [_number(value, name) for value, name in zip(found, columns, strict=True)]
    return np.array(numbers, np.float64).astype(dtype) if dtype.kind == "f" else np.array(numbers)


def rows_of_columns(
    samples: Mapping[str, Any], columns: Sequence[str], dtype: np.dtype[Any], *, missing: bool = True
) -> Array:
    """Rows (n, c) out of the values (n,) of each column, as :func:`row_of`.

    Raises:
        InputError: as there, or columns differ in length.
    """
    lengths = {name: len(values) if np.ndim(values) == 1 else -1 for name, values in samples.items()}
    if -1 in lengths.values() or len(set(lengths.values())) != 1:
        told = ", ".join(f"{name} {'one' if size < 0 else size}" for name, size in lengths.items())
        raise InputError(f"columns must have one value for each sample, and equally many; got {told or 'none'}")
    cells = [list(values) for values in samples.values()]
    rows = [row_of(dict(zip(samples, row, strict=True)), columns, dtype, missing=missing) for row in zip(*cells)]  # noqa: B905
    return np.stack(rows) if rows else np.empty((0, len(columns)), dtype)


def _number(value: Any, name: str) -> Any:
    if value is None:
        return math.nan
    if isinstance(value, str):
        if not value.strip():
            return math.nan
        number = number_of(value)
        if math.isnan(number) and value.strip().lower() != "nan":
            raise InputError(f"column {name}: expected a number, got {value[:40]!r}")
        return number
    if isinstance(value, bool | int | float | np.number | np.bool_):
        return value
    raise InputError(f"column {name}: expected a number, got {type(value).__name__}")


def length_of(samples: ArrayLike | Mapping[str, ArrayLike]) -> int:
    """Samples of a batch that may be anything, at most ``MOST_REFUSED``; 1 where that can't be told."""
    rows = next(iter(samples.values()), ()) if isinstance(samples, Mapping) else samples
    counted = isinstance(rows, list | tuple) or (isinstance(rows, np.ndarray) and rows.ndim > 0)
    return min(max(len(rows), 1), MOST_REFUSED) if counted else 1  # type: ignore[arg-type]  # it has a length


def sample_at(batch: Sample, i: int) -> Sample:
    """One sample of a checked batch."""
    return {name: values[i] for name, values in batch.items()} if isinstance(batch, dict) else batch[i]


def _only(sample: Mapping[str, ArrayLike], name: str) -> ArrayLike:
    return _named(sample, (name,))[name]


def _named(sample: ArrayLike | Mapping[str, ArrayLike], names: tuple[str, ...]) -> dict[str, ArrayLike]:
    """The inputs in the order of ``names``: all of them and no others."""
    if not isinstance(sample, Mapping):
        raise InputError(f"the model has several inputs; expected a dict of {', '.join(names)}")
    if set(sample) != set(names):
        missing = ", ".join(name for name in names if name not in sample)
        unknown = ", ".join(str(name) for name in sample if name not in names)
        told = "; ".join(f"{word} {those}" for word, those in (("missing", missing), ("unknown", unknown)) if those)
        raise InputError(f"inputs by name: {told}; the model takes {', '.join(names)}")
    return {name: sample[name] for name in names}
