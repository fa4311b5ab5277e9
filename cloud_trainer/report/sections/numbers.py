"""Answers that are numbers: against the truth, their errors, forecasts to look at, coverage of the intervals."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cloud_trainer.evaluation.figures import point
from cloud_trainer.evaluation.numbers import by_quantile, coverages
from cloud_trainer.report import charts
from cloud_trainer.report.context import Context
from cloud_trainer.report.parts import figure, note, pair, plain, table
from cloud_trainer.report.sections.examples import examples
from cloud_trainer.svg import ACCENT, INK, REFERENCE

WORST, PAST = 10, 168


def numbers(context: Context) -> str:
    """The content of the section."""
    assert context.answered is not None
    answer, test = context.answered
    truth = test.y.astype(np.float64)
    middle = point(context.judge, answer, test.y)
    gap = middle - truth
    against = figure(charts.scatter(truth.ravel(), middle.ravel()), "On the dashed line an answer is right.")
    errors = figure(
        charts.residuals(middle.ravel(), gap.ravel()),
        "Errors should be as wide everywhere, and lie around the dashed line.",
    )
    spread = figure(
        charts.histogram(gap.ravel(), "errors: answer less truth", width=460, height=190, bars=44), _bias(gap)
    )
    steps = middle.reshape(len(truth), -1).shape[1]
    horizon = ""
    if steps > 1:
        sizes = np.abs(gap.reshape(len(truth), -1)).mean(axis=0)
        picture = charts.bars(
            sizes.tolist(), [f"step {i + 1}" for i in range(steps)], x_name="step ahead", y_name="mean absolute error",
            percent=False,
        )  # fmt: skip
        horizon = figure(picture, "How the error grows with the distance.")
    looked_at = (
        _forecasts(context, middle, gap) if context.manifest.task == "forecast" else _worst(context, middle, gap)
    )
    return f"<h3>Answers and errors</h3>{pair(against, errors, spread, horizon)}{_coverage(context)}{looked_at}"


def _bias(gap: NDArray[Any]) -> str:
    low, middle, high = np.quantile(gap, (0.05, 0.5, 0.95))
    between = f"between {plain(float(low))} and {plain(float(high))}"
    return f"Half of the errors are below {plain(float(middle))}; 9 of 10 lie {between}."


def _coverage(context: Context) -> str:
    assert context.answered is not None
    answer, test = context.answered
    levels = context.judge.quantiles
    if len(levels) < 2:
        return ""
    spread, truth = by_quantile(answer, len(levels)), test.y.reshape(len(test.y), -1)
    rows = [
        (f"{100 * level:g} %", f"{share:.1%}", f"{100 * (share - level):+.1f}".replace("-", "−"))
        for level, share in zip(levels, coverages(spread, truth), strict=True)
    ]
    inside = float(((truth >= spread[:, 0]) & (truth <= spread[:, -1])).mean())
    wanted = levels[-1] - levels[0]
    said = f"{inside:.1%} of the truth lies between the outer quantiles; {wanted:.0%} should."
    return f"<h3>Quantiles</h3>{table(('quantile', 'of the truth is below', 'points off'), rows)}{note(said)}"


def _forecasts(context: Context, middle: NDArray[Any], gap: NDArray[Any]) -> str:
    assert context.answered is not None
    answer, test = context.answered
    past = test.x[..., 0] if test.x.ndim == 3 else None
    if past is None or past.dtype.kind not in "fiu":
        return ""
    steps = middle.reshape(len(middle), -1)
    size = np.abs(gap.reshape(len(gap), -1)).mean(axis=1)
    order = np.argsort(size, kind="stable")
    chosen = {"a good one": 0.1, "the one in the middle": 0.5, "one of the bad": 0.95, "the worst": 1.0}
    levels = context.judge.quantiles
    spread = by_quantile(answer, len(levels)) if len(levels) > 1 else None
    pictures = []
    for title, share in chosen.items():
        i = int(order[min(len(order) - 1, int(share * len(order)))])
        band = None if spread is None else (spread[i, 0], spread[i, -1])
        name = f"{title}: off by {plain(float(size[i]))} in the mean"
        seen = past[i].astype(np.float64)[-min(PAST, max(24, 6 * steps.shape[1])) :]
        picture = charts.forecast(seen, test.y.reshape(len(test.y), -1)[i], steps[i], band, name)
        pictures.append(figure(picture))
    keys = f'<div class="keys">{_key(REFERENCE, "seen")}{_key(INK, "truth")}{_key(ACCENT, "forecast")}</div>'
    return f"<h3>Forecasts</h3>{keys}{pair(*pictures)}"


def _key(colour: str, text: str) -> str:
    return f'<span><i class="key" style="background:{colour}"></i>{text}</span>'


def _worst(context: Context, middle: NDArray[Any], gap: NDArray[Any]) -> str:
    assert context.answered is not None
    _, test = context.answered
    size = np.abs(gap.reshape(len(gap), -1)).mean(axis=1)
    places = [int(i) for i in context.worst_first(size, WORST)]
    truths = [_number(test.y[i]) for i in places]
    said = [_number(middle[i]) for i in places]
    return f"<h3>Furthest off</h3>{examples(context, places, truths, said)}"


def _number(value: Any) -> str:
    return ", ".join(plain(float(v), 4) for v in np.atleast_1d(value)[:4])
