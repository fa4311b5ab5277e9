"""What a network is trained for: its loss, the loss beside a teacher, and the one score that everything is judged by.

``score`` is at most 1, and higher is better, for every kind of task (accuracy, R², NDCG, ...), so that "points"
(hundredths of it) mean the same everywhere: in early stopping, in the search, in the gates.

Losses are means over the rows of a batch and nothing but that: a batch that is shared among workers has the same loss,
and the same gradient, as one that is not (:mod:`cloud_trainer.distributed`).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Annotated, Any, ClassVar, Literal, Protocol

import numpy as np
import torch
from msgspec import Meta, Struct
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from cloud_trainer import metrics

Weight = Annotated[float, Meta(ge=0, le=1)]


class Objective(Protocol):
    """``answer`` (n, outputs) as the network gives it; ``y`` (n,) int64 classes, or float32 targets (n, outputs) as the
    network should give them."""

    metric: ClassVar[str]
    """What ``score`` is called in reports: ``accuracy``, ``r2``, ..."""

    def loss(self, answer: Tensor, y: Tensor) -> Tensor:
        """Against the truth alone; a scalar."""

    def distilled(self, answer: Tensor, y: Tensor, taught: Tensor) -> Tensor:
        """Against the truth and what a teacher answered, ``taught`` (n, outputs); a scalar."""

    def score(self, answer: NDArray[Any], y: NDArray[Any]) -> float:
        """How good; 1 is perfect."""

    def constant(self, y: NDArray[Any]) -> NDArray[np.float32]:
        """The best answer (outputs,) to samples with the truth ``y`` that does not look at them: what a network must
        be better than."""


class Classes(Struct, frozen=True, tag="classes"):
    """Softmax over classes; the score is the accuracy.

    ``label_smoothing`` (Szegedy et al. 2016, arXiv 1512.00567) and ``class_weights``, one for each class
    (:func:`balanced`; none: all count the same), act on the labels' part of the loss; what a teacher says is taken as
    it is: it has learned with the weights itself.

    ``temperature`` and ``teacher_weight`` of distillation (Hinton, Vinyals, Dean 2015, arXiv 1503.02531):
    ``w * T^2 * KL(softmax(teacher / T) || softmax(student / T)) + (1 - w) * cross_entropy(student, y)``; the factor
    ``T^2`` keeps the size of the gradients independent of the temperature (section 2 of the paper).
    """

    metric: ClassVar[str] = "accuracy"

    classes: int
    label_smoothing: float = 0.0
    class_weights: tuple[float, ...] = ()
    temperature: float = 4.0
    teacher_weight: Weight = 0.7

    def loss(self, answer: Tensor, y: Tensor) -> Tensor:
        """Cross-entropy, the mean over rows of each one's weight times its loss."""
        if not self.class_weights:
            return functional.cross_entropy(answer, y, label_smoothing=self.label_smoothing)
        weight = _on(self.class_weights, answer.device)
        each = functional.cross_entropy(answer, y, weight, reduction="none", label_smoothing=self.label_smoothing)
        return each.mean()

    def distilled(self, answer: Tensor, y: Tensor, taught: Tensor) -> Tensor:
        """The formula above."""
        soft = (taught / self.temperature).log_softmax(1)
        student = (answer / self.temperature).log_softmax(1)
        divergence = functional.kl_div(student, soft, reduction="batchmean", log_target=True)
        return self.teacher_weight * self.temperature**2 * divergence + (1 - self.teacher_weight) * self.loss(answer, y)

    def score(self, answer: NDArray[Any], y: NDArray[Any]) -> float:
        """Share of right answers."""
        return metrics.accuracy(answer, y)

    def constant(self, y: NDArray[Any]) -> NDArray[np.float32]:
        """How frequent each class is, as logits."""
        return _frequencies(y, self.classes)


class Numbers(Struct, frozen=True, tag="numbers"):
    """Numbers on a common scale (``y`` standardized, so that an error of 1 is a standard deviation); the score is R².

    ``huber`` (Huber 1964: squared up to ``delta``, then linear) is not thrown off by a few wild targets; ``mse`` is the
    mean squared error. Beside a teacher: ``w * loss(student, teacher) + (1 - w) * loss(student, y)``.
    """

    metric: ClassVar[str] = "r2"

    form: Literal["huber", "mse"] = "huber"
    delta: float = 1.0
    teacher_weight: Weight = 0.7

    def loss(self, answer: Tensor, y: Tensor) -> Tensor:
        """The mean over all numbers of all rows."""
        y = _like(y, answer)
        return (
            functional.mse_loss(answer, y) if self.form == "mse" else functional.huber_loss(answer, y, delta=self.delta)
        )

    def distilled(self, answer: Tensor, y: Tensor, taught: Tensor) -> Tensor:
        """The teacher's numbers beside the true ones."""
        return self.teacher_weight * self.loss(answer, taught) + (1 - self.teacher_weight) * self.loss(answer, y)

    def score(self, answer: NDArray[Any], y: NDArray[Any]) -> float:
        """Share of the variance that is explained."""
        return metrics.r2(answer, y)

    def constant(self, y: NDArray[Any]) -> NDArray[np.float32]:
        """The mean."""
        return np.asarray(y.reshape(len(y), -1).mean(axis=0), np.float32)


