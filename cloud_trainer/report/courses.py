"""Charts of how it was made: training curves, the search's Pareto front, robustness. Each gives SVG."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from cloud_trainer.evaluation.robustness import Robustness
from cloud_trainer.report.parts import PERCENT
from cloud_trainer.report.plot import WIDE, Plot, padded
from cloud_trainer.report.views import CurveView, NetworkView, TrialView
from cloud_trainer.svg import ACCENT, ALARM, INK, MUTED, REFERENCE, SERIES, shortened

COLOURS = (ACCENT, "var(--series1,#5f3dc4)", *SERIES[1:], ALARM, REFERENCE)
ROLES = {
    "teacher": SERIES[0], "student": ACCENT, "student without teacher": ALARM, "student, pruned": SERIES[1],
    "baseline": MUTED,
}  # fmt: skip


def colour_of(name: str, place: int) -> str:
    """A network has one colour in all charts."""
    for role in ("student without teacher", "teacher", "student"):
        if name.startswith(role) or (role == "student without teacher" and "without" in name):
            return ROLES[role]
    return COLOURS[place % len(COLOURS)]


def _finite(values: Sequence[float]) -> list[float]:
    return [value for value in values if np.isfinite(value)]


def losses(curves: Sequence[CurveView]) -> str:
    """Train (whole) and validation loss (dashed) by epoch, logarithmic."""
    every = [v for c in curves for v in _finite((*c.train_loss, *c.validation_loss)) if v > 0]
    if not every:
        return ""
    low, high = min(every) / 1.15, max(every) * 1.15
    longest = max(max(len(c.train_loss), len(c.validation_loss)) for c in curves)
    plot = Plot((1, max(longest, 2)), (low, high), log_y=True, x_name="epoch", y_name="loss", whole_x=True)
    for i, curve in enumerate(curves):
        colour = colour_of(curve.name, i)
        _line(plot, curve.train_loss, colour, positive=True)
        _dashed(plot, curve.validation_loss, colour)
    return plot.done("losses by epoch")


def scores(curves: Sequence[CurveView]) -> str:
    """Validation (whole) and train score (dashed) by epoch, with a dot at the epoch that was kept."""
    every = _finite([v for c in curves for v in (*c.validation_score, *c.train_score)])
    if not every:
        return ""
    metric = curves[0].metric
    percent = metric in PERCENT
    low, high = padded(max(min(every), -0.5), max(every))
    longest = max(max(len(c.validation_score), len(c.train_score)) for c in curves)
    plot = Plot((1, max(longest, 2)), (low, high), x_name="epoch", y_name="score", percent_y=percent, whole_x=True)
    for i, curve in enumerate(curves):
        colour = colour_of(curve.name, i)
        kept = [max(v, low) for v in curve.validation_score]
        _line(plot, kept, colour)
        _dashed(plot, [max(v, low) for v in curve.train_score], colour)
        at = curve.best_epoch if 0 <= curve.best_epoch < len(kept) else len(kept) - 1
        if kept and np.isfinite(kept[at]):
            plot.canvas.dot(plot.at(at + 1), plot.up(kept[at]), colour, title=f"{curve.name}: the epoch that was kept")
    return plot.done("scores by epoch")


def rates(curves: Sequence[CurveView]) -> str:
    """Learning rate by epoch."""
    every = _finite([v for c in curves for v in c.learning_rate])
    if not every or max(every) <= 0:
        return ""
    longest = max(len(c.learning_rate) for c in curves)
    plot = Plot(
        (1, max(longest, 2)), (0, max(every) * 1.08), height=150, x_name="epoch", y_name="learning rate", whole_x=True
    )
    for i, curve in enumerate(curves):
        _line(plot, curve.learning_rate, colour_of(curve.name, i))
    return plot.done("learning rate by epoch")


def _line(plot: Plot, values: Sequence[float], colour: str, *, positive: bool = False) -> None:
    points = [(plot.at(i + 1), plot.up(v)) for i, v in enumerate(values) if np.isfinite(v) and (v > 0 or not positive)]
    plot.canvas.path(points, colour, width=2)
    if len(points) == 1:
        plot.canvas.dot(*points[0], colour, radius=3)


def _dashed(plot: Plot, values: Sequence[float], colour: str) -> None:
    points = [(plot.at(i + 1), plot.up(v)) for i, v in enumerate(values) if np.isfinite(v)]
    for (x1, y1), (x2, y2) in pairwise(points):
        plot.canvas.line(x1, y1, x2, y2, colour, width=1.5, dash="4 3")


def front_of(trials: Sequence[TrialView]) -> list[TrialView]:
    """Those that no other beats in both score and MACs, by MACs."""
    found: list[TrialView] = []
    for trial in sorted(trials, key=lambda t: (t.macs, -t.score)):
        if not found or trial.score > found[-1].score:
            found.append(trial)
    return found


def pareto(trials: Sequence[TrialView], networks: Sequence[NetworkView], metric: str) -> str:
    """Score against MACs: trials as small dots, those on the front joined, and the networks of the release by name."""
    known = [n for n in networks if n.macs]
    macs = [t.macs for t in trials if t.macs > 0] + [n.macs for n in known if n.macs]
    values = _finite([t.score for t in trials] + [n.score for n in known])
    if not macs or not values:
        return ""
    # one trial that learned nothing must not press the others into a line
    floor = float(np.median(values) - 3 * max(np.median(values) - np.quantile(values, 0.25), 0.01))
    low, high = padded(max(min(values), floor), max(values), 0.12)
    wide = (min(macs) / 1.6, max(macs) * 1.6)
    plot = Plot(
        wide, (low, high), width=WIDE, height=320, log_x=True, x_name="MACs of one answer",
        y_name="score", percent_y=metric in PERCENT,
    )  # fmt: skip
    front = front_of([t for t in trials if t.macs > 0])
    plot.canvas.path([(plot.at(t.macs), plot.up(max(t.score, low))) for t in front], ACCENT, width=1.5, opacity=0.6)
    for trial in trials:
        if trial.macs > 0:
            tip = f"{trial.name}: {trial.score:.4g} at {trial.macs:,} MACs, {trial.epochs} epochs"
            colour = ACCENT if trial in front else REFERENCE
            plot.canvas.dot(
                plot.at(trial.macs),
                plot.up(max(trial.score, low)),
                colour,
                radius=5 if trial.chosen else 3.5,
                title=tip,
            )
    taken: list[tuple[float, float, float]] = []
    for network in known:
        assert network.macs is not None
        x, y = plot.at(network.macs), plot.up(max(network.score, low))
        colour = ROLES[network.role]
        plot.canvas.dot(x, y, colour, radius=6, title=f"{network.name}: {network.score:.4g}")
        text = shortened(network.role if network.role != "baseline" else network.name, 28)
        width = 6.6 * len(text)
        end = x + width + 12 > plot.right
        start = x - width - 10 if end else x + 10
        place = _free(taken, start, start + width, y + 4)
        taken.append((start, start + width, place))
        plot.canvas.text(
            x - 10 if end else x + 10, place, text, anchor="end" if end else "start", colour=INK, bold=True
        )
    return plot.done("score against MACs")


def _free(taken: Sequence[tuple[float, float, float]], start: float, end: float, y: float) -> float:
    """A height near ``y`` where nothing is written between ``start`` and ``end``."""
    for step in (0, 15, -15, 30, -30, 45, -45):
        if all(stop < start or begin > end or abs(at - (y + step)) >= 14 for begin, stop, at in taken):
            return y + step
    return y


def robustness(found: Robustness) -> str:
    """Score by severity, a line for each corruption."""
    every = [s for row in found.rows for s in row.scores if s is not None and np.isfinite(s)]
    low, high = padded(max(min([*every, found.clean]), -0.5), max([*every, found.clean]))
    plot = Plot(
        (0, 5), (low, high), width=WIDE, height=300, x_name="severity (0: as it is)", y_name="score",
        percent_y=found.metric in PERCENT, whole_x=True,
    )  # fmt: skip
    plot.faint(0, found.clean, 5, found.clean)
    for i, row in enumerate(found.rows):
        values = [found.clean, *row.scores]
        points = [(plot.at(k), plot.up(max(v, low))) for k, v in enumerate(values) if v is not None]
        plot.canvas.path(points, LINES[i % len(LINES)], width=2)
        for (x, y), value in zip(points[1:], [v for v in row.scores if v is not None], strict=True):
            plot.canvas.dot(x, y, LINES[i % len(LINES)], radius=3, title=f"{row.name}: {value:.4g}")
    return plot.done("robustness")


LINES = (ACCENT, ALARM, *SERIES, "var(--line6,#1c7ed6)", "var(--line7,#b08900)", REFERENCE)
