"""A pipeline compiled for one sample: nothing is looked up, converted or allocated per call that can be done once.

Array operations (preprocess, encode) are bound from the back: the last one writes straight into the model's input
buffer, the one before it into a scratch array or, where the next is a mere view, through that view. An operation takes
part with one of

- ``through(target)``: a view of ``target`` in which the operation's *input* may be written (adding an axis),
- ``into(target)``: a function that writes the operation's result into ``target``,

and else by copying what ``__call__`` gives. Field operations (decode, postprocess) have ``bind()``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.pipeline.decode import Fields, Row
from shared.pipeline.spec import Decode, Encode, Pipeline, Postprocess, Preprocess

Array = NDArray[Any]
ArrayOperation = Preprocess | Encode
FieldOperation = Decode | Postprocess


def bind_arrays(
    preprocess: Sequence[ArrayOperation], encode: Sequence[ArrayOperation], sample: Array, target: Array
) -> tuple[tuple[Callable[[Array], None], ...], tuple[Callable[[Array], None], ...]]:
    """Compile the first two steps for batches of one that look like ``sample`` (1, ...).

    Each step is a tuple of functions that are called one after the other with the sample; afterwards its tensor stands
    in ``target``. Each function reads the scratch array of the one before it; only the first reads the sample.

    Raises:
        ValueError: the result has not the shape or dtype of ``target``.
    """
    operations = [*preprocess, *encode]
    shapes = [sample]
    for operation in operations:
        shapes.append(operation(shapes[-1]))
    if shapes[-1].shape != target.shape or shapes[-1].dtype != target.dtype:
        raise ValueError(
            f"preprocess and encode give {shapes[-1].dtype.name} {shapes[-1].shape}, "
            f"but the model takes {target.dtype.name} {target.shape}"
        )
    functions: list[tuple[bool, Callable[[Array], None]]] = []
    writer: Callable[[Array], None] | None = None  # the function made last, still without its source
    position = len(operations)
    while position:
        position -= 1
        operation, source, result = operations[position], shapes[position], shapes[position + 1]
        if position and _is_view(operation, source, result):
            target = operation.through(target) if hasattr(operation, "through") else target
            continue
        scratch = np.empty_like(source) if position else None
        writer = _writer(operation, target)
        functions.append((position < len(preprocess), _from(writer, scratch)))
        if scratch is not None:
            target = scratch
    if writer is None:
        functions.append((False, _copier(target)))
    functions.reverse()
    return (
        tuple(function for first, function in functions if first),
        tuple(function for first, function in functions if not first),
    )


def _is_view(operation: ArrayOperation, source: Array, result: Array) -> bool:
    return hasattr(operation, "through") or (
        source.shape == result.shape and source.dtype == result.dtype and operation(source) is source
    )


def _writer(operation: ArrayOperation, target: Array) -> Callable[[Array], None]:
    into = getattr(operation, "into", None)
    if into is not None:
        function: Callable[[Array], None] = into(target)
        return function
    copy = np.copyto

    def write(batch: Array) -> None:
        copy(target, operation(batch))

    return write


def _from(writer: Callable[[Array], None], scratch: Array | None) -> Callable[[Array], None]:
    """``writer`` reading its scratch array, or the sample itself when it is the first."""
    if scratch is None:
        return writer
    return lambda _sample: writer(scratch)


def _copier(target: Array) -> Callable[[Array], None]:
    copy = np.copyto
    return lambda batch: copy(target, batch)


def bind_fields(operations: Sequence[FieldOperation]) -> tuple[Callable[[Row], None], ...]:
    """Compile decode or postprocess for one row."""
    return tuple(operation.bind() for operation in operations)


def run_arrays(pipeline: Pipeline, batch: Array) -> Array:
    """Preprocess and encode a whole batch (n, ...)."""
    for step in (pipeline.preprocess, pipeline.encode):
        for operation in step:
            batch = operation(batch)
    return batch


def run_fields(pipeline: Pipeline, fields: Fields) -> Fields:
    """Decode and postprocess a whole batch."""
    for step in (pipeline.decode, pipeline.postprocess):
        for operation in step:
            fields = operation(fields)
    return fields
