"""The variants beside each other, what was repaired and what was left out; the gates against the parent."""

from __future__ import annotations

import math
from html import escape

from cloud_trainer.report.context import Context
from cloud_trainer.report.parts import count, interval, kib, name_of, note, points, section, shown, table

BESIDE = {
    "accuracy": ("macro_f1", "auc", "nll", "ece"),
    "r2": ("mae", "rmse", "mase", "coverage"),
    "auc": ("average_precision", "f1", "false_alarms"),
    "ndcg": ("hit_rate", "mrr", "map"),
}
"""Which figures stand beside the score; those that nobody measured are left out."""


def variants(context: Context) -> str:
    """The table."""
    data, metric = context.data, context.metric if context.score is not None else ""
    if not data.measured:
        return ""
    beside = [n for n in BESIDE.get(metric, ()) if any(n in m.variant.quality for m in data.measured)]
    compared = context.compared
    agreement = any(one.agreement is not None for one in data.notes.values())
    tempered = context.judge.family == "classes"
    header = ["variant", "file", "MACs"]
    if metric:
        header += [escape(name_of(metric)), "points to fp32", *(escape(name_of(n)) for n in beside)]
    header += ["agrees with torch"] * agreement + ["temperature"] * tempered + ["meant for"]
    rows, marked = [], -1
    fp32 = {m.variant.runtime: m.variant.quality.get(metric) for m in data.measured if m.variant.precision == "fp32"}
    for i, one in enumerate(data.measured):
        variant, quality = one.variant, one.variant.quality
        marked = i if one is context.best and metric else marked
        found = compared.get(variant.id)
        row = [_name(context, variant.id), kib(variant.file.bytes), count(variant.macs) if variant.macs else "–"]
        if metric:
            sure = interval(metric, found.figures.get(metric)) if found else ""
            row.append(f"{shown(metric, quality.get(metric))}{'<br>' if sure else ''}{sure}")
            if found and found.to_fp32 is not None:
                row.append(points(found.to_fp32).replace("&nbsp;", "<br>"))
            else:
                row.append(
                    _change(quality.get(metric), None if variant.precision == "fp32" else fp32.get(variant.runtime))
                )
            row += [shown(n, quality.get(n)) for n in beside]
        if agreement:
            known = data.notes.get(variant.id)
            row.append("–" if known is None or known.agreement is None else f"{100 * known.agreement:.2f} %")
        if tempered:
            row.append(f"{variant.temperature:.2f}")
        row.append(escape(", ".join(variant.meant_for) or "any"))
        rows.append(row)
    found_table = table(header, rows, left=(0, len(header) - 1), marked=marked)
    how = "Measured through the engine that devices run, sample by sample. "
    if compared:
        how += "Small print: 95 % bootstrap intervals, of differences paired. "
    how += "Each device times the variants and picks its own."
    said = note(how if metric else _UNKNOWN)
    return section("Export: variants", found_table, _repairs(context), _left_out(context), said, step=7)


_UNKNOWN = "Nobody has measured their quality: there were no samples with their truth."


def _change(value: float | None, base: float | None) -> str:
    if value is None or base is None or not math.isfinite(value - base):
        return "–"
    return f"{100 * (value - base):+.2f}".replace("-", "−")


def _name(context: Context, id_: str) -> str:
    known = context.data.notes.get(id_)
    return f"<span class=id>{escape(id_)}</span>" + ("<br><small>repaired</small>" if known and known.repaired else "")


def _repairs(context: Context) -> str:
    found = ""
    for id_, one in context.data.notes.items():
        if one.repaired:
            found += (
                f'<p class="small"><span class="good">{escape(id_)} was repaired:</span> {escape(one.repaired)}</p>'
            )
        for text in one.tried:
            found += f'<p class="small muted">{escape(id_)}: {escape(text)}</p>'
    return found


def _left_out(context: Context) -> str:
    return "".join(
        f'<p class="small"><span class="bad">{escape(name)} was left out:</span> {escape(reason)}</p>'
        for name, reason in context.data.left_out.items()
    )


def gates(context: Context) -> str:
    """Candidate against parent."""
    found = context.data.gates
    if found is None:
        return ""
    rows = [
        (
            escape(gate.name),
            f"{gate.samples:,}",
            f"{gate.parent:.1%}",
            f"{gate.candidate:.1%}",
            f"{gate.wins:,}",
            f"{gate.losses:,}",
            f"{gate.p_value:.2g}",
            '<span class="good">yes</span>' if gate.passed else '<span class="bad">no</span>',
        )
        for gate in found.gates
    ]
    header: tuple[str, ...] = ("held-out samples", "count", f"release {found.parent}", f"release {found.version}")
    header += ("only new is right", "only old is right", "p", "passed")
    how = (
        "Both releases answer the same samples; exact one-sided McNemar tests. On the old hold-out the candidate must "
        "not be worse, on the drifted one it must be better."
    )
    verdict = "passed" if found.passed else "not passed"
    return section(
        f"Gates: {verdict}", table(header, rows, left=(0, 7)), note(how), kind="" if found.passed else "warning"
    )
