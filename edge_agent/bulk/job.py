"""Rows through an engine, chunk by chunk."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any, Protocol

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from edge_agent.bulk.formats import Answers
from edge_agent.readers.base import Chunk, Reader, Samples, length, row_of, take
from shared.errors import BackendError, InputError, UsageError
from shared.manifest import SampleSpec

Array = NDArray[Any]

CHUNK_BYTES = 1 << 20
CHUNK_MAX = 4096
CHUNK_MIN = 8
ANY_SIZE = 256
"""What a free dimension is taken for when chunks are sized."""


class Runner(Protocol):
    """What is needed of :class:`edge_agent.Engine`."""

    def check_one(self, sample: Any) -> Any:
        """Raise ``InputError`` if it is no sample."""

    def outputs(self, samples: Any) -> dict[str, Array]:
        """Every field, (n, ...)."""


class Range(Struct, frozen=True):
    """Rows ``start`` to ``stop`` (``None``: to the end)."""

    start: int = 0
    stop: int | None = None


class Done(Struct, frozen=True):
    """What a run did: rows answered or found bad by it, seconds in all and in the model."""

    rows: int
    bad: int
    seconds: float
    model_seconds: float


def chunk_rows(signature: Sequence[SampleSpec]) -> int:
    """Rows of a chunk: a power of two that holds about a mebibyte of samples.

    It depends on the model alone: a batch's size can show in the last bit of an answer, so every run of a job, whole,
    resumed or split, cuts its batches at the same rows.

    >>> chunk_rows([SampleSpec("float32", (16,))]), chunk_rows([SampleSpec("uint8", (224, 224, 3))])
    (4096, 8)
    """
    size = 0
    for spec in signature:
        one = 64 if spec.dtype == "str" else np.dtype(spec.dtype).itemsize
        size += one * math.prod(ANY_SIZE if n < 0 else n for n in spec.shape)
    rows = max(1, CHUNK_BYTES // max(size, 1))
    return min(max(1 << rows.bit_length() - 1, CHUNK_MIN), CHUNK_MAX)


def shard_of(text: str) -> tuple[int, int]:
    """``"2/4"`` as (2, 4).

    Raises:
        UsageError: it is no such thing.
    """
    left, slash, right = text.partition("/")
    if slash and left.isdecimal() and right.isdecimal() and 1 <= int(left) <= int(right):
        return int(left), int(right)
    raise UsageError(f"--shard {text}: expected I/N with 1 <= I <= N, such as 2/4")


def range_of(reader: Reader, shard: tuple[int, int], size: int) -> Range:
    """The rows of a shard: contiguous, so that shards joined in order are the whole, and cut where chunks begin."""
    which, of = shard
    if of == 1:
        return Range()
    rows = reader.count()
    return Range(
        reader.cut(rows * (which - 1) // of, size), rows if which == of else reader.cut(rows * which // of, size)
    )


def run(
    engine: Runner,
    reader: Reader,
    rows: Range,
    write: Callable[[Answers], None],
    *,
    size: int,
    skip: bool = False,
    name: str = "",
) -> Done:
    """Answer ``rows`` and hand each chunk's answers to ``write``.

    Raises:
        InputError: a row is no sample and bad rows are not to be skipped; the message begins with file or ``name``.
        BackendError: the runtime failed.
    """
    began, model, count, bad = perf_counter(), 0.0, 0, 0
    if rows.stop is None or rows.start < rows.stop:
        for chunk in reader.read(size, rows.start):
            if rows.stop is not None and chunk.start >= rows.stop:
                break
            start = perf_counter()
            answers = answer(engine, chunk, skip=skip, name=name)
            model += perf_counter() - start
            write(answers)
            count, bad = count + answers.rows, bad + len(answers.bad)
    return Done(count, bad, perf_counter() - began, model)


def answer(engine: Runner, chunk: Chunk, *, skip: bool = False, name: str = "") -> Answers:
    """The answers of one chunk.

    Raises:
        InputError, BackendError: as :func:`run`.
    """
    if chunk.bad and not skip:
        raise InputError(chunk.bad[0].text)
    bad = {row.position: row.text for row in chunk.bad}
    good = [i for i in range(len(chunk.ids)) if i not in bad]
    samples = chunk.samples
    fields: dict[str, Array] = {}
    if samples is not None and length(samples):
        try:
            fields = engine.outputs(samples)
        except InputError as error:
            wrong = _wrong_rows(engine, samples)
            if not wrong:
                raise InputError(f"{name}: rows from {chunk.start} on: {error}") from error
            told = {good[i]: f"{name}: row {chunk.start + good[i]}: {text}" for i, text in wrong.items()}
            if not skip:
                raise InputError(next(iter(told.values()))) from error
            bad |= told
            kept = [i for i in range(len(good)) if i not in wrong]
            good = [good[i] for i in kept]
            fields = engine.outputs(take(samples, kept)) if kept else {}
    score = fields.get("score")
    if score is not None and score.dtype.kind == "f" and not np.isfinite(score).all():
        finite = np.isfinite(score)
        nan = {good[i]: f"{name}: row {chunk.start + good[i]}: the model gave NaN" for i in np.flatnonzero(~finite)}
        if not skip:
            raise BackendError(next(iter(nan.values())))
        bad |= nan
        kept = [i for i, position in enumerate(good) if position not in nan]
        fields, good = {field: values[kept] for field, values in fields.items()}, [good[i] for i in kept]
    ids = chunk.ids if not bad else [chunk.ids[i] for i in good]
    return Answers(ids, fields, tuple((i, chunk.ids[i], bad[i]) for i in sorted(bad)))


def _wrong_rows(engine: Runner, samples: Samples) -> dict[int, str]:
    """Rows that the engine refuses, looked at one by one."""
    wrong = {}
    for i in range(length(samples)):
        try:
            engine.check_one(row_of(samples, i))
        except InputError as error:
            wrong[i] = str(error)
    return wrong
