"""Which layers int8 hurts most: pure decisions; the files are made and measured by a callable."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from msgspec import Struct


class Sensitivity(Struct, frozen=True):
    """``layer`` alone in int8, everything else in float: the answers' SQNR in dB. The lower, the more it costs."""

    layer: str
    sqnr_db: float


def rank(
    layers: Sequence[str],
    quality: Callable[[tuple[str, ...]], float],
    seen: Callable[[int], None] = lambda _: None,
) -> tuple[Sensitivity, ...]:
    """The layers, the most sensitive first. ``quality(leave)``: SQNR in dB with the layers ``leave`` in float.

    >>> rank(("a", "b"), lambda leave: {("b",): 12.0, ("a",): 40.0}[leave])
    (Sensitivity(layer='a', sqnr_db=12.0), Sensitivity(layer='b', sqnr_db=40.0))
    """
    found = []
    for at, layer in enumerate(layers):
        found.append(Sensitivity(layer, round(quality(tuple(other for other in layers if other != layer)), 2)))
        seen(at + 1)
    return tuple(sorted(found, key=lambda one: one.sqnr_db))


def counts(layers: int) -> Iterator[int]:
    """How many of the worst layers to keep in float, one try after the other: 1, 2, 3, 5, 8, ... and at last
    all but one.

    >>> list(counts(9)), list(counts(5)), list(counts(2)), list(counts(1))
    ([1, 2, 3, 5, 8], [1, 2, 3, 4], [1], [])
    """
    now, after = 1, 2
    while now < layers - 1:
        yield now
        now, after = after, now + after
    if layers > 1:
        yield layers - 1
