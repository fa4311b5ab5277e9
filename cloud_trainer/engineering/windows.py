"""Windows of a series: what their past says of what comes next, as a row."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from cloud_trainer.config import TaskConfig
from cloud_trainer.data import Splits
from cloud_trainer.engineering.rows import applied, calendar_of
from cloud_trainer.engineering.selection import Candidates, select
from cloud_trainer.kinds.base import FeatureTable
from shared.pipeline.columns import Choose
from shared.pipeline.recent import Pick, Recent
from shared.pipeline.scaling import Clip, Standardize
from shared.pipeline.spec import Encode, Preprocess
from shared.pipeline.tables import Impute

USUAL_SEASON = 24
LEAST_CORRELATION = 0.3
BLOCKS = 4
"""Into which the lags of a season are divided: each is one candidate."""
LONGER = (2, 7)
"""Seasons back of which the values are candidates, too: a week of days, two days."""
MOST_WINDOWS = 5000
MOST_OUTSIDE = 0.5
"""Of the validation windows; a channel that more of them take beyond its range of the train split is left out."""
FAR = 6.0


class WindowFeatures(Struct, frozen=True, eq=False):
    """Operations from a raw window to a network's input, and where they come from. ``season``: time steps after which
    the series repeats itself, 0: it does not. ``level``: the column with the mean of the last season, which is always
    there."""

    preprocess: tuple[Preprocess, ...]
    encode: tuple[Encode, ...]
    table: FeatureTable
    season: int
    level: int


class Block(Struct, frozen=True):
    """One candidate: picks that belong together."""

    name: str
    picks: tuple[Pick, ...]


def window_features(task: TaskConfig, splits: Splits, *, moments: bool) -> WindowFeatures:
    """Lags, changes and rolling statistics, the calendar of the last time step (``moments``: the last channel is the
    time): fitted on the train split, chosen with the validation split."""
    train, config = splits.train, task.features
    history, channels = train.x.shape[1:]
    season = season_of(train.x[:, :, 0])
    names = train.columns or tuple(f"x{c}" for c in range(channels))
    horizon = train.y.reshape(len(train.y), -1).shape[1]
    strange = leaving(train.x, splits.validation.x)
    blocks = [
        block
        for block in blocks_of(task, names[: channels - moments], history, horizon, season)
        if block.picks[0].channel not in strange
    ]
    picks = tuple(pick for block in blocks for pick in block.picks)
    preprocess: list[Preprocess] = [Recent((*picks, Pick(channels - 1)) if moments else picks)]
    parts = [(applied(preprocess, part.x), part.y.reshape(len(part.y), -1)) for part in (train, splits.validation)]
    ends = np.cumsum([0, *(len(block.picks) for block in blocks)]).tolist()
    groups = [tuple(range(start, stop)) for start, stop in pairwise(ends)]
    candidates = [block.name for block in blocks]
    calendar = calendar_of(np.asarray(parts[0][0][:, -1], np.float64), len(picks)) if moments else None
    if calendar is not None:
        preprocess.append(calendar)
        parts = [(calendar(x), y) for x, y in parts]
        for cycle in (*calendar.cycles, *(("weekend",) if calendar.weekend else ())):
            made = enumerate(calendar.names(), len(picks))
            groups.append(tuple(place for place, name in made if name.split(".")[0] == cycle))
            candidates.append(f"{names[-1]}: {cycle}")
    found = select(
        Candidates(tuple(candidates), tuple(groups)),
        parts[0],
        parts[1],
        method=config.select,
        max_features=config.max_features,
        seed=task.seed,
    )
    places = [c for k in found.kept for c in groups[k]]
    level = Pick(0, "mean", min(season or USUAL_SEASON, history))
    fewer = tuple(picks[c] for c in places if c < len(picks))  # what is not chosen need not be picked
    if level not in fewer:
        fewer = (*fewer, level)
    if calendar is None:
        preprocess = [Recent(fewer)]
    else:
        cycles = [c for c in places if c >= len(picks)]
        preprocess = [Recent((*fewer, Pick(channels - 1)))]
        if cycles:
            moved = calendar_of(np.asarray(train.x[:, -1, -1], np.float64), len(fewer))
            assert moved is not None
            shift = len(picks) - len(fewer)
            preprocess += [moved, Choose((*range(len(fewer)), *(c - shift for c in cycles)))]
        else:
            preprocess = [Recent(fewer)]
    chosen = applied(preprocess, train.x)
    impute = Impute.fit(chosen, strategy="median")
    preprocess.append(Impute(tuple(float(str(np.float32(value))) for value in impute.values)))
    filled = np.asarray(preprocess[-1](chosen), np.float64)
    encode: tuple[Encode, ...] = (Standardize.fit(filled, per_column=True), Clip(-FAR, FAR))
    return WindowFeatures(tuple(preprocess), encode, found.table, season, fewer.index(level))


def leaving(train: NDArray[Any], validation: NDArray[Any]) -> frozenset[int]:
    """Channels beside the target that have mostly left, on the validation split, where they were on the train split:
    counters, dates, what only ever grows. Nothing that a network learned of them holds later on.

    >>> clock = np.arange(40.0).reshape(20, 2, 1) + np.zeros(2)
    >>> sorted(leaving(clock[:10], clock[10:]))
    [1]
    """
    low, high = np.nanmin(train, axis=(0, 1)), np.nanmax(train, axis=(0, 1))
    last = validation[:, -1]
    outside = ((last < low) | (last > high)).mean(axis=0)
    return frozenset(int(c) for c in np.flatnonzero(outside > MOST_OUTSIDE) if c)


def season_of(past: NDArray[Any]) -> int:
    """After how many time steps the series ``past`` (n, history) resembles itself most: the highest peak of its
    autocorrelation beyond the first lag at which that has fallen below nothing, at least 0.3; 0: there is none.

    >>> season_of(np.sin(np.arange(40) * 2 * np.pi / 12) + np.zeros((3, 1)) + np.arange(3)[:, None] * 0.01)
    12
    """
    x = np.nan_to_num(np.asarray(past[-MOST_WINDOWS:], np.float64))
    history = x.shape[1]
    if history < 4:
        return 0
    centred = x - x.mean()
    power = float((centred**2).mean())
    if power <= 0:
        return 0
    found = np.array([float((centred[:, k:] * centred[:, : history - k]).mean()) / power for k in range(history - 1)])
    below = np.flatnonzero(found < 0)
    if not len(below):
        return 0
    later = np.arange(1, len(found) - 1)
    peaks = later[(found[1:-1] >= found[:-2]) & (found[1:-1] >= found[2:]) & (later > below[0])]
    best = peaks[found[peaks] >= LEAST_CORRELATION] if len(peaks) else peaks
    if not len(best):
        return 0
    top = float(found[best].max())
    return int(best[found[best] >= top - 0.05][0])  # of multiples of a season the season itself


def blocks_of(task: TaskConfig, names: tuple[str, ...], history: int, horizon: int, season: int) -> list[Block]:
    """The candidates: of the target every value of the last season, the values one or some seasons before those that
    are foretold, changes, rolling statistics; of other channels their latest values."""
    length = min(season or USUAL_SEASON, history)
    config, target = task.features, names[0]
    if config.lags:
        found = [Block(f"{target}, {lag} back", (Pick(0, steps=lag),)) for lag in (0, *config.lags) if lag < history]
    else:
        edges = sorted({round(k * length / BLOCKS) for k in range(BLOCKS + 1)})
        found = [
            Block(f"{target}, {a} to {b - 1} back", tuple(Pick(0, steps=k) for k in range(a, b)))
            for a, b in pairwise(edges)
        ]
        for seasons in LONGER if season else ():
            back = [seasons * season - h for h in range(1, horizon + 1)]
            picks = tuple(Pick(0, steps=k) for k in back if length <= k < history)
            if picks:
                found.append(Block(f"{target}, {seasons} seasons before", picks))
    if not config.engineer:
        return [*found, *(Block(name, (Pick(c),)) for c, name in enumerate(names) if c)]
    sizes = config.rolling or tuple(sorted({max(2, length // 4), length, 7 * length}))
    for size in sizes:
        if size <= history:
            statistics = tuple(Pick(0, what, size) for what in ("mean", "std", "min", "max"))
            found.append(Block(f"{target}, statistics of {size}", statistics))
    found += [
        Block(f"{target}, change since {k} back", (Pick(0, "change", k),)) for k in (1, length) if 0 < k < history
    ]
    for c, name in enumerate(names):
        if c:
            steps = [k for k in dict.fromkeys((0, 1, length - 1)) if k < history]
            found.append(Block(f"{name}, latest", tuple(Pick(c, steps=k) for k in steps)))
            found.append(Block(f"{name}, mean of {length}", (Pick(c, "mean", length),)))
    return found