class Quantiles(Struct, frozen=True, tag="quantiles"):
    """Several quantiles of each number by the pinball loss (Koenker and Bassett 1978); the score is R² of the median.

    ``answer`` (n, quantiles * numbers): all numbers of the first quantile, then all of the second, ...; ``y``
    (n, numbers). The "median" is the quantile closest to one half. Beside a teacher, its quantiles are learned by
    absolute difference.
    """

    metric: ClassVar[str] = "r2"

    quantiles: Annotated[tuple[float, ...], Meta(min_length=1)] = (0.1, 0.5, 0.9)
    teacher_weight: Weight = 0.7

    def loss(self, answer: Tensor, y: Tensor) -> Tensor:
        """``max(q * e, (q - 1) * e)`` with ``e = y - answer``, the mean over everything."""
        q = _on(self.quantiles, answer.device)[:, None]
        error = y.reshape(len(y), 1, -1) - answer.reshape(len(answer), len(self.quantiles), -1)
        return torch.maximum(q * error, (q - 1) * error).mean()

    def distilled(self, answer: Tensor, y: Tensor, taught: Tensor) -> Tensor:
        """The teacher's quantiles beside the truth."""
        beside = functional.l1_loss(answer, taught)
        return self.teacher_weight * beside + (1 - self.teacher_weight) * self.loss(answer, y)

    def score(self, answer: NDArray[Any], y: NDArray[Any]) -> float:
        """R² of the median."""
        return metrics.r2(self.median(answer), y)

    def constant(self, y: NDArray[Any]) -> NDArray[np.float32]:
        """The quantiles of each number."""
        return np.asarray(np.quantile(y.reshape(len(y), -1), self.quantiles, axis=0), np.float32).ravel()

    def median(self, answer: NDArray[Any]) -> NDArray[Any]:
        """(n, numbers) of ``answer`` (n, quantiles * numbers).

        >>> Quantiles().median(np.arange(6.0)[None])
        array([[2., 3.]])
        """
        middle = min(range(len(self.quantiles)), key=lambda i: abs(self.quantiles[i] - 0.5))
        return answer.reshape(len(answer), len(self.quantiles), -1)[:, middle]


class Reconstruction(Struct, frozen=True, tag="reconstruction"):
    """The sample itself, through a bottleneck (autoencoders); ``y`` (n, outputs) is what should come back. The score is
    the share of the samples' variance that comes back: how well *normal* samples are known. How well anomalies are told
    from them needs anomalies, and is an evaluation's (:func:`cloud_trainer.metrics.auc`)."""

    metric: ClassVar[str] = "r2"

    teacher_weight: Weight = 0.5

    def loss(self, answer: Tensor, y: Tensor) -> Tensor:
        """Mean squared error."""
        return functional.mse_loss(answer, _like(y, answer))

    def distilled(self, answer: Tensor, y: Tensor, taught: Tensor) -> Tensor:
        """What the teacher gave back beside the sample."""
        return self.teacher_weight * self.loss(answer, taught) + (1 - self.teacher_weight) * self.loss(answer, y)

    def score(self, answer: NDArray[Any], y: NDArray[Any]) -> float:
        """Share of the variance that comes back."""
        return metrics.r2(answer, y)

    def constant(self, y: NDArray[Any]) -> NDArray[np.float32]:
        """The mean sample."""
        return np.asarray(y.reshape(len(y), -1).mean(axis=0), np.float32)


class Items(Struct, frozen=True, tag="items"):
    """The next item of a list of many: softmax over all of them; the score is NDCG among the first ``k``.

    ``y`` (n,) int64: the item that was taken. Beside a teacher as :class:`Classes`.
    """

    metric: ClassVar[str] = "ndcg@10"

    items: int
    k: int = 10
    label_smoothing: float = 0.0
    temperature: float = 2.0
    teacher_weight: Weight = 0.5

    def loss(self, answer: Tensor, y: Tensor) -> Tensor:
        """Cross-entropy over the items."""
        return self._classes().loss(answer, y)

    def distilled(self, answer: Tensor, y: Tensor, taught: Tensor) -> Tensor:
        """As :class:`Classes`."""
        return self._classes().distilled(answer, y, taught)

    def score(self, answer: NDArray[Any], y: NDArray[Any]) -> float:
        """NDCG."""
        return metrics.ndcg(answer, y, self.k)

    def constant(self, y: NDArray[Any]) -> NDArray[np.float32]:
        """The most popular items first."""
        return _frequencies(y, self.items)

    def _classes(self) -> Classes:
        return Classes(
            self.items,
            label_smoothing=self.label_smoothing,
            temperature=self.temperature,
            teacher_weight=self.teacher_weight,
        )


def balanced(y: NDArray[Any], classes: int) -> tuple[float, ...]:
    """Weights by which every class counts as much as every other: ``n / (classes * count)`` (King and Zeng 2001).

    A class without samples gets the weight of one sample.

    >>> balanced(np.array([0, 0, 0, 1]), 2)
    (0.6666666666666666, 2.0)
    """
    counts = np.maximum(np.bincount(y, minlength=classes), 1)
    return tuple(float(len(y) / (classes * count)) for count in counts)


def _frequencies(y: NDArray[Any], classes: int) -> NDArray[np.float32]:
    counts = np.bincount(y, minlength=classes)
    return np.log((counts + 1e-6) / len(y)).astype(np.float32)


def _like(y: Tensor, answer: Tensor) -> Tensor:
    """``y`` in the shape of ``answer``: (n,) and (n, 1) would silently make (n, n)."""
    return y if y.shape == answer.shape else y.reshape(answer.shape)


@lru_cache(maxsize=64)
def _on(values: Sequence[float], device: torch.device) -> Tensor:
    return torch.tensor(values, dtype=torch.float32, device=device)
