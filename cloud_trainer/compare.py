"""Whether an answer is right, for every kind of task: what the paired tests of the gates count.

Classes and anomalies are right or wrong. A number is right when it is within a distance of the truth that the parent
keeps for half of the old hold-out; a ranking when the truth is among its first ten.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cloud_trainer.evaluation import Judge, best_variant, run_batch
from cloud_trainer.evaluation.figures import point
from shared.errors import DataError
from shared.manifest import load_manifest

FIRST = 10
"""Places of a ranking that count."""

Fields = Mapping[str, NDArray[Any]]


def distances(judge: Judge, fields: Fields, truth: NDArray[Any]) -> NDArray[np.float64]:
    """(n,) mean absolute distance of an answer's numbers from the truth (n,) or (n, k)."""
    gap = np.abs(point(judge, np.asarray(fields["value"]), truth) - truth)
    found: NDArray[np.float64] = gap.reshape(len(truth), -1).mean(axis=1)
    return found


def right(judge: Judge, fields: Fields, truth: NDArray[Any], within: float) -> NDArray[np.bool_]:
    """(n,) whether each answer is right. ``within``: of numbers, see :func:`distances`."""
    if judge.family == "ranking":
        first = np.asarray(fields["ranked"])[:, :FIRST]
        found: NDArray[np.bool_] = (first == truth[:, None]).any(axis=1)
    elif judge.family == "numbers":
        found = distances(judge, fields, truth) <= within
    elif judge.family == "anomaly":
        found = np.asarray(fields["flag"]).astype(bool) == truth.astype(bool)
    else:
        found = np.asarray(fields["index"]) == truth
    return found


def answers_of(release: Path, x: NDArray[Any], labels: tuple[str, ...]) -> dict[str, NDArray[Any]]:
    """What the release's best variant answers to ``x`` (n, *sample shape).

    Raises:
        DataError: the release has other labels, so that its answers can't be compared.
    """
    manifest = load_manifest(release)
    if manifest.labels != labels:
        raise DataError(f"release {manifest.name}/{manifest.version} has other labels than the data; cannot compare")
    return run_batch(manifest, release, best_variant(manifest), x)
