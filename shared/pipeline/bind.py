"""A pipeline compiled for one sample: nothing is looked up, converted or allocated per call that can be done once.

Array operations (preprocess, encode) are bound from the back: the last one writes straight into the model's input
buffer, the one before it into a scratch array or, where the next is a mere view, through that view. An operation takes
part with one of

- ``through(target, source)``: a view of ``target`` in which the operation's *input*, an array like ``source``, may be
  written (adding an axis, another layout), or ``None`` where there is none,
- ``into(target, source)``: a function that writes the operation's result on batches like ``source`` into ``target``,

and else by copying what ``__call__`` gives. Field operations (decode, postprocess) have ``bind()``. All of them may
keep scratch memory between calls, so one thread at a time may run what was bound together.

Samples of changing shape, and text, are not bound: :func:`run_arrays` and :func:`run_fields` take them as they come.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.pipeline.base import Fields, Row
from shared.pipeline.scores import Argmax, Softmax
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
        view = _view(operation, source, result, target) if position else None
        if view is not None:
            target = view
            continue
        scratch = np.empty(source.shape, source.dtype) if position else None
        writer = _writer(operation, target, source)
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


def _view(operation: ArrayOperation, source: Array, result: Array, target: Array) -> Array | None:
    """Where the input of ``operation`` may be written, so that its result stands in ``target``; ``None``: nowhere."""
    if hasattr(operation, "through"):
        view: Array | None = operation.through(target, source)
        return view
    same = source.shape == result.shape and source.dtype == result.dtype and operation(source) is source
    return target if same else None


def _writer(operation: ArrayOperation, target: Array, source: Array) -> Callable[[Array], None]:
    into = getattr(operation, "into", None)
    if into is not None:
        function: Callable[[Array], None] = into(target, source)
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
    """Compile decode or postprocess for one row; a Softmax and the Argmax of its scores become one function."""
    functions: list[Callable[[Row], None]] = []
    position = 0
    while position < len(operations):
        operation = operations[position]
        after = operations[position + 1] if position + 1 < len(operations) else None
        if isinstance(operation, Softmax) and isinstance(after, Argmax) and after.source == operation.target:
            functions.append(_softmax_argmax(operation, after))
            position += 2
        else:
            functions.append(operation.bind())
            position += 1
    return tuple(functions)


def _softmax_argmax(softmax: Softmax, argmax: Argmax) -> Callable[[Row], None]:
    source, scores_field, index_field = softmax.source, softmax.target, argmax.target
    scores_of, second = softmax.bound(), argmax.bind()

    def run(row: Row) -> None:
        row[scores_field] = scores = scores_of(row[source])
        if scores.ndim != 1:
            second(row)
            return
        row[index_field] = index = int(scores.argmax())
        row["score"] = scores.item(index)

    return run


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
