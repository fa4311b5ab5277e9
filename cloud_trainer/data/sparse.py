"""Columns with next to no values: no reference can be fitted to them, so no device could watch them. Pure."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from cloud_trainer.data.dataset import Dataset, Splits
from cloud_trainer.data.findings import Finding
from cloud_trainer.data.table import number_of
from cloud_trainer.drift.times import is_timestamp
from shared.drift.bins import LEAST_VALUES
from shared.errors import DataError

MOST_WORDS = 64
"""Known words of a column; rarer ones count as unknown."""


def missing_cells(x: NDArray[Any]) -> NDArray[np.bool_]:
    """Which cells of a table (n, columns) hold nothing."""
    if x.dtype == object:
        return np.asarray(x == "", dtype=bool)
    return np.isnan(x) if x.dtype.kind == "f" else np.zeros(x.shape, bool)


def is_words(column: NDArray[Any]) -> bool:
    """Whether most cells (n,) are words, no numbers and no times."""
    if column.dtype != object:
        return False
    cells = [str(cell) for cell in column.tolist() if cell]
    words = [cell for cell in cells if number_of(cell, comma=False) is None]
    return 2 * len(words) > len(cells) and not all(map(is_timestamp, sorted(set(words))[:20]))


def _known(train: NDArray[Any], reference: NDArray[Any]) -> int:
    """Cells of the reference part with one of the words that features are made of."""
    counts = Counter(word for word in train.tolist() if word)
    known = {word for word, _ in counts.most_common(MOST_WORDS)}
    return sum(word in known for word in reference.tolist())


def without_sparse(splits: Splits, where: str) -> Splits:
    """The same, without the columns of a table that have fewer than ten values in the reference part (of words, such as
    are frequent in the train part) or none in the train part; each is a finding.

    Raises:
        DataError: no column is left.
    """
    train, reference = splits.train, splits.reference
    if not train.columns or train.x.ndim != 2:
        return splits
    there = (~missing_cells(reference.x)).sum(axis=0)
    words = {i: _known(train.x[:, i], reference.x[:, i]) for i in range(len(there)) if is_words(train.x[:, i])}
    there[list(words)] = list(words.values())
    keep = (there >= LEAST_VALUES) & ~missing_cells(train.x).all(axis=0)
    if keep.all():
        return splits
    if not keep.any():
        raise DataError(f"{where}: no column is left to learn from; all are empty, or nearly")

    def text(i: int) -> str:
        name, enough = train.columns[i], f"(at least {LEAST_VALUES} are needed)"
        if i in words and not missing_cells(train.x[:, [i]]).all():
            return (
                f"column {name!r} holds names, no categories: of {len(reference)} cells in the reference part "
                f"{there[i]} are frequent in the train part {enough}: left out"
            )
        part = f"{there[i]} values in the reference part of {len(reference)} rows"
        return f"column {name!r} has {part} {enough} or none in the train part: left out"

    findings = [
        Finding("names" if i in words else "missing", "warning", text(int(i)), train.columns[i])
        for i in np.flatnonzero(~keep)
    ]

    def narrow(part: Dataset) -> Dataset:
        columns = tuple(name for name, kept in zip(train.columns, keep, strict=True) if kept)
        return msgspec.structs.replace(part, x=part.x[:, keep], columns=columns)

    return msgspec.structs.replace(
        splits,
        train=narrow(train),
        validation=narrow(splits.validation),
        reference=narrow(reference),
        test=narrow(splits.test),
        findings=(*splits.findings, *findings),
    )
