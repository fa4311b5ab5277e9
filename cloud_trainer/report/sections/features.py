"""Step three: what was made of the raw values, what of it is kept, and why."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from cloud_trainer.report.context import Context
from cloud_trainer.report.parts import bullets, meter, note, plain, section, table
from cloud_trainer.report.views import FeatureView

FIRST = 15


def features(context: Context) -> str:
    """The table of candidates, the most telling first."""
    data = context.data
    found = ""
    if data.features:
        kept = sum(one.kept for one in data.features)
        several = "s" if len(data.features) > 1 else ""
        first = _table(data.features[:FIRST], data.features)
        found = f"<p>{kept} of {len(data.features)} candidate{several} kept.</p>{first}"
        if len(data.features) > FIRST:
            rest = data.features[FIRST:]
            more = f"{len(rest)} more, {sum(one.kept for one in rest)} of them kept"
            found += f"<details><summary>{more}</summary>{_table(rest, data.features)}</details>"
        if data.feature_measure:
            found += note(f"Importance: {data.feature_measure}")
    steps = _steps(context)
    return section("Feature engineering and selection", found, bullets(data.feature_notes), steps, step=3)


def _table(rows: Sequence[FeatureView], every: Sequence[FeatureView]) -> str:
    most = max((one.importance or 0.0 for one in every), default=0.0) or 1.0
    cells = [
        (
            escape(one.name),
            meter((one.importance or 0.0) / most, on=one.kept) if one.importance is not None else "",
            "–" if one.importance is None else plain(one.importance),
            '<span class="good">kept</span>' if one.kept else '<span class="out">left out</span>',
            escape(one.why),
        )
        for one in rows
    ]
    return table(("feature", "", "importance", "", "why"), cells, left=(1, 3), wide=(0, 4))


def _steps(context: Context) -> str:
    pipeline = context.manifest.pipeline
    names = [operation.__struct_config__.tag for operation in (*pipeline.preprocess, *pipeline.encode)]
    if not names:
        return ""
    return note("On a device: " + ", then ".join(str(name).replace("_", " ") for name in names) + ".")
