"""How a training went, and what that says about it. Pure functions."""

from __future__ import annotations

import math

from msgspec import Struct

GAP = 0.10
"""Of the scores on train and validation samples, from which a network is said to have learned its samples by heart."""
SMALL_GAP, RISE = 0.05, 0.10
"""A gap half as large is enough where the validation loss has also risen by this share of its lowest value."""


class Curve(Struct, frozen=True):
    """One training, epoch by epoch.

    Losses are means over samples: ``train_loss`` of the samples as they were trained on (altered, beside a teacher),
    ``validation_loss`` against the truth alone, so that only its course can be compared.
    Scores are the objective's ``metric``, in evaluation mode: ``train_score`` on a fixed sample of the train split,
    ``validation_score`` on all of the validation split. ``learning_rate`` is that of the last update.

    ``best_epoch`` counts from 0: the epoch whose weights the network has now. ``finding``: overfitting or no learning,
    in a line; empty: neither (:func:`finding`).
    """

    name: str
    metric: str
    train_loss: tuple[float, ...] = ()
    validation_loss: tuple[float, ...] = ()
    train_score: tuple[float, ...] = ()
    validation_score: tuple[float, ...] = ()
    learning_rate: tuple[float, ...] = ()
    seconds: tuple[float, ...] = ()
    best_epoch: int = 0
    finding: str = ""

    @property
    def loss(self) -> tuple[float, ...]:
        """``train_loss``."""
        return self.train_loss

    @property
    def accuracy(self) -> tuple[float, ...]:
        """``validation_score``."""
        return self.validation_score

    @property
    def epochs(self) -> int:
        """That were trained."""
        return len(self.train_loss)


def best_epoch(scores: tuple[float, ...], losses: tuple[float, ...]) -> int:
    """The epoch of the highest validation score; of equal scores the one of the lowest loss, then the first.

    >>> best_epoch((0.5, 0.9, 0.9, 0.8), (1.0, 0.5, 0.4, 0.3))
    2
    """
    return max(range(len(scores)), key=lambda i: (scores[i], -losses[i], -i))


def finding(curve: Curve, constant: float, counts: tuple[int, int]) -> str:
    """Overfitting or no learning, in a line for people; empty: neither.

    ``constant``: the validation score of the best answer that does not look at samples; ``counts``: samples that the
    train and the validation score were measured on. The rules, for the epoch whose weights were kept:

    - *no learning*: its validation score is not above ``constant`` by more than one standard error of a share,
      ``sqrt(c (1 - c) / n)``.
    - *overfitting*: the train score is above the validation score by more than chance (two standard errors of the
      difference of two shares) and by :data:`GAP`; or by :data:`SMALL_GAP`, and the validation loss of the last epoch
      is above the lowest by :data:`RISE` of it.
    """
    kept = curve.best_epoch
    train, validation = curve.train_score[kept], curve.validation_score[kept]
    share = min(max(constant, 0.0), 1.0)
    if validation <= constant + math.sqrt(share * (1 - share) / counts[1]):
        return (
            f"{curve.name}: no learning: validation {curve.metric} {_points(validation)} is no better than that of a "
            f"constant answer, {_points(constant)}; look at the targets, the learning rate and the features"
        )
    gap, chance = train - validation, math.sqrt(1 / counts[0] + 1 / counts[1])
    lowest = min(range(len(curve.validation_loss)), key=curve.validation_loss.__getitem__)
    rise = curve.validation_loss[-1] / curve.validation_loss[lowest] - 1 if curve.validation_loss[lowest] > 0 else 0.0
    if gap > chance and (gap >= GAP or (gap >= SMALL_GAP and rise >= RISE)):
        since = f"; its loss was lowest in epoch {lowest + 1} and rose by {rise:.0%} since" if rise >= RISE else ""
        return (
            f"{curve.name}: overfitting: {curve.metric} {_points(train)} on train samples, {_points(validation)} on "
            f"validation samples, {100 * gap:.1f} points apart{since}; more data, augment, label_smoothing, "
            "weight_decay or a smaller network may help"
        )
    return ""


def _points(score: float) -> str:
    return f"{100 * score:.1f} %"
