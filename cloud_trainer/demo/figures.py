"""The report's pictures, with matplotlib's object interface; each function gives a ``Figure``.

One colour is one device everywhere. Times are seconds since the cameras started.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, PercentFormatter

from cloud_trainer.demo import data
from cloud_trainer.demo.outcome import NEW, PHASES, confusion, rolling
from cloud_trainer.demo.record import Answers, Point, Record, Step

COLOURS = dict(zip(data.DEVICES, ("#0f6db3", "#c2571a", "#4b8b3b"), strict=True))
INK, FAINT, ALARM = "#22303c", "#9aa7b2", "#b3261e"
STATE_COLOURS = {
    "suspected": "#f2d7a0",
    "confirmed": "#e9a23b",
    "collecting": "#b9d3ea",
    "labelling": "#8fb8dc",
    "training": "#5b93c5",
    "gating": "#3c6f9f",
    "releasing": "#7fb77e",
}
WIDTH = 10.0
LETTER = 0.0098  # of a plot's width, in the names of moments
STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "svg.fonttype": "none",
    "svg.hashsalt": "sanderling",
}


class Mark:
    """A moment that every plot over time shows."""

    def __init__(self, seconds: float, text: str, colour: str = INK) -> None:
        self.seconds, self.text, self.colour = seconds, text, colour


def marks(steps: Sequence[Step], record: Record, bad: Mapping[str, float], start: float) -> list[Mark]:
    """The loop's turning points, in order."""
    found = []
    if bad:
        found.append(Mark(min(bad.values()) - start, "cameras go bad", ALARM))
    for step in steps:
        if step.what == "incident" and step.state == "confirmed":
            found.append(Mark(step.time - start, "drift confirmed", ALARM))
        if step.what == "rollout" and step.details.get("release") == NEW:
            text = {"canary": "canary", "expanding": "everyone", "rolled_back": "rolled back"}.get(step.state)
            if text:
                found.append(Mark(step.time - start, text))
    done = [_takes(record, device) for device in record.changes]
    if done and all(done):
        found.append(Mark(max(t for t in done if t) - start, "fleet on release 2", COLOURS["cam-3"]))
    return sorted(found, key=lambda mark: mark.seconds)


def _takes(record: Record, device: str) -> float:
    return next((c.time for c in record.changes[device] if c.release == NEW and not c.trial), 0.0)


def accuracy_over_time(answers: Mapping[str, Answers], moments: Sequence[Mark], start: float) -> Figure:
    """Rolling accuracy of each device, over the last 150 answers."""
    figure, axes = _axes(3.6)
    end = 0.0
    for device, found in answers.items():
        when, share = rolling(found)
        if len(when):
            step = max(1, len(when) // 900)
            axes.plot(when[::step] - start, share[::step], color=COLOURS[device], lw=1.8, label=device)
            end = max(end, when[-1] - start)
    axes.set_ylim(min(0.4, axes.get_ylim()[0]), 1.01)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.set_ylabel("right answers")
    _mark(axes, moments, end)
    return figure


def evidence_over_time(
    points: Mapping[str, Sequence[Point]], alarms: Mapping[str, Sequence[float]], moments: Sequence[Mark], start: float
) -> Figure:
    """Each device's drift evidence, 1.0 being the alarm; an own alarm is a triangle."""
    figure, axes = _axes(3.2)
    end = 0.0
    low, high = 1e-7, 1e12
    for device, series in points.items():
        if not series:
            continue
        when = np.array([point.time for point in series]) - start
        value = np.clip([point.evidence for point in series], low, high)
        axes.plot(when, value, color=COLOURS[device], lw=1.8, marker=".", ms=3.5, label=device)
        end = max(end, float(when[-1]))
    for device, moments_ in alarms.items():
        axes.plot(
            np.array(moments_) - start,
            np.ones(len(moments_)),
            ls="none",
            marker="v",
            ms=10,
            color=COLOURS[device],
            mec="white",
            zorder=5,
        )
    axes.set_yscale("log")
    axes.set_ylim(low * 0.7, high * 2)
    axes.axhline(1.0, color=ALARM, lw=1, ls="--")
    axes.text(0.003, 1.6, "alarm", color=ALARM, transform=axes.get_yaxis_transform(), fontsize=9)
    axes.set_ylabel("evidence of drift")
    _mark(axes, moments, end)
    return figure


def gantt(record: Record, steps: Sequence[Step], moments: Sequence[Mark], start: float, end: float) -> Figure:
    """Which release each device ran, and what the controller was doing."""
    figure, axes = _axes(2.6)
    rows = [*data.DEVICES, "controller"]
    for row, device in enumerate(data.DEVICES):
        changes = [change for change in record.changes[device] if change.release]
        for change, until in zip(changes, [c.time for c in changes[1:]] + [end], strict=True):
            left, width = max(0.0, change.time - start), until - max(start, change.time)
            if width <= 0:
                continue
            axes.barh(
                row,
                width,
                left=left,
                height=0.62,
                color=COLOURS[device],
                alpha=0.35 if change.release < NEW else 0.95,
                hatch="////" if change.trial else None,
                edgecolor="white",
            )
            text = f"{change.release}" + (" on trial" if change.trial else f"  {change.variant}")
            if width <= 0.012 * len(text) * (end - start):
                text = f"{change.release}"
            if width > 0.012 * len(text) * (end - start):
                axes.text(
                    left + 0.4, row, text, va="center", fontsize=9, color=INK if change.release < NEW else "white"
                )
    own = [step for step in steps if step.what == "incident"]
    for step, until in zip(own, [s.time for s in own[1:]] + [end], strict=True):
        fill = STATE_COLOURS.get(step.state)
        if fill and until > step.time:
            axes.barh(3, until - step.time, left=step.time - start, height=0.62, color=fill, edgecolor="white")
            if until - step.time > 0.012 * len(step.state) * (end - start):
                axes.text(step.time - start + 0.4, 3, step.state, va="center", fontsize=9)
    axes.set_yticks(range(len(rows)), rows)
    axes.set_ylim(len(rows) - 0.45, -0.55)
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    _mark(axes, moments, end - start)
    return figure


def sample_pictures(seed: int, device: str = "cam-1", count: int = 12) -> Figure:
    """The same pictures through the good and the bad camera."""
    pool = data.pools()[device]
    clean, labels = data.stream(pool, device, seed, 0)
    spoiled = data.spoil(clean, device, seed, 0)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 2.05), layout="constrained")
        grid: Any = figure.subplots(2, count)
    for row, (name, pictures) in enumerate((("good", clean), ("bad", spoiled))):
        for column in range(count):
            axes = grid[row, column]
            axes.imshow(pictures[column], cmap="gray", vmin=0, vmax=255, interpolation="nearest")
            axes.set_xticks([])
            axes.set_yticks([])
            for spine in axes.spines.values():
                spine.set_visible(False)
            if row == 0:
                axes.set_title(data.LABELS[labels[column]], fontsize=10, color=INK)
        grid[row, 0].set_ylabel(name, color=INK)
    return figure


