"""Text samples, arrays of ``str`` (n,): CleanText, Tokens, HashedNgrams."""

from __future__ import annotations

import re
import unicodedata
import zlib
from collections import Counter
from collections.abc import Iterable
from functools import cached_property
from typing import Annotated, Literal, Self

import numpy as np
from msgspec import Meta, Struct

from shared.pipeline.base import LIMIT_WORDS, Array, ArrayOperation, Floats, objects, refuse

Split = Literal["words", "characters", "subwords"]
Id = Annotated[int, Meta(ge=0, le=(1 << 31) - 1)]
WORDS = re.compile(r"\w+|[^\w\s]")
"""Runs of letters, digits and underscores; each other sign alone."""
CONTROL = re.compile(r"[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f]")
"""Control characters but those that are white space."""
LONGEST_WORD = 100
"""Characters of a word that is still looked for in pieces (BERT's limit): the search takes quadratic time."""


class CleanText(ArrayOperation, frozen=True, tag="clean_text"):
    r"""Bring text into one form: Unicode normal form, lower case, accents and control characters gone, digits all 0
    or gone, punctuation gone, runs of white space made one blank.

    >>> CleanText(accents=False)(np.array(["  Été\t2024! "])).tolist()
    ['ete 2024!']
    """

    normal_form: Literal["NFC", "NFKC", "none"] = "NFKC"
    lowercase: bool = True
    accents: bool = True
    digits: Literal["keep", "zero", "drop"] = "keep"
    punctuation: bool = True
    max_characters: Annotated[int, Meta(ge=1, le=1 << 20)] = 1 << 16

    def __call__(self, batch: Array) -> Array:
        """(n, ...) text -> (n, ...) text; an array of objects stays one."""
        cleaned = [self._clean(text) for text in texts(self, batch)]
        out = objects(cleaned) if batch.dtype.kind == "O" else np.array(cleaned, dtype=np.str_)
        return out.reshape(batch.shape)

    def _clean(self, text: str) -> str:
        text = CONTROL.sub("", text)
        if self.normal_form != "none":
            text = unicodedata.normalize(self.normal_form, text)
        if self.lowercase:
            text = text.lower()
            if self.normal_form != "none":  # lower case of some letters is two characters, in no normal order
                text = unicodedata.normalize(self.normal_form, text)
        if not self.accents:
            apart = unicodedata.normalize("NFD", text)
            text = unicodedata.normalize("NFC", "".join(c for c in apart if unicodedata.category(c) != "Mn"))
        if self.digits != "keep":
            text = re.sub(r"\d", "0" if self.digits == "zero" else "", text)
        if not self.punctuation:
            text = re.sub(r"[^\w\s]|_", " ", text)
        return " ".join(text.split())[: self.max_characters].rstrip()


class Tokens(ArrayOperation, frozen=True, tag="tokens", dict=True):
    """Text as ``max_length`` token ids: the place in ``vocabulary`` plus ``first``, ``unknown`` for others, cut off or
    filled with ``padding``; ``begin`` and ``end`` stand around it where they are set.

    ``split``: "words" (letters and digits together, each other sign alone), "characters", or "subwords" (a word
    becomes the longest piece that is known, then further pieces, which stand in the vocabulary with ``##`` in front:
    WordPiece, Schuster and Nakajima 2012, as BERT has it).

    >>> Tokens(vocabulary=("red", "light"), max_length=4)(np.array(["red, light"]))
    array([[2, 1, 3, 0]])
    """

    vocabulary: Annotated[tuple[str, ...], Meta(min_length=1, max_length=LIMIT_WORDS)]
    max_length: Annotated[int, Meta(ge=1, le=8192)]
    split: Split = "words"
    first: Id = 2
    unknown: Id = 1
    padding: Id = 0
    begin: Id | None = None
    end: Id | None = None
    dtype: Literal["int32", "int64"] = "int64"

    def __post_init__(self) -> None:
        if len(set(self.vocabulary)) != len(self.vocabulary):
            raise ValueError("tokens: a word stands in the vocabulary twice")
        if self.max_length <= (self.begin is not None) + (self.end is not None):
            raise ValueError(f"tokens: max_length {self.max_length} leaves no room between begin and end")

    def __call__(self, batch: Array) -> Array:
        """(n,) text -> (n, max_length) of ``dtype``."""
        rows = texts(self, batch, one=True)
        out = np.full((len(rows), self.max_length), self.padding, dtype=self.dtype)
        if not rows:
            return out
        ids = self._places
        begin = [self.begin] if self.begin is not None else []
        end = [self.end] if self.end is not None else []
        room = self.max_length - len(begin) - len(end)
        for row, text in zip(out, rows, strict=True):
            found = [*begin, *self._ids(text, ids, room), *end]
            row[: len(found)] = found
        return out

    @cached_property
    def _places(self) -> dict[str, int]:
        return {word: place for place, word in enumerate(self.vocabulary, self.first)}

    def _ids(self, text: str, ids: dict[str, int], room: int) -> list[int]:
        found: list[int] = []
        for word in text if self.split == "characters" else WORDS.findall(text):
            found += _pieces(word, ids, self.unknown) if self.split == "subwords" else [ids.get(word, self.unknown)]
            if len(found) >= room:
                break
        return found[:room]

    @classmethod
    def fit(
        cls, batch: Array, max_length: int, *, split: Literal["words", "characters"] = "words", size: int = 4096
    ) -> Self:
        """Learn the ``size`` most frequent words or characters of training text; of equals the first by alphabet."""
        count = Counter[str]()
        for text in batch.tolist():
            count.update(text if split == "characters" else WORDS.findall(text))
        words = sorted(count, key=lambda word: (-count[word], word))[: min(size, LIMIT_WORDS)]
        return cls(vocabulary=tuple(words), max_length=max_length, split=split)


