"""Whether confidence is honest: temperature scaling, calibration error, reliability. Pure functions."""

from __future__ import annotations

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from cloud_trainer.evaluation.classes import Floats, Truth, wilson

CALIBRATION_BINS = 15
BINS, BIN_MINIMUM, BIN_DISTANCE = 10, 30, 0.03


class Bins(Struct, frozen=True, eq=False):
    """Samples grouped by confidence, (bins,) each: their number, mean confidence, share of right answers, and the
    latter's 95 % interval."""

    samples: NDArray[np.int64]
    confidence: Floats
    accuracy: Floats
    low: Floats
    high: Floats


def softmax(logits: Floats, temperature: float = 1.0) -> Floats:
    """(n, classes) -> probabilities."""
    scaled = logits.astype(np.float64) / temperature
    exp = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    scores: Floats = exp / exp.sum(axis=1, keepdims=True)
    return scores


def calibration_error(scores: Floats, y: Truth) -> float:
    """Expected calibration error: mean distance of confidence and accuracy over 15 bins of equal width (Naeini et al.
    2015), weighted by their samples."""
    confidence, right = scores.max(axis=1), scores.argmax(axis=1) == y
    bins = np.minimum((confidence * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    distance = np.bincount(bins, weights=confidence - right, minlength=CALIBRATION_BINS)
    return float(np.abs(distance).sum() / len(y))


def calibration_bins(scores: Floats, y: Truth) -> Bins:
    """At most ten bins of equally many samples, at least 30, with Wilson's score interval (1927): bins of equal width
    would mostly hold a handful of samples, and show their chance. Neighbours that no eye could tell apart are one: a
    model that is sure of nearly everything would have nearly all of its bins at 1."""
    confidence, right = scores.max(axis=1), scores.argmax(axis=1) == y
    bins = int(np.clip(len(y) // BIN_MINIMUM, 1, BINS))
    groups: list[NDArray[np.intp]] = []
    for group in np.array_split(np.argsort(confidence, kind="stable"), bins):
        if groups and confidence[group].mean() - confidence[groups[-1]].mean() < BIN_DISTANCE:
            groups[-1] = np.concatenate([groups[-1], group])
        else:
            groups.append(group)
    n = np.asarray([len(group) for group in groups])
    share = np.asarray([right[group].mean() for group in groups])
    low, high = wilson(np.asarray([right[group].sum() for group in groups]), n)
    mean = np.asarray([confidence[group].mean() for group in groups])
    return Bins(n, mean, share, low, high)


def fit_temperature(logits: Floats, y: Truth) -> float:
    """The temperature with the smallest negative log likelihood on held-out samples (Guo et al. 2017).

    Samples that are all answered right would make every answer certain, however few they are. So the truth is taken to
    be the class that was given with (n + 1) / (n + 2), as Platt (1999) does, and any other alike with the rest.
    The likelihood is convex in 1 / T; a golden-section search over T in [0.05, 20], logarithmic, finds it.
    """
    classes = logits.shape[1]
    doubt = 1 / (len(y) + 2) if classes > 1 else 0.0
    truth = np.full(logits.shape, doubt / max(classes - 1, 1))
    truth[np.arange(len(y)), y] = 1 - doubt
    ratio = (np.sqrt(5.0) - 1) / 2
    low, high = np.log(0.05), np.log(20.0)
    left, right = high - ratio * (high - low), low + ratio * (high - low)

    def cost(log_temperature: float) -> float:
        scaled = logits.astype(np.float64) / np.exp(log_temperature)
        scaled -= scaled.max(axis=1, keepdims=True)
        return float(np.mean(np.log(np.exp(scaled).sum(axis=1)) - (truth * scaled).sum(axis=1)))

    cost_left, cost_right = cost(left), cost(right)
    while high - low > 1e-3:
        if cost_left < cost_right:
            high, right, cost_right = right, left, cost_left
            left = high - ratio * (high - low)
            cost_left = cost(left)
        else:
            low, left, cost_left = left, right, cost_right
            right = low + ratio * (high - low)
            cost_right = cost(right)
    return round(float(np.exp((low + high) / 2)), 4)


def untempered(scores: Floats, temperature: float) -> Floats:
    """Scores (n, classes) as they would be without their temperature: what the reliability was before.

    ``softmax(logits / T) ** T`` is ``softmax(logits)`` but for its sum. A score of 0 stays 0.

    >>> untempered(softmax(np.array([[2.0, 0.0]]), 2.0), 2.0).round(6) == softmax(np.array([[2.0, 0.0]])).round(6)
    array([[ True,  True]])
    """
    powered = scores.astype(np.float64) ** temperature
    found: Floats = powered / powered.sum(axis=1, keepdims=True)
    return found
