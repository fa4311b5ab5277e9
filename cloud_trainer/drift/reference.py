"""The reference of a comparison: fitted on a file, or a profile that was saved."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from cloud_trainer.drift import cells
from cloud_trainer.drift.cells import Odd
from cloud_trainer.drift.ordered import Show, Times, blocks, times_of
from cloud_trainer.drift.scalars import Choice, Plan, plan
from cloud_trainer.drift.tables import Table
from shared.drift import ReferenceProfile
from shared.drift.arrays import load_arrays, save_arrays, take
from shared.drift.bins import CATEGORY
from shared.drift.profile import LEAST_ROWS
from shared.errors import ProfileError, UsageError

ROWS_MAX = 200_000
"""A longer reference is thinned to so many rows, drawn at random; of a time-ordered one the last are taken."""
RESEMBLE = 0.2
_WORDS, _CODES, _SHOWN = "category_words", "category_codes", "shown_"


class Reference(Struct, frozen=True, eq=False):
    """``profile`` and what it was made of. ``shown``: what effects and pictures are measured against, in the data's own
    units: the same, but for a time-ordered profile, whose bins are of residuals, a plain one of the same rows.
    ``rows``: in the file, 0 for a saved profile; ``used``: of those; ``words``: code of a category -> how it is
    written; ``ordered``: rows were taken in the order of time; ``resembling``: column -> correlation of neighbouring
    rows, where they resemble each other and nothing models it."""

    profile: ReferenceProfile
    shown: ReferenceProfile
    path: str
    rows: int = 0
    used: int = 0
    words: dict[float, str] = {}
    ordered: bool = False
    resembling: dict[str, float] = {}


def fit(
    table: Table, choice: Choice, odd: dict[str, Odd], show: Show, *, ordered: bool, bins: int = 16
) -> tuple[Reference, Plan]:
    """Learn the reference from a table.

    Args:
        table: at least 50 rows.
        choice: columns, and which of them is the time.
        odd: takes note of cells that are no numbers.
        show: told how far it is.
        ordered: neighbouring rows depend on each other, in the order of ``choice.time``.
        bins: of each value.

    Raises:
        UsageError: fewer than 50 rows, a column with too few values, or a file that can't be read.
    """
    chosen = plan(table, choice)
    times = times_of(table, choice.time, show) if choice.time else None
    rows, seen, resembling = _collect(table, chosen, times, odd, show, ordered=ordered)
    if seen < LEAST_ROWS:
        raise UsageError(f"{table.path}: a reference of {seen} rows; at least {LEAST_ROWS} are needed")
    try:
        names = [scalar.name for scalar in chosen.scalars]
        profile = shown = ReferenceProfile.fit(rows, names, bins, ordered, kinds=chosen.kinds)
        if ordered:
            shown = ReferenceProfile.fit(rows, names, bins, kinds=chosen.kinds)
    except ProfileError as error:
        raise UsageError(f"{table.path}: {error}") from error
    words = _words(table, chosen, shown)
    found = Reference(profile, shown, str(table.path), seen, len(rows), words, ordered, {} if ordered else resembling)
    return found, chosen


def save(reference: Reference, path: Path) -> None:
    """Write the profile, with what the report needs beside it, as ``.npz``; ``ReferenceProfile.load`` reads it,
    too.

    Raises:
        UsageError: the file can't be written.
    """
    arrays = reference.profile.to_arrays()
    if reference.shown is not reference.profile:
        arrays |= {_SHOWN + name: array for name, array in reference.shown.to_arrays().items()}
    if reference.words:
        arrays[_CODES] = np.array(list(reference.words))
        arrays[_WORDS] = np.array(list(reference.words.values()))
    try:
        save_arrays(path, arrays)
    except ProfileError as error:
        raise UsageError(str(error)) from error


def load(path: Path) -> Reference:
    """A saved profile.

    Raises:
        UsageError: it is damaged or of another version.
    """
    try:
        arrays = load_arrays(path)
        profile = shown = ReferenceProfile.from_arrays(arrays)
        if plain := {n.removeprefix(_SHOWN): array for n, array in arrays.items() if n.startswith(_SHOWN)}:
            shown = ReferenceProfile.from_arrays(plain)
        words: dict[float, str] = {}
        if _WORDS in arrays:
            words = dict(zip(take(arrays, _CODES, "f").tolist(), take(arrays, _WORDS, "U").tolist(), strict=False))
    except ProfileError as error:
        raise UsageError(f"{path}: {str(error).removeprefix(f'{path}: ')}") from error
    return Reference(profile, shown, str(path), words=words)


def _collect(
    table: Table, chosen: Plan, times: Times | None, odd: dict[str, Odd], show: Show, *, ordered: bool
) -> tuple[NDArray[np.float64], int, dict[str, float]]:
    """At most ROWS_MAX rows, how many there were, and which columns' neighbours resemble each other."""
    rng, seen = np.random.default_rng(0), 0
    rows, keys = [np.empty((0, len(chosen.scalars)))], [np.empty(0)]
    resembling: dict[str, float] = {}
    for block in blocks(table, chosen, times, odd):
        new = len(block.rows)
        if not seen:
            resembling = _resembling(block.rows, chosen)
        # the smallest keys are a random sample; the largest places are the last rows
        keys.append(-np.arange(seen, seen + new, dtype=np.float64) if ordered else rng.random(new))
        rows.append(block.rows)
        seen += new
        if sum(map(len, keys)) > 2 * ROWS_MAX:
            rows, keys = _least(rows, keys)
        show(block.fraction, f"{table.path.name}: {seen:,} rows")
    return _least(rows, keys)[0][0], seen, resembling


