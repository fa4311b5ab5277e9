"""Answers of a recommender: where the wanted item stands, and examples of what it recommends."""

from __future__ import annotations

from html import escape

import numpy as np

from cloud_trainer.evaluation.figures import gains_of
from cloud_trainer.evaluation.ranks import ordered_gains, rank_of_one
from cloud_trainer.report import charts
from cloud_trainer.report.context import Context
from cloud_trainer.report.parts import figure, note, pair, plain, table
from cloud_trainer.report.samples import Shower
from cloud_trainer.svg import shortened

RANKS, EXAMPLES, TOP = 20, 8, 5


def rankings(context: Context) -> str:
    """The content of the section."""
    assert context.answered is not None
    answer, test = context.answered
    scores, relevance, _ = gains_of(answer, test.y, test.groups)
    gains = ordered_gains(scores, relevance) > 0
    first = np.where(gains.any(axis=1), gains.argmax(axis=1) + 1, gains.shape[1] + 1)
    most = min(RANKS, gains.shape[1])
    at = np.bincount(np.minimum(first, most + 1), minlength=most + 2)[1 : most + 1] / len(first)
    names = [f"rank {i + 1}" for i in range(most)]
    shares = charts.bars(at.tolist(), names, x_name="rank of the first wanted item", y_name="share", percent=True)
    hits = charts.bars(
        np.cumsum(at).tolist(), [f"among the first {i + 1}" for i in range(most)], x_name="k",
        y_name="hit rate among the first k", percent=True,
    )  # fmt: skip
    chance = 1 / gains.shape[1] if answer.ndim == 2 else None
    said = f"Of {gains.shape[1]:,} items; by chance each rank would have {chance:.2%}." if chance else ""
    pictures = pair(figure(shares, said), figure(hits))
    return f"<h3>Where the wanted item stands</h3>{pictures}{_examples(context)}"


def _examples(context: Context) -> str:
    assert context.answered is not None
    answer, test = context.answered
    if answer.ndim != 2:
        return _queries(context)
    labels = context.manifest.labels
    ranks = rank_of_one(answer, test.y)
    order = np.argsort(ranks, kind="stable")
    places = [int(order[int(share * (len(order) - 1))]) for share in np.linspace(0, 1, EXAMPLES)]
    shower = Shower(context.manifest.sample, test)
    rows = []
    for i in dict.fromkeys(places):
        seen = shower.html(i) if shower.look in {"history", "text"} else ", ".join(shower.cells(i))
        top = np.argsort(-answer[i], kind="stable")[:TOP]
        said = ", ".join(
            f"<b>{escape(shortened(labels[k], 28))}</b>" if k == test.y[i] else escape(shortened(labels[k], 28))
            for k in top
        )
        rows.append((seen, said, escape(shortened(labels[test.y[i]], 28)), f"{ranks[i]:,}"))
    header = ("had before", f"the first {TOP} recommended", "wanted", "rank")
    return f"<h3>Examples, from the best to the worst</h3>{table(header, rows, left=(2,), wide=(0, 1))}" + note(
        "Evenly over all test samples, in the order of the rank of the wanted item."
    )


def _queries(context: Context) -> str:
    assert context.answered is not None
    answer, test = context.answered
    if test.groups is None:
        return ""
    names = np.unique(test.groups)
    rows = []
    for name in names[np.unique(np.linspace(0, len(names) - 1, EXAMPLES).astype(int))]:
        own = np.flatnonzero(test.groups == name)
        order = own[np.argsort(-answer[own], kind="stable")][:TOP]
        said = " · ".join(f"{plain(float(answer[i]))} ({plain(float(test.y[i]))})" for i in order)
        rows.append((escape(str(name)), f"{len(own):,}", said, plain(float(test.y[own].max()))))
    header = ("query", "candidates", f"scores of the first {TOP} (their true relevance)", "most relevant there is")
    return f"<h3>Examples</h3>{table(header, rows, wide=(2,))}"
