"""Step seven: what devices get: the reference that they compare with, cost, lineage."""

from __future__ import annotations

from html import escape

import numpy as np

from cloud_trainer.report import charts
from cloud_trainer.report.context import Context
from cloud_trainer.report.parts import bullets, note, section

SHOWN = 12


def reference(context: Context) -> str:
    """Histograms of the watched inputs."""
    data, manifest = context.data, context.manifest
    if data.reference is None or not len(data.reference):
        return ""
    names = data.watched[:SHOWN]
    columns = np.asarray(data.reference, np.float64)
    pictures = "".join(f"<figure>{charts.histogram(columns[:, i], name)}</figure>" for i, name in enumerate(names))
    baselines = [b.name for b in manifest.baselines if b.name != "default"]
    own = f" Baselines of their own: {', '.join(baselines)}." if baselines else ""
    more = f" {len(data.watched) - SHOWN} more inputs are watched." if len(data.watched) > SHOWN else ""
    said = (
        f"Inputs of the {len(columns):,} reference samples; answers are watched too, for each variant.{more} On a "
        f"stream like this, at most one false alarm in {manifest.drift.false_alarm_every:,} samples.{own}"
    )
    return section("Export: what devices compare with", f'<div class="gallery wide">{pictures}</div>', note(said))


def cost(context: Context) -> str:
    """What training and answers cost, in sentences."""
    return section("Cost and energy", bullets(context.data.cost))


def lineage(context: Context) -> str:
    """Where the release comes from."""
    one = context.manifest.lineage
    parent = f"release {one.parent}" if one.parent else "none"
    text = f" · {escape(one.note)}" if one.note else ""
    return section(
        "Lineage",
        f'<p class="small">data <code>{one.data_sha256[:16]}</code> · '
        f"configuration <code>{one.config_sha256[:16]}</code> · "
        f"sanderling {escape(one.code_version)} · seed {one.seed} · parent: {parent}{text}</p>",
    )
