"""What users had before, (n, history) of item ids, oldest first, "" in front where it is shorter."""

from __future__ import annotations

import numpy as np

from cloud_trainer.corruptions.base import Corruption, Samples, level


def _dropped(x: Samples, severity: int, rng: np.random.Generator, like: Samples) -> Samples:
    del like
    lost = (rng.random(x.shape) < level(severity, 0.1, 0.2, 0.35, 0.5, 0.7)) & (x != "")
    alone = ~((x != "") & ~lost).any(axis=1)
    lost[alone, -1] = False  # the latest stays: an empty history is no history
    kept = np.where(lost, "", x).astype(x.dtype)
    order = np.argsort(kept != "", axis=1, kind="stable")
    return np.take_along_axis(kept, order, axis=1)


def _reordered(x: Samples, severity: int, rng: np.random.Generator, like: Samples) -> Samples:
    del like
    reach = level(severity, 1.5, 2, 3, 5, 8)
    place = np.arange(x.shape[1]) + rng.uniform(0, reach, x.shape)
    place[x == ""] = -1
    return np.take_along_axis(x, np.argsort(place, axis=1, kind="stable"), axis=1)


def _foreign(x: Samples, severity: int, rng: np.random.Generator, like: Samples) -> Samples:
    known = like[like != ""]
    if not len(known):
        return x.copy()
    other = rng.choice(known, x.shape)
    hit = (rng.random(x.shape) < level(severity, 0.05, 0.1, 0.2, 0.35, 0.5)) & (x != "")
    return np.where(hit, other, x).astype(x.dtype)


CORRUPTIONS = (
    Corruption("dropped items", "10 to 70 % of the history is not known", _dropped),
    Corruption("reordered", "items up to 1 to 7 places too early or too late", _reordered),
    Corruption("foreign items", "5 to 50 % of the items are somebody else's", _foreign),
)
