"""Step four: which networks were tried, and what quality costs in MACs."""

from __future__ import annotations

from html import escape

from cloud_trainer.report import courses
from cloud_trainer.report.context import Context
from cloud_trainer.report.parts import bullets, count, figure, kib, section, shown, table
from cloud_trainer.svg import ACCENT, REFERENCE

FIRST = 12


def architecture(context: Context) -> str:
    """The search's trials and the Pareto front."""
    data, metric = context.data, context.metric
    picture = ""
    if data.trials or len([n for n in data.networks if n.macs]) > 1:
        svg = courses.pareto(data.trials, data.networks, metric)
        keys = [(ACCENT, "trials on the front"), (REFERENCE, "other trials")] if data.trials else []
        caption = (
            "Trials are scored on the validation split after few epochs, networks of the release on the test split "
            "after all of them. On the line nothing is both better and cheaper."
            if data.trials
            else "Score on the test split."
        )
        picture = figure(svg, caption, keys) if svg else ""
    return section("Architecture selection", picture, _trials(context), bullets(data.search_notes), step=4)


def _trials(context: Context) -> str:
    data = context.data
    if not data.trials:
        return ""
    front = courses.front_of(data.trials)
    order = sorted(data.trials, key=lambda t: (-t.chosen, -t.epochs, -t.score))
    rows: list[tuple[str, ...]] = [
        (
            f"{'<b>' if t.chosen else ''}{escape(t.name)}{'</b>' if t.chosen else ''}",
            count(t.macs),
            kib(t.bytes) if t.bytes else "–",
            str(t.epochs or "–"),
            shown(context.metric, t.score),
            '<span class="good">chosen</span>' if t.chosen else "on the front" if t in front else "",
            escape(t.why),
        )
        for t in order
    ]
    header: tuple[str, ...] = ("architecture", "MACs", "int8 weights", "epochs", "validation score", "", "why")
    if not any(t.why for t in order):
        header, rows = header[:-1], [row[:-1] for row in rows]
    wide = (0, 6) if len(header) == 7 else (0,)
    marked = 0 if order[0].chosen else -1
    found = table(header, rows[:FIRST], left=(5,), wide=wide, marked=marked)
    if len(rows) > FIRST:
        more = table(header, rows[FIRST:], left=(5,), wide=wide)
        found += f"<details><summary>{len(rows) - FIRST} more trials</summary>{more}</details>"
    return found