def _least(
    rows: list[NDArray[np.float64]], keys: list[NDArray[np.float64]]
) -> tuple[list[NDArray[np.float64]], list[NDArray[np.float64]]]:
    """The ROWS_MAX rows with the smallest keys, in their order."""
    all_rows, all_keys = np.concatenate(rows), np.concatenate(keys)
    if len(all_keys) > ROWS_MAX:
        least = np.sort(np.argpartition(all_keys, ROWS_MAX)[:ROWS_MAX])
        all_rows, all_keys = all_rows[least], all_keys[least]
    return [all_rows], [all_keys]


def _resembling(rows: NDArray[np.float64], chosen: Plan) -> dict[str, float]:
    """Columns of values whose correlation with the row before is above RESEMBLE and beyond chance."""
    found = {}
    for k, scalar in enumerate(chosen.scalars):
        column = rows[:, k]
        both = np.isfinite(column[:-1]) & np.isfinite(column[1:])
        a, b = column[:-1][both], column[1:][both]
        if scalar.kind == CATEGORY or len(a) < LEAST_ROWS or a.std() == 0 or b.std() == 0:
            continue
        correlation = float(np.corrcoef(a, b)[0, 1])
        if correlation > max(RESEMBLE, 4 / np.sqrt(len(a))):
            found[scalar.name] = correlation
    return found


def _words(table: Table, chosen: Plan, profile: ReferenceProfile) -> dict[float, str]:
    """How the categories that have a bin of their own are written."""
    wanted = {}
    for scalar, column in zip(chosen.scalars, profile.columns, strict=False):
        if scalar.kind == CATEGORY and (codes := {code for code in column.edges.tolist() if code <= -1 << 47}):
            wanted[scalar.column] = codes
    found: dict[float, str] = {}
    for chunk in table.chunks(list(wanted)) if wanted else ():
        for name, codes in wanted.items():
            for cell in set(chunk.columns[name].tolist()):
                word = cells.word_of(cell)
                if word is not None and (code := cells.code_of(word)) in codes:
                    found[code] = word
        if all(code in found for codes in wanted.values() for code in codes):
            break
    return found
