"""What a network is trained for: its loss, the loss beside a teacher, and the one score that everything is judged by.

``score`` is at most 1, and higher is better, for every kind of task (accuracy, R², NDCG, AUC, ...), so that "points"
(hundredths of it) mean the same everywhere: in early stopping, in the search, in the gates.
"""

from __future__ import annotations

from typing import Any, Protocol

from numpy.typing import NDArray
from torch import Tensor


class Objective(Protocol):
    """``answer`` (n, outputs) as the network gives it; ``y`` (n,) int64 classes, or float32 targets (n, outputs) as the
    network should give them."""

    metric: str
    """What ``score`` is called in reports: ``accuracy``, ``r2``, ..."""

    def loss(self, answer: Tensor, y: Tensor) -> Tensor:
        """Against the truth alone; a scalar."""

    def distilled(self, answer: Tensor, y: Tensor, taught: Tensor) -> Tensor:
        """Against the truth and what a teacher answered, ``taught`` (n, outputs); a scalar."""

    def score(self, answer: NDArray[Any], y: NDArray[Any]) -> float:
        """How good; 1 is perfect."""
