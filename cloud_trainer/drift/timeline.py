"""Along the stream: the evidence, and what each column did. Both pictures have the same horizontal axis."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from msgspec import Struct

from cloud_trainer.drift.findings import signed_size
from cloud_trainer.drift.history import Point, belongs, grouped
from cloud_trainer.drift.ticks import axis_ticks
from cloud_trainer.drift.times import Axis
from cloud_trainer.svg import (
    ACCENT,
    ALARM,
    DOWN,
    GRID,
    INK,
    SERIES,
    UP,
    Canvas,
    linear,
    shortened,
)
from shared.drift import ReferenceProfile, effects
from shared.drift.bins import CATEGORY
from shared.drift.profile import MISSING_SUFFIX

LOWEST, HIGHEST = 1e-4, 1e6
"""Evidence is drawn between these, over the threshold."""
MOST_ROWS, MOST_CELLS = 24, 60
SATURATED = 1.5
"""Colour is full at this many sigmas."""
LOUD_FLAG = math.log(0.1)
LETTER = 7.4
"""Width of a bold letter, generously."""


class Frame(Struct, frozen=True):
    """Size of a picture, room for names on its left, ticks at most, and its CSS class."""

    width: float = 920
    left: float = 132
    ticks: int = 8
    letters: int = 18
    css: str = "wide"


WIDE = Frame()
NARROW = Frame(width=390, left=84, ticks=3, letters=11, css="narrow")


class Mark(Struct, frozen=True):
    """A change: where it began (estimated), where the alarm rose, its last alarm, as places on the axis; ``label``, and
    a ``short`` one for narrow pictures."""

    start: float
    alarm: float
    last: float
    label: str = ""
    short: str = ""


def positions(points: Sequence[Point], axis: Axis, first_time: float) -> list[tuple[float, float]]:
    """Begin and end of each point on the axis: rows, or times."""
    if not axis.name:
        return [(p.begin, p.end) for p in points]
    ends = [p.time for p in points]
    return list(zip([first_time, *ends[:-1]], ends, strict=True))


def evidence_curve(
    points: Sequence[Point],
    axis: Axis,
    *,
    first_time: float = math.nan,
    marks: Sequence[Mark] = (),
    tracks: Sequence[tuple[str, int]] = (),
    frame: Frame = WIDE,
) -> str:
    """SVG of evidence over the threshold along the stream, on a logarithmic scale, with the threshold at 1.

    Args:
        points: of a history.
        axis: rows or times.
        first_time: of the first row, where the axis is of times.
        marks: changes.
        tracks: name and place of single tracks that are drawn, too, at most three.
        frame: size.
    """
    places = positions(points, axis, first_time)
    low, high = places[0][0], places[-1][1]
    peak = max(math.exp(min(max(p.highest for p in points), 20.0)), 1.0)
    bottom = math.log10(LOWEST)
    top = min(max(math.ceil(math.log10(peak) + 0.3), 1), round(math.log10(HIGHEST)))
    canvas = Canvas(frame.width, 300)
    x = linear(low, high, frame.left, frame.width - 14)
    y = linear(bottom, top, 262, 34)

    def place(log_value: float) -> float:
        return y(min(max(log_value / math.log(10), bottom), top))

    every = 2 if top - bottom > 6 else 1
    for power in range(round(bottom), top + 1):
        if power % every == 0:
            canvas.line(frame.left, y(power), frame.width - 14, y(power), GRID)
            canvas.text(frame.left - 8, y(power) + 4, power_text(power), anchor="end")
    for mark in marks:
        canvas.rect(x(mark.start), 34, max(x(mark.last) - x(mark.start), 1.5), 228, ALARM, opacity=0.10)
    _time_axis(canvas, axis, x, low, high, 262, frame)
    lines = [(at, place(p.evidence), place(p.highest)) for (_, at), p in zip(places, points, strict=True)]
    curve = [(x(low), y(bottom)), *((x(at), low_y) for at, low_y, _ in lines)]
    canvas.area([*curve, (x(high), y(bottom))], ACCENT, opacity=0.12)
    for (_, t), colour in zip(tracks, SERIES, strict=False):
        steps = [(x(at), place(float(p.tracks[t]))) for (_, at), p in zip(places, points, strict=True)]
        canvas.path([(x(low), y(bottom)), *steps], colour, width=1.1, opacity=0.85)
    canvas.path(curve, ACCENT, width=2)
    canvas.line(frame.left, y(0), frame.width - 14, y(0), ALARM, width=1.5, dash="6 4")
    early = bool(marks) and x(marks[0].start) < frame.left + 130
    side = frame.width - 18 if early else frame.left + 4
    canvas.text(side, y(0) - 6, "alarm threshold", colour=ALARM, bold=True, anchor="end" if early else "start")
    for mark in marks:
        canvas.line(x(mark.start), 34, x(mark.start), 262, ALARM, width=1, dash="2 3")
        canvas.dot(x(mark.alarm), y(0), ALARM, title=mark.label)
    if marks and marks[0].label:
        _label(canvas, x(marks[0].start), marks[0].label if frame is WIDE else marks[0].short, frame)
    return canvas.done("evidence along the data", css=frame.css)


def _label(canvas: Canvas, at: float, text: str, frame: Frame) -> None:
    room = len(text) * LETTER
    anchor, place = ("start", at) if at + room < frame.width else ("end", max(at, room))
    canvas.text(place, 22, text, colour=ALARM, anchor=anchor, bold=True)


def heat_map(
    profile: ReferenceProfile,
    points: Sequence[Point],
    axis: Axis,
    names: Sequence[str],
    *,
    first_time: float = math.nan,
    frame: Frame = WIDE,
) -> str:
    """SVG of how far each scalar of ``names`` moved along the stream: a row each, colour by :func:`signed_size`."""
    pieces = grouped(points, MOST_CELLS if frame is WIDE else MOST_CELLS // 2)
    places = positions(pieces, axis, first_time)
    low, high = places[0][0], places[-1][1]
    shown = list(names)[:MOST_ROWS]
    height = 20
    bottom = 6 + len(shown) * height
    canvas = Canvas(frame.width, bottom + 34)
    x = linear(low, high, frame.left, frame.width - 14)
    kinds = dict(zip(profile.names, profile.kinds, strict=True))
    for place, (begin, end) in zip(pieces, places, strict=True):
        found = effects(profile, place.counts)
        rows = f"rows {place.begin:,} to {place.end:,}"
        when = f"{rows}, up to {axis.text(end)}" if axis.name else rows
        for k, name in enumerate(shown):
            kind = "" if name not in found else kinds.get(name, CATEGORY)
            value = signed_size(found[name].w1, found[name].mean_shift, kind) if kind else 0.0
            if not kind or within_chance(profile, name, place.counts.samples, found[name].psi):
                continue
            canvas.rect(
                x(begin),
                6 + k * height,
                x(end) - x(begin) + 0.4,
                height - 2,
                UP if value > 0 else DOWN,
                opacity=min(max(abs(value) / SATURATED, 0.08), 1.0) * 0.92,
                title=f"{name}, {when}: {value:+.2f} σ",
            )
    for k, name in enumerate(shown):
        label = short = shortened(name, frame.letters)
        if name not in profile.names:
            base = name.removesuffix(MISSING_SUFFIX)
            label, short = f"{base} missing", shortened(base, frame.letters - 8) + " missing"
        canvas.text(frame.left - 8, 6 + k * height + 13, short, colour=INK, anchor="end", title=label)
        canvas.line(frame.left, 5 + (k + 1) * height, frame.width - 14, 5 + (k + 1) * height, GRID)
    _time_axis(canvas, axis, x, low, high, bottom, frame)
    return canvas.done("change of each column along the data", css=frame.css)


def within_chance(profile: ReferenceProfile, name: str, samples: int, psi: float) -> bool:
    """Whether a PSI of so many samples is nothing to show: 1 / (1/samples + 1/n) times it is about chi-squared, with a
    degree of freedom for each bin but one, while nothing moves; more than three standard deviations above its mean is
    shown."""
    k = profile.names.index(name.removesuffix(MISSING_SUFFIX) if name not in profile.names else name)
    column = profile.columns[k]
    freedom = len(column.gaps) - 1 if name in profile.names else 1
    size = 1 / (1 / max(samples, 1) + 1 / (column.present + column.missing))
    return size * psi < freedom + 3 * math.sqrt(2 * freedom)


def loudest_tracks(names: Sequence[str], tracks: Sequence[str], points: Sequence[Point]) -> list[tuple[str, int]]:
    """For each of the scalars ``names`` its track with the most evidence; a missing flag only if it has something to
    say."""
    peaks = np.max([p.tracks for p in points], axis=0)
    found = []
    for name in names[: len(SERIES)]:
        own = [t for t, track in enumerate(tracks) if belongs(track, name)]
        own = [t for t in own if not tracks[t].endswith(MISSING_SUFFIX) or peaks[t] > LOUD_FLAG]
        if own:
            best = max(own, key=lambda t: float(peaks[t]))
            found.append((tracks[best], best))
    return found


def power_text(power: int) -> str:
    """A power of ten on the evidence axis.

    >>> power_text(-2), power_text(0), power_text(4)
    ('0.01', '1', '10⁴')
    """
    if -4 <= power <= 3:
        return f"{10.0**power:,.{max(-power, 0)}f}"
    return "10" + str(power).translate(str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻"))


def _time_axis(
    canvas: Canvas, axis: Axis, x: Callable[[float], float], low: float, high: float, y: float, frame: Frame
) -> None:
    right = frame.width - 14
    canvas.line(frame.left, y, right, y, GRID)
    taken, name_end = -math.inf, frame.left - 28
    for tick in axis_ticks(axis, low, high, frame.ticks):
        at = x(tick.at)
        half = len(tick.text) * 3.4
        place = min(at, frame.width - half - 1)
        if place - half < taken:
            continue
        taken, name_end = place + half + 6, min(name_end, place - half - 6)
        canvas.line(at, y, at, y + 4, GRID)
        canvas.text(place, y + 18, tick.text, anchor="middle")
    canvas.text(name_end, y + 18, shortened(axis.name or "row", frame.letters - 6), anchor="end")
