"""How the score falls when samples go wrong: under each corruption and severity, through the engine of one variant."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from cloud_trainer.corruptions import SEVERITIES, Corruption, corruptions_for
from cloud_trainer.data import Dataset
from cloud_trainer.evaluation.figures import Judge, answer_of, figures
from cloud_trainer.progress import Progress, silent
from edge_agent.engine import Engine
from shared.errors import InputError
from shared.manifest import Manifest, Variant

SAMPLES = 500
Answer = Callable[[NDArray[Any]], NDArray[Any] | None]
"""Raw samples (n, *shape) -> what :func:`cloud_trainer.evaluation.figures.answer_of` gave."""


class RobustRow(Struct, frozen=True):
    """One corruption: the score at severities 1 to 5; ``None`` where the pipeline refuses such samples."""

    name: str
    what: str
    scores: tuple[float | None, ...]


class Robustness(Struct, frozen=True):
    """``clean``: the score of the same ``samples`` as they are. ``metric``: what the score is."""

    variant: str
    metric: str
    clean: float
    samples: int
    rows: tuple[RobustRow, ...]

    @property
    def mean(self) -> float:
        """Mean score over all corruptions and severities that gave one."""
        known = [score for row in self.rows for score in row.scores if score is not None]
        return float(np.mean(known)) if known else self.clean


def robustness(
    answer: Answer,
    data: Dataset,
    corruptions: Sequence[Corruption],
    judge: Judge,
    *,
    variant: str = "",
    keep: tuple[int, ...] = (),
    limit: int = SAMPLES,
    seed: int = 0,
    progress: Progress = silent,
) -> Robustness | None:
    """Scores of at most ``limit`` samples of ``data``, drawn by ``seed``, whole groups of a ranking in long form.
    ``keep``: places of the samples' last axis that are never corrupted. ``None`` where no corruption fits or the clean
    answers have no score."""
    rows = _some(judge, data, limit, seed)
    part = data.take(rows)
    clean = _score(answer, judge, part, part.x)
    if not corruptions or clean is None:
        return None
    found = []
    for i, corruption in enumerate(corruptions):
        progress("robustness", i / len(corruptions), corruption.name)
        scores = []
        for severity in SEVERITIES:
            rng = np.random.default_rng([seed, i, severity])
            scores.append(_score(answer, judge, part, corruption(part.x, severity, rng, part.x, keep)))
        found.append(RobustRow(corruption.name, corruption.what, tuple(scores)))
    return Robustness(variant, judge.score, clean, len(part), tuple(found))


def robustness_of_variant(
    manifest: Manifest,
    release: Path,
    variant: Variant,
    data: Dataset,
    kind: str,
    judge: Judge,
    *,
    keep: tuple[int, ...] = (),
    limit: int = SAMPLES,
    seed: int = 0,
    progress: Progress = silent,
) -> Robustness | None:
    """:func:`robustness` of one variant of a release for a ``kind`` of task (as in ``task.toml``)."""
    engine = Engine(manifest, release, variant, threads=1)
    try:
        return robustness(
            lambda x: answer_of(manifest.task, engine.outputs(x)),
            data,
            corruptions_for(kind, data.x),
            judge,
            variant=variant.id,
            keep=keep,
            limit=limit,
            seed=seed,
            progress=progress,
        )
    finally:
        engine.close()


def _score(answer: Answer, judge: Judge, part: Dataset, x: NDArray[Any]) -> float | None:
    try:
        found = answer(x)
    except InputError:
        return None
    if found is None:
        return None
    quality = figures(judge, found, part.y, part.groups)
    return quality.get(judge.score)


def _some(judge: Judge, data: Dataset, limit: int, seed: int) -> NDArray[np.intp]:
    rng = np.random.default_rng(seed)
    if judge.family == "ranking" and data.y.dtype.kind == "f" and data.groups is not None:
        names, group_of, counts = np.unique(data.groups, return_inverse=True, return_counts=True)
        order = rng.permutation(len(names))
        chosen = order[: max(1, int((np.cumsum(counts[order]) <= limit).sum()))]
        return np.flatnonzero(np.isin(group_of, chosen))
    return np.sort(rng.permutation(len(data))[:limit])
