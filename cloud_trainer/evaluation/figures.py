"""The figures of every kind of task: which ones, in which order, and how sure they are.

The first one is the task's score, at most 1 and higher is better: accuracy of classes, R² of numbers, AUC of anomalies,
NDCG@10 of rankings. It is what variants are compared by, on devices too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from cloud_trainer import metrics
from cloud_trainer.evaluation import bootstrap, numbers, ranks
from cloud_trainer.evaluation.bootstrap import Interval, Statistic
from cloud_trainer.evaluation.calibration import calibration_error
from cloud_trainer.evaluation.classes import (
    auc_of_classes,
    balanced_accuracy,
    confusion,
    log_loss,
    log_losses,
    macro_f1,
)
from shared.errors import DataError

K = 10
SHARES = frozenset({"accuracy", "hit_rate"})


class Judge(Struct, frozen=True):
    """What a task's figures need beside answers and truth. ``task``: the manifest's. ``threshold``: from which an
    anomaly's score is an alarm. ``quantiles``: the answer is (n, quantiles * numbers). ``scale``: what
    :func:`cloud_trainer.evaluation.numbers.naive_scale` gave, for MASE; 0: none. ``k``: of a ranking's first places."""

    task: str
    threshold: float | None = None
    quantiles: tuple[float, ...] = ()
    scale: float = 0.0
    k: int = K

    @property
    def family(self) -> str:
        """``classes``, ``numbers``, ``anomaly``, ``ranking``, or empty for tasks without figures."""
        if self.task.endswith("classification"):
            return "classes"
        return {"regression": "numbers", "forecast": "numbers", "anomaly": "anomaly", "ranking": "ranking"}.get(
            self.task, ""
        )

    @property
    def score(self) -> str:
        """What the first figure is called."""
        return {"classes": "accuracy", "numbers": "r2", "anomaly": "auc", "ranking": "ndcg"}.get(self.family, "")


class Sampled(Struct, frozen=True, eq=False):
    """What is drawn in a bootstrap, ``units`` (samples, or the queries of a ranking in long form), their groups, and
    the statistics of them."""

    units: int
    groups: NDArray[Any] | None
    statistics: dict[str, Statistic]


def answer_of(task: str, fields: Mapping[str, NDArray[Any]]) -> NDArray[Any] | None:
    """What :func:`figures` takes of the fields that an engine gave: scores (n, classes or items), numbers (n, ...), or
    an anomaly's score (n,). ``None`` where they hold nothing that figures can be made of."""
    family = Judge(task).family
    scores, value = fields.get("scores"), fields.get("value")
    if family in {"classes", "ranking"} and scores is not None and scores.ndim == 2:
        return scores
    if family == "classes" and "probability" in fields:
        yes = fields["probability"].reshape(len(fields["probability"]), -1)[:, -1].astype(np.float64)
        return np.stack([1 - yes, yes], axis=1)
    if value is None or value.dtype.kind not in "fiu":
        return None
    if family == "anomaly" or (family == "ranking" and value.size == len(value)):
        return value.reshape(len(value))
    return value if family == "numbers" else None


def figures(
    judge: Judge, answer: NDArray[Any], truth: NDArray[Any], groups: NDArray[Any] | None = None
) -> dict[str, float]:
    """Name -> value, the task's score first, ``samples`` last; rounded for reading, without those that are not defined.

    ``answer`` is what :func:`answer_of` gave. ``truth``: classes (n,) of classification and anomaly (0 normal), numbers
    of the answer's size, the wanted item (n,) of a ranking; or its relevance (n,) in long form, where ``groups`` (n,)
    says which query each candidate belongs to.

    >>> figures(Judge("regression"), np.array([1.0, 3.0]), np.array([1.0, 2.0]))["mae"]
    0.5

    Raises:
        DataError: shapes don't fit, or there is nothing to measure (anomalies of one kind only).
    """
    found = _FAMILIES[judge.family](judge, answer, truth, groups) if judge.family else {}
    kept = {name: _rounded(value) for name, value in found.items() if math.isfinite(value)}
    return {**kept, "samples": float(len(truth))} if kept else {}


def _rounded(value: float) -> float:
    return round(value, 6) if abs(value) < 10 else float(f"{value:.7g}")


