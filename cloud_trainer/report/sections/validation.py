"""Step six: how good the best variant's answers are; what is shown depends on the kind of answers."""

from __future__ import annotations

from html import escape

import numpy as np

from cloud_trainer.evaluation.groups import per_group
from cloud_trainer.report import courses
from cloud_trainer.report.context import Context
from cloud_trainer.report.parts import figure, name_of, note, plain, section, shown, table
from cloud_trainer.report.sections.anomalies import anomalies
from cloud_trainer.report.sections.classes import classes
from cloud_trainer.report.sections.numbers import numbers
from cloud_trainer.report.sections.rankings import rankings

GROUPS = 12
_FAMILIES = {"classes": classes, "numbers": numbers, "anomaly": anomalies, "ranking": rankings}


def validation(context: Context) -> str:
    """Everything about the test split's answers."""
    if context.answered is None or context.judge.family not in _FAMILIES:
        return section("Validation", _figures(context), step=6)
    content = _FAMILIES[context.judge.family](context)
    return section(
        f"Validation: answers of {context.best.variant.id}", _figures(context), content, _groups(context), step=6
    )


def _figures(context: Context) -> str:
    quality = context.best.variant.quality
    known = [name for name in quality if name != "samples"]
    if len(known) < 2:
        return ""
    found = context.compared.get(context.best.variant.id)
    rows: list[tuple[str, ...]] = []
    for name in known:
        one = found.figures.get(name) if found else None
        sure = "" if one is None else f"{shown(name, one.low)} – {shown(name, one.high)}"
        rows.append((escape(name_of(name)), shown(name, quality[name]), sure))
    half = -(-len(rows) // 2)
    header: tuple[str, ...] = ("figure", "value", "95 % interval")
    if not any(row[-1] for row in rows):
        header, rows = header[:-1], [row[:-1] for row in rows]
    return (
        f'<div class="pair">{table(header, rows[:half])}{table(header, rows[half:])}</div>'
        if len(rows) > 3
        else table(header, rows)
    )


def _groups(context: Context) -> str:
    assert context.answered is not None
    answer, test = context.answered
    if test.groups is None or len(np.unique(test.groups.astype(str))) < 2:
        return ""
    found = per_group(context.judge, answer, test.y, test.groups)
    if found is None:
        return ""
    percent = "accuracy" if found.higher else ""
    rows = [
        (
            escape(row.group),
            f"{row.samples:,}",
            shown("accuracy", row.value, digits=1) if percent else plain(row.value),
            "one sample tells nothing"
            if np.isnan(row.low)
            else f"{100 * row.low:.1f} – {100 * row.high:.1f} %"
            if percent
            else f"{plain(row.low)} – {plain(row.high)}",
        )
        for row in found.rows
    ]
    header = ("group", "samples", escape(found.measure), "95 % interval")
    content = f"<h3>By group, the worst of {len(rows)} first</h3>{table(header, rows[:GROUPS])}"
    if len(rows) > GROUPS:
        rest = table(header, rows[GROUPS : GROUPS + 200])
        content += f"<details><summary>{len(rows) - GROUPS} more groups</summary>{rest}</details>"
    return content + note("In the order of the better end of the interval: a group of few samples proves little.")


def robustness(context: Context) -> str:
    """Scores under corruptions."""
    found = context.data.robustness
    if found is None or not found.rows:
        return ""
    keys = [(courses.LINES[i % len(courses.LINES)], row.name) for i, row in enumerate(found.rows)]
    rows = [
        (
            escape(row.name),
            escape(row.what),
            *("refused" if s is None else shown(found.metric, s, digits=1) for s in row.scores),
        )
        for row in found.rows
    ]
    clean = shown(found.metric, found.clean, digits=1)
    of = f" of {found.variant}" if found.variant else ""
    said = (
        f"{name_of(found.metric)}{of} on {found.samples:,} test samples, corrupted as a sensor would: {clean} as they "
        f"are, {shown(found.metric, found.mean, digits=1)} in the mean over all corruptions and severities."
    )
    return section(
        "Robustness",
        figure(courses.robustness(found), keys=keys),
        table(("corruption", "from severity 1 to 5", "1", "2", "3", "4", "5"), rows, wide=(1,)),
        note(said[0].upper() + said[1:]),
    )
