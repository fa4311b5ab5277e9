"""The one score that quantized files of a model from elsewhere are judged by, from what the engine answered."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.errors import DataError

Fields = Mapping[str, NDArray[Any]]


def measure_of(task: str, fields: Fields, truth: NDArray[Any] | None) -> str:
    """What :func:`score_of` gives, for reports."""
    if truth is not None and task.endswith("classification"):
        return "accuracy"
    if truth is not None and task in {"regression", "forecast"}:
        return "r2"
    return "same answers as fp32" if "index" in fields or "label" in fields else "r2 against fp32"


def score_of(
    task: str,
    output: str,
    fields: Fields,
    float_fields: Fields,
    truth: NDArray[Any] | None,
    labels: tuple[str, ...] = (),
) -> float:
    """At most 1, higher is better: accuracy of a classifier, R² of numbers; without a truth, how well ``fields`` agree
    with the float file's, as share of the same classes or as R² of the ``output`` tensor.

    >>> fields = {"index": np.array([0, 1, 1]), "logits": np.zeros((3, 2))}
    >>> score_of("classification", "logits", fields, fields, np.array([0, 1, 0]))
    0.6666666666666666
    >>> score_of("classification", "logits", fields, fields, None)
    1.0
    """
    measure = measure_of(task, fields, truth)
    if measure == "accuracy":
        assert truth is not None
        if "index" in fields:
            return float((fields["index"] == truth).mean())
        return float((fields["label"] == np.asarray(labels)[truth]).mean())
    if measure == "r2":
        assert truth is not None
        return determination(truth, fields["value"])
    if measure == "same answers as fp32":
        key = "index" if "index" in fields else "label"
        return float((fields[key] == float_fields[key]).mean())
    return determination(float_fields[output], fields[output])


def determination(wanted: NDArray[Any], found: NDArray[Any]) -> float:
    """R², over all numbers; 1 where there is nothing to explain and nothing is missed.

    >>> determination(np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0, 3.0]))
    1.0

    Raises:
        DataError: other numbers of numbers.
    """
    wanted = np.asarray(wanted, np.float64).reshape(len(wanted), -1)
    found = np.asarray(found, np.float64)
    if found.size != wanted.size:
        raise DataError(f"y has {wanted.shape[1]} numbers a sample, but the model answers {found.size // len(wanted)}")
    found = found.reshape(wanted.shape)
    missed = float(np.square(found - wanted).sum())
    spread = float(np.square(wanted - wanted.mean(0)).sum())
    if spread == 0:
        return 1.0 if missed == 0 else 0.0
    return 1 - missed / spread
