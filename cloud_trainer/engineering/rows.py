"""Rows of a table: what is made of their columns, and the operations that are left after the selection."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from cloud_trainer.config import TaskConfig
from cloud_trainer.data import Dataset, Splits
from cloud_trainer.data.sparse import MOST_WORDS
from cloud_trainer.engineering.selection import Candidates, explained, select
from cloud_trainer.engineering.spread import spread_of
from cloud_trainer.kinds.base import Feature, FeatureTable
from shared.errors import DataError
from shared.pipeline.columns import Choose, Combine, Pair, Parse, number_of
from shared.pipeline.moments import Calendar, Cycle
from shared.pipeline.spec import Encode, Preprocess
from shared.pipeline.tables import Categories, Impute, OneHot

DAY = 86_400.0
SPANS: dict[Cycle, float] = {"weekday": 14 * DAY, "monthday": 60 * DAY, "yearday": 300 * DAY}
"""How long a time the train split must span for a cycle to be worth a look: nobody learns a year from a month."""
HARMONICS = 2
WORDS_SHARE = 0.05
"""Of a column's cells: from here on those that are no numbers make it one of words."""
PAIRED = 4
"""The most telling numbers, of which combinations are tried."""
GAIN = 0.003
"""Of the target's variance: what combinations must add to be kept."""
FLAG_SHARE = 0.01


class RowFeatures(Struct, frozen=True, eq=False):
    """Operations from a raw row to a network's input, and where they come from."""

    preprocess: tuple[Preprocess, ...]
    encode: tuple[Encode, ...]
    table: FeatureTable


class Columns(Struct, frozen=True, eq=False):
    """What the columns of a table are: ``numbers`` and ``words`` by place, ``time`` (-1: none), ``dropped``: place ->
    why nothing can be learned from it."""

    names: tuple[str, ...]
    numbers: tuple[int, ...]
    words: tuple[int, ...]
    time: int
    dropped: dict[int, str]


def row_features(task: TaskConfig, splits: Splits, *, classes: int) -> RowFeatures:
    """Parse, calendar, combinations, selection, gaps, one-hot, spreading: fitted on the train split, chosen with the
    validation split.

    Raises:
        DataError: no column is left to learn from.
    """
    train, config = splits.train, task.features
    columns = columns_of(train, task)
    text = train.x.dtype.kind in "UO"
    preprocess: list[Preprocess] = []
    if text:
        preprocess.append(_parse(train, columns))
    calendar = _calendar(train, columns, preprocess) if columns.time >= 0 else None
    if calendar is not None:
        preprocess.append(calendar)
    names, groups, categories = _layout(columns, calendar)
    if not names:
        raise DataError("no column is left to learn from: all are constant, or different in every row")
    parts = [(applied(preprocess, part.x), part.y) for part in (splits.train, splits.validation)]
    options = {"classes": classes, "method": config.select, "seed": task.seed}
    found = select(Candidates(names, groups), *parts, max_features=config.max_features, straight=True, **options)  # type: ignore[arg-type]
    kept, table = found.kept, found.table
    pairs: tuple[Pair, ...] = ()
    if config.engineer and config.select != "none" and not config.max_features:
        pairs, more = _combinations(Candidates(names, groups), found.strong, table, categories, parts, options)
        table = FeatureTable((*table.features, *more), table.measure)
    places = [c for k in kept for c in groups[k]]
    width = parts[0][0].shape[1]
    if pairs:
        preprocess.append(Combine(pairs))
        places += range(width, width + len(pairs))
    preprocess.append(Choose(tuple(places)))
    chosen = applied(preprocess[-1:] if not pairs else preprocess[-2:], parts[0][0])
    preprocess.append(_impute(chosen))
    filled = applied(preprocess[-1:], chosen)
    known = {entry.column: len(entry.values) for op in preprocess if isinstance(op, Parse) for entry in op.categories}
    hot = tuple(
        Categories(place, tuple(float(code) for code in range(known[categories[c]])))
        for place, c in enumerate(places)
        if c in categories
    )
    encode: list[Encode] = [OneHot(hot)] if hot else []
    encode += spread_of(applied(encode, filled))
    left_out = tuple(Feature(columns.names[c], None, kept=False, why=why) for c, why in columns.dropped.items())
    return RowFeatures(tuple(preprocess), tuple(encode), FeatureTable((*table.features, *left_out), table.measure))


def applied(operations: Any, x: NDArray[Any]) -> NDArray[Any]:
    """``x`` after ``operations``."""
    for operation in operations:
        x = operation(x)
    return x


def columns_of(train: Dataset, task: TaskConfig) -> Columns:
    """What the columns of the train split are."""
    count = train.x.shape[1]
    names = train.columns or tuple(f"x{k}" for k in range(count))
    time = names.index(task.data.time) if task.data.time in names else -1
    numbers, words, dropped = [], [], dict[int, str]()
    for c, name in enumerate(names):
        if c == time:
            continue
        cells = train.x[:, c]
        if train.x.dtype.kind in "UO" and (name in task.data.categorical or _wordy(cells)):
            known = Counter(cells.tolist())
            if len(known) < 2:
                dropped[c] = "the same everywhere"
            elif len(known) > MOST_WORDS and sum(n > 1 for n in known.values()) < len(known) / 10:
                dropped[c] = f"{len(known)} different words: a name, from which nothing can be learned"
            else:
                words.append(c)
            continue
        values = np.array([number_of(str(cell)) for cell in cells]) if train.x.dtype.kind in "UO" else cells
        there = values[~np.isnan(values)]
        if not len(there) or (there.min() == there.max() and len(there) == len(values)):
            dropped[c] = "the same everywhere" if len(there) else "always missing"
        else:
            numbers.append(c)
    return Columns(tuple(names), tuple(numbers), tuple(words), time, dropped)


