"""How good a variant is, measured through ``edge_agent.Engine``: what stands in a manifest is what a device gets.

Figures are pure functions of scores and truth; only :func:`run_variant` runs a model.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from cloud_trainer.gates import LEVEL, binomial_tail
from edge_agent.backends import available
from edge_agent.engine import Engine
from shared.drift import HeldOut
from shared.errors import DataError, NoVariantError
from shared.manifest import Manifest, Variant, load_manifest

Floats = NDArray[np.floating[Any]]
Truth = NDArray[np.int64]
Fields = dict[str, NDArray[Any]]

CALIBRATION_BINS = 15
BINS, BIN_MINIMUM, BIN_DISTANCE = 10, 30, 0.03
Z95 = 1.959964


def run_variant(
    manifest: Manifest, release: Path, variant: Variant, parts: Mapping[str, NDArray[Any]]
) -> dict[str, Fields]:
    """Every part (n, *sample shape) through one variant: part -> field (``logits``, ``scores``, ``index``, ...).

    Sample by sample, as a device does it: a batch may round in another order, and confidences close to 1 show that.

    Raises:
        BackendError: the runtime refuses the file, or the model gives NaN.
    """
    engine = Engine(manifest, release, variant, threads=1)
    try:
        return {name: _one_by_one(engine, x) for name, x in parts.items()}
    finally:
        engine.close()


def _one_by_one(engine: Engine, x: NDArray[Any]) -> Fields:
    rows = [engine.infer(sample).outputs for sample in x]
    return {field: np.asarray([row[field] for row in rows]) for field in rows[0]}


def run_batch(manifest: Manifest, release: Path, variant: Variant, x: NDArray[Any]) -> Fields:
    """Like :func:`run_variant` for one part, in bulk: where rounding does not matter.

    Raises:
        BackendError: the runtime refuses the file.
    """
    engine = Engine(manifest, release, variant, threads=1)
    try:
        return engine.outputs(x)
    finally:
        engine.close()


def best_variant(manifest: Manifest) -> Variant:
    """The one with the highest measured accuracy among those that this machine can run; the first of equals.

    Raises:
        NoVariantError: no runtime of this release is installed.
    """
    runtimes, machine = available(), platform.machine()
    candidates = [
        variant
        for variant in manifest.variants
        if variant.runtime in runtimes and (not variant.meant_for or machine in variant.meant_for)
    ]
    if not candidates:
        raise NoVariantError(
            f"release {manifest.name}/{manifest.version} needs one of "
            + ", ".join(sorted({variant.runtime for variant in manifest.variants}))
            + "; none is installed here"
        )
    return max(candidates, key=lambda variant: variant.quality.get("accuracy", 0.0))


def right_answers(release: Path, x: NDArray[Any], y: Truth, labels: tuple[str, ...]) -> NDArray[np.bool_]:
    """(n,) whether the release's best variant answers each sample right.

    Raises:
        DataError: the release has other labels, so that its answers can't be compared.
    """
    manifest = load_manifest(release)
    if manifest.labels != labels:
        raise DataError(f"release {manifest.name}/{manifest.version} has other labels than the data; cannot compare")
    index = run_batch(manifest, release, best_variant(manifest), x)["index"]
    right: NDArray[np.bool_] = index == y
    return right


def softmax(logits: Floats, temperature: float = 1.0) -> Floats:
    """(n, classes) -> probabilities."""
    scaled = logits.astype(np.float64) / temperature
    exp = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    scores: Floats = exp / exp.sum(axis=1, keepdims=True)
    return scores


def negative_log_likelihood(scores: Floats, y: Truth) -> float:
    """Mean of ``-log(score of the right class)``, in nats; a score of 0 counts as the smallest float32."""
    chosen = scores[np.arange(len(y)), y].astype(np.float64)
    return float(-np.log(np.maximum(chosen, np.finfo(np.float32).tiny)).mean())


def calibration_error(scores: Floats, y: Truth) -> float:
    """Expected calibration error: mean distance of confidence and accuracy over 15 bins of equal width (Naeini et al.
    2015), weighted by their samples."""
    confidence, right = scores.max(axis=1), scores.argmax(axis=1) == y
    bins = np.minimum((confidence * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    distance = np.bincount(bins, weights=confidence - right, minlength=CALIBRATION_BINS)
    return float(np.abs(distance).sum() / len(y))


class Bins(Struct, frozen=True, eq=False):
    """Samples grouped by confidence, (bins,) each: their number, mean confidence, share of right answers, and the
    latter's 95 % interval."""

    samples: NDArray[np.int64]
    confidence: Floats
    accuracy: Floats
    low: Floats
    high: Floats


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
    middle = (share + Z95**2 / (2 * n)) / (1 + Z95**2 / n)
    half = Z95 * np.sqrt(share * (1 - share) / n + (Z95 / (2 * n)) ** 2) / (1 + Z95**2 / n)
    mean = np.asarray([confidence[group].mean() for group in groups])
    return Bins(n, mean, share, np.maximum(middle - half, 0.0), np.minimum(middle + half, 1.0))


