"""Deals whole groups out to parts, so that classes are spread as evenly as they can be. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.errors import DataError

RESTARTS = 40
WORK = 10_000
"""Groups times restarts: with many groups one order is about as good as another."""


def by_group(
    groups: NDArray[Any], y: NDArray[np.int64], shares: Mapping[str, float], rng: np.random.Generator
) -> dict[str, NDArray[np.intp]]:
    """Disjoint index arrays, sorted, together all samples; no group (n,) is in two parts.

    Groups are dealt out one after the other, in random order but large ones first, each to the part that then lacks
    least of its share of every class of ``y`` (n,); the best of several orders is taken. A class that is in few groups
    goes to the train part first.

    Raises:
        DataError: there are fewer groups than parts.
    """
    names, key = np.unique(groups, return_inverse=True)
    if len(names) < len(shares):
        raise DataError(
            f"{len(names)} groups; {len(shares)} parts without a group on two sides need at least {len(shares)}, "
            'better ten or more: leave data.group out, or set data.split to "random" (then figures hold for known '
            "groups only)"
        )
    classes, code = np.unique(y, return_inverse=True)
    counts = np.zeros((len(names), len(classes)))
    np.add.at(counts, (key.reshape(-1), code.reshape(-1)), 1)
    wanted = np.array(list(shares.values()))
    found, best = np.zeros(len(names), np.intp), np.inf
    for _ in range(max(1, min(RESTARTS, WORK // len(names)))):
        part = _dealt(counts, wanted, rng)
        cost = _cost(counts, part, wanted)
        if cost < best:
            found, best = part, cost
    part_of = found[key.reshape(-1)]
    return {name: np.flatnonzero(part_of == i) for i, name in enumerate(shares)}


def _dealt(counts: NDArray[Any], wanted: NDArray[Any], rng: np.random.Generator) -> NDArray[np.intp]:
    """The part (groups,) of every group."""
    totals = counts.sum(axis=0)
    share = counts / totals  # (groups, classes): how much of each class a group has
    size = counts.sum(axis=1) / counts.sum()
    order = np.argsort(-size * rng.uniform(0.5, 1.5, len(size)))
    have = np.zeros((len(wanted), counts.shape[1] + 1))
    weight = np.concatenate([share, counts.shape[1] * size[:, None]], axis=1)
    want = wanted[:, None] * np.array([1.0] * counts.shape[1] + [float(counts.shape[1])])
    part = np.full(len(counts), -1, np.intp)
    for group in order:
        after = have + weight[group]
        # what a part is over its share, relative to the share: small parts are not flooded by a large group
        change = (((after - want) ** 2 - (have - want) ** 2) / want).sum(axis=1)
        rare = (counts[group] > 0) & (have[0, :-1] == 0) & ((counts > 0).sum(axis=0) <= len(wanted) - 1)
        chosen = 0 if rare.any() else int(np.argmin(change))
        part[group] = chosen
        have[chosen] += weight[group]
    for empty in np.setdiff1d(np.arange(len(wanted)), part):
        sizes = np.bincount(part, minlength=len(wanted))
        donors = np.flatnonzero(sizes[part] > 1)
        part[donors[np.argmin(size[donors])]] = empty
    return part


def _cost(counts: NDArray[Any], part: NDArray[np.intp], wanted: NDArray[Any]) -> float:
    """How far the parts are from their shares; a class that the train part lacks counts most, then the test part."""
    have = np.zeros((len(wanted), counts.shape[1]))
    np.add.at(have, part, counts)
    off = np.abs(have / counts.sum(axis=0) - wanted[:, None]).sum()
    size = np.abs(have.sum(axis=1) / counts.sum() - wanted).sum() * counts.shape[1]
    lacking = ((have == 0) * np.array([100.0, 1.0, 1.0, 2.0])[: len(wanted), None]).sum()
    return float(off + size + lacking)
