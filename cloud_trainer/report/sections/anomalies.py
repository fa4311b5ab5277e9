"""Answers of an anomaly detector: ROC, scores of both kinds, what was missed and what was a false alarm."""

from __future__ import annotations

from html import escape

import numpy as np

from cloud_trainer.evaluation.ranks import at_threshold, roc
from cloud_trainer.report import charts
from cloud_trainer.report.context import Context
from cloud_trainer.report.parts import figure, note, pair, plain
from cloud_trainer.report.sections.examples import examples
from cloud_trainer.svg import ACCENT, ALARM

WORST = 7


def anomalies(context: Context) -> str:
    """The content of the section."""
    assert context.answered is not None
    scores, test = context.answered
    positive, threshold = test.y > 0, context.judge.threshold
    normal = context.manifest.labels[0] if context.manifest.labels else "normal"
    other = context.manifest.labels[1] if len(context.manifest.labels) > 1 else "anomaly"
    if positive.all() or not positive.any():
        return note("All test samples are of one kind: there is nothing to tell apart.")
    false, true = roc(scores, positive)
    mark, said = None, ""
    if threshold is not None:
        found = at_threshold(scores, positive, threshold)
        mark = (found["false_alarms"], found["recall"])
        said = (
            f" The dot is the threshold: {found['recall']:.1%} are found, at {found['false_alarms']:.1%} false alarms."
        )
    halves = charts.two_histograms(
        scores[~positive], scores[positive], (normal, other), x_name="score", threshold=threshold
    )
    first = pair(
        figure(charts.roc(false, true, mark), f"ROC; the area under it is the AUC.{said}"),
        figure(halves, "Scores by truth: the less they overlap, the better.", [(ACCENT, normal), (ALARM, other)]),
    )
    missed = [int(i) for i in context.worst_first(np.where(positive, -scores, -np.inf), WORST) if positive[i]]
    alarmed = [int(i) for i in context.worst_first(np.where(positive, -np.inf, scores), WORST) if not positive[i]]
    return (
        f"<h3>Telling apart</h3>{first}"
        f"<h3>Least suspicious of what is {escape(other)}</h3>{_shown(context, missed)}"
        f"<h3>Most suspicious of what is {escape(normal)}</h3>{_shown(context, alarmed)}"
    )


def _shown(context: Context, places: list[int]) -> str:
    assert context.answered is not None
    scores = context.answered[0]
    said = [f"score {plain(float(scores[i]))}" for i in places]
    return examples(context, places, [_name(context, i) for i in places], said)


def _name(context: Context, i: int) -> str:
    assert context.answered is not None
    labels, y = context.manifest.labels, int(context.answered[1].y[i])
    return f"is {labels[y]}" if y < len(labels) else ("is an anomaly" if y else "is normal")