class HashedNgrams(ArrayOperation, frozen=True, tag="hashed_ngrams"):
    """Counts of runs of ``low`` to ``high`` words (or characters) in ``buckets``, without a vocabulary (Weinberger et
    al. 2009). A run's bucket is the CRC-32 (zlib's) of its UTF-8 text, words joined by one blank, modulo ``buckets``;
    with ``signed``, runs whose CRC has its highest bit set count -1. ``normalize``: divide by the Euclidean length.

    >>> HashedNgrams(buckets=7, high=1)(np.array(["go go stop"]))
    array([[2., 0., 0., 0., 1., 0., 0.]], dtype=float32)
    """

    buckets: Annotated[int, Meta(ge=1, le=1 << 20)]
    low: Annotated[int, Meta(ge=1, le=16)] = 1
    high: Annotated[int, Meta(ge=1, le=16)] = 2
    split: Literal["words", "characters"] = "words"
    signed: bool = False
    normalize: bool = False

    def __post_init__(self) -> None:
        if self.low > self.high:
            raise ValueError(f"hashed_ngrams: low {self.low} must not be above high {self.high}")

    def __call__(self, batch: Array) -> Floats:
        """(n,) text -> (n, buckets) float32."""
        rows = texts(self, batch, one=True)
        out = np.zeros((len(rows), self.buckets), np.float32)
        for row, text in zip(out, rows, strict=True):
            hashes = np.fromiter(self._hashes(text), np.uint32)
            sign = np.where(hashes >> 31, -1.0, 1.0) if self.signed else None
            counts = np.bincount(hashes % self.buckets, weights=sign, minlength=self.buckets)
            length = np.sqrt(np.square(counts, dtype=np.float64).sum()) if self.normalize else 1.0
            row[:] = counts / (length or 1.0)
        return out

    def _hashes(self, text: str) -> Iterable[int]:
        characters = self.split == "characters"
        parts = [part.encode(errors="replace") for part in (text if characters else WORDS.findall(text))]
        between = b"" if characters else b" "
        for size in range(self.low, self.high + 1):
            for start in range(len(parts) - size + 1):
                yield zlib.crc32(between.join(parts[start : start + size]))


def texts(operation: Struct, batch: Array, *, one: bool = False) -> list[str]:
    """``batch`` as a list of ``str``, in C order; with ``one``, it must be (n,).

    Raises:
        ValueError: it is no text, or has another shape.
    """
    if batch.dtype.kind not in "UO" or batch.ndim < 1 or (one and batch.ndim != 1):
        raise refuse(operation, "text (n,)" if one else "text", batch)
    values: list[str] = batch.reshape(-1).tolist()
    for value in values:
        if not isinstance(value, str):
            raise refuse(operation, f"text, not {type(value).__name__},", batch)
    return values


def _pieces(word: str, ids: dict[str, int], unknown: int) -> list[int]:
    """The longest known pieces of ``word``; all of it unknown where one is missing."""
    if len(word) > LONGEST_WORD:
        return [unknown]
    found: list[int] = []
    start = 0
    while start < len(word):
        for stop in range(len(word), start, -1):
            piece = ids.get(word[start:stop] if not start else "##" + word[start:stop])
            if piece is not None:
                break
        else:
            return [unknown]
        found.append(piece)
        start = stop
    return found