def fit_temperature(logits: Floats, y: Truth) -> float:
    """The temperature with the smallest negative log likelihood on held-out samples (Guo et al. 2017).

    The likelihood is convex in 1 / T; a golden-section search over T in [0.05, 20], logarithmic, finds it.
    """
    ratio = (np.sqrt(5.0) - 1) / 2
    low, high = np.log(0.05), np.log(20.0)
    left, right = high - ratio * (high - low), low + ratio * (high - low)

    def cost(log_temperature: float) -> float:
        return negative_log_likelihood(softmax(logits, float(np.exp(log_temperature))), y)

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


def held_out(fields: Mapping[str, NDArray[Any]], truth: NDArray[Any], labels: Sequence[str]) -> HeldOut:
    """How good the answers ``fields``, each (n, ...), to held-out samples were, for devices to compare theirs with:
    ``truth`` (n,) are classes of ``labels`` by index, or numbers where the answers are single numbers; nothing for
    other answers. An answer is right when its label is: one that says "unsure" is not."""
    value, scores = fields.get("value"), fields.get("scores")
    if "label" in fields and labels and truth.dtype.kind in "iu":
        right = fields["label"] == np.asarray(labels)[truth]
        return HeldOut.of_classes(right, None if scores is None else scores.max(axis=1))
    if value is not None and value.dtype.kind == "f" and value.shape == truth.shape == (len(truth),):
        return HeldOut.of_numbers(np.abs(value.astype(np.float64) - truth))
    return HeldOut()


def figures(scores: Floats, y: Truth) -> dict[str, float]:
    """``accuracy`` (0 to 1), ``nll`` (nats), ``ece`` (0 to 1) and ``samples``, rounded for reading."""
    return {
        "accuracy": round(float((scores.argmax(axis=1) == y).mean()), 6),
        "nll": round(negative_log_likelihood(scores, y), 6),
        "ece": round(calibration_error(scores, y), 6),
        "samples": float(len(y)),
    }


def confusion(predicted: NDArray[Any], y: Truth, classes: int) -> NDArray[np.int64]:
    """(classes, classes): rows are the truth, columns the answers."""
    return np.bincount(y * classes + predicted, minlength=classes * classes).reshape(classes, classes).astype(np.int64)


def chance_warning(predicted: NDArray[Any], y: Truth, labels: tuple[str, ...], level: float = LEVEL) -> str | None:
    """What is wrong with answers ``predicted`` (n,) that are not significantly more often right than the most frequent
    class of ``y`` would be if it were always the answer; ``None`` for others."""
    counts = np.bincount(y, minlength=len(labels))
    right, most = int((predicted == y).sum()), int(counts.argmax())
    share = float(counts[most] / len(y))
    if binomial_tail(right, len(y), share) < level:
        return None
    return (
        f"no better than chance: right on {right / len(y):.1%} of {len(y):,} test samples, and always saying "
        f"{labels[most]!r} would be right on {share:.1%}"
    )


def left_out(int8: float, fp32: float, gate_points: float) -> str | None:
    """Why an int8 variant of accuracy ``int8`` is left out beside its fp32 student; ``None`` if it is kept."""
    points = 100 * (fp32 - int8)
    if points <= gate_points + 1e-9:
        return None
    return f"accuracy {int8:.2%} is {points:.2f} points below fp32's {fp32:.2%}; at most {gate_points:g} are allowed"
