"""Which view of the samples a network learns most from: each is tried with a small network, and measured.

Trials are short and on part of the data: what they say is which view is better, not how good the student will be.

1. Views are given from cheap to dear, and of equally good ones the first is kept.
2. A view is fitted on the train split alone, and judged on the validation split.
3. The same splits and seed give the same choice.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from msgspec import Struct
from numpy.typing import NDArray
from torch import nn

from cloud_trainer.data import Dataset, Splits
from cloud_trainer.fit import Encoded, Plan, answers, train
from cloud_trainer.kinds.base import Feature, FeatureTable
from cloud_trainer.models import Architecture, build, macs_of
from cloud_trainer.objectives import Classes
from shared.pipeline.bind import run_arrays
from shared.pipeline.spec import Encode, Pipeline, Preprocess

Array = NDArray[Any]
MEASURE = "validation accuracy of a small network after a short training"


class Steps(Struct, frozen=True):
    """The first half of a pipeline, fitted. ``columns`` names the entries of its answer's last axis, where somebody
    may want to know them."""

    preprocess: tuple[Preprocess, ...] = ()
    encode: tuple[Encode, ...] = ()
    columns: tuple[str, ...] = ()

    def __call__(self, x: Array) -> Array:
        """Raw samples (n, ...) -> the model's input (n, *input), float32 or int64."""
        out = run_arrays(Pipeline(preprocess=self.preprocess, encode=self.encode), x)
        return np.ascontiguousarray(out, np.int64 if out.dtype.kind in "iu" else np.float32)


class View(Struct, frozen=True):
    """A candidate: ``fit`` learns it from training samples, ``network`` is what tries it out, for what was
    fitted, the shape of encoded samples and so many classes, ``why`` what it is good for."""

    name: str
    fit: Callable[[Array], Steps]
    network: Callable[[Steps, tuple[int, ...], int], Architecture]
    why: str = ""


class Effort(Struct, frozen=True):
    """What a trial may cost: samples that are looked at, and updates of the network."""

    train: int = 3000
    validation: int = 2000
    updates: int = 300
    batch: int = 64
    learning_rate: float = 3e-3
    weight_decay: float = 1e-2


class Trial(Struct, frozen=True, eq=False):
    """How a view did. ``score`` is the validation accuracy, ``loss`` the cross-entropy there; ``model`` is the network
    in evaluation mode, ``validation`` what it was judged on."""

    view: View
    steps: Steps
    score: float
    loss: float
    macs: int
    model: nn.Module
    validation: Encoded


def sampled(data: Dataset, most: int, seed: int) -> Dataset:
    """At most ``most`` samples of ``data``, by chance but the same for a ``seed``, in their order; of every class at
    least one."""
    if len(data) <= most:
        return data
    random = np.random.default_rng(seed)
    first = np.unique(data.y, return_index=True)[1]
    rest = np.setdiff1d(np.arange(len(data)), first)
    more = random.choice(rest, max(0, most - len(first)), replace=False)
    return data.take(np.sort(np.concatenate([first, more])))


def tried(view: View, splits: Splits, *, seed: int, effort: Effort | None = None) -> Trial:
    """Fit ``view``, train its network for a moment, and measure it."""
    effort = effort or Effort()
    part, judge = sampled(splits.train, effort.train, seed), sampled(splits.validation, effort.validation, seed)
    steps = view.fit(part.x)
    data, validation = Encoded.of(steps(part.x), part.y), Encoded.of(steps(judge.x), judge.y)
    classes = len(splits.train.labels)
    network = view.network(steps, tuple(data.x.shape[1:]), classes)
    model = build(network, seed)
    epochs = max(1, round(effort.updates / math.ceil(len(data) / effort.batch)))
    plan = Plan(epochs, effort.batch, effort.learning_rate, effort.weight_decay, seed, precision="fp32", compile="never")
    objective = Classes(classes, label_smoothing=0.05)
    train(model, data, validation, plan, objective=objective, name=view.name)
    said = answers(model, validation.x)
    score = objective.score(said.numpy(), judge.y)
    return Trial(view, steps, score, float(objective.loss(said, validation.y)), macs_of(network), model, validation)


def best(trials: Sequence[Trial]) -> Trial:
    """The one with the highest score. Where the difference to the best is less than half its standard error, chance
    decides as well as the score does: of such, the one with the lowest loss; of equal ones the first.

    Raises:
        ValueError: there are none.
    """
    top = max(trial.score for trial in trials)
    count = max(len(trials[0].validation), 1)
    slack = 0.5 * math.sqrt(max(top * (1 - top), 1e-9) / count)
    return min((t for t in trials if t.score >= top - slack), key=lambda trial: trial.loss)


def choose(
    views: Sequence[View], splits: Splits, *, seed: int, effort: Effort | None = None
) -> tuple[Trial, FeatureTable]:
    """The best of ``views``, and what there is to say about all of them, best first. A single one is tried, too: later
    steps may want its network."""
    trials = [tried(view, splits, seed=seed, effort=effort) for view in views]
    kept = best(trials)
    rows = [
        Feature(
            name=trial.view.name,
            importance=round(trial.score, 4),
            kept=trial is kept,
            why=f"{trial.view.why}; loss {trial.loss:.3f}, {trial.macs:,} MACs in the trial".lstrip("; "),
        )
        for trial in sorted(trials, key=lambda trial: (trial is not kept, -trial.score))
    ]
    return kept, FeatureTable(tuple(rows), f"{MEASURE} ({len(kept.validation)} samples)")


def permuted(trial: Trial, *, seed: int, repeats: int = 3) -> NDArray[np.float64]:
    """What the trial's network loses when one column of its input is shuffled among the samples: the mean rise of the
    cross-entropy over ``repeats`` shuffles, (columns,); 0 or less: the network does as well without.

    Permutation importance (Breiman 2001; Fisher, Rudin, Dominici 2019), by the loss instead of the accuracy: that tells
    columns apart which change no answer on a few hundred samples.
    """
    x, y = trial.validation.x, trial.validation.y
    generator = torch.Generator().manual_seed(seed)
    loss = torch.nn.functional.cross_entropy
    whole = float(loss(answers(trial.model, x), y))
    out = np.zeros(x.shape[-1])
    for column in range(x.shape[-1]):
        for _ in range(repeats):
            order = torch.randperm(len(x), generator=generator)
            shuffled = x.clone()
            shuffled[..., column] = x[order][..., column]
            out[column] += (float(loss(answers(trial.model, shuffled), y)) - whole) / repeats
    return out


def notes_of(table: FeatureTable) -> tuple[str, ...]:
    """What was tried, a line each."""
    return tuple(
        f"view {row.name!r}: {row.importance:.1%} {table.measure}; {row.why}{' (kept)' if row.kept else ''}"
        for row in table.features
        if row.importance is not None
    )
