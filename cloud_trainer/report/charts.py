"""Charts of answers: scatter, histograms, ROC, reliability, forecasts. Each gives SVG."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cloud_trainer.evaluation.calibration import Bins
from cloud_trainer.report.plot import WIDE, Plot, number, padded
from cloud_trainer.svg import (
    ACCENT,
    ALARM,
    CARD,
    GRID,
    INK,
    MUTED,
    REFERENCE,
    Canvas,
    both_ends,
    linear,
    nice_ticks,
    shortened,
)

Floats = NDArray[np.float64]
DOTS = 1500
"""Of a scatter; more are not seen, and make the page large."""


def scatter(truth: Floats, answer: Floats, seed: int = 0) -> str:
    """Answers against the truth, (n,) each; on the dashed line they are right."""
    rows = np.arange(len(truth))
    if len(rows) > DOTS:
        rows = np.random.default_rng(seed).choice(len(truth), DOTS, replace=False)
    both = np.concatenate([truth, answer])
    low, high = padded(float(np.nanmin(both)), float(np.nanmax(both)), 0.03)
    plot = Plot((low, high), (low, high), height=380, x_name="truth", y_name="answer", left=52)
    plot.faint(low, low, high, high)
    for i in rows:
        plot.canvas.rect(plot.at(truth[i]) - 1.5, plot.up(answer[i]) - 1.5, 3, 3, ACCENT, opacity=0.45)
    return plot.done("answer against truth")


def histogram(values: Floats, name: str, *, width: float = 220.0, height: float = 130.0, bars: int = 28) -> str:
    """One small histogram with its name above."""
    known = values[np.isfinite(values)]
    canvas = Canvas(width, height)
    canvas.text(2, 13, shortened(name, 30), colour=INK, size=12, title=name)
    if not len(known):
        canvas.text(2, 40, "no values")
        return canvas.done(name)
    low, high = inner_range(known)
    inside = known[(known >= low) & (known <= high)]
    distinct = np.unique(inside)
    if len(distinct) <= 12 and len(distinct) > 1:
        gap = float(np.diff(distinct).min())
        low, high, bars = low - gap / 2, high + gap / 2, min(40, round((high - low) / gap) + 1)
    if low == high:
        low, high = padded(low, high)
    counts, edges = np.histogram(inside, bins=bars, range=(low, high))
    at, up = linear(low, high, 2, width - 2), linear(0, counts.max() or 1, 0, height - 44)
    for i, size in enumerate(counts):
        tip = f"{edges[i]:.4g} to {edges[i + 1]:.4g}: {size:,}"
        left, right = at(edges[i]), at(edges[i + 1])
        canvas.rect(left + 0.4, height - 20 - up(size), right - left - 0.8, up(size), ACCENT, opacity=0.8, title=tip)
    canvas.line(2, height - 20, width - 2, height - 20, GRID)
    for value in nice_ticks(low, high, 4):
        text = number(value)
        half = 3.2 * len(text)
        canvas.text(min(max(at(value), half), width - half), height - 6, text, anchor="middle", size=11)
    return canvas.done(f"histogram of {name}")


def inner_range(values: Floats) -> tuple[float, float]:
    """Where to draw: all of it, but for heavy tails."""
    low, high = float(values.min()), float(values.max())
    inner_low, inner_high = np.quantile(values, (0.005, 0.995))
    if high - low <= 3 * (inner_high - inner_low) or inner_high <= inner_low:
        return low, high
    return float(inner_low), float(inner_high)


def two_histograms(
    first: Floats, second: Floats, names: tuple[str, str], *, x_name: str, threshold: float | None = None
) -> str:
    """Shares of two kinds of samples over one scale, e.g. scores of normal samples and anomalies."""
    both = np.concatenate([first, second])
    low, high = inner_range(both[np.isfinite(both)])
    if threshold is not None:
        low, high = min(low, threshold), max(high, threshold)
    if low == high:
        low, high = padded(low, high)
    edges = np.linspace(low, high, 37)
    shares = [np.histogram(np.clip(part, low, high), edges)[0] / max(len(part), 1) for part in (first, second)]
    plot = Plot(
        (low, high), (0, max(float(s.max()) for s in shares) * 1.08 or 1.0), x_name=x_name, y_name="share of samples",
        percent_y=True,
    )  # fmt: skip
    for share, name, colour in zip(shares, names, (ACCENT, ALARM), strict=True):
        for i, size in enumerate(share):
            if size:
                left, right = plot.at(edges[i]), plot.at(edges[i + 1])
                tip = f"{name}, {edges[i]:.3g} to {edges[i + 1]:.3g}: {size:.1%}"
                plot.canvas.rect(
                    left, plot.up(size), right - left, plot.bottom - plot.up(size), colour, opacity=0.5, title=tip
                )
    if threshold is not None:
        x = plot.at(threshold)
        plot.canvas.line(x, plot.top, x, plot.bottom, INK, dash="4 3")
        side = "end" if x > (plot.left + plot.right) / 2 else "start"
        plot.canvas.text(x + (-5 if side == "end" else 5), plot.top + 11, "threshold", anchor=side, colour=INK)
    return plot.done(f"{names[0]} and {names[1]}")


def roc(false: Floats, true: Floats, mark: tuple[float, float] | None = None) -> str:
    """Rates of false and true positives; ``mark``: where the threshold is."""
    plot = Plot(
        (0, 1), (0, 1), height=300, x_name="false positive rate", y_name="true positive rate", percent_x=True,
        percent_y=True,
    )  # fmt: skip
    plot.faint(0, 0, 1, 1)
    rows = np.unique(np.linspace(0, len(false) - 1, min(len(false), 400)).astype(int))
    points: list[tuple[float, float]] = []
    for i in rows:
        if points:
            points.append((plot.at(false[i]), points[-1][1]))
        points.append((plot.at(false[i]), plot.up(true[i])))
    plot.canvas.area([*points, (plot.right, plot.bottom), (plot.left, plot.bottom)], ACCENT, opacity=0.08)
    plot.canvas.path(points, ACCENT, width=2)
    if mark is not None:
        plot.canvas.dot(plot.at(mark[0]), plot.up(mark[1]), ALARM, title="at the threshold")
    return plot.done("ROC")


def reliability(bins: Bins, before: Bins | None = None) -> str:
    """Share of right answers against confidence, with intervals; ``before``: without the temperature, grey."""
    both = (bins, before) if before is not None else (bins,)
    low = min(float(min(b.low.min(), b.confidence.min())) for b in both)
    start = max(0.0, np.floor(10 * low) / 10 - 0.02)
    plot = Plot(
        (start, 1.01), (start, 1.01), height=330, x_name="confidence", y_name="right", percent_x=True, percent_y=True
    )
    plot.faint(start, start, 1, 1)
    if before is not None:
        points = [(plot.at(c), plot.up(a)) for c, a in zip(before.confidence, before.accuracy, strict=True)]
        plot.canvas.path(points, REFERENCE, width=1.5)
        for x, y in points:
            plot.canvas.dot(x, y, REFERENCE, radius=3.5, title="without the temperature")
    for i, samples in enumerate(bins.samples):
        x = plot.at(bins.confidence[i])
        plot.canvas.line(x, plot.up(bins.low[i]), x, plot.up(bins.high[i]), ACCENT, width=1.5)
        tip = f"{samples:,} samples, {bins.confidence[i]:.1%} sure, {bins.accuracy[i]:.1%} right"
        plot.canvas.dot(x, plot.up(bins.accuracy[i]), ACCENT, title=tip)
    return plot.done("reliability")


def residuals(answer: Floats, gap: Floats, seed: int = 0) -> str:
    """Errors against answers, (n,) each."""
    rows = np.arange(len(answer))
    if len(rows) > DOTS:
        rows = np.random.default_rng(seed).choice(len(answer), DOTS, replace=False)
    plot = Plot(
        padded(float(answer.min()), float(answer.max()), 0.03),
        padded(float(gap.min()), float(gap.max())),
        height=380, left=52, x_name="answer", y_name="answer less truth",
    )  # fmt: skip
    plot.canvas.line(plot.left, plot.up(0), plot.right, plot.up(0), MUTED, dash="4 4")
    for i in rows:
        plot.canvas.rect(plot.at(answer[i]) - 1.5, plot.up(gap[i]) - 1.5, 3, 3, ACCENT, opacity=0.45)
    return plot.done("errors against answers")


def forecast(
    past: Floats, truth: Floats, answer: Floats, band: tuple[Floats, Floats] | None = None, title: str = ""
) -> str:
    """What was seen (time,), what came (horizon,), what was foretold, and between which quantiles it was to be."""
    parts = [past, truth, answer, *(band or ())]
    known = np.concatenate(parts)
    known = known[np.isfinite(known)]
    low, high = padded(float(known.min()), float(known.max()), 0.08)
    horizon = len(truth)
    plot = Plot((-len(past) + 1, horizon), (low, high), height=210, y_name=title, whole_x=True)

    def line(values: Floats, first: int) -> list[tuple[float, float]]:
        return [(plot.at(first + i), plot.up(v)) for i, v in enumerate(values) if np.isfinite(v)]

    plot.canvas.line(plot.at(0.5), plot.top, plot.at(0.5), plot.bottom, GRID, dash="3 3")
    if band is not None:
        plot.canvas.area([*line(band[1], 1), *reversed(line(band[0], 1))], ACCENT, opacity=0.18)
    plot.canvas.path(line(past, -len(past) + 1), REFERENCE)
    plot.canvas.path(line(truth, 1), INK, width=1.8)
    plot.canvas.path(line(answer, 1), ACCENT, width=2)
    if horizon <= 12:
        for x, y in line(truth, 1):
            plot.canvas.dot(x, y, INK, radius=3)
        for x, y in line(answer, 1):
            plot.canvas.dot(x, y, ACCENT, radius=3)
    return plot.done("forecast")


def bars(values: Sequence[float], names: Sequence[str], *, x_name: str = "", y_name: str = "", percent: bool) -> str:
    """One bar for each name, in order."""
    top = max(values, default=0.0) * 1.1 or 1.0
    plot = Plot((0.5, len(values) + 0.5), (0, top), x_name=x_name, y_name=y_name, percent_y=percent, whole_x=True)
    for i, (value, name) in enumerate(zip(values, names, strict=True)):
        left, right = plot.at(i + 0.62), plot.at(i + 1.38)
        text = f"{name}: {value:.1%}" if percent else f"{name}: {value:.4g}"
        plot.canvas.rect(left, plot.up(value), right - left, plot.bottom - plot.up(value), ACCENT, title=text)
    return plot.done(y_name)


def matrix(shares: Floats, counts: NDArray[np.int64], labels: Sequence[str]) -> str:
    """Truth in rows, answers in columns, percent of each class (n, n). Two scales: right answers are green, mistakes
    orange and as dark as the most frequent one, so that few of them are seen beside a full diagonal."""
    classes = len(labels)
    names = [both_ends(label, 18) for label in labels]
    room = 10 + 6.0 * max(map(len, names))
    side = 460.0 if classes <= 12 else WIDE
    cell = min((side - room - 4) / classes, 84.0 if classes <= 12 else 30.0)
    size = min(11.0, cell * 0.9)
    flat = max(map(len, names)) * 6.2 < cell
    top, bottom = 18.0, 18 + classes * cell
    canvas = Canvas(side, bottom + (20 if flat else 12 + 0.9 * size * 0.56 * max(map(len, names))))
    worst = max(5.0, float(np.where(np.eye(classes, dtype=bool), 0.0, shares).max()))
    for row in range(classes):
        y = top + row * cell
        canvas.text(
            room - 6, y + cell / 2 + size / 3, names[row], anchor="end", size=size, colour=INK, title=labels[row]
        )
        for column in range(classes):
            samples, share = int(counts[row, column]), float(shares[row, column])
            right, x = row == column, room + column * cell
            if not samples and not right:
                continue
            strength = 0.12 + 0.8 * share / 100 if right else 0.1 + 0.75 * share / worst
            tip = f"{labels[row]} called {labels[column]}: {samples:,} ({share:.1f} %)"
            canvas.rect(x + 0.5, y + 0.5, cell - 1, cell - 1, ACCENT if right else ALARM, opacity=strength, title=tip)
            if cell >= 26:
                text = f"{share:.0f}" if right or share >= 9.95 else f"{share:.1f}"
                colour = CARD if right and share > 55 else INK
                canvas.text(
                    x + cell / 2, y + cell / 2 + 4, text, anchor="middle", size=11, colour=colour, bold=right,
                    title=tip, rim=False,
                )  # fmt: skip
    for column, name in enumerate(names):
        x = room + (column + 0.5) * cell
        if flat:
            canvas.text(x, bottom + 14, name, anchor="middle", size=size, colour=INK)
        else:
            canvas.text(x + size / 3, bottom + 8, name, anchor="end", size=size, colour=INK, turn=-65)
    canvas.text(room, 12, "answer →", size=12)
    canvas.text(room - 6, 12, "truth ↓", anchor="end", size=12)
    return canvas.done("confusion matrix")