def _classes(judge: Judge, scores: NDArray[Any], y: NDArray[Any], groups: NDArray[Any] | None) -> dict[str, float]:
    del judge, groups
    matrix = confusion(scores.argmax(axis=1), y, scores.shape[1])
    return {
        "accuracy": metrics.accuracy(scores, y),
        "balanced_accuracy": balanced_accuracy(matrix),
        "macro_f1": macro_f1(matrix),
        "auc": auc_of_classes(scores, y),
        "nll": log_loss(scores, y),
        "ece": calibration_error(scores, y),
    }


def point(judge: Judge, answer: NDArray[Any], truth: NDArray[Any]) -> NDArray[np.float64]:
    """A numbers' answer, its median where it has quantiles, in the shape of ``truth``.

    Raises:
        DataError: the sizes differ.
    """
    found = numbers.median_of(answer, judge.quantiles) if judge.quantiles else np.asarray(answer)
    if found.size != truth.size:
        raise DataError(f"y has shape {truth.shape}, but the answers have {found.shape}")
    return found.reshape(truth.shape).astype(np.float64)


def _numbers(judge: Judge, answer: NDArray[Any], truth: NDArray[Any], groups: NDArray[Any] | None) -> dict[str, float]:
    del groups
    middle = point(judge, answer, truth)
    found = {
        "r2": metrics.r2(middle, truth),
        "mae": numbers.mae(middle, truth),
        "rmse": numbers.rmse(middle, truth),
        "mape": numbers.mape(middle, truth),
        "smape": numbers.smape(middle, truth),
    }
    if judge.scale:
        found["mase"] = numbers.mase(middle, truth, judge.scale)
    if judge.quantiles:
        spread, wanted = numbers.by_quantile(answer, len(judge.quantiles)), truth.reshape(len(truth), -1)
        found["pinball"] = numbers.pinball(spread, wanted, judge.quantiles)
        if len(judge.quantiles) > 1:
            found["coverage"] = numbers.coverage(spread, wanted)
    return found


def _anomaly(judge: Judge, scores: NDArray[Any], y: NDArray[Any], groups: NDArray[Any] | None) -> dict[str, float]:
    del groups
    positive = y > 0
    found = {"auc": metrics.auc(scores, positive), "average_precision": ranks.average_precision(scores, positive)}
    if judge.threshold is not None:
        found |= ranks.at_threshold(scores, positive, judge.threshold)
    return found


def gains_of(
    answer: NDArray[Any], truth: NDArray[Any], groups: NDArray[Any] | None
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[Any] | None]:
    """A ranking as rows, for either form: (scores (n, items), relevance (n, items), groups (n,)). In long form a row is
    a query, filled up with candidates of score -inf and relevance 0; queries without anything relevant are left out.

    Raises:
        DataError: long form without groups; nothing is relevant anywhere.
    """
    if answer.ndim == 2:
        relevance = np.zeros(answer.shape)
        relevance[np.arange(len(truth)), truth] = 1.0
        return answer.astype(np.float64), relevance, groups
    if groups is None:
        raise DataError("ranking: candidates in long form need a group for each, the query that they belong to")
    _, query, counts = np.unique(groups, return_inverse=True, return_counts=True)
    order = np.argsort(query, kind="stable")
    place = np.arange(len(query)) - np.repeat(np.cumsum(counts) - counts, counts)
    scores = np.full((len(counts), int(counts.max())), -np.inf)
    relevance = np.zeros(scores.shape)
    scores[query[order], place] = answer[order]
    relevance[query[order], place] = truth[order]
    some = (relevance > 0).any(axis=1)
    if not some.any():
        raise DataError("ranking: nothing is relevant in any group")
    return scores[some], relevance[some], None


def _per_query(judge: Judge, scores: NDArray[Any], relevance: NDArray[Any]) -> dict[str, NDArray[np.float64]]:
    """Each figure of each row."""
    gains = ranks.ordered_gains(scores, relevance)
    return {
        "ndcg": metrics.ndcgs(scores, relevance, judge.k),
        "hit_rate": ranks.hit_rates(gains, judge.k),
        "mrr": ranks.reciprocal_ranks(gains),
        "map": ranks.average_precisions(gains),
    }


