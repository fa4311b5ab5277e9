"""The last step before a network: numbers of any scale into a range that networks, and 8 bits, read well."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.pipeline.piecewise import Piecewise
from shared.pipeline.scaling import Clip, Standardize
from shared.pipeline.spec import Encode, Preprocess
from shared.pipeline.tables import Impute, OneHot

PIECEWISE_ROWS = 1000
"""Rows below which there is too little data for more than one number a column."""
ROWS_PER_INTERVAL, LEAST, MOST = 250, 4, 16
FAR = 5.0
"""Standard deviations at which a number is cut off."""


def spread_of(filled: NDArray[Any]) -> list[Encode]:
    """Ramps between quantiles of ``filled`` (n, c), as many as the rows allow; of few rows standardized."""
    rows = len(filled)
    if rows < PIECEWISE_ROWS:
        return [Standardize.fit(np.asarray(filled, np.float64), per_column=True), Clip(-FAR, FAR)]
    return [Piecewise.fit(filled, int(np.clip(rows // ROWS_PER_INTERVAL, LEAST, MOST)))]


def sources_of(operations: tuple[Preprocess | Encode, ...], columns: int) -> tuple[int, ...]:
    """For each number that a network reads, which of ``columns`` numbers it comes from; ``operations`` are those after
    these were chosen: gaps, one-hot, spreading.

    >>> sources_of((Impute((0.0,), flags=(1,)), Piecewise(((0, 1, 2), (0, 1), (0, 1)))), 2)
    (0, 0, 1, 1)
    """
    found = list(range(columns))
    for operation in operations:
        if isinstance(operation, Impute):
            found += [found[c] for c in operation.flags]
        elif isinstance(operation, OneHot):
            wide = {entry.column: len(entry.values) for entry in operation.columns}
            found = [source for c, source in enumerate(found) for _ in range(wide.get(c, 1))]
        elif isinstance(operation, Piecewise):
            found = [source for c, source in enumerate(found) for _ in range(len(operation.knots[c]) - 1)]
    return tuple(found)
