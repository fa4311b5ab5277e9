"""Answers of a classifier: confusion, reliability, every class, the ROC of two, the worst mistakes."""

from __future__ import annotations

from html import escape

import numpy as np

from cloud_trainer.evaluation.calibration import calibration_bins, calibration_error, untempered
from cloud_trainer.evaluation.classes import confusion, per_class
from cloud_trainer.evaluation.ranks import roc
from cloud_trainer.report import charts
from cloud_trainer.report.context import Context
from cloud_trainer.report.parts import figure, note, pair, shown, table
from cloud_trainer.report.sections.examples import examples
from cloud_trainer.svg import ACCENT, ALARM, REFERENCE

WORST, DRAWN, LISTED, PAIRS = 14, 60, 15, 12


def classes(context: Context) -> str:
    """The content of the section."""
    assert context.answered is not None
    scores, test = context.answered
    labels = context.manifest.labels
    matrix = confusion(scores.argmax(axis=1), test.y, len(labels))
    reliable = _reliability(context)
    if len(labels) > 12:
        first = _confusion(matrix, labels) + pair(reliable)
    else:
        first = pair(_confusion(matrix, labels), reliable)
    return f"<h3>Right and wrong</h3>{first}{_two(context)}{_each(matrix, labels)}{_worst(context)}"


def _confusion(matrix: np.ndarray, labels: tuple[str, ...]) -> str:
    if len(labels) > DRAWN:
        return _pairs(matrix, labels)
    shares = 100 * matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    return figure(
        charts.matrix(shares, matrix, labels), "Truth against answer, percent of each class. Mistakes are orange."
    )


def _pairs(matrix: np.ndarray, labels: tuple[str, ...]) -> str:
    wrong = np.where(np.eye(len(labels), dtype=bool), 0, matrix)
    order = [i for i in np.argsort(-wrong.ravel(), kind="stable")[:PAIRS] if wrong.ravel()[i]]
    rows = [
        (escape(labels[t]), escape(labels[a]), f"{wrong[t, a]:,}", f"{wrong[t, a] / matrix[t].sum():.1%}")
        for t, a in (divmod(int(i), len(labels)) for i in order)
    ]
    header = ("truth", "answer", "samples", "of the class")
    return (
        f"<p>The most frequent of the {wrong.sum():,} mistakes:</p>{table(header, rows, left=(0, 1))}" if rows else ""
    )


def _reliability(context: Context) -> str:
    assert context.answered is not None
    scores, test = context.answered
    temperature = context.best.variant.temperature
    after = calibration_bins(scores, test.y)
    before, keys, said = None, [(ACCENT, "now")], ""
    if temperature != 1.0:
        raw = untempered(scores, temperature)
        before, keys = calibration_bins(raw, test.y), [(ACCENT, "now"), (REFERENCE, "without the temperature")]
        errors = calibration_error(raw, test.y), calibration_error(scores, test.y)
        said = (
            f" A temperature of {temperature:.2f} brings the calibration error from {errors[0]:.1%} to {errors[1]:.1%}."
        )
    caption = (
        "How often it is right when it is this sure; on the dashed line it is honest. Dots are samples of like "
        f"confidence, with the 95 % interval.{said}"
    )
    return figure(charts.reliability(after, before), caption, keys)


def _two(context: Context) -> str:
    assert context.answered is not None
    scores, test = context.answered
    labels = context.manifest.labels
    if len(labels) != 2 or len(np.unique(test.y)) < 2:
        return ""
    positive = test.y == 1
    false, true = roc(scores[:, 1], positive)
    halves = charts.two_histograms(
        scores[~positive, 1], scores[positive, 1], labels[:2], x_name=f"score of {labels[1]}", threshold=0.5
    )
    keys = [(ACCENT, labels[0]), (ALARM, labels[1])]
    return pair(
        figure(charts.roc(false, true), f"ROC of {labels[1]!r}; the area under it is the AUC."),
        figure(halves, "Scores by truth.", keys),
    )


def _each(matrix: np.ndarray, labels: tuple[str, ...]) -> str:
    found = sorted(per_class(matrix, labels), key=lambda row: (np.isnan(row.f1), row.f1))
    rows = [
        (
            escape(row.label),
            f"{row.support:,}",
            shown("precision", row.precision, digits=1),
            shown("recall", row.recall, digits=1),
            f"{100 * row.low:.1f} – {100 * row.high:.1f} %",
            "–" if np.isnan(row.f1) else f"{row.f1:.3f}",
        )
        for row in found
    ]
    header = ("class", "samples", "precision", "recall", "95 % interval", "F1")
    shown_rows = table(header, rows[:LISTED])
    if len(rows) > LISTED:
        more = table(header, rows[LISTED:])
        shown_rows += f"<details><summary>{len(rows) - LISTED} more classes</summary>{more}</details>"
    return f"<h3>By class, the worst first</h3>{shown_rows}"


def _worst(context: Context) -> str:
    assert context.answered is not None
    scores, test = context.answered
    labels, said = context.manifest.labels, scores.argmax(axis=1)
    wrong = said != test.y
    if not wrong.any():
        return "<h3>Worst mistakes</h3>" + note(f"None: all {len(test):,} test samples are answered right.")
    own = scores[np.arange(len(test)), test.y]
    places = [int(i) for i in context.worst_first(-own, len(own)) if wrong[i]][:WORST]
    truths = [f"is {labels[test.y[i]]}" for i in places]
    answers = [f"said {labels[said[i]]}, {scores[i, said[i]]:.0%}" for i in places]
    of = f"{int(wrong.sum()):,} of {len(test):,} test samples are answered wrong; "
    which = "these are the ones whose right class scored lowest." if len(places) < wrong.sum() else "all are shown."
    return f"<h3>Worst mistakes</h3>{examples(context, places, truths, answers)}{note(of + which)}"
