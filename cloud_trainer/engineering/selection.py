"""Which features are kept: those that tell more about the target than shuffled ones do.

1. **Measure.** ``permutation``: an ensemble of randomized trees (Geurts et al. 2006) is fitted on the train split with
   some shuffled copies of features beside the real ones (the shadow features of Kursa and Rudnicki 2010, "Feature
   Selection with the Boruta Package"). A feature's importance is what its shuffling costs on the validation split
   (Breiman 2001), as a share of the target's variance; of classes, of that of their indicators.
   Raw columns are measured by a linear model as well (``straight``): on a few hundred rows trees do not see what shifts
   the target a little, the same everywhere.
   ``mutual-information``: with the target, in nats (Kraskov et al. 2004), of features and shuffled copies alike.
2. **Choose.** Kept is what is more important, to either model, than the best of the shuffled copies, and costs at least
   a thousandth of the variance (tells at least 0.02 nats).
3. **Check.** Features that say the same hide each other: each alone can be shuffled without loss. So the ensemble is
   fitted once more on what is kept, and while it is worse than with everything by more than ``TOLERANCE``, the best of
   those that were dropped come back. At least one feature is always kept.

On little data (fewer than ``LITTLE`` validation samples) both splits are thrown together and everything is measured on
held-out thirds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from cloud_trainer.kinds.base import Feature, FeatureTable

TOLERANCE = 0.004
"""Of the target's variance: what a selection may cost."""
LEAST_IMPORTANCE = 0.001
LEAST_INFORMATION = 0.02
"""Nats: about as much as the estimate itself scatters on a thousand samples."""
LITTLE, FOLDS = 400, 3
MOST_ROWS = 5000
MOST_MEASURED = 1500
REPEATS = 3
MOST_PROBES = 8
TREES = 40
AT_ONCE = 1 << 16
"""Rows that the ensemble answers in one call: each call has a price."""
MOST_OUTPUTS = 8
MEASURES = {
    "permutation": "share of the target's variance lost when the feature is shuffled (randomized trees, held-out data)",
    "mutual-information": "mutual information with the target, in nats",
    "none": "",
}
Floats = NDArray[np.float64]
Method = Literal["permutation", "mutual-information", "none"]


class Candidates(Struct, frozen=True, eq=False):
    """Features by name; each one is the ``columns`` of a table that belong together (a sine and its cosine)."""

    names: tuple[str, ...]
    columns: tuple[tuple[int, ...], ...]


class Selected(Struct, frozen=True, eq=False):
    """``kept``: places of the candidates, rising; ``table`` for the report. ``strong``: those kept that not the linear
    model alone has asked for."""

    kept: tuple[int, ...]
    table: FeatureTable
    strong: tuple[int, ...] = ()


