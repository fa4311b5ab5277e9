"""Deals samples out to parts, class by class. Pure: no files, no clock, one seed."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from cloud_trainer.data.dataset import Dataset, Splits
from shared.errors import DataError


def stratified(
    y: NDArray[np.int64], shares: Mapping[str, float], rng: np.random.Generator
) -> dict[str, NDArray[np.intp]]:
    """Disjoint index arrays, sorted, together all of ``y`` (n,); each class dealt out by ``shares`` (sum 1).

    Counts are rounded by cumulated shares, so that they add up and differ from the exact share by less than one.
    """
    edges = np.cumsum(list(shares.values()))[:-1]
    dealt: dict[str, list[NDArray[np.intp]]] = {name: [] for name in shares}
    for value in np.unique(y):
        members = rng.permutation(np.flatnonzero(y == value))
        cuts = np.rint(edges * len(members)).astype(int)
        for name, part in zip(shares, np.split(members, cuts), strict=True):
            dealt[name].append(part)
    return {name: np.sort(np.concatenate(parts)) for name, parts in dealt.items()}


def split(data: Dataset, *, reference_share: float, test_share: float, seed: int) -> Splits:
    """Train, validation, reference and test parts. Validation is an eighth of what reference and test leave.

    Raises:
        DataError: the shares leave nothing to train on, or a class has too few samples to be in every part.
    """
    rest = 1.0 - reference_share - test_share
    if rest <= 0:
        raise DataError(
            f"reference_share {reference_share:g} and test_share {test_share:g} leave nothing to train on; "
            "together they must be below 1"
        )
    shares = {"train": rest * 7 / 8, "validation": rest / 8, "reference": reference_share, "test": test_share}
    index = stratified(data.y, shares, np.random.default_rng([seed, 1]))
    for name, chosen in index.items():
        counts = np.bincount(data.y[chosen], minlength=len(data.labels))
        if not counts.all():
            label = int(counts.argmin())
            total = int((data.y == label).sum())
            raise DataError(
                f"class {data.labels[label]!r} has {total} samples, too few for a {name} part of {shares[name]:.0%}; "
                f"at least {int(np.ceil(1 / min(shares.values())))} are needed"
            )
    return Splits(**{name: data.take(chosen) for name, chosen in index.items()})
