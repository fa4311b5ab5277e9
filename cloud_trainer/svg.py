"""Small pictures as inline SVG: scales, ticks, and a canvas. Sharp at any size, and in the page's own colours.

Colours are CSS variables with a light default, so that a page may have a dark mode and a picture still stands alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape

INK = "var(--ink,#1f2933)"
MUTED = "var(--muted,#616e7c)"
GRID = "var(--grid,#e4e7eb)"
CARD = "var(--card,#ffffff)"
ACCENT = "var(--accent,#0b7285)"
ALARM = "var(--alarm,#d9480f)"
UP = "var(--up,#d9480f)"
DOWN = "var(--down,#1c6fb8)"
REFERENCE = "var(--reference,#9aa5b1)"
SERIES = ("var(--series1,#5f3dc4)", "var(--series2,#2b8a3e)", "var(--series3,#c2255c)")


class Canvas:
    """Elements of one picture of ``width`` x ``height`` units."""

    def __init__(self, width: float, height: float) -> None:
        self.width, self.height = width, height
        self._parts: list[str] = []

    def line(
        self, x1: float, y1: float, x2: float, y2: float, colour: str, *, width: float = 1, dash: str = ""
    ) -> None:
        """A straight line."""
        dashed = f' stroke-dasharray="{dash}"' if dash else ""
        self._parts.append(
            f'<line x1="{_n(x1)}" y1="{_n(y1)}" x2="{_n(x2)}" y2="{_n(y2)}" stroke="{colour}" '
            f'stroke-width="{width}"{dashed}/>'
        )

    def path(
        self, points: Sequence[tuple[float, float]], colour: str, *, width: float = 1.5, opacity: float = 1
    ) -> None:
        """A line through points."""
        if points:
            faint = f' opacity="{opacity}"' if opacity < 1 else ""
            self._parts.append(
                f'<path d="{_path(points)}" fill="none" stroke="{colour}" stroke-width="{width}" '
                f'stroke-linejoin="round"{faint}/>'
            )

    def area(self, points: Sequence[tuple[float, float]], colour: str, *, opacity: float) -> None:
        """What a line through points encloses."""
        if points:
            self._parts.append(f'<path d="{_path(points)}Z" fill="{colour}" fill-opacity="{opacity}"/>')

    def rect(
        self, x: float, y: float, width: float, height: float, colour: str, *, opacity: float = 1, title: str = ""
    ) -> None:
        """A filled rectangle, with a tooltip."""
        faint = f' fill-opacity="{_n(opacity)}"' if opacity < 1 else ""
        tip = f"<title>{escape(title)}</title>" if title else ""
        self._parts.append(
            f'<rect x="{_n(x)}" y="{_n(y)}" width="{_n(max(width, 0))}" height="{_n(max(height, 0))}" '
            f'fill="{colour}"{faint}' + (f">{tip}</rect>" if tip else "/>")
        )

    def dot(self, x: float, y: float, colour: str, *, radius: float = 4, title: str = "") -> None:
        """A disc with a rim in the page's colour."""
        tip = f"<title>{escape(title)}</title>" if title else ""
        self._parts.append(
            f'<circle cx="{_n(x)}" cy="{_n(y)}" r="{radius}" fill="{colour}" stroke="{CARD}" '
            f'stroke-width="1.5">{tip}</circle>'
        )

    def text(
        self,
        x: float,
        y: float,
        text: str,
        *,
        colour: str = MUTED,
        anchor: str = "start",
        size: float = 12,
        bold: bool = False,
        title: str = "",
        rim: bool = True,
        turn: float = 0,
    ) -> None:
        """Text with its baseline at ``y``; its ``rim``, in the page's colour, lets it be read on lines. ``turn``:
        degrees, clockwise, about the anchor."""
        tip = f"<title>{escape(title)}</title>" if title else ""
        weight = ' font-weight="600"' if bold else ""
        shown = f"−{text[1:]}" if text.startswith("-") else text
        turned = f' transform="rotate({_n(turn)} {_n(x)} {_n(y)})"' if turn else ""
        edge = f' stroke="{CARD}" stroke-width="3" paint-order="stroke" stroke-linejoin="round"' if rim else ""
        self._parts.append(
            f'<text x="{_n(x)}" y="{_n(y)}" fill="{colour}" font-size="{size}" text-anchor="{anchor}"{weight}'
            f"{edge}{turned}>{tip}{escape(shown)}</text>"
        )

    def done(self, label: str, *, css: str = "") -> str:
        """The picture. ``label`` says what it shows to those who cannot see it."""
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_n(self.width)} {_n(self.height)}" role="img" '
            f'aria-label="{escape(label)}"{f" class={css!r}" if css else ""} '
            f'font-family="system-ui,-apple-system,Segoe UI,Roboto,sans-serif">{"".join(self._parts)}</svg>'
        )


def linear(low: float, high: float, start: float, stop: float) -> Callable[[float], float]:
    """The function that takes ``low`` to ``start`` and ``high`` to ``stop``.

    >>> linear(0, 10, 100, 200)(5)
    150.0
    """
    span = (high - low) or 1.0
    return lambda value: start + (value - low) / span * (stop - start)


def nice_ticks(low: float, high: float, most: int) -> list[float]:
    """At most ``most`` round numbers within a range.

    >>> nice_ticks(0, 9.7, 5)
    [0.0, 2.0, 4.0, 6.0, 8.0]
    """
    span = high - low
    if not span > 0 or not math.isfinite(span):
        return [low]
    power = 10.0 ** math.floor(math.log10(span / most))
    for factor in (1, 2, 2.5, 5, 10, 20, 25, 50):
        step = factor * power
        first = math.ceil(low / step - 1e-9)
        count = math.floor(high / step + 1e-9) - first + 1
        if count <= most:
            return [round((first + i) * step, 12) for i in range(count)]
    return [low]


def shortened(text: str, most: int) -> str:
    """``text`` cut to ``most`` characters.

    >>> shortened("temperature", 6)
    'tempe…'
    """
    return text if len(text) <= most else text[: most - 1] + "…"


def both_ends(text: str, most: int) -> str:
    """``text`` cut in its middle to ``most`` characters: what tells names apart is often at their ends.

    >>> both_ends("temperature of motor 7", 11)
    'tempe…tor 7'
    """
    if len(text) <= most:
        return text
    tail = (most - 1) // 2
    return text[: most - 1 - tail] + "…" + text[len(text) - tail :]


def _n(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _path(points: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{_n(x)} {_n(y)}" for x, y in points)
