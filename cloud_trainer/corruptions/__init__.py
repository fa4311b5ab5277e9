"""Documented ways in which raw samples go wrong, in five severities: for robustness figures, and for training.

A sample is corrupted as a sensor gives it, before the pipeline: what is measured is what a device would see. numpy
only; the same seed, the same samples.
"""

from __future__ import annotations

import numpy as np

from cloud_trainer.corruptions import histories, images, signals, sounds, tables, texts
from cloud_trainer.corruptions.base import SEVERITIES, Corruption, Samples

__all__ = ["SEVERITIES", "Corruption", "corrupted", "corruptions_for"]


def corruptions_for(kind: str, x: Samples) -> tuple[Corruption, ...]:
    """Those that fit samples ``x`` (n, *shape) of a kind of task (as in ``task.toml``); none where none do."""
    family = kind.split("-", maxsplit=1)[0]
    if family == "image" and x.ndim in {3, 4}:
        return images.CORRUPTIONS
    if family == "audio" and x.ndim == 2:
        return sounds.CORRUPTIONS
    if family in {"audio", "series", "forecasting"} and x.ndim == 3:
        return signals.CORRUPTIONS
    if family == "text" and x.ndim == 1:
        return texts.CORRUPTIONS
    if family == "tabular" and x.ndim == 2:
        return tables.CORRUPTIONS
    if family == "recommendation" and x.ndim == 2:
        return tables.CORRUPTIONS if x.dtype.kind in "fiu" else histories.CORRUPTIONS
    return ()


def corrupted(kind: str, x: Samples, share: float, rng: np.random.Generator, *, keep: tuple[int, ...] = ()) -> Samples:
    """``x`` with a ``share`` of the samples corrupted, each in one way that fits its kind and at any severity: for
    training (Rusak et al. 2020, arXiv 2001.06057). The rest, and places ``keep`` of the last axis, stay.

    >>> x = np.zeros((100, 8, 8), np.uint8)
    >>> bool((corrupted("image-classification", x, 0.5, np.random.default_rng(0)) > 0).any())
    True
    """
    ways = corruptions_for(kind, x)
    found = x.copy()
    if not ways or share <= 0:
        return found
    rows = np.flatnonzero(rng.random(len(x)) < share)
    drawn = rng.integers(0, len(ways) * len(SEVERITIES), len(rows))
    for code in np.unique(drawn):
        way, severity = ways[code // len(SEVERITIES)], SEVERITIES[code % len(SEVERITIES)]
        chosen = rows[drawn == code]
        found[chosen] = way(x[chosen], severity, rng, x, keep)
    return found
