"""What all runtimes do with tensors: match them with the manifest, check, quantize, and loop over rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from shared.errors import BackendError
from shared.manifest import TensorSpec

Array = NDArray[Any]
Call = Callable[[list[Array]], list[Array]]
"""Stored tensors of all inputs → stored tensors of all outputs, once through the model."""

TEXT = "str"
_NUMBERS = ("float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
DTYPES = (*_NUMBERS, "bool", TEXT)
"""What a tensor may be."""
MAX_BYTES = 1 << 30
"""No tensor may be bigger for one sample."""
LOOK_UP = 1024
"""Up to so many elements a table of all 256 values is faster than arithmetic (0.5 against 1.0 µs for 16 of them)."""


def match(specs: Sequence[TensorSpec], found: Sequence[TensorSpec], where: str, side: str) -> list[int]:
    """Positions in the file of the manifest's tensors: those with the same name, the rest in order.

    Inputs must be all of the file's; outputs may be some of them.

    Raises:
        BackendError: there are too many or too few, or they are not what the manifest says.
    """
    if len(specs) > len(found) or (side == "input" and len(specs) < len(found)):
        names = ", ".join(spec.name for spec in found) or "none"
        raise BackendError(
            f"{where}: has {len(found)} {side}s ({names}), but the manifest names {len(specs)} "
            f"({', '.join(spec.name for spec in specs) or 'none'})"
        )
    by_name = {spec.name: i for i, spec in enumerate(found)}
    taken = {by_name[spec.name] for spec in specs if spec.name in by_name}
    rest = (i for i in range(len(found)) if i not in taken)
    positions = [by_name[spec.name] if spec.name in by_name else next(rest) for spec in specs]
    for spec, i in zip(specs, positions, strict=True):
        check(spec, found[i].dtype, found[i].shape, where)
    return positions


def check(spec: TensorSpec, dtype: str, shape: tuple[int | None, ...], where: str) -> None:
    """The file's tensor must be what the manifest says; ``None`` fits any size.

    Raises:
        BackendError: it is not.
    """
    same = len(shape) == len(spec.shape) and all(
        a is None or b is None or a == b for a, b in zip(shape, spec.shape, strict=True)
    )
    if dtype != spec.dtype or not same:
        raise BackendError(
            f"{where}: {spec.name} is {dtype} {_text(shape)} in the file, but the manifest says "
            f"{spec.dtype} {_text(spec.shape)}"
        )
    if spec.batch and (not shape or any(s[0] not in {None, 1} for s in (shape, spec.shape))):
        raise BackendError(
            f"{where}: {spec.name} {_text(shape)} has no batch axis that a sample fits in (its first size must be 1 or "
            "open); say batch = false for it"
        )
    if spec.scale and spec.dtype not in {"int8", "uint8", "int16"}:
        raise BackendError(f"{where}: {spec.name} is {spec.dtype}, but a scale goes with int8, uint8 or int16 only")


def bounded(spec: TensorSpec, where: str) -> TensorSpec:
    """``spec``, if a machine could hold it (open sizes count as one).

    Raises:
        BackendError: it would take more than ``MAX_BYTES``, as damaged and hostile files declare.
    """
    size = prod(size or 1 for size in spec.shape) * real_dtype(spec).itemsize
    if size > MAX_BYTES or any(n is not None and n < 0 for n in spec.shape):
        raise BackendError(f"{where}: {spec.name} {_text(spec.shape)} is too big: at most {MAX_BYTES} bytes a tensor")
    return spec


def narrowed(spec: TensorSpec, found: TensorSpec) -> TensorSpec:
    """``spec`` with the sizes that only the file knows."""
    shape = tuple(a if a is not None else b for a, b in zip(spec.shape, found.shape, strict=True))
    return msgspec.structs.replace(spec, shape=shape)


def single(spec: TensorSpec) -> tuple[int, ...] | None:
    """Shape of ``spec`` for one sample, batch axis included; ``None`` when another axis is dynamic."""
    shape = (1, *spec.shape[1:])
    return None if None in shape else tuple(int(size or 0) for size in shape)


def direct(inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> bool:
    """Whether one sample has buffers whose shapes are known beforehand: see ``Backend.direct``."""
    return len(inputs) == 1 and all(
        spec.batch and spec.dtype != TEXT and single(spec) is not None for spec in (*inputs, *outputs)
    )


def real_dtype(spec: TensorSpec) -> np.dtype[Any]:
    """The dtype of real values: float32 for quantized tensors, object for text, else the file's own."""
    return np.dtype(np.float32 if spec.scale else object if spec.dtype == TEXT else spec.dtype)


def quantizer(spec: TensorSpec, shape: tuple[int, ...]) -> Callable[[Array, Array], None]:
    """A function that writes real values into a stored tensor of ``shape``: round half to even, saturate."""
    if not spec.scale:
        return _copy
    limits = np.iinfo(spec.dtype)
    # arrays of no dimension: a call with numpy scalars takes longer than the work on a small tensor
    scale, zero = np.array(spec.scale, np.float32), np.array(spec.zero_point or 0, np.float32)
    low, high = np.array(limits.min, np.float32) - zero, np.array(limits.max, np.float32) - zero
    scratch = np.empty(shape, np.float32)
    divide, rint, clip, add = np.divide, np.rint, scratch.clip, np.add

    def quantize(real: Array, stored: Array) -> None:
        divide(real, scale, scratch)
        rint(scratch, scratch)
        clip(low, high, scratch)
        add(scratch, zero, stored, casting="unsafe")

    return quantize


