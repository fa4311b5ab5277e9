"""What both runtimes do with tensors: check them against the manifest, quantize and dequantize."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.errors import BackendError
from shared.manifest import TensorSpec

Array = NDArray[Any]


def check(spec: TensorSpec, dtype: Any, shape: tuple[int | None, ...], where: str) -> None:
    """The file's tensor must be what the manifest says; ``None`` fits any size.

    Raises:
        BackendError: it is not.
    """
    found = np.dtype(dtype)
    same = len(shape) == len(spec.shape) and all(
        a is None or b is None or a == b for a, b in zip(shape, spec.shape, strict=True)
    )
    if found != np.dtype(spec.dtype) or not same:
        raise BackendError(
            f"{where}: {spec.name} is {found.name} {_text(shape)} in the file, but the manifest says "
            f"{spec.dtype} {_text(spec.shape)}"
        )


def single(spec: TensorSpec) -> tuple[int, ...] | None:
    """Shape of ``spec`` for one sample, batch axis included; ``None`` when another axis is dynamic."""
    shape = (1, *spec.shape[1:])
    return None if None in shape else tuple(int(size or 0) for size in shape)


def real_dtype(spec: TensorSpec) -> np.dtype[Any]:
    """The dtype of real values: float32 for quantized tensors, else the file's own."""
    return np.dtype(np.float32) if spec.scale else np.dtype(spec.dtype)


def quantizer(spec: TensorSpec, shape: tuple[int, ...]) -> Callable[[Array, Array], None]:
    """A function that writes real values into a stored tensor of ``shape``: round half to even, saturate."""
    if not spec.scale:
        return _copy
    limits = np.iinfo(spec.dtype)
    scale, zero = np.float32(spec.scale), np.float32(spec.zero_point or 0)
    low, high = np.float32(limits.min), np.float32(limits.max)
    scratch = np.empty(shape, np.float32)

    def quantize(real: Array, stored: Array) -> None:
        np.divide(real, scale, out=scratch)
        np.rint(scratch, out=scratch)
        np.add(scratch, zero, out=scratch)
        np.maximum(scratch, low, out=scratch)
        np.minimum(scratch, high, out=scratch)
        np.copyto(stored, scratch, casting="unsafe")

    return quantize


def dequantizer(spec: TensorSpec) -> Callable[[Array, Array], None]:
    """A function that writes a stored tensor into one of real values: ``scale * (stored - zero_point)``."""
    if not spec.scale:
        return _copy
    scale, zero = np.float32(spec.scale), np.float32(spec.zero_point or 0)

    def dequantize(stored: Array, real: Array) -> None:
        np.subtract(stored, zero, out=real, dtype=np.float32)
        np.multiply(real, scale, out=real)

    return dequantize


def _copy(source: Array, target: Array) -> None:
    np.copyto(target, source)


def _text(shape: tuple[int | None, ...]) -> str:
    return "(" + ", ".join("n" if size is None else str(size) for size in shape) + ")"
