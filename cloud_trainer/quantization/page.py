"""``report.html`` of ``cloud-trainer quantize``: one page, no script, nothing from elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from msgspec import Struct

from cloud_trainer.quantization.agreement import Agreement
from cloud_trainer.quantization.foreign import Outcome
from shared.manifest import Manifest

STYLE = """
body{font:16px/1.5 system-ui,sans-serif;margin:0;background:#f6f6f4;color:#222}main{max-width:60rem;margin:auto;
padding:1rem}table{border-collapse:collapse;width:100%;background:#fff}td,th{padding:.35rem .6rem;text-align:left;
border-bottom:1px solid #ddd;font-variant-numeric:tabular-nums}.muted{color:#666}.bad{color:#a22}.good{color:#171}
section{margin:1.5rem 0}.warning{background:#fff3d6;padding:.6rem}.bar{background:#5b8db8;height:.8rem}
"""


class Page(Struct, frozen=True, eq=False):
    """What the page shows. ``scores`` and ``outcomes`` by variant; ``floats``: operators without an int8 form."""

    manifest: Manifest
    measure: str
    goal: float
    scores: Mapping[str, float]
    sizes: Mapping[str, int]
    agreements: Sequence[Agreement]
    outcomes: Mapping[str, Outcome]
    left_out: Mapping[str, str]
    floats: Sequence[tuple[str, int]]
    counts: Mapping[str, int]
    warnings: Sequence[str] = ()


def page(data: Page) -> str:
    """The whole document."""
    title = f"{data.manifest.name}, release {data.manifest.version}"
    counts = ", ".join(f"{count:,} samples {what}" for what, count in data.counts.items())
    return "\n".join(
        [
            f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>',
            f'<meta name="viewport" content="width=device-width,initial-scale=1"><style>{STYLE}</style></head>',
            f"<body><main><h1>{escape(title)}</h1>",
            f'<p class="muted">Quantized from an ONNX file. {escape(data.manifest.task)}; {counts}.</p>',
            *(f'<p class="warning"><b>Warning:</b> {escape(text)}.</p>' for text in data.warnings),
            _variants(data),
            _operators(data),
            *(_story(name, one, data.goal) for name, one in data.outcomes.items() if len(one.trials) > 1),
            "</main></body></html>",
            "",
        ]
    )


def _variants(data: Page) -> str:
    agreements = {one.variant: one for one in data.agreements}
    rows = []
    for name, score in data.scores.items():
        one = agreements.get(name)
        same = "–" if one is None or one.same is None else f"{one.same:.2%}"
        numbers = ("–", "–") if one is None else (f"{one.sqnr_db:g}", f"{one.max_abs:.3g}")
        kept = '<span class="bad">left out</span>' if name in data.left_out else '<span class="good">kept</span>'
        rows.append(
            f"<tr><td>{escape(name)}</td><td>{data.sizes[name] / 1024:,.1f}</td><td>{score:.4f}</td>"
            f"<td>{numbers[0]}</td><td>{numbers[1]}</td><td>{same}</td><td>{kept}</td></tr>"
        )
    reasons = "".join(f"<p>{escape(name)} was left out: {escape(why)}.</p>" for name, why in data.left_out.items())
    return (
        "<section><h2>Variants</h2><table><tr><th>variant</th><th>KiB</th>"
        f"<th>{escape(data.measure)}</th><th>SQNR, dB</th><th>largest difference</th><th>same class</th><th></th></tr>"
        f'{"".join(rows)}</table><p class="muted">SQNR, differences and classes are against the fp32 file; the gate is '
        f"{data.goal:.4f}. All measured through the engine that devices run, on samples that no range was chosen by."
        f"</p>{reasons}</section>"
    )


def _operators(data: Page) -> str:
    if not data.floats:
        return ""
    told = ", ".join(f"{count} × {escape(name)}" for name, count in data.floats)
    return f"<section><h2>Left in float</h2><p>No int8 form is known of: {told}.</p></section>"


def _story(name: str, outcome: Outcome, goal: float) -> str:
    rows = "".join(
        f"<tr><td>{escape(one.what)}</td><td>{'–' if one.score is None else f'{one.score:.4f}'}</td>"
        f"<td>{one.bytes / 1024:,.1f}</td></tr>"
        for one in outcome.trials
    )
    ranked = outcome.sensitivities[:12]
    most = max((one.sqnr_db for one in ranked), default=1.0)
    bars = "".join(
        f"<tr><td>{escape(one.layer)}</td><td>{one.sqnr_db:g} dB</td>"
        f'<td style="width:50%"><div class="bar" style="width:{100 * max(0.0, one.sqnr_db) / max(most, 1e-9):.0f}%">'
        "</div></td></tr>"
        for one in ranked
    )
    shown = (
        "<h3>Layers that int8 hurts most</h3><p class='muted'>SQNR of the answers with that layer alone in int8: "
        f"the shorter the bar, the more it costs.</p><table>{bars}</table>"
    )
    return (
        f"<section><h2>How {escape(name)} was repaired</h2><p>Its goal was {goal:.4f}.</p>"
        f"<table><tr><th>tried</th><th>score</th><th>KiB</th></tr>{rows}</table>{shown if bars else ''}</section>"
    )
