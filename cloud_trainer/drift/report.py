"""The report: one HTML file, no network, no script, light and dark, that says what moved and what that is worth."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from html import escape

import cloud_trainer
from cloud_trainer.drift import plots, timeline, words
from cloud_trainer.drift.findings import Findings, Found
from cloud_trainer.drift.history import grouped
from cloud_trainer.drift.parts import START, cells_of, glossary, table_of
from cloud_trainer.drift.reference import Reference
from cloud_trainer.drift.style import STYLE
from cloud_trainer.drift.times import Axis
from cloud_trainer.drift.watching import Change, Watched
from cloud_trainer.svg import SERIES
from shared.drift import WindowCounts, effects
from shared.drift.profile import MISSING_SUFFIX

PICTURES, LEAST_PICTURES = 6, 3
LISTED, MOST_LISTED = 16, 1000


def report(findings: Findings, reference: Reference, watched: Watched, axis: Axis) -> str:
    """The whole page."""
    verdict = "drift" if findings.alarm else "no drift"
    title = f"{verdict.capitalize()}: {_name(findings.data)} against {_name(findings.reference)}"
    return "\n".join(
        [
            "<!doctype html>",
            f'<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>',
            '<meta name="viewport" content="width=device-width,initial-scale=1">',
            f"<style>{STYLE}</style></head><body><main>",
            _head(findings, verdict),
            _tiles(findings),
            _evidence(findings, watched, axis),
            _changes(findings),
            _pictures(findings, reference, watched),
            _table(findings),
            _over_time(findings, reference, watched, axis),
            _promise(findings),
            _list("What could not be promised", findings.limits, "Nothing was held back: all columns are promised."),
            _list("Notes on the files", findings.notes, ""),
            glossary(),
            _footer(reference),
            "</main></body></html>",
            "",
        ]
    )


def _footer(reference: Reference) -> str:
    profile = reference.profile
    return (
        f"<footer>Sanderling {escape(cloud_trainer.__version__)} · {datetime.now(UTC):%Y-%m-%d %H:%M} UTC · profile of "
        f"{len(profile.names)} scalars, <code>{profile.digest}</code></footer>"
    )


def _name(path: str) -> str:
    return path.replace("\\", "/").rsplit("/", 1)[-1]


def _head(findings: Findings, verdict: str) -> str:
    kind = "changed" if findings.alarm else "quiet"
    span = f", {findings.begin.time} to {findings.end.time}" if findings.begin.time else ""
    return (
        f'<header><div class="verdict {kind}">{escape(verdict)}</div><h1>{escape(words.headline(findings))}</h1>'
        f'<p class="muted"><b>{escape(_name(findings.data))}</b>, {findings.rows:,} rows{escape(span)}, against '
        f"<b>{escape(_name(findings.reference))}</b>, {findings.reference_rows:,} rows; "
        f"{len(findings.columns)} watched "
        f"scalar{'s' if len(findings.columns) > 1 else ''}</p></header>"
    )


def _tiles(findings: Findings) -> str:
    tiles = [
        (
            "how surely",
            f"{words.evidence_cell(findings.evidence)}×" if findings.alarm else words.percent(findings.evidence),
            "the alarm threshold: the highest evidence" if findings.alarm else "of the alarm threshold, at most",
        )
    ]
    if findings.changes:
        first = findings.changes[0]
        start = f"row {words.place(first.start, about=True).removeprefix('row ').split(' ')[0]}"
        begin = "the first rows" if not first.start.row else f"about {start}"
        when = first.start.time[:10] if first.start.time else start if first.start.row else "at once"
        tiles += [
            ("when", escape(when), f"from {begin} on; an estimate"),
            ("noticed", f"{first.alarm.row - first.start.row:,} rows", f"later, at {words.place(first.alarm)}"),
        ]
    alone = sum(one.alone for one in findings.columns)
    tiles += [
        ("what", f"{alone} of {len(findings.columns)}", "scalars would have raised the alarm by themselves"),
        ("chance", f"≤ {words.percent(findings.promise.chance)}", "of any alarm in these rows, had nothing changed")
        if not findings.doubt and all(one.promised for one in findings.columns)
        else ("chance", "–", "not promised for all columns: see below"),
    ]
    cells = "".join(
        f'<div class="tile"><span>{label}</span><b>{value}</b><small>{escape(text)}</small></div>'
        for label, value, text in tiles
    )
    return f'<div class="tiles">{cells}</div>'


def _mark(change: Change, found: Found, watched: Watched, axis: Axis, *, alone: bool) -> timeline.Mark:
    def at(row: int) -> float:
        if not axis.name:
            return row
        ends = [0, *(p.end for p in watched.points)]
        places = [watched.first_time, *(p.time for p in watched.points)]
        k = min(max(next((i for i, end in enumerate(ends) if end >= row), len(ends) - 1), 1), len(ends) - 1)
        share = (row - ends[k - 1]) / max(ends[k] - ends[k - 1], 1)
        return places[k - 1] + min(max(share, 0.0), 1.0) * (places[k] - places[k - 1])

    last = at(change.last if not alone else change.at)
    label = f"alarm: {words.place(found.alarm)}"
    return timeline.Mark(at(change.start), at(change.at), last, label, f"alarm: row {found.alarm.row:,}")


def _evidence(findings: Findings, watched: Watched, axis: Axis) -> str:
    names = _ranked(findings)[: len(SERIES)] if len(findings.columns) > 1 else []
    tracks = timeline.loudest_tracks(names, watched.tracks, watched.points)
    alone = len(watched.changes) == 1 and watched.changes[0].alarms == 1
    marks = [
        _mark(change, found, watched, axis, alone=alone)
        for change, found in zip(watched.changes, findings.changes, strict=True)
    ]
    pictures = "".join(
        timeline.evidence_curve(
            watched.points, axis, first_time=watched.first_time, marks=marks, tracks=tracks, frame=frame
        )
        for frame in (timeline.WIDE, timeline.NARROW)
    )
    keys = ['<span><i class="key" style="background:var(--accent,#0b7285)"></i>all columns</span>']
    keys += [
        f'<span><i class="key" style="background:{colour}"></i>{escape(words.track_name(name))}</span>'
        for (name, _), colour in zip(tracks, SERIES, strict=False)
    ]
    shaded = (
        "The shaded stretch runs from where the change began to its last alarm"
        if not alone
        else ("The shaded stretch runs from where the change began to the alarm")
    )
    note = f' {shaded}. <span title="{escape(START)}" class="tip">The beginning is an estimate</span>.' if marks else ""
    off = " Evidence beyond 10⁶ is drawn at the top." if findings.evidence > timeline.HIGHEST else ""
    return (
        f"<section><h2>Evidence along the data</h2><figure>{pictures}<figcaption><div class=keys>{' '.join(keys)}</div>"
        "Over the alarm threshold, on a logarithmic scale; the alarm is at "
        f"1.{note}{off}</figcaption></figure></section>"
    )


def _changes(findings: Findings) -> str:
    if len(findings.changes) < 2:
        return ""
    rows = [
        (
            f"about {words.place(change.start, about=True)}",
            words.place(change.alarm),
            words.place(change.last),
            f"{change.alarms:,}",
            ", ".join(f"{one.name} ({words.size(one)})" for one in words.leading(change)),
        )
        for change in findings.changes[:MOST_LISTED]
    ]
    return (
        f"<section><h2>{len(findings.changes)} changes</h2>"
        f"{table_of(('began', 'first alarm', 'last alarm', 'alarms', 'most'), rows, numbers={3})}"
        '<p class="muted small">After each alarm the evidence starts anew from the reference. Alarms without a pause '
        "between them are one change.</p></section>"
    )


def _window(findings: Findings, watched: Watched) -> tuple[WindowCounts, str]:
    if not watched.changes:
        return watched.counts, "all rows of the data"
    return watched.changes[0].counts, f"{findings.changes[0].measured:,} rows from the change on"


def _pictures(findings: Findings, reference: Reference, watched: Watched) -> str:
    counts, what = _window(findings, watched)
    cards = []
    loud = sum(one.alone for one in findings.columns)
    for one in findings.columns[: min(max(loud, LEAST_PICTURES), PICTURES)]:
        picture = plots.histogram(reference.shown, counts, one.name, reference.words)
        if picture:
            quiet = "" if one.alone else " quiet"
            cards.append(
                f'<div class="card{quiet}"><h3>{escape(one.name)}</h3><span class="by">{escape(words.size(one))}</span>'
                f"{picture}</div>"
            )
    later = ""
    if findings.later:
        named = ", ".join(findings.later[:8]) + (" and others" if len(findings.later) > 8 else "")
        later = f"<p>Further on in the data also {escape(named)}: see below; --all-alarms finds each change.</p>"
    heading = "What moved" if findings.alarm else "The columns with the most evidence"
    return (
        f'<section><h2>{heading}</h2><div class="cards">{"".join(cards)}</div><div class=keys>'
        '<span><i class="key" style="background:var(--reference,#9aa5b1)"></i>reference</span> '
        f'<span><i class="key" style="background:var(--up,#d9480f)"></i>{what}</span></div>'
        f"{later}"
        '<p class="muted small">Axes are in the data\'s own units. Bars at the ends hold what lies beyond the '
        "axis: new "
        "values are counted as beyond the reference's range, not where.</p></section>"
    )


def _table(findings: Findings) -> str:
    header = ("column", "evidence", "mean", "shift, σ", "W1, σ", "PSI", "JS", "missing")
    first = max(LISTED, sum(one.alone for one in findings.columns))
    shown, more = findings.columns[:first], findings.columns[first:MOST_LISTED]
    tables = table_of(header, [cells_of(one) for one in shown], numbers={*range(1, 8)})
    if more:
        rest = table_of(header, [cells_of(one) for one in more], numbers={*range(1, 8)})
        tables += f"<details><summary>{len(findings.columns) - len(shown):,} quieter ones</summary>{rest}</details>"
    what = "from the change on" if findings.alarm else "over all rows"
    return (
        f"<section><h2>Every column, the loudest first</h2>{tables}"
        '<p class="muted small">Evidence: the most that the column gave by itself, over the alarm threshold; '
        f"from 1 on it <b>surely</b> moved. Effects, measured {what}, say whether that is <b>enough to matter</b>: "
        "PSI above 0.25 is commonly called large, below 0.1 small. What lies beyond the reference's range counts as at "
        "its end, so large shifts are larger than they say.</p></section>"
    )


def _ranked(findings: Findings) -> list[str]:
    """Scalars: those of the change, those of later ones, and the others."""
    alone = [one.name for one in findings.columns if one.alone]
    return list(dict.fromkeys((*alone, *findings.later, *(one.name for one in findings.columns))))


def _over_time(findings: Findings, reference: Reference, watched: Watched, axis: Axis) -> str:
    if len(watched.points) < 2:
        return ""
    pieces = grouped(watched.points, timeline.MOST_CELLS // 2)
    sizes = [(piece.counts.samples, effects(reference.shown, piece.counts)) for piece in pieces]
    names: list[str] = []
    for name in _ranked(findings)[: timeline.MOST_ROWS]:
        flag = name + MISSING_SUFFIX
        seen = any(
            flag in found and not timeline.within_chance(reference.shown, flag, samples, found[flag].psi)
            for samples, found in sizes
        )
        names += [name, flag] if seen else [name]
    names = names[: timeline.MOST_ROWS]
    pictures = "".join(
        timeline.heat_map(reference.shown, watched.points, axis, names, first_time=watched.first_time, frame=frame)
        for frame in (timeline.WIDE, timeline.NARROW)
    )
    more = f" The {len(names)} loudest rows are shown." if len(findings.columns) > timeline.MOST_ROWS else ""
    return (
        f"<section><h2>Each column along the data</h2><figure>{pictures}<figcaption>"
        '<div class="keys"><i class="ramp"></i>−1.5 σ … 0 … +1.5 σ</div>'
        "Colour is the Wasserstein distance to the reference in its σ: orange where the mean went up, blue "
        "where it went "
        "down. Shares that moved (categories, missing values) are shown as the shift that would move as much. "
        "What chance "
        f"could do is left blank.{more}</figcaption></figure></section>"
    )


def _promise(findings: Findings) -> str:
    lines = "".join(f"<p>{escape(line)}</p>" for line in words.promise(findings.promise, findings))
    return f"<section><h2>The promise, for this run</h2>{lines}</section>"


def _list(heading: str, lines: Sequence[str], nothing: str) -> str:
    if not lines and not nothing:
        return ""
    body = "".join(f"<li>{escape(line)}.</li>" for line in lines)
    return f"<section><h2>{heading}</h2>{f'<ul>{body}</ul>' if lines else f'<p>{nothing}</p>'}</section>"
