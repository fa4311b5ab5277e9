"""``report.html``: one file, no network, that says how a release was made and how good it is."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from cloud_trainer import plots
from cloud_trainer.data import Dataset
from cloud_trainer.evaluate import calibration_bins, confusion
from cloud_trainer.fit import Curve
from cloud_trainer.gates import Gates
from cloud_trainer.package import Measured
from shared.manifest import Manifest

WORST = 16
RELIABILITY = (
    "How often it is right when it is this sure; on the dashed line it is honest. Each dot is as many test samples "
    "as stand below it, of like confidence, with the 95\u00a0% interval."
)

STYLE = """
:root{color-scheme:light}
body{margin:0;background:#f5f7fa;color:#1f2933;font:15px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{max-width:980px;margin:0 auto;padding:32px 20px 64px}
h1{font-size:28px;margin:0 0 2px}h2{font-size:18px;margin:0 0 10px}
.muted{color:#616e7c}.small{font-size:13px}
section{background:#fff;border:1px solid #e4e7eb;border-radius:10px;padding:20px 22px;margin-top:18px}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(170px,1fr));gap:12px;margin-top:20px}
.tile{background:#fff;border:1px solid #e4e7eb;border-radius:10px;padding:14px 16px}
.tile b{display:block;font-size:25px;line-height:1.25}
.pair{display:flex;flex-wrap:wrap;gap:24px;align-items:flex-start}.pair figure{flex:1 1 330px}
figure{margin:0}img{max-width:100%;height:auto;display:block}figcaption{color:#616e7c;font-size:13px;margin-top:6px}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th{color:#616e7c;font-weight:600;font-size:13px;text-align:left}
th,td{padding:6px 10px 6px 0;border-bottom:1px solid #eef1f4;vertical-align:top}
td.n,th.n{text-align:right}.best td{background:#e6f6f4}
.warning{border-color:#e8590c;background:#fff4ec}
.good{color:#0b7285;font-weight:600}.bad{color:#c2410c;font-weight:600}
.scroll{overflow-x:auto}code{font-size:13px}
"""


class ReportData(Struct, frozen=True, eq=False):
    """Everything that the report shows. ``measured`` have parts ``test`` and ``reference``; ``reference``: the watched
    inputs (n, F) of the reference split, ``watched`` their names; ``macs`` of teacher and student; ``values``: the
    smallest and largest in a sample."""

    manifest: Manifest
    measured: tuple[Measured, ...]
    left_out: dict[str, str]
    counts: dict[str, int]
    curves: tuple[Curve, ...]
    macs: tuple[int, int]
    test: Dataset
    reference: NDArray[np.float64]
    watched: tuple[str, ...]
    values: tuple[float, float]
    gates: Gates | None = None
    warm: bool = False
    warnings: tuple[str, ...] = ()


def report(data: ReportData) -> str:
    """The whole page."""
    manifest = data.manifest
    best = max(data.measured, key=lambda one: one.variant.quality["accuracy"])
    title = f"{manifest.name}, release {manifest.version}"
    shape = " × ".join(map(str, manifest.sample.shape))
    return "\n".join(
        [
            "<!doctype html>",
            f'<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>',
            '<meta name="viewport" content="width=device-width,initial-scale=1">',
            f"<style>{STYLE}</style></head><body><main>",
            f"<h1>{escape(title)}</h1>",
            (
                f'<div class="muted">{escape(manifest.task)}: {len(manifest.labels)} classes from one '
                f"{escape(manifest.sample.kind)} of {shape} {escape(manifest.sample.dtype)}, values from "
                f"{data.values[0]:g} to {data.values[1]:g} · "
                f"{escape(manifest.created)}</div>"
            ),
            *(f'<section class="warning"><b>Warning:</b> {escape(text)}.</section>' for text in data.warnings),
            _tiles(data, best),
            _gates(data.gates),
            _variants(data, best),
            _training(data),
            _answers(data, best),
            _reference(data),
            _lineage(data),
            "</main></body></html>",
            "",
        ]
    )


def _tiles(data: ReportData, best: Measured) -> str:
    smallest = min(data.measured, key=lambda one: one.variant.file.bytes)
    teacher, student = data.macs
    tiles = [
        (f"{best.variant.quality['accuracy']:.1%}", f"accuracy of {best.variant.id} on {len(data.test):,} samples"),
        (f"{teacher / student:.1f}×", f"less work than the teacher: {_count(student)} against {_count(teacher)} MACs"),
        (f"{smallest.variant.file.bytes / 1024:.0f} KiB", f"the smallest file, {smallest.variant.id}"),
        (str(len(data.measured)), "variants for devices to measure and choose from"),
    ]
    cells = "".join(
        f'<div class="tile"><b>{escape(value)}</b><span class="muted small">{escape(text)}</span></div>'
        for value, text in tiles
    )
    return f'<div class="tiles">{cells}</div>'


def _gates(gates: Gates | None) -> str:
    if gates is None:
        return ""
    verdict = '<span class="good">passed</span>' if gates.passed else '<span class="bad">not passed</span>'
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
        for gate in gates.gates
    ]
    header: tuple[str, ...] = ("held-out samples", "count", f"release {gates.parent}", f"release {gates.version}")
    header += ("only new is right", "only old is right", "p", "passed")
    return (
        f"<section><h2>Gates: {verdict}</h2>{_table(header, rows, left={0, 7})}"
        '<p class="muted small">Both releases answer the same samples; exact one-sided McNemar tests. On the old '
        "hold-out the candidate must not be worse, on the drifted one it must be better.</p></section>"
    )


def _variants(data: ReportData, best: Measured) -> str:
    fp32 = {m.variant.runtime: m.variant.quality["accuracy"] for m in data.measured if m.variant.precision == "fp32"}
    rows, marked = [], -1
    for i, one in enumerate(data.measured):
        variant, quality = one.variant, one.variant.quality
        change = 100 * (quality["accuracy"] - fp32.get(variant.runtime, quality["accuracy"]))
        marked = i if one is best else marked
        rows.append(
            (
                escape(variant.id),
                f"{variant.file.bytes / 1024:.1f} KiB",
                _count(variant.macs),
                f"{quality['accuracy']:.2%}",
                "–" if variant.precision == "fp32" else f"{change:+.2f}",
                f"{quality['nll']:.3f}",
                f"{quality['ece']:.2%}",
                f"{variant.temperature:.2f}",
                escape(", ".join(variant.meant_for) or "any"),
            )
        )
    header = (
        "variant",
        "file",
        "MACs",
        "accuracy",
        "points to fp32",
        "log loss",
        "calibration error",
        "temperature",
        "meant for",
    )
    out = "".join(
        f'<p class="bad small">{escape(name)} was left out: {escape(reason)}</p>'
        for name, reason in data.left_out.items()
    )
    return (
        f"<section><h2>Variants</h2>{_table(header, rows, left={0, 8}, marked=marked)}{out}"
        '<p class="muted small">Measured through the engine that devices run, sample by sample. Each device times them '
        "and picks its own.</p></section>"
    )


def _training(data: ReportData) -> str:
    how = "from where the parent's training ended" if data.warm else "from scratch"
    return (
        f"<section><h2>Training</h2>{_image(plots.training_curves(data.curves), 'training curves')}"
        f'<p class="muted small">Teacher, then the student that learns from its softened scores (hence another scale '
        f"of loss), {how}.</p></section>"
    )


def _answers(data: ReportData, best: Measured) -> str:
    fields, test = best.outputs["test"], data.test
    labels = data.manifest.labels
    matrix = plots.confusion_matrix(confusion(fields["index"], test.y, len(labels)), labels)
    bins = calibration_bins(fields["scores"], test.y)
    rows = np.arange(len(test.y))
    margin = fields["scores"][rows, test.y] - fields["scores"].max(axis=1)
    worst = np.lexsort((rows, fields["scores"][rows, test.y]))[:WORST]
    worst = worst[margin[worst] < 0]
    pictures = ""
    if len(worst):
        captions = [
            (f"is {labels[test.y[i]]}", f"said {labels[int(fields['index'][i])]}, {fields['score'][i]:.0%}")
            for i in worst
        ]
        pictures = (
            f"<h2>Worst mistakes</h2>{_image(plots.examples(test.x[worst], captions), 'worst mistakes')}"
            f'<p class="muted small">{int((margin < 0).sum()):,} of {len(test):,} test samples are answered wrong; '
            "these are the ones whose right class scored lowest.</p>"
        )
    return (
        f'<section><h2>Answers of {escape(best.variant.id)}</h2><div class="pair">'
        f"{_image(matrix, 'confusion matrix', 'Truth against answer, percent of each class. Mistakes are orange.')}"
        f"{_image(plots.reliability(bins), 'reliability', RELIABILITY)}"
        f"</div></section>{f'<section>{pictures}</section>' if pictures else ''}"
    )


def _reference(data: ReportData) -> str:
    baselines = [b.name for b in data.manifest.baselines if b.name != "default"]
    own = f" Baselines of their own: {escape(', '.join(baselines))}." if baselines else ""
    policy = data.manifest.drift
    picture = _image(plots.histograms(data.reference, data.watched), "reference")
    return (
        f'<section><h2>What devices compare with</h2>{picture}<p class="muted small">'
        f"Inputs of the {len(data.reference):,} reference samples; answers are watched too, for each variant. On a "
        f"stream like this, at most one false alarm in {policy.false_alarm_every:,} samples.{own}</p></section>"
    )


def _lineage(data: ReportData) -> str:
    lineage = data.manifest.lineage
    rows = [(escape(name), f"{count:,}") for name, count in data.counts.items()]
    parent = f"release {lineage.parent}" if lineage.parent else "none"
    return (
        f"<section><h2>Data and lineage</h2>{_table(('part', 'samples'), rows, left={0})}"
        f'<p class="muted small">data <code>{lineage.data_sha256[:16]}</code> · configuration '
        f"<code>{lineage.config_sha256[:16]}</code> · sanderling {escape(lineage.code_version)} · "
        f"seed {lineage.seed} · parent: {parent}</p></section>"
    )


def _table(header: Sequence[str], rows: Sequence[Sequence[Any]], *, left: set[int], marked: int = -1) -> str:
    """Cells are HTML already; columns not in ``left`` are numbers."""

    def cells(tag: str, values: Sequence[Any]) -> str:
        return "".join(f"<{tag}{'' if i in left else ' class=n'}>{value}</{tag}>" for i, value in enumerate(values))

    body = "".join(f"<tr{' class=best' if i == marked else ''}>{cells('td', row)}</tr>" for i, row in enumerate(rows))
    return f'<div class="scroll"><table><tr>{cells("th", header)}</tr>{body}</table></div>'


def _image(picture: bytes, alternative: str, caption: str = "") -> str:
    encoded = base64.b64encode(picture).decode()
    text = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return f'<figure><img alt="{escape(alternative)}" src="data:image/png;base64,{encoded}">{text}</figure>'


def _count(value: int) -> str:
    """1,234 → 1.2 k, 2,675,008 → 2.7 M."""
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= limit:
            return f"{value / limit:.1f} {unit}"
    return str(value)
