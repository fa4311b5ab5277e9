"""Merging drift windows that wait in a full outbox. Counts add exactly, so nothing of the evidence is lost, only its
resolution in time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from shared.messages import Report


def mergeable(first: Report, second: Report) -> bool:
    """Whether the counts of two windows may be added: same model, release, variant, baseline, profile and tracks."""
    return (
        (first.device, first.model, first.release, first.variant, first.baseline, first.profile)
        == (second.device, second.model, second.release, second.variant, second.baseline, second.profile)
        and first.counts.keys() == second.counts.keys()
        and all(len(bins) == len(second.counts[track]) for track, bins in first.counts.items())
    )


def merge(first: Report, second: Report) -> Report:
    """One window that covers both. ``second`` is the later one and lends its number, time and evidence.

    Samples, seconds, errors, truths and counts add. Mean shifts, the median latency, the confidence, the estimated
    accuracy and the shares of missing numbers and those out of range become averages weighted by samples, accuracy and
    absolute error by truths; the 99th percentile becomes the larger one, an upper bound.
    """
    total = first.samples + second.samples
    weight = second.samples / total if total else 0.5
    told = second.truths / max(first.truths + second.truths, 1)

    def mean(a: float, b: float) -> float:
        return a + (b - a) * weight

    return msgspec.structs.replace(
        second,
        samples=total,
        seconds=first.seconds + second.seconds,
        errors=first.errors + second.errors,
        counts={
            track: [a + b for a, b in zip(bins, second.counts[track], strict=True)]
            for track, bins in first.counts.items()
        },
        effects={
            name: mean(first.effects.get(name, value), value)
            for name, value in {**first.effects, **second.effects}.items()
        },
        p50_us=mean(first.p50_us, second.p50_us),
        p99_us=max(first.p99_us, second.p99_us),
        confidence=mean(first.confidence, second.confidence),
        estimated_accuracy=_mean(first.estimated_accuracy, second.estimated_accuracy, weight),
        truths=first.truths + second.truths,
        accuracy=_mean(first.accuracy, second.accuracy, told),
        absolute_error=_mean(first.absolute_error, second.absolute_error, told),
        missing=mean(first.missing, second.missing),
        out_of_range=mean(first.out_of_range, second.out_of_range),
    )


def _mean(first: float | None, second: float | None, weight: float) -> float | None:
    """The average with this weight of the second; of one that is not known the other."""
    if first is None or second is None:
        return second if first is None else first
    return first + (second - first) * weight


def plan(reports: Sequence[tuple[int, Report, int]], excess: int) -> tuple[dict[int, Report], list[int]]:
    """What to merge so that about ``excess`` bytes come free.

    Each pass joins neighbours, the pairs with the fewest samples first and the older first among equals, so that old
    windows grow coarse evenly. A merged window is taken to be as large as the larger of its two.

    Args:
        reports: (row id, window, bytes) in the order of their stream.
        excess: bytes wanted.

    Returns:
        Windows to be rewritten by row id, and the row ids that they swallowed.
    """
    rows = list(reports)
    changed: dict[int, Report] = {}
    swallowed: list[int] = []
    while excess > 0:
        pairs = [i for i in range(len(rows) - 1) if mergeable(rows[i][1], rows[i + 1][1])]
        pairs.sort(key=lambda i: (rows[i][1].samples + rows[i + 1][1].samples, i))
        used: set[int] = set()
        merged: dict[int, tuple[int, Report, int]] = {}
        for i in pairs:
            if excess <= 0:
                break
            if i in used or i + 1 in used:
                continue
            used |= {i, i + 1}
            (old, first, size), (row, second, other) = rows[i], rows[i + 1]
            merged[i] = (row, merge(first, second), max(size, other))
            excess -= min(size, other)
            changed.pop(old, None)
            changed[row] = merged[i][1]
            swallowed.append(old)
        if not merged:
            break
        rows = [merged.get(i, rows[i]) for i in range(len(rows)) if i - 1 not in merged]
    return changed, swallowed


def by_stream(rows: Sequence[tuple[int, str, Report, int]]) -> Mapping[str, list[tuple[int, Report, int]]]:
    """Group (row id, stream, window, bytes) by stream, order kept."""
    groups: dict[str, list[tuple[int, Report, int]]] = {}
    for row, stream, report, size in rows:
        groups.setdefault(stream, []).append((row, report, size))
    return groups
