"""Step five: how the training went, and what the teacher bought."""

from __future__ import annotations

from html import escape

from cloud_trainer.report import courses
from cloud_trainer.report.context import Context
from cloud_trainer.report.parts import (
    count,
    figure,
    interval,
    kib,
    name_of,
    note,
    pair,
    points,
    section,
    shown,
    table,
)


def training(context: Context) -> str:
    """Curves, findings, and the table of distillation."""
    return section("Training", _curves(context), _findings(context), _networks(context), step=5)


def _curves(context: Context) -> str:
    curves = [c for c in context.data.curves if c.train_loss or c.validation_score]
    if not curves:
        return ""
    keys = []
    for i, curve in enumerate(curves):
        at = curve.best_epoch if 0 <= curve.best_epoch < len(curve.validation_score) else -1
        last = f", {shown(curve.metric, curve.validation_score[at], digits=1)}" if curve.validation_score else ""
        took = f", {sum(curve.seconds):.0f} s" if curve.seconds else ""
        keys.append((courses.colour_of(curve.name, i), f"{curve.name}{last}{took}"))
    metric = name_of(curves[0].metric)
    loss = (
        "Train loss; dashed: validation loss, against the truth alone."
        if any(c.validation_loss for c in curves)
        else "Train loss."
    )
    score = f"Validation {metric}; the dot is the epoch that was kept."
    if any(c.train_score for c in curves):
        score = f"Validation {metric}; dashed: on a sample of the train split. The dot is the epoch that was kept."
    left, right = courses.losses(curves), courses.scores(curves)
    shown_pair = pair(figure(left, loss, keys) if left else "", figure(right, score, keys) if right else "")
    rates = courses.rates(curves)
    how = {True: "from where the parent's training ended", False: "from scratch", None: ""}[context.data.warm]
    said = f"Trained {how}. " if how else ""
    if len(curves) > 1:
        said += "The student also learns from its teacher's answers, hence another scale of its train loss."
    more = f"<details><summary>learning rate</summary>{pair(figure(rates))}</details>" if rates else ""
    return shown_pair + (note(said) if said else "") + more


def _findings(context: Context) -> str:
    found = [curve.finding for curve in context.data.curves if curve.finding]
    if not any(curve.train_score for curve in context.data.curves):
        return ""
    if not found:
        text = '<span class="good">No overfitting found</span>: train and validation scores are close.'
        return f'<p class="small">{text}</p>'
    return "".join(f'<p class="small"><span class="bad">Note:</span> {escape(text)}</p>' for text in found)


def _networks(context: Context) -> str:
    data, metric = context.data, context.metric
    found = ""
    if data.networks:
        rows = [
            (
                escape(one.role),
                escape(one.name) + (f"<br><small>{escape(one.note)}</small>" if one.note else ""),
                "–" if not one.macs else count(one.macs),
                kib(one.bytes) if one.bytes else "–",
                f"{shown(metric, one.score)} {interval(metric, one.interval)}",
            )
            for one in data.networks
        ]
        marked = next((i for i, one in enumerate(data.networks) if one.role == "student"), -1)
        header = ("", "network", "MACs", "int8 weights", f"{name_of(metric)} on the test split")
        found = f"<h3>Distillation</h3>{table(header, rows, wide=(1,), marked=marked)}"
    if data.differences:
        changes = [
            (escape(d.text), points(d.interval), _verdict(d.interval.low, d.interval.high)) for d in data.differences
        ]
        found += table(("difference, in points", "", ""), changes, left=(0, 2))
        found += note("95 % bootstrap intervals, paired: both answered the same samples.")
    return found


def _verdict(low: float, high: float) -> str:
    if low > 0:
        return '<span class="good">better</span>'
    return '<span class="bad">worse</span>' if high < 0 else '<span class="out">may be chance</span>'
