"""Title, warnings, and the four numbers that matter most."""

from __future__ import annotations

from html import escape

from cloud_trainer.report.context import Context
from cloud_trainer.report.parts import count, kib, name_of, range_of, shown


def head(context: Context) -> str:
    """Title, what it takes and gives, warnings, tiles."""
    data, manifest = context.data, context.manifest
    shape = " × ".join("any" if size == -1 else str(size) for size in manifest.sample.shape)
    of = f" of {shape}" if shape else ""
    classes = f" into {len(manifest.labels)} classes" if context.judge.family == "classes" else ""
    values = f", values from {data.values[0]:g} to {data.values[1]:g}" if data.values is not None else ""
    task = (data.kind or manifest.task).replace("-", " ")
    warnings = "".join(f'<section class="warning"><b>Warning:</b> {escape(text)}.</section>' for text in data.warnings)
    return (
        f"<h1>{escape(f'{manifest.name}, release {manifest.version}')}</h1>"
        f'<div class="muted">{escape(task)}{classes}, from one {escape(manifest.sample.kind)}{of} '
        f"{escape(manifest.sample.dtype)}{values} · {escape(manifest.created)}</div>"
        f"{warnings}{_tiles(context)}"
    )


def _tiles(context: Context) -> str:
    data, best = context.data, context.best
    smallest = min(data.measured, key=lambda one: one.variant.file.bytes)
    tiles = []
    if context.score is not None:
        samples = best.variant.quality.get("samples")
        on = f" on {samples:,.0f} samples" if samples else ""
        found = context.compared.get(best.variant.id)
        sure = found.figures.get(context.metric) if found else None
        range_text = f"; 95 % interval {range_of(context.metric, sure)}" if sure else ""
        tiles.append(
            (
                shown(context.metric, context.score, digits=1),
                f"{name_of(context.metric)} of {best.variant.id}{on}{range_text}",
            )
        )
    if data.macs is not None and min(data.macs) > 0:
        teacher, student = data.macs
        less = teacher >= student  # trees that teach compare a few numbers
        times = f"{teacher / student if less else student / teacher:.1f}×"
        word = "less work than the teacher" if less else "the work of the trees that teach"
        tiles.append((times, f"{word}: {count(student)} against {count(teacher)} MACs"))
    tiles.append((kib(smallest.variant.file.bytes), f"the smallest file, {smallest.variant.id}"))
    several = len(data.measured) > 1
    tiles.append((str(len(data.measured)), f"variant{'s' if several else ''} for devices to measure and choose from"))
    cells = "".join(
        f'<div class="tile"><b>{escape(v)}</b><span class="muted small">{escape(t)}</span></div>' for v, t in tiles
    )
    return f'<div class="tiles">{cells}</div>'