def dequantizer(spec: TensorSpec) -> Callable[[Array, Array], None]:
    """A function that writes a stored tensor into one of real values: ``scale * (stored - zero_point)``."""
    if not spec.scale:
        return _copy
    scale, zero = np.array(spec.scale, np.float32), np.array(spec.zero_point or 0, np.float32)
    copy, subtract, multiply = np.copyto, np.subtract, np.multiply

    def dequantize(stored: Array, real: Array) -> None:
        copy(real, stored)  # first, so that all arithmetic is in float32
        subtract(real, zero, real)
        multiply(real, scale, real)

    if np.dtype(spec.dtype).itemsize > 1:
        return dequantize
    every = np.empty(256, np.float32)
    dequantize(np.arange(256).astype(np.uint8).view(spec.dtype), every)
    take = every.take

    def look_up(stored: Array, real: Array) -> None:
        if stored.size <= LOOK_UP:
            take(stored.view(np.uint8), None, real, "wrap")
        else:
            dequantize(stored, real)

    return look_up


def stored(spec: TensorSpec, real: Array) -> Array:
    """``real`` as the file keeps it; itself where nothing is quantized."""
    if not spec.scale:
        return real
    out = np.empty(real.shape, spec.dtype)
    quantizer(spec, real.shape)(real, out)
    return out


def real(spec: TensorSpec, stored: Array) -> Array:
    """A stored tensor as real values; itself where nothing is quantized."""
    if not spec.scale:
        return stored
    out = np.empty(stored.shape, np.float32)
    dequantizer(spec)(stored, out)
    return out


def gather(specs: Sequence[TensorSpec], feeds: Mapping[str, Array], where: str) -> tuple[list[Array], int | None]:
    """The stored tensors of all inputs, in order, and the number of samples (``None``: no input has a batch axis).

    Raises:
        BackendError: one is missing, unknown, or of another dtype or shape.
    """
    if len(feeds) != len(specs) or any(spec.name not in feeds for spec in specs):
        raise BackendError(
            f"{where}: takes {', '.join(spec.name for spec in specs) or 'nothing'}, but was given "
            f"{', '.join(feeds) or 'nothing'}"
        )
    rows: int | None = None
    tensors = []
    for spec in specs:
        values = np.asarray(feeds[spec.name])
        shape = (None, *spec.shape[1:]) if spec.batch else spec.shape
        if values.ndim != len(shape) or any(b is not None and a != b for a, b in zip(values.shape, shape, strict=True)):
            raise BackendError(f"{where}: {spec.name} is {_text(shape)}, but was given {_text(values.shape)}")
        wanted = real_dtype(spec)
        if (
            values.dtype.kind == wanted.kind == "i" and values.dtype != wanted
        ):  # token ids: int64 in ONNX, int32 in TFLite
            values = values.astype(wanted) if (values.astype(wanted) == values).all() else values
        if values.dtype != wanted and not (spec.dtype == TEXT and values.dtype.kind in "UT"):
            raise BackendError(f"{where}: {spec.name} is {wanted}, but was given {values.dtype}")
        if spec.batch:
            if rows is not None and len(values) != rows:
                raise BackendError(f"{where}: {spec.name} has {len(values)} samples, the inputs before it {rows}")
            rows = len(values)
        tensors.append(stored(spec, values))
    return tensors, rows


def whole(call: Call, inputs: Sequence[TensorSpec], tensors: list[Array], rows: int | None) -> list[Array]:
    """All samples in one call. Many kernels refuse an empty batch, so it takes the shapes of a batch of zeros."""
    if rows != 0:
        return call(tensors)
    return call(
        [_zeros_row(spec, values) if spec.batch else values for spec, values in zip(inputs, tensors, strict=True)]
    )


def by_row(
    call: Call, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], tensors: list[Array], rows: int, where: str
) -> list[Array]:
    """One call a sample, for files with a batch of one; outputs without a batch axis are those of the last call.

    Raises:
        BackendError: the samples' outputs are of different shapes.
    """
    if rows <= 1:
        return whole(call, inputs, tensors, rows)
    axes = [spec.batch for spec in inputs]
    found = [
        call([values[i : i + 1] if batch else values for values, batch in zip(tensors, axes, strict=True)])
        for i in range(rows)
    ]
    joined = []
    for k, spec in enumerate(outputs):
        if spec.batch and len({row[k].shape for row in found}) > 1:
            raise BackendError(f"{where}: {spec.name} has another shape for each sample; give it one sample at a time")
        joined.append(np.concatenate([row[k] for row in found]) if spec.batch else found[-1][k])
    return joined


def scatter(specs: Sequence[TensorSpec], found: Sequence[Array], rows: int | None, where: str) -> dict[str, Array]:
    """Name → real values, after checking that each sample has its row.

    Raises:
        BackendError: an output has another number of rows than there are samples.
    """
    outputs = {}
    for spec, values in zip(specs, found, strict=True):
        if spec.batch and rows == 0:
            outputs[spec.name] = real(spec, values[:0])
            continue
        if spec.batch and rows is not None and (not values.ndim or len(values) != rows):
            raise BackendError(
                f"{where}: {spec.name} is {_text(values.shape)} for {rows} samples; if its first axis does not count "
                "samples, say batch = false for it"
            )
        outputs[spec.name] = real(spec, values)
    return outputs


def _zeros_row(spec: TensorSpec, values: Array) -> Array:
    shape = (1, *values.shape[1:])
    return np.full(shape, "", object) if spec.dtype == TEXT else np.zeros(shape, values.dtype)


def _copy(source: Array, target: Array) -> None:
    np.copyto(target, source)


def _text(shape: tuple[int | None, ...]) -> str:
    return "(" + ", ".join("n" if size is None else str(size) for size in shape) + ")"
