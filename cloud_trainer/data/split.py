"""Deals samples out to parts: at random, by group, or by time. Pure: no files, no clock, one seed.

1. The parts are disjoint. Random and by group, every sample is in one; by time, those whose span lies across a cut
   are in none.
2. By group, no group is in two parts. By time, all of train comes before validation, then reference, then test.
3. At random, samples that are exactly the same go to the same part (:func:`units`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cloud_trainer.data.dataset import Dataset, Splits
from cloud_trainer.data.findings import Finding, some
from cloud_trainer.data.grouped import by_group
from cloud_trainer.data.same import REPEATED_MOST, units
from shared.errors import DataError

By = Literal["random", "group", "time"]
REFERENCE_MINIMUM = 50
"""Samples that a drift reference needs (as in :mod:`cloud_trainer.packaging`)."""
BINS = 10
"""Quantiles by which numbers are dealt out evenly."""


def stratified(
    y: NDArray[np.int64],
    shares: Mapping[str, float],
    rng: np.random.Generator,
    unit: NDArray[np.intp] | None = None,
) -> dict[str, NDArray[np.intp]]:
    """Disjoint index arrays, sorted, together all of ``y`` (n,); each class dealt out by ``shares`` (sum 1).

    Counts are rounded by cumulated shares, so that they add up and differ from the exact share by less than one; with
    ``unit`` (n,), whose equal numbers stay together, by less than the largest unit.
    """
    edges = np.cumsum(list(shares.values()))[:-1]
    dealt: dict[str, list[NDArray[np.intp]]] = {name: [] for name in shares}
    leader = y if unit is None else y[unit]
    for value in np.unique(leader):
        members = rng.permutation(np.flatnonzero(leader == value))
        cuts = np.rint(edges * len(members)).astype(int)
        if unit is not None:
            members, cuts = _together(members, unit[members], cuts)
        for name, part in zip(shares, np.split(members, cuts), strict=True):
            dealt[name].append(part)
    return {name: np.sort(np.concatenate(parts)) for name, parts in dealt.items()}


def _together(
    members: NDArray[np.intp], unit: NDArray[np.intp], cuts: NDArray[np.intp]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """``members`` with equal units side by side, in the order of their first, and cuts moved off their middle."""
    _, first, inverse = np.unique(unit, return_index=True, return_inverse=True)
    place = first[inverse]
    order = np.argsort(place, kind="stable")
    place = place[order]
    moved = [int(np.searchsorted(place, place[cut])) if 0 < cut < len(place) else int(cut) for cut in cuts]
    return members[order], np.array(moved, np.intp)


def strata(y: NDArray[Any]) -> NDArray[np.int64]:
    """Classes as they are; numbers (n,) or (n, k) by the quantile that (the mean of) each lies in.

    >>> strata(np.array([0.1, 0.2, 5.0, 9.0])).tolist()
    [0, 1, 2, 3]
    """
    if np.issubdtype(y.dtype, np.integer):
        return y.astype(np.int64)
    value = y.reshape(len(y), -1).mean(axis=1)
    bins = int(np.clip(len(value) // 20, 4, BINS)) if len(value) >= 4 else 1
    inner = np.quantile(value, np.linspace(0, 1, bins + 1)[1:-1])
    found: NDArray[np.int64] = np.searchsorted(inner, value, side="left").astype(np.int64)
    return found


def shares_of(reference_share: float, test_share: float) -> dict[str, float]:
    """The share of every part. Validation is an eighth of what reference and test leave.

    Raises:
        DataError: nothing is left to train on.
    """
    rest = 1.0 - reference_share - test_share
    if rest <= 0:
        raise DataError(
            f"reference_share {reference_share:g} and test_share {test_share:g} leave nothing to train on; "
            "together they must be below 1"
        )
    return {"train": rest * 7 / 8, "validation": rest / 8, "reference": reference_share, "test": test_share}


def split(
    data: Dataset,
    *,
    reference_share: float,
    test_share: float,
    seed: int,
    by: By = "random",
    spans: NDArray[Any] | None = None,
    every_class: bool = True,
) -> Splits:
    """Train, validation, reference and test parts. ``spans`` (n, 2): the first and the last moment of each sample,
    where they overlap. ``every_class``: at random, each class must be in every part; by group and time, in the train
    part.

    Raises:
        DataError: the shares leave nothing to train on, a class has too few samples to be in every part, there are too
            few groups, or a part would be empty.
    """
    shares = shares_of(reference_share, test_share)
    rng = np.random.default_rng([seed, 1])
    findings: list[Finding] = []
    if by == "time":
        index = by_time(_spans(data, spans), shares)
    elif by == "group":
        index = by_group(_groups(data), strata(data.y), shares, rng)
    else:
        unit, repeated = units(data.x)
        if repeated > REPEATED_MOST:
            text = (
                f"{repeated:.0%} of the samples are repeats of others; with so many, repeats are not kept in one part: "
                "figures of the test part are about samples that were seen"
            )
            findings.append(Finding("duplicates", "warning", text))
        index = stratified(strata(data.y), shares, rng, unit if 0 < repeated <= REPEATED_MOST else None)
    if data.labels and every_class:
        findings += _classes_there(data, index, shares, by)
    for name, chosen in index.items():
        if not len(chosen):
            raise DataError(f"{len(data)} samples are too few for a {name} part of {shares[name]:.0%}")
    return Splits(**{name: data.take(chosen) for name, chosen in index.items()}, findings=tuple(findings))


def by_time(spans: NDArray[Any], shares: Mapping[str, float]) -> dict[str, NDArray[np.intp]]:
    """Index arrays, sorted: samples whose ``spans`` (n, 2) (first and last moment) lie between two cuts. Moments that
    are the same are never on both sides.

    Raises:
        DataError: all are of the same moment, or they overlap too much.
    """
    first, last = spans[:, 0], spans[:, 1]
    moments = np.sort(last)
    if moments[0] == moments[-1]:
        raise DataError("every sample has the same time; they cannot be split by it")
    # samples across a cut are lost: what is left is shared out, so that small parts do not pay for all
    lost = np.searchsorted(moments, last) - np.searchsorted(moments, first)
    gap = int(np.median(lost))
    left = len(moments) - gap * (len(shares) - 1)
    if left < len(shares):
        raise DataError(
            f"{len(moments)} samples that overlap with {gap} others each are too few for {len(shares)} parts "
            "that do not overlap; bring more, or let a sample show less (data.history, data.horizon, data.window)"
        )
    edges = np.cumsum(list(shares.values()))[:-1] * left + gap * np.arange(len(shares) - 1)
    cuts = [moments[min(int(np.rint(edge)), len(moments) - 1)] for edge in edges]
    starts, stops = [-np.inf, *cuts], [*cuts, np.inf]
    return {
        name: np.flatnonzero((first >= start) & (last < stop))
        for name, start, stop in zip(shares, starts, stops, strict=True)
    }


def _spans(data: Dataset, spans: NDArray[Any] | None) -> NDArray[Any]:
    if spans is not None:
        return spans
    if data.times is None:
        raise DataError('split = "time" needs a time for every sample: name the column in data.time')
    return np.stack([data.times, data.times], axis=1)


def _groups(data: Dataset) -> NDArray[Any]:
    if data.groups is None:
        raise DataError('split = "group" needs a group for every sample: name the column in data.group')
    return data.groups


def _classes_there(
    data: Dataset, index: Mapping[str, NDArray[np.intp]], shares: Mapping[str, float], by: By
) -> list[Finding]:
    """What to say of classes that a part lacks.

    Raises:
        DataError: the split does not allow for that.
    """
    findings = []
    for name, chosen in index.items():
        counts = np.bincount(data.y[chosen], minlength=len(data.labels))
        if counts.all():
            continue
        label = int(counts.argmin())
        total = int((data.y == label).sum())
        if by == "random":
            raise DataError(
                f"class {data.labels[label]!r} has {total} samples, too few for a {name} part of {shares[name]:.0%}; "
                f"at least {int(np.ceil(1 / min(shares.values())))} are needed"
            )
        if name == "train":
            where = "come only after the others" if by == "time" else "are in too few groups"
            raise DataError(
                f"class {data.labels[label]!r}: its {total} samples {where}, so the train part has none; "
                'set data.split to "random", or leave the class out'
            )
        lacking = [data.labels[i] for i in np.flatnonzero(counts == 0)]
        why = "in time" if by == "time" else "from few groups"
        text = f"the {name} part has no sample of {some(lacking)} ({why}): figures there say nothing about them"
        findings.append(Finding("classes missing", "warning", text, name))
    return findings
