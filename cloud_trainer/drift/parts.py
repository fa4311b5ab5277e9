"""Tables and words of the report."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape

from cloud_trainer.drift import words
from cloud_trainer.drift.findings import Moved
from shared.drift.bins import CATEGORY

START = (
    "An estimate: up to there the rows of the loudest column fit the reference better, from there on they fit "
    "better to what "
    "came after (Page's change point). A large jump is placed within a window or so, a small one within a "
    "hundred rows or two; a slow drift began earlier."
)


def table_of(header: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: set[int]) -> str:
    """Cells are HTML already; the columns in ``numbers`` are right-aligned."""

    def cells(tag: str, values: Sequence[str]) -> str:
        return "".join(f"<{tag}{' class=n' if i in numbers else ''}>{value}</{tag}>" for i, value in enumerate(values))

    body = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    return f'<div class="scroll"><table><tr>{cells("th", header)}</tr>{body}</table></div>'


def cells_of(one: Moved) -> tuple[str, ...]:
    """A row of the table of columns."""
    value = one.kind != CATEGORY
    mean = words.pair(one.before, one.after)
    missing = "–"
    if one.missing_before or one.missing_after:
        missing = f"{one.missing_before:.1%} → {one.missing_after:.1%}"
    level = (
        ""
        if "not promised" not in one.level
        else f'<small class="limit" title="{escape(one.level)}">not promised</small>'
    )
    return (
        f"{'<b>' if one.alone else ''}{escape(one.name)}{'</b>' if one.alone else ''}{level}",
        f'{_meter(one.evidence)}<span class="num">{escape(words.evidence_cell(one.evidence))}</span>',
        mean,
        f'{_lean(one.mean_shift)}<span class="num">{words.sign(one.mean_shift)}</span>' if value else "–",
        f"{one.w1:.2f}" if value else f"{100 * one.w1:.0f} % moved",
        f"{one.psi:.3f}",
        f"{one.js:.3f}",
        missing,
    )


def _meter(evidence: float) -> str:
    share = (math.log10(max(evidence, 1e-4)) + 4) / 10
    kind = "loud" if evidence >= 1 else ""
    return f'<span class="meter"><i class="{kind}" style="width:{100 * min(max(share, 0.0), 1.0):.0f}%"></i></span>'


def _lean(shift: float) -> str:
    width = 50 * min(abs(shift) / 2, 1.0)
    side = f"left:50%;width:{width:.0f}%" if shift >= 0 else f"right:50%;width:{width:.0f}%"
    return f'<span class="lean"><i class="{"up" if shift >= 0 else "down"}" style="{side}"></i></span>'


def glossary() -> str:
    """What the words mean."""
    terms = {
        "Evidence": (
            "How much better the rows fit to a change of some kind than to the reference, accumulated row by "
            "row with the "
            "memory of a possible change at any time before (an e-process, Shiryaev–Roberts), over the threshold that "
            "keeps the promise. It says that something surely changed, not that it matters."
        ),
        "σ": (
            "Robust standard deviation of the reference: the smaller of the standard deviation and the "
            "quartile distance "
            "over 1.349. A shift of +1 σ moves the middle of the reference to where its 84th percentile was."
        ),
        "W1": "Wasserstein-1 distance: by how much values moved on average, in σ, whatever the direction.",
        "PSI, JS": (
            "Population stability index, and Jensen–Shannon divergence in nats (0 to 0.69), of the reference's bins. "
            "Neither knows how far values moved, only how many."
        ),
        "Where it began": START,
    }
    body = "".join(f"<dt>{escape(term)}</dt><dd>{escape(text)}</dd>" for term, text in terms.items())
    return f"<section><details><summary>How to read this</summary><dl>{body}</dl></details></section>"