def select(
    candidates: Candidates,
    train: tuple[NDArray[Any], NDArray[Any]],
    validation: tuple[NDArray[Any], NDArray[Any]],
    *,
    classes: int = 0,
    method: Method = "permutation",
    max_features: int = 0,
    straight: bool = False,
    seed: int = 0,
) -> Selected:
    """What to keep of ``candidates``. ``train`` and ``validation``: x (n, columns) numbers, NaN where one is missing;
    y (n,) of ``classes`` classes, or numbers (n,) or (n, k). ``max_features``: at most so many of the best; 0: any."""
    count = len(candidates.names)
    if method == "none" and (not max_features or max_features >= count):
        rows = tuple(Feature(name, None, kept=True, why="not measured") for name in candidates.names)
        return Selected(tuple(range(count)), FeatureTable(rows, ""), tuple(range(count)))
    x, y, folds = _arranged(train, validation, classes, seed)
    how: Method = "mutual-information" if method == "mutual-information" else "permutation"
    measure = _mutual_information if how == "mutual-information" else _permutation
    importance, noise = measure(candidates.columns, x, y, folds, classes, seed)
    above = importance > noise
    weak = np.zeros(count, bool)
    if straight and how == "permutation":
        other, least = _permutation(candidates.columns, x, y, folds, classes, seed, _straight)
        weak = (other > least) & ~above
        above |= weak
        importance = np.where(other > least, np.maximum(importance, other), importance)
    order = sorted(range(count), key=lambda k: (not above[k], -importance[k]))
    kept = order if method == "none" else [k for k in order if above[k]]
    kept = kept or order[:1]
    back: list[int] = []
    if method != "none" and len(kept) < count:
        score = _score(candidates.columns, range(count), x, y, folds, seed)
        dropped = [k for k in order if k not in kept]
        while dropped and _score(candidates.columns, [*kept, *back], x, y, folds, seed) < score - TOLERANCE:
            step = max(1, len(dropped) // 4)
            back, dropped = [*back, *dropped[:step]], dropped[step:]
    kept = [*kept, *back]
    if max_features:
        kept = [k for k in order if k in kept][:max_features]
    rows = tuple(
        _row(candidates.names[k], float(importance[k]), noise, k in kept, k in back, above=bool(above[k]))
        for k in order
    )
    strong = tuple(k for k in sorted(kept) if not weak[k])
    return Selected(tuple(sorted(kept)), FeatureTable(rows, MEASURES[how]), strong)


def explained(
    candidates: Candidates,
    train: tuple[NDArray[Any], NDArray[Any]],
    validation: tuple[NDArray[Any], NDArray[Any]],
    *,
    classes: int = 0,
    seed: int = 0,
) -> float:
    """Share of the target's variance that the ensemble explains with all ``candidates``."""
    x, y, folds = _arranged(train, validation, classes, seed)
    return _score(candidates.columns, range(len(candidates.names)), x, y, folds, seed)


def _row(name: str, importance: float, noise: float, kept: bool, back: bool, *, above: bool) -> Feature:
    if kept:
        why = (
            "tells more than chance" if above else "without it and its like the rest does worse" if back else "the best"
        )
    else:
        why = "features.max_features" if above or back else f"tells no more than shuffled features do ({noise:.2g})"
    return Feature(name, float(f"{importance:.3g}"), kept, why)


Folds = list[tuple[NDArray[np.intp], NDArray[np.intp]]]


def _arranged(
    train: tuple[NDArray[Any], NDArray[Any]], validation: tuple[NDArray[Any], NDArray[Any]], classes: int, seed: int
) -> tuple[NDArray[np.float32], Floats, Folds]:
    """All samples, the target as numbers (n, k), and which samples are fitted on and which measured on."""
    random = np.random.default_rng(seed)
    little = len(validation[1]) < LITTLE
    parts = [
        (random.permutation(len(part[1]))[:most], part)
        for part, most in ((train, MOST_ROWS), (validation, MOST_MEASURED))
    ]
    x = np.concatenate([np.asarray(part[0])[index] for index, part in parts]).astype(np.float32)
    y = np.concatenate([np.asarray(part[1])[index] for index, part in parts])
    fitted = len(parts[0][0])
    if classes:
        y = np.eye(classes)[np.asarray(y, np.intp)][:, : 1 if classes == 2 else classes]
    y = np.asarray(y, np.float64).reshape(len(y), -1)
    y = y[:, np.linspace(0, y.shape[1] - 1, min(y.shape[1], MOST_OUTPUTS)).round().astype(int)]
    if not little:
        return x, y, [(np.arange(fitted), np.arange(fitted, len(y)))]
    pieces = np.array_split(random.permutation(len(y)), FOLDS)
    return x, y, [(np.concatenate([p for p in pieces if p is not piece]), piece) for piece in pieces if len(piece)]


def _ensemble(x: NDArray[np.float32], y: Floats, seed: int) -> Any:
    from sklearn.ensemble import ExtraTreesRegressor

    leaf = 1 if len(x) < 500 else 3
    model = ExtraTreesRegressor(TREES, min_samples_leaf=leaf, random_state=seed, n_jobs=1)
    return model.fit(x, y if y.shape[1] > 1 else y[:, 0])


def _straight(x: NDArray[np.float32], y: Floats, seed: int) -> Any:
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    del seed
    steps = (SimpleImputer(keep_empty_features=True), StandardScaler(), Ridge(1.0))
    return make_pipeline(*steps).fit(x.astype(np.float64), y)


def _explained(model: Any, x: NDArray[np.float32], y: Floats) -> float:
    """Share of the variance of ``y`` that the model's answers explain."""
    return _share(model.predict(x).reshape(y.shape), y)


def _share(answer: Floats, y: Floats) -> float:
    total = float(((y - y.mean(axis=0)) ** 2).sum())
    return 1 - float(((y - answer) ** 2).sum()) / total if total > 0 else 0.0


def _permutation(
    columns: Sequence[tuple[int, ...]],
    x: NDArray[np.float32],
    y: Floats,
    folds: Folds,
    classes: int,
    seed: int,
    fit: Callable[[NDArray[np.float32], Floats, int], Any] | None = None,
) -> tuple[Floats, float]:
    """Importance of each candidate to what ``fit`` gives (the ensemble), and that of the best shuffled copy."""
    del classes
    random = np.random.default_rng(seed + 1)
    which = random.permutation(len(columns))[: max(3, min(MOST_PROBES, len(columns)))]
    probes = [x[random.permutation(len(x))][:, columns[k]] for k in which]
    wide = np.concatenate([x, *probes], axis=1)
    groups, at = [*columns], x.shape[1]
    for probe in probes:
        groups.append(tuple(range(at, at + probe.shape[1])))
        at += probe.shape[1]
    lost = np.zeros((len(folds), len(groups)))
    for i, (fitted, measured) in enumerate(folds):
        model = (fit or _ensemble)(wide[fitted], y[fitted], seed)
        held, truth = wide[measured], y[measured]
        whole = _explained(model, held, truth)
        step = max(1, AT_ONCE // (len(held) * REPEATS))
        for start in range(0, len(groups), step):
            some = groups[start : start + step]
            shuffled = np.tile(held, (len(some) * REPEATS, 1, 1))
            for k, copy in enumerate(shuffled):
                columns_of_one = some[k // REPEATS]
                copy[:, columns_of_one] = held[random.permutation(len(held))][:, columns_of_one]
            answers = model.predict(shuffled.reshape(-1, held.shape[1])).reshape(len(some), REPEATS, *truth.shape)
            left = [np.mean([_share(answer, truth) for answer in each]) for each in answers]
            lost[i, start : start + step] = whole - np.array(left)
    mean = lost.mean(axis=0)
    noise = max(float(mean[len(columns) :].max(initial=0.0)), LEAST_IMPORTANCE)
    return mean[: len(columns)], noise


def _mutual_information(
    columns: Sequence[tuple[int, ...]],
    x: NDArray[np.float32],
    y: Floats,
    folds: Folds,
    classes: int,
    seed: int,
) -> tuple[Floats, float]:
    """As :func:`_permutation`; of a candidate of several columns that of the best."""
    from sklearn.feature_selection import mutual_info_classif, mutual_info_regression

    del folds
    random = np.random.default_rng(seed + 1)
    rows = random.permutation(len(x))[:MOST_MEASURED]
    filled = np.nan_to_num(x, nan=float(np.nanmin(x, initial=0.0)) - 1)[rows]
    target = y[rows].argmax(axis=1) if classes and y.shape[1] > 1 else y[rows].mean(axis=1)
    which = random.integers(x.shape[1], size=MOST_PROBES)
    probes = np.stack([random.permutation(filled[:, k]) for k in which], axis=1)
    find = mutual_info_classif if classes else mutual_info_regression
    found = find(np.concatenate([filled, probes], axis=1), target.astype(int) if classes else target, random_state=seed)
    each = np.array([max(found[c] for c in group) for group in columns])
    return each, max(float(found[x.shape[1] :].max()), LEAST_INFORMATION)


def _score(
    columns: Sequence[tuple[int, ...]],
    which: Sequence[int],
    x: NDArray[np.float32],
    y: Floats,
    folds: Folds,
    seed: int,
) -> float:
    """Share of the variance that the ensemble explains with candidates ``which``."""
    index = [c for k in sorted(which) for c in columns[k]]
    found = [_explained(_ensemble(x[a][:, index], y[a], seed), x[b][:, index], y[b]) for a, b in folds]
    return float(np.mean(found))
