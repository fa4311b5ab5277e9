"""Tables, figures, numbers as text: the report's small parts."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape

from cloud_trainer.evaluation.bootstrap import Interval

PERCENT = frozenset({
    "accuracy", "balanced_accuracy", "ece", "mape", "smape", "coverage", "hit_rate", "precision", "recall",
    "false_alarms",
})  # fmt: skip
NAMES = {
    "accuracy": "accuracy", "balanced_accuracy": "balanced accuracy", "macro_f1": "macro F1", "auc": "AUC",
    "nll": "log loss", "ece": "calibration error", "r2": "R²", "mae": "mean absolute error", "rmse": "RMSE",
    "mape": "MAPE", "smape": "sMAPE", "mase": "MASE", "pinball": "pinball loss", "coverage": "coverage",
    "average_precision": "average precision", "f1": "F1 at the threshold", "precision": "precision",
    "recall": "recall", "false_alarms": "false alarms", "ndcg": "NDCG@10", "hit_rate": "hit rate@10", "mrr": "MRR",
    "map": "MAP",
}  # fmt: skip


def name_of(figure: str) -> str:
    """A figure's name for people."""
    return NAMES.get(figure, figure.replace("_", " "))


def shown(figure: str, value: float | None, *, digits: int = 2) -> str:
    """A figure's value for people.

    >>> shown("accuracy", 0.91234), shown("r2", 0.91234), shown("mae", 1234.5), shown("auc", None)
    ('91.23 %', '0.912', '1,234', '–')
    """
    if value is None or not math.isfinite(value):
        return "–"
    if figure in PERCENT:
        return f"{100 * value:.{digits}f} %"
    return plain(value, 3)


def plain(value: float, digits: int = 3) -> str:
    """A number with about ``digits`` telling ones.

    >>> plain(0.0123456), plain(12.3456), plain(123456.7), plain(0.0), plain(0.99951)
    ('0.0123', '12.3', '123,457', '0', '1.000')
    """
    if not math.isfinite(value):
        return "–"
    if value < 0:
        return f"−{plain(-value, digits)}"
    size = abs(value)
    if size >= 1e7 or (size and size < 1e-4):
        return f"{value:.{digits - 1}e}"
    if size >= 10 ** (digits - 1):
        return f"{value:,.0f}"
    if size == 0:
        return "0"
    places = digits - 1 - math.floor(math.log10(size))
    return f"{value:.{min(places, 5) if size < 0.1 else min(places, digits)}f}"


def interval(figure: str, found: Interval | None) -> str:
    """Small print beside a value: where it may lie. HTML."""
    if found is None:
        return ""
    return f"<small>{range_of(figure, found)}</small>"


def range_of(figure: str, found: Interval) -> str:
    """``90.1 – 92.3 %``."""
    if figure in PERCENT:
        return f"{100 * found.low:.1f} – {100 * found.high:.1f} %"
    return f"{plain(found.low)} – {plain(found.high)}"


def points(found: Interval) -> str:
    """A difference of scores in points, with its interval. HTML."""
    return (
        f"{signed(100 * found.value)}&nbsp;<small>{signed(100 * found.low, 1)} to {signed(100 * found.high, 1)}</small>"
    )


def signed(value: float, digits: int = 2) -> str:
    """With its sign, and a true minus.

    >>> signed(-0.5), signed(0.0), signed(-0.001)
    ('−0.50', '0.00', '0.00')
    """
    text = f"{value:+.{digits}f}"
    return text[1:] if not float(text) else text.replace("-", "−")


def count(value: float) -> str:
    """1,234 → 1.2 k, 2,675,008 → 2.7 M."""
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= limit:
            return f"{value / limit:.1f} {unit}"
    return f"{value:g}"


def kib(size: int) -> str:
    """Bytes for people."""
    return f"{size / 1024:.1f} KiB" if size < 1 << 20 else f"{size / (1 << 20):.1f} MiB"


def table(
    header: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    left: Iterable[int] = (0,),
    wide: Iterable[int] = (),
    marked: int = -1,
) -> str:
    """Cells are HTML already; columns not in ``left`` are numbers, those in ``wide`` are text that breaks."""
    words, long = set(left) | set(wide), set(wide)

    def cells(tag: str, values: Sequence[str]) -> str:
        kinds = ("" if i in words else " class=n" for i in range(len(values)))
        kinds = (" class=w" if i in long and tag == "td" else kind for i, kind in enumerate(kinds))
        return "".join(f"<{tag}{kind}>{value}</{tag}>" for kind, value in zip(kinds, values, strict=True))

    body = "".join(f"<tr{' class=best' if i == marked else ''}>{cells('td', row)}</tr>" for i, row in enumerate(rows))
    return f'<div class="scroll"><table><tr>{cells("th", header)}</tr>{body}</table></div>'


def figure(picture: str, caption: str = "", keys: Sequence[tuple[str, str]] = ()) -> str:
    """A picture (SVG) with a legend of (colour, text) and a caption."""
    legend = "".join(f'<span><i class="key" style="background:{c}"></i>{escape(t)}</span>' for c, t in keys)
    legend = f'<div class="keys">{legend}</div>' if legend else ""
    text = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return f"<figure>{legend}{picture}{text}</figure>"


def pair(*figures: str) -> str:
    """Beside each other where there is room."""
    kept = [one for one in figures if one]
    return f'<div class="pair">{"".join(kept)}</div>' if kept else ""


def section(title: str, *content: str, step: int | None = None, kind: str = "") -> str:
    """One card of the page; nothing where there is no content. ``step``: of the seven."""
    body = "".join(content)
    if not body:
        return ""
    number = f'<span class="step">{step}</span>' if step else ""
    return f"<section{f' class={kind}' if kind else ''}><h2>{number}{escape(title)}</h2>{body}</section>"


def note(text: str) -> str:
    """A muted line."""
    return f'<p class="muted small">{escape(text)}</p>'


def bullets(lines: Iterable[str]) -> str:
    """Lines of text as a list."""
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return f'<ul class="small">{items}</ul>' if items else ""


def meter(share: float, *, on: bool = True) -> str:
    """A bar of a share of the most."""
    width = 100 * min(max(share, 0.0), 1.0)
    return f'<span class="meter"><i class="{"" if on else "off"}" style="width:{width:.0f}%"></i></span>'