def confusions(parts: Mapping[str, Answers], unfinished: Sequence[str] = ()) -> Figure:
    """Truth against answer, before, during and after; ``parts`` by phase."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 3.9), layout="constrained")
        grid: Any = figure.subplots(1, 3)
    for axes, name in zip(grid, PHASES, strict=True):
        table = confusion(parts[name], data.CLASSES)
        axes.imshow(table, cmap="Blues", vmin=0, vmax=1)
        for row in range(data.CLASSES):
            for column in range(data.CLASSES):
                if table[row, column] >= 0.02:
                    axes.text(
                        column,
                        row,
                        f"{100 * table[row, column]:.0f}",
                        ha="center",
                        va="center",
                        fontsize=7.5,
                        color="white" if table[row, column] > 0.55 else INK,
                    )
        axes.set_xticks(range(data.CLASSES), data.LABELS, fontsize=8)
        axes.set_yticks(range(data.CLASSES), data.LABELS, fontsize=8)
        share = f"{parts[name].accuracy:.1%} of " if len(parts[name]) else ""
        more = ", unfinished" if name in unfinished else ""
        axes.set_title(f"{name}: {share}{len(parts[name]):,}{more}", fontsize=11, color=INK)
        axes.set_xlabel("answer")
        for spine in axes.spines.values():
            spine.set_visible(False)
        axes.tick_params(length=0)
    grid[0].set_ylabel("truth")
    return figure


def svg(figure: Figure) -> str:
    """The figure as an ``<svg>`` element for a page."""
    buffer = io.StringIO()
    with mpl.rc_context(STYLE):
        figure.savefig(buffer, format="svg", metadata={"Date": None}, transparent=True)
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def _axes(height: float) -> tuple[Figure, Axes]:
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        axes = figure.subplots()
    axes.set_xlabel("seconds since the cameras started")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0f}"))
    axes.grid(axis="y", color=FAINT, alpha=0.25)
    axes.set_axisbelow(True)
    return figure, axes


def levels(moments: Sequence[Mark], end: float) -> tuple[list[int], float]:
    """How high the name of each moment stands above the plot, and where the plot must end for all to fit.

    A name begins at its moment's line and stands above every later line that it reaches: names that would collide
    read in order from the top down, and no line crosses a name.

    >>> levels([Mark(8.0, "cameras go bad"), Mark(8.4, "drift confirmed"), Mark(60.0, "canary")], 80.0)[0]
    [1, 0, 0]
    """
    right = max([end * 1.01, *(mark.seconds / (1 - LETTER * len(mark.text)) for mark in moments)])
    found = [0] * len(moments)
    for i, mark in reversed(list(enumerate(moments))):
        reach = mark.seconds + LETTER * len(mark.text) * right
        later = range(i + 1, len(moments))
        found[i] = 1 + max((found[j] for j in later if moments[j].seconds < reach), default=-1)
    return found, right


def _mark(axes: Axes, moments: Sequence[Mark], end: float) -> None:
    """Vertical lines with their names above the plot."""
    heights, right = levels(moments, max([end, *(mark.seconds for mark in moments)], default=1.0) or 1.0)
    axes.set_xlim(0, right)
    for mark, level in zip(moments, heights, strict=True):
        axes.axvline(mark.seconds, color=mark.colour, lw=1, ls=":", zorder=0)
        above: dict[str, Any] = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points"}
        stem = {"arrowstyle": "-", "color": mark.colour, "lw": 1, "ls": ":", "shrinkA": 0, "shrinkB": 0}
        axes.annotate("", (mark.seconds, 1.0), xytext=(0, 10 + 12 * level), arrowprops=stem, **above)
        axes.annotate(
            mark.text, (mark.seconds, 1.0), xytext=(3, 3 + 12 * level), fontsize=9, color=mark.colour, **above
        )
