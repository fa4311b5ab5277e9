"""Reference against window, for one watched scalar, from a profile and counts alone.

::

    picture = plots.histogram(detector.profile, detector.counts, "temp")         # <svg ...>
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from cloud_trainer.svg import GRID, INK, MUTED, REFERENCE, UP, Canvas, linear, nice_ticks, shortened
from shared.drift import ReferenceProfile, WindowCounts
from shared.drift.bins import CATEGORY, Column

Floats = NDArray[np.float64]

BARS = 24
LATTICE = 5000
FEW = 16
"""A scalar with at most so many different values has a bar for each."""
WIDTH, HEIGHT = 320, 168
ROW = 34
_PLOT = 126
LEAST_SIDE = 0.0005
_SIDE = 26


class Shares(Struct, frozen=True, eq=False):
    """``edges`` (B + 1,) of the bars in the data's own unit, or None with ``values`` (B,), one for each bar; shares
    ``before`` and ``now`` (B,); and what lies ``below`` and ``above`` them all: (share before, share now)."""

    edges: Floats | None
    values: Floats | None
    before: Floats
    now: Floats
    below: tuple[float, float]
    above: tuple[float, float]


def shares(column: Column, row: Floats) -> Shares:
    """Bars of a value column, and how much of the reference and of a window with bin counts ``row`` (K,) is in each.

    The profile's bins are ranges of ranks. Within a bin a window is taken to be spread as the reference is, of which
    the profile keeps quantiles; what lies beyond all reference values is known to be there, but not where.
    """
    sketch = column.sketch
    ranks = np.cumsum(column.gaps)[:-1]
    of_sketch = (np.arange(len(sketch)) + 0.5) * column.present / len(sketch) + 0.5
    bin_of = np.searchsorted(ranks, np.minimum(of_sketch, column.present), "left")
    total = max(float(row.sum()), 1.0)
    in_bin = np.bincount(bin_of, minlength=len(column.gaps))
    weight = np.divide(row / total, in_bin, out=np.zeros(len(row)), where=in_bin > 0)[bin_of]
    lost = np.where(in_bin == 0, row / total, 0.0)
    below, above = float(lost[: len(lost) // 2].sum()), float(lost[len(lost) // 2 :].sum())
    finite = np.isfinite(sketch)
    even = np.full(len(sketch), 1 / len(sketch))
    distinct = np.unique(sketch[finite])
    if len(distinct) <= FEW:
        at = np.searchsorted(distinct, sketch[finite])
        edges, values, bars = None, distinct, len(distinct)
        inside = finite
    else:
        edges, values = _edges(sketch[finite], distinct), None
        bars = len(edges) - 1
        inside = finite & (sketch >= edges[0]) & (sketch <= edges[-1])
        at = np.clip(np.searchsorted(edges, sketch[inside], "right") - 1, 0, bars - 1)
    under, over = ~inside & (sketch < np.median(sketch)), ~inside & (sketch >= np.median(sketch))
    return Shares(
        edges,
        values,
        np.bincount(at, even[inside], bars).astype(np.float64),
        np.bincount(at, weight[inside], bars).astype(np.float64),
        (float(even[under].sum()), below + float(weight[under].sum())),
        (float(even[over].sum()), above + float(weight[over].sum())),
    )


def _edges(values: Floats, distinct: Floats) -> Floats:
    """Edges of about BARS bars; of values on a lattice, like whole numbers, between its points, as many in each bar."""
    low, high = _range(values)
    gap = float(np.diff(distinct).min())
    places = (distinct - distinct[0]) / gap
    if places[-1] > LATTICE or np.abs(places - places.round()).max() > 0.01:
        return np.linspace(low, high, BARS + 1)
    step = gap * max(1, math.ceil(((high - low) / gap + 1) / (BARS + 6)))
    start = low - gap / 2
    return np.array([start + step * i for i in range(math.ceil((high - start) / step - 1e-6) + 1)])


def _range(values: Floats) -> tuple[float, float]:
    """Where to draw: all of it, but for heavy tails."""
    low, high = float(values[0]), float(values[-1])
    inner_low, inner_high = np.quantile(values, (0.01, 0.99))
    if high - low <= 2.5 * (inner_high - inner_low) or inner_high <= inner_low:
        return low, high
    return float(inner_low), float(inner_high)


def histogram(
    profile: ReferenceProfile, counts: WindowCounts, name: str, words: Mapping[float, str] | None = None
) -> str:
    """SVG of scalar ``name``: the reference in grey, the window of ``counts`` in colour.

    Args:
        profile: the reference.
        counts: of the window.
        name: one of the profile's names.
        words: code of a category -> how it is written.
    """
    k = profile.names.index(name)
    column = profile.columns[k]
    row = np.array(counts.to_mapping()[name], dtype=np.float64)
    if len(row) != len(column.gaps):
        return ""
    if column.kind == CATEGORY:
        return _categories(name, column, row, words or {})
    return _values(name, shares(column, row))


def _values(name: str, found: Shares) -> str:
    sides = max(*found.below, *found.above) > LEAST_SIDE
    canvas = Canvas(WIDTH, HEIGHT if sides else HEIGHT - 18)
    bars = len(found.before)
    left = _SIDE + 8 if max(found.below) > LEAST_SIDE else 4
    right = WIDTH - (_SIDE + 8 if max(found.above) > LEAST_SIDE else 4)
    top = max(found.before.max(), found.now.max(), *found.below, *found.above, 1e-9)
    height = linear(0, top, 0, _PLOT - 14)
    step = (right - left) / bars
    for i in range(bars):
        x = left + i * step
        if found.values is not None:
            what = f"{found.values[i]:g}"
        else:
            assert found.edges is not None
            what = f"{found.edges[i]:.4g} to {found.edges[i + 1]:.4g}"
        _pair(canvas, x, step, float(found.before[i]), float(found.now[i]), height, f"{name} {what}")
    ends = (found.edges[0], found.edges[-1]) if found.edges is not None else (found.values[0], found.values[-1])  # type: ignore[index]
    for x, pair, sign, end, anchor in (
        (0.0, found.below, "<", ends[0], "start"),
        (WIDTH - _SIDE, found.above, ">", ends[1], "end"),
    ):
        if max(pair) > LEAST_SIDE:
            _pair(canvas, x, _SIDE, *pair, height, f"{name} {sign} {end:.4g}")
            canvas.text(x if anchor == "start" else WIDTH, HEIGHT - 4, f"{sign} {end:.3g}", anchor=anchor, size=11)
    canvas.line(0, _PLOT, WIDTH, _PLOT, GRID)
    _value_ticks(canvas, found, left, right)
    return canvas.done(f"{name}: reference against window")


def _pair(
    canvas: Canvas, x: float, width: float, before: float, now: float, height: Callable[[float], float], what: str
) -> None:
    tip = f"{what}: {before:.1%} → {now:.1%}"
    canvas.rect(x + 0.5, _PLOT - height(before), width - 1, height(before), REFERENCE, opacity=0.55, title=tip)
    canvas.rect(x + width * 0.22, _PLOT - height(now), width * 0.56, height(now), UP, opacity=0.85, title=tip)


def _value_ticks(canvas: Canvas, found: Shares, left: float, right: float) -> None:
    if found.values is not None:
        bars = len(found.values)
        every = max(1, -(-bars // 8))
        step = (right - left) / bars
        for i in range(0, bars, every):
            canvas.text(left + (i + 0.5) * step, _PLOT + 16, f"{found.values[i]:.4g}", anchor="middle", size=11)
        return
    assert found.edges is not None
    low, high = float(found.edges[0]), float(found.edges[-1])
    x = linear(low, high, left, right)
    for at in nice_ticks(low, high, 5):
        place = min(max(x(at), 12), WIDTH - 12)
        canvas.line(x(at), _PLOT, x(at), _PLOT + 4, GRID)
        canvas.text(place, _PLOT + 16, f"{at:.6g}", anchor="middle", size=11)


def _categories(name: str, column: Column, row: Floats, words: Mapping[float, str]) -> str:
    before = column.gaps / column.gaps.sum()
    now = row / max(float(row.sum()), 1.0)
    names = [*(words.get(code, f"{code:g}" if code > -1e14 else "?") for code in column.edges.tolist()), "others"]
    order = [int(k) for k in np.argsort(-np.maximum(before, now), kind="stable")][:8]
    canvas = Canvas(WIDTH, len(order) * ROW + 6)
    most = max(float(before.max()), float(now.max()), 1e-9)
    x = linear(0, most, 0, WIDTH - 150)
    for place, k in enumerate(order):
        y, tip = place * ROW + 4, f"{name} {names[k]}: {before[k]:.1%} → {now[k]:.1%}"
        canvas.text(94, y + 18, shortened(names[k], 14), anchor="end", colour=INK, title=names[k])
        canvas.rect(102, y, x(before[k]), 12, REFERENCE, opacity=0.55, title=tip)
        canvas.rect(102, y + 13, x(now[k]), 12, UP, opacity=0.85, title=tip)
        canvas.text(106 + x(before[k]), y + 10, f"{before[k]:.1%}", size=10.5, colour=MUTED)
        canvas.text(106 + x(now[k]), y + 23, f"{now[k]:.1%}", size=10.5, colour=INK)
    return canvas.done(f"{name}: reference against window")