def _wordy(cells: NDArray[Any]) -> bool:
    there = [cell for cell in cells.tolist() if cell.strip()]
    bad = sum(np.isnan(number_of(cell)) and cell.strip().lower() != "nan" for cell in there)
    return bool(bad > WORDS_SHARE * len(there))


def _parse(train: Dataset, columns: Columns) -> Parse:
    categories = []
    for c in columns.words:
        often = Counter(train.x[:, c].tolist()).most_common(MOST_WORDS)
        categories.append(Categories(c, tuple(sorted(str(word) for word, _ in often))))
    times = (columns.time,) if columns.time >= 0 else ()
    return Parse(width=train.x.shape[1], categories=tuple(categories), times=times)


def _calendar(train: Dataset, columns: Columns, before: list[Preprocess]) -> Calendar | None:
    """The cycles that the train split has seen enough of; none: the time tells nothing."""
    moments = np.asarray(applied(before, train.x)[:, columns.time], np.float64)
    return calendar_of(moments, columns.time)


def calendar_of(moments: NDArray[np.float64], column: int) -> Calendar | None:
    """The calendar of ``moments`` (n,) in ``column``: cycles that they have seen enough of."""
    there = moments[~np.isnan(moments)]
    if not len(there):
        return None
    span = float(there.max() - there.min())
    cycles: list[Cycle] = ["hour"] if len(np.unique(there % DAY)) > 1 and span >= DAY else []
    cycles += [cycle for cycle, least in SPANS.items() if span >= least]
    return Calendar(column, tuple(cycles), HARMONICS, weekend="weekday" in cycles) if cycles else None


def _layout(
    columns: Columns, calendar: Calendar | None
) -> tuple[tuple[str, ...], tuple[tuple[int, ...], ...], dict[int, int]]:
    """Candidates after parsing and calendar: their names, their columns, and which of these are categories (place ->
    the raw column)."""
    time = columns.time if calendar is not None else -1  # without a calendar it stays, and is no candidate
    names, groups, categories = list[str](), list[tuple[int, ...]](), dict[int, int]()
    for c, name in enumerate(columns.names):
        place = c - (0 <= time < c)
        if c in columns.words:
            categories[place] = c
        if c in columns.words or c in columns.numbers:
            names.append(name)
            groups.append((place,))
    if calendar is not None:
        start, made = len(columns.names) - 1, calendar.names()
        for cycle in (*calendar.cycles, *(("weekend",) if calendar.weekend else ())):
            of = tuple(start + k for k, name in enumerate(made) if name.split(".")[0] == cycle)
            names.append(f"{columns.names[time]}: {cycle}")
            groups.append(of)
    return tuple(names), tuple(groups), categories


def _combinations(
    candidates: Candidates,
    kept: tuple[int, ...],
    table: FeatureTable,
    categories: dict[int, int],
    parts: list[tuple[NDArray[Any], NDArray[Any]]],
    options: dict[str, Any],
) -> tuple[tuple[Pair, ...], tuple[Feature, ...]]:
    """Differences and ratios of the most telling numbers, if they add something."""
    importance = {feature.name: feature.importance or 0.0 for feature in table.features}
    plain = [k for k in kept if len(candidates.columns[k]) == 1 and candidates.columns[k][0] not in categories]
    best = sorted(plain, key=lambda k: -importance[candidates.names[k]])[:PAIRED]
    if len(best) < 2:
        return (), ()
    names, pairs = list[str](), list[Pair]()
    for i, a in enumerate(best):
        for b in best[i + 1 :]:
            first, second = candidates.columns[a][0], candidates.columns[b][0]
            pairs += [Pair("difference", first, second), Pair("ratio", first, second), Pair("ratio", second, first)]
            one, two = candidates.names[a], candidates.names[b]
            names += [f"{one} - {two}", f"{one} / {two}", f"{two} / {one}"]
    made = [(Combine(tuple(pairs))(x), y) for x, y in parts]
    width = parts[0][0].shape[1]
    old = Candidates(tuple(candidates.names[k] for k in kept), tuple(candidates.columns[k] for k in kept))
    wide = Candidates((*old.names, *names), (*old.columns, *((width + k,) for k in range(len(pairs)))))
    common = {"classes": options["classes"], "seed": options["seed"]}
    gain = explained(wide, *made, **common) - explained(old, *parts, **common)
    if gain < GAIN:
        why = f"all combinations together add {gain:.2g} of the variance, less than {GAIN}"
        return (), tuple(Feature(name, None, kept=False, why=why) for name in names)
    after = select(wide, *made, **common)
    rows = tuple(feature for feature in after.table.features if feature.name in names)
    return tuple(pairs[k - len(kept)] for k in after.kept if k >= len(kept)), rows


def _impute(chosen: NDArray[Any]) -> Impute:
    made = Impute.fit(chosen, strategy="median")
    missing = np.isnan(chosen).mean(axis=0)
    values = tuple(float(str(np.float32(value))) for value in made.values)
    return Impute(values, flags=tuple(np.flatnonzero(missing >= FLAG_SHARE).tolist()))
