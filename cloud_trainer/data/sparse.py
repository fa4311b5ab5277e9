"""Columns with next to no values: no reference can be fitted to them, so no device could watch them. Pure."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from cloud_trainer.data.dataset import Dataset, Splits
from cloud_trainer.data.findings import Finding
from shared.drift.bins import LEAST_VALUES
from shared.errors import DataError


def missing_cells(x: NDArray[Any]) -> NDArray[np.bool_]:
    """Which cells of a table (n, columns) hold nothing."""
    if x.dtype == object:
        return np.asarray(x == "", dtype=bool)
    return np.isnan(x) if x.dtype.kind == "f" else np.zeros(x.shape, bool)


def without_sparse(splits: Splits, where: str) -> Splits:
    """The same, without the columns of a table that have fewer than ten values in the reference part or none in the
    train part; each is a finding.

    Raises:
        DataError: no column is left.
    """
    train, reference = splits.train, splits.reference
    if not train.columns or train.x.ndim != 2:
        return splits
    there = (~missing_cells(reference.x)).sum(axis=0)
    keep = (there >= LEAST_VALUES) & ~missing_cells(train.x).all(axis=0)
    if keep.all():
        return splits
    if not keep.any():
        raise DataError(f"{where}: no column is left to learn from; all are empty, or nearly")
    findings = [
        Finding(
            "missing",
            "warning",
            f"column {train.columns[i]!r} has {there[i]} values in the reference part of {len(reference)} rows "
            f"(at least {LEAST_VALUES} are needed) or none in the train part: left out",
            train.columns[i],
        )
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
