"""Steps one and two: what data there is, what its checks found, and how it is labelled."""

from __future__ import annotations

from html import escape

from cloud_trainer.report.context import Context
from cloud_trainer.report.parts import bullets, meter, note, section, table

CLASSES = 12
SEVERE = ("error", "warning")


def collection(context: Context) -> str:
    """Splits and where the data comes from."""
    data = context.data
    if not data.counts:
        return ""
    most, whole = max(data.counts.values()), sum(data.counts.values())
    rows = [
        (escape(name), f"{size:,}", f"{size / whole:.1%}", meter(size / most)) for name, size in data.counts.items()
    ]
    found = table(("part", "samples", "share", ""), rows, left=(0, 3)) if whole else ""
    return section("Data collection", found, bullets(data.data_notes), _provenance(context), step=1)


def _provenance(context: Context) -> str:
    lineage = context.manifest.lineage
    return note(f"The samples' digest is {lineage.data_sha256[:16]}: the same data give the same one.")


def labelling(context: Context) -> str:
    """Findings of the checks, and how many samples each class has."""
    data = context.data
    order = sorted(data.findings, key=lambda one: SEVERE.index(one.severity) if one.severity in SEVERE else 2)
    rows = [
        (
            _severity(one.severity),
            escape(one.check.replace("_", " ")),
            escape(one.text),
            escape(one.where),
        )
        for one in order
    ]
    checks = table(("", "check", "what was found", "where"), rows, left=(0, 1, 3), wide=(2,)) if rows else ""
    return section("Preprocessing and labelling", checks, _classes(context), step=2)


def _severity(text: str) -> str:
    kind = {"error": "bad", "warning": "bad"}.get(text, "out")
    return f'<span class="{kind}">{escape(text)}</span>'


def _classes(context: Context) -> str:
    counts, labels = context.data.class_counts, context.manifest.labels
    parts = [part for part, sizes in counts.items() if len(sizes) == len(labels)]
    if not parts or not labels:
        return ""
    first = parts[0]
    order = sorted(range(len(labels)), key=lambda i: -counts[first][i])
    most = max(counts[first][order[0]], 1)
    rows = [
        (escape(labels[i]), *(f"{counts[part][i]:,}" for part in parts), meter(counts[first][i] / most)) for i in order
    ]
    header = ("class", *map(escape, parts), "")
    left = (0, len(parts) + 1)
    if len(rows) <= CLASSES:
        return f"<h3>Samples of each class</h3>{table(header, rows, left=left)}"
    shown = table(header, [*rows[: CLASSES // 2], *rows[-CLASSES // 2 :]], left=left)
    return (
        f"<h3>Samples of each class: the most and the least frequent of {len(rows)}</h3>{shown}"
        f"<details><summary>all {len(rows)} classes</summary>{table(header, rows, left=left)}</details>"
    )
