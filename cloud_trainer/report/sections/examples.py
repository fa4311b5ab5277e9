"""Samples that went wrong, in the form in which a person understands them."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from cloud_trainer.report.context import Context
from cloud_trainer.report.parts import table
from cloud_trainer.report.samples import Shower


def examples(context: Context, places: Sequence[int], truths: Sequence[str], said: Sequence[str]) -> str:
    """Samples at ``places`` of the test split, what each is, and what was answered."""
    test = context.data.test
    if test is None or not len(places):
        return ""
    shower = Shower(context.manifest.sample, test)
    if shower.look in {"text", "history"}:
        name = "text" if shower.look == "text" else "history"
        rows = [
            (shower.html(i), escape(t), f'<span class="said">{escape(s)}</span>')
            for i, t, s in zip(places, truths, said, strict=True)
        ]
        return table((name, "truth", "answer"), rows, left=(1, 2), wide=(0,))
    if shower.look == "row":
        cells: list[tuple[str, ...]] = [
            (escape(t), f'<span class="said">{escape(s)}</span>', *shower.cells(i))
            for i, t, s in zip(places, truths, said, strict=True)
        ]
        header = ("truth", "answer", *map(escape, shower.columns()))
        more = (
            "" if test.x.shape[1] <= len(header) - 2 else f" (the first {len(header) - 2} of {test.x.shape[1]} columns)"
        )
        return table(header, cells, left=range(len(header))) + (
            f'<p class="muted small">{more.strip()}</p>' if more else ""
        )
    cards = "".join(
        f'<div class="one">{shower.html(i)}<div>{escape(t)}<br><span class="said">{escape(s)}</span></div></div>'
        for i, t, s in zip(places, truths, said, strict=True)
    )
    return f'<div class="gallery{"" if shower.look == "image" else " wide"}">{cards}</div>'