def _ranking(judge: Judge, answer: NDArray[Any], truth: NDArray[Any], groups: NDArray[Any] | None) -> dict[str, float]:
    scores, relevance, _ = gains_of(answer, truth, groups)
    return {name: float(values.mean()) for name, values in _per_query(judge, scores, relevance).items()}


_FAMILIES = {"classes": _classes, "numbers": _numbers, "anomaly": _anomaly, "ranking": _ranking}


def sampled(judge: Judge, answer: NDArray[Any], truth: NDArray[Any], groups: NDArray[Any] | None = None) -> Sampled:
    """The main figures as statistics of resamples, by the names of :func:`figures`. The AUC of more than two classes
    has none: it would take a pass over the resamples for each class."""
    if judge.family == "ranking":
        scores, relevance, kept = gains_of(answer, truth, groups)
        each = _per_query(judge, scores, relevance)
        return Sampled(len(scores), kept, {name: bootstrap.mean_of(values) for name, values in each.items()})
    statistics: dict[str, Statistic] = {}
    if judge.family == "classes":
        predicted, classes = answer.argmax(axis=1), answer.shape[1]
        statistics = {
            "accuracy": bootstrap.mean_of(predicted == truth),
            "balanced_accuracy": bootstrap.balanced_accuracy_of(predicted, truth, classes),
            "macro_f1": bootstrap.macro_f1_of(predicted, truth, classes),
        }
        if classes == 2:
            statistics["auc"] = bootstrap.auc_of(answer[:, 1], truth == 1)
        statistics["nll"] = bootstrap.mean_of(log_losses(answer, truth))
    elif judge.family == "numbers":
        middle = point(judge, answer, truth).reshape(len(truth), -1)
        gap = middle - truth.reshape(len(truth), -1)
        statistics = {
            "r2": bootstrap.r2_of(middle, truth),
            "mae": bootstrap.mean_of(np.abs(gap).mean(axis=1)),
            "rmse": bootstrap.root_mean_of((gap**2).mean(axis=1)),
        }
    elif judge.family == "anomaly":
        statistics = {"auc": bootstrap.auc_of(answer, truth > 0)}
    return Sampled(len(truth), groups, statistics)


def figure_intervals(
    judge: Judge,
    answer: NDArray[Any],
    truth: NDArray[Any],
    groups: NDArray[Any] | None = None,
    *,
    seed: int = 0,
    resamples: int = bootstrap.RESAMPLES,
    names: Sequence[str] = (),
) -> dict[str, Interval]:
    """Bootstrap intervals of the main figures (of ``names`` only, where given), by the names of :func:`figures`;
    ``groups`` (n,): whole groups are drawn."""
    drawn = sampled(judge, answer, truth, groups)
    wanted = {name: one for name, one in drawn.statistics.items() if not names or name in names}
    found = bootstrap.intervals(wanted, drawn.units, groups=drawn.groups, seed=seed, resamples=resamples)
    return {name: bootstrap.share_interval(one) if name in SHARES else one for name, one in found.items()}


def score_difference(
    judge: Judge,
    first: NDArray[Any],
    second: NDArray[Any],
    truth: NDArray[Any],
    groups: NDArray[Any] | None = None,
    *,
    seed: int = 0,
    resamples: int = bootstrap.RESAMPLES,
) -> Interval | None:
    """How much higher the score of the answers ``first`` is than that of ``second``, to the same samples, with a paired
    interval; times 100 it is points. ``None`` where it is not defined."""
    a, b = sampled(judge, first, truth, groups), sampled(judge, second, truth, groups)
    if judge.score not in a.statistics:
        return None
    both = {"score": bootstrap.difference(a.statistics[judge.score], b.statistics[judge.score])}
    return bootstrap.intervals(both, a.units, groups=a.groups, seed=seed, resamples=resamples).get("score")


def left_out(score: float, fp32: float, gate_points: float, metric: str = "accuracy") -> str | None:
    """Why a variant of ``score`` is left out beside its fp32 student; ``None`` if it is kept."""
    points = 100 * (fp32 - score)
    if points <= gate_points + 1e-9:
        return None
    shown, limit = (f"{value:.2%}" if metric == "accuracy" else f"{value:.4f}" for value in (score, fp32))
    return f"{metric} {shown} is {points:.2f} points below fp32's {limit}; at most {gate_points:g} are allowed"
