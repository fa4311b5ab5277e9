"""What callers of the library give, checked before anything is computed: networks, samples, truth, numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from cloud_trainer.fit.forward import device_of, outputs
from shared.errors import DataError, UsageError, one_line


def samples_of(given: ArrayLike, what: str) -> NDArray[Any]:
    """Samples (n, *input) as networks read them: float32, or int64 token ids.

    Raises:
        DataError: they are no numbers, or not all of them are finite, or there are none.
    """
    x = np.ascontiguousarray(given)
    if x.dtype.kind not in "biuf":
        raise DataError(f"{what} has dtype {x.dtype}; expected numbers, as the network reads them")
    if x.ndim < 2 or not len(x):
        raise DataError(f"{what} has shape {x.shape}; expected (n, *input) with at least one sample")
    return x.astype(np.int64 if x.dtype.kind in "biu" else np.float32, copy=False)


def truth_of(given: ArrayLike, what: str) -> NDArray[Any]:
    """The truth: int64 classes (n,), or float32 numbers.

    Raises:
        DataError: it is neither.
    """
    y = np.ascontiguousarray(given)
    if y.dtype.kind not in "biuf":
        raise DataError(f"{what}: the truth has dtype {y.dtype}; expected classes as whole numbers, or numbers")
    return y.astype(np.int64 if y.dtype.kind in "biu" else np.float32, copy=False)


def tried(model: nn.Module, x: NDArray[Any], what: str) -> Any:
    """What ``model`` answers to samples ``x``; it is left in the mode that it is in.

    Raises:
        DataError: it does not take them.
    """
    training = model.training
    try:
        with torch.no_grad():
            return outputs(model.eval()(torch.from_numpy(x).to(device_of(model))))[0]
    except Exception as error:  # whatever somebody's network raises
        raise DataError(
            f"{what} fails on samples of shape {x.shape[1:]} and dtype {x.dtype}: {one_line(error)}"
        ) from error
    finally:
        model.train(training)


def outputs_of(model: nn.Module, x: NDArray[Any], what: str) -> int:
    """How many outputs ``model`` has for samples ``x``.

    Raises:
        DataError: it does not take them, or does not answer with (n, outputs).
    """
    answer = tried(model, x, what)
    if not isinstance(answer, Tensor) or answer.ndim != 2 or len(answer) != len(x):
        shape = tuple(answer.shape) if isinstance(answer, Tensor) else type(answer).__name__
        raise DataError(f"{what} answers {len(x)} samples with {shape}; expected (n, outputs)")
    return int(answer.shape[1])


def fitting(y: NDArray[Any], outputs: int, what: str) -> None:
    """Whether the truth fits a network of so many outputs.

    Raises:
        DataError: it does not.
    """
    if y.dtype.kind == "i":
        if y.ndim == 1 and not 0 <= int(y.min()) <= int(y.max()) < outputs:
            raise DataError(
                f"{what}: classes {int(y.min())} to {int(y.max())}, but the student has {outputs} outputs, for 0 to "
                f"{outputs - 1}"
            )
    elif y.size != len(y) * outputs:
        raise DataError(
            f"{what}: the truth has shape {y.shape}, but the student {outputs} outputs: expected "
            f"({len(y)}, {outputs}), or whole numbers where it is classes"
        )


def above(**numbers: float) -> None:
    """Numbers that make no sense at 0 or below.

    Raises:
        UsageError: the first that is none or too small.
    """
    for name, value in numbers.items():
        if not value > 0 or value == float("inf"):
            raise UsageError(f"{name} {value:g}: must be above 0")
