"""The files that answers are written to: JSON lines, CSV, NPZ, Parquet.

A format turns a chunk of answers into the bytes of a segment. Segments of text are the file itself, end to end; those
of NPZ and Parquet (``columnar``) hold arrays that are joined, piece by piece, when all are there.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from itertools import repeat
from pathlib import Path
from typing import IO, Any, Protocol

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from shared.errors import MissingExtraError, UsageError

Array = NDArray[Any]
DECODED = ("label", "score", "value")
"""Fields that say the answer; all others are what the model and the steps before said."""
HEADER = ("id", "label", "score", "value", "error")


class Answers(Struct, frozen=True):
    """A chunk, answered. ``ids`` and ``fields`` (n, ...) are of the good rows; ``bad`` ones are (position among all,
    id, reason)."""

    ids: list[str]
    fields: dict[str, Array]
    bad: tuple[tuple[int, str, str], ...] = ()

    @property
    def rows(self) -> int:
        """Good and bad ones."""
        return len(self.ids) + len(self.bad)


class Line(Struct, omit_defaults=True):
    """A line of JSON: :class:`shared.messages.AnswerRecord` without what differs from run to run."""

    id: str
    label: str = ""
    score: float | None = None
    value: Any = None
    release: int = 0
    variant: str = ""
    error: str = ""


Build = Callable[[IO[bytes], Path], None]


class Format(Protocol):
    """One kind of file. ``build`` is ``None`` where the segments are the file."""

    build: Build | None

    def head(self) -> bytes:
        """What stands before the first answer."""

    def segment(self, answers: Answers) -> bytes:
        """The bytes of a chunk."""


def plain_columns(answers: Answers) -> tuple[list[Any] | None, list[Any] | None, list[Any] | None]:
    """Labels, scores and values as lists. An answer that was not decoded has what the model gave as its value."""
    fields = answers.fields
    label, score, value = (fields[name].tolist() if name in fields else None for name in DECODED)
    if label is None and score is None and value is None:
        names = [name for name in fields if name != "input"]
        value = [dict(zip(names, row, strict=True)) for row in zip(*(fields[n].tolist() for n in names), strict=True)]
    return label, score, value


def lines(answers: Answers, release: int, variant: str) -> list[Line]:
    """One for each row, in order."""
    label, score, value = plain_columns(answers)
    made = list(
        map(
            Line,
            answers.ids,
            repeat("") if label is None else label,
            repeat(None) if score is None else score,
            repeat(None) if value is None else value,
            repeat(release),
            repeat(variant),
        )
    )
    for position, id_, text in answers.bad:
        made.insert(position, Line(id_, error=text))
    return made


class JsonLines:
    """``.jsonl``: one JSON object a line."""

    build: Build | None = None

    def __init__(self, release: int, variant: str) -> None:
        self._release, self._variant = release, variant
        self._encoder = msgspec.json.Encoder(enc_hook=default)

    def head(self) -> bytes:
        """Nothing."""
        return b""

    def segment(self, answers: Answers) -> bytes:
        """See :class:`Format`."""
        return self._encoder.encode_lines(lines(answers, self._release, self._variant))


class Csv:
    """``.csv``: id, label, score, value, error; what an answer has not is empty, a value that is no single number or
    text is JSON."""

    build: Build | None = None

    def __init__(self, *, header: bool) -> None:
        self._header = header
        self._encoder = msgspec.json.Encoder(enc_hook=default)

    def head(self) -> bytes:
        """The names, but not in a shard that follows others: shards are joined end to end."""
        return (",".join(HEADER) + "\n").encode() if self._header else b""

    def segment(self, answers: Answers) -> bytes:
        """See :class:`Format`."""
        label, score, value = plain_columns(answers)
        if value is not None:
            value = [v if isinstance(v, str | int | float) else self._encoder.encode(v).decode() for v in value]
        empty = [""] * len(answers.ids)
        rows = list(zip(answers.ids, label or empty, score or empty, value or empty, empty, strict=True))
        for position, id_, text in answers.bad:
            rows.insert(position, (id_, "", "", "", text))
        out = io.StringIO(newline="")
        csv.writer(out, lineterminator="\n").writerows(rows)
        return out.getvalue().encode()


def default(value: Any) -> Any:
    """What msgspec cannot encode by itself: numpy's arrays and numbers, as Python's."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    raise NotImplementedError(f"an answer holds {type(value).__name__}, which JSON has no form for")


SUFFIXES = (".jsonl", ".csv", ".npz", ".parquet")


def make_format(out: Path, release: int, variant: str, *, first: bool) -> Format:
    """The format of ``out`` by its suffix. ``first``: not a shard that follows another.

    Raises:
        UsageError: no such format.
        MissingExtraError: it needs an extra.
    """
    suffix = out.suffix.lower()
    if suffix == ".jsonl":
        return JsonLines(release, variant)
    if suffix == ".csv":
        return Csv(header=first)
    if suffix not in SUFFIXES:
        raise UsageError(f"--out {out}: expected a file ending in {', '.join(SUFFIXES)}")
    from edge_agent.bulk import columnar

    if suffix == ".npz":
        return columnar.Columnar(columnar.build_npz)
    try:
        import pyarrow.parquet  # noqa: F401  (before any row is read)
    except ImportError as error:
        raise MissingExtraError("writing Parquet", "parquet") from error
    return columnar.Columnar(columnar.build_parquet)


def texts(values: Sequence[Any]) -> list[str]:
    """Values as texts: themselves, or JSON."""
    return [v if isinstance(v, str) else msgspec.json.encode(v, enc_hook=default).decode() for v in values]
