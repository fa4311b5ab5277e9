"""Cells of any kind of file as numbers: values, codes of categories, statistics of texts.

A category's code is its number if it is one, else a hash of its text: the same in every file and every run, so a saved
profile needs no table of words to recognize them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from shared.drift.statistics import TEXT, text_statistics

Floats = NDArray[np.float64]
Cells = NDArray[Any]
"""One column of a chunk: numbers, ``datetime64``, or objects that are str or None."""

MISSING = frozenset({"", "na", "n/a", "nan", "null", "none", "#n/a", "?", "-", "nat"})
TRUTHS = {"true": 1.0, "false": 0.0}
_HASHED = -float(1 << 48)


class Odd(Struct):
    """Cells of a column of values that were no numbers: how many, and where and what the first was."""

    count: int = 0
    place: str = ""
    value: str = ""


def is_missing(cell: str | None) -> bool:
    """Whether a text says that there is no value.

    >>> is_missing("N/A"), is_missing(" "), is_missing("0")
    (True, True, False)
    """
    return cell is None or cell.strip().lower() in MISSING


def to_number(cell: str | None, *, comma: bool = False) -> float:
    """A cell's number, NaN where it is missing. ``comma``: a comma may stand for the decimal point.

    Raises:
        ValueError: it is anything else.

    >>> to_number("1,5", comma=True), to_number("-inf"), to_number("True")
    (1.5, -inf, 1.0)
    """
    if cell is None:
        return float("nan")
    try:
        return float(cell)
    except ValueError:
        if is_missing(cell):
            return float("nan")
        if (truth := TRUTHS.get(cell.strip().lower())) is not None:
            return truth
        if comma and cell.count(",") == 1:
            return float(cell.replace(",", "."))
        raise


def values(cells: Cells, odd: Odd, place: Callable[[int], str], *, comma: bool = False) -> Floats:
    """Numbers (n,) of a column of values; what is no number becomes NaN and is noted in ``odd``."""
    if cells.dtype.kind in "biuf":
        return cells.astype(np.float64)
    if cells.dtype.kind == "M":
        return np.where(np.isnat(cells), np.nan, cells.astype("datetime64[us]").astype(np.int64) / 1e6)
    try:
        return np.array(list(map(float, cells)), dtype=np.float64)
    except (ValueError, TypeError):
        pass
    found = np.empty(len(cells))
    for i, cell in enumerate(cells):
        try:
            found[i] = to_number(cell, comma=comma)
        except ValueError:
            found[i] = np.nan
            if not odd.count:
                odd.place, odd.value = place(i), str(cell)[:40]
            odd.count += 1
    return found


def word_of(cell: Any) -> str | None:
    """How a category is written, None if it is missing.

    >>> word_of(3.0), word_of("3"), word_of(True), word_of(" red "), word_of("n/a")
    ('3', '3', '1', 'red', None)
    """
    if cell is None:
        return None
    if isinstance(cell, str):
        text = cell.strip()
        if text.lower() in MISSING:
            return None
        try:
            number = to_number(text)
        except ValueError:
            return text
    else:
        number = float(cell)
    return None if np.isnan(number) else f"{number:g}" if abs(number) < 1e6 else repr(number)


@lru_cache(maxsize=65_536)
def code_of(word: str) -> float:
    """The number that stands for a category."""
    try:
        return float(word)
    except ValueError:
        digest = hashlib.blake2b(word.encode(errors="surrogatepass"), digest_size=6).digest()
        return _HASHED - int.from_bytes(digest, "little")


def codes(cells: Cells) -> Floats:
    """Codes (n,) of a column of categories, NaN where they are missing."""
    if cells.dtype.kind in "biuf":
        return cells.astype(np.float64)
    found = np.empty(len(cells))
    known: dict[Any, float] = {}
    for i, cell in enumerate(_objects(cells)):
        code = known.get(cell)
        if code is None:
            word = word_of(cell)
            code = known[cell] = float("nan") if word is None else code_of(word)
        found[i] = code
    return found


def texts(cells: Cells) -> Floats:
    """Length, words and share of bytes beyond ASCII (n, 3) of a column of texts, NaN where they are missing."""
    found = np.full((len(cells), len(TEXT)), np.nan)
    for i, cell in enumerate(_objects(cells)):
        if cell is not None:
            found[i] = text_statistics(str(cell))
    return found


def _objects(cells: Cells) -> Sequence[Any]:
    return (
        [None if text == "NaT" else text for text in cells.astype(str)] if cells.dtype.kind == "M" else cells.tolist()
    )
