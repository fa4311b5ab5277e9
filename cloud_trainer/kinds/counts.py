"""What follows what, counted: multinomial naive Bayes over the items of a history, the younger the more they say.

No network, but a teacher: on little data there is hardly a better one, and a network that listens to it and to another
network is better than either. Its answer is ``log p(y) + sum over the history of w(age) * log p(item | y) / p(item)``
(McCallum and Nigam 1998), with ``w = decay ** age``, all of it times ``sharpness``: naive Bayes is too sure of itself.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

DECAYS = (0.6, 0.8, 0.9, 0.97)
LATEST = (0.0, 1.0, 3.0)
"""How much more the latest item counts."""
SMOOTHINGS = (0.03, 0.1, 0.3, 1.0, 3.0)
SHARPNESSES = (0.25, 0.5, 0.75, 1.0)
ROWS = 4096
MOST_ITEMS = 5000
"""Of a catalogue: the table of pairs grows with its square."""


class Counts(Struct, frozen=True, eq=False):
    """``evidence`` (items, outputs) float32: what each item says for each output; ``prior`` (outputs,); ``weights``
    (history,), the latest last."""

    evidence: NDArray[np.float32]
    prior: NDArray[np.float32]
    weights: NDArray[np.float32]

    @property
    def label(self) -> str:
        """For tables."""
        return "naive-bayes"

    @property
    def macs(self) -> int:
        """Of an answer."""
        return len(self.weights) * len(self.prior)

    @property
    def bytes(self) -> int:
        """Of the table."""
        return int(self.evidence.nbytes)

    def answers(self, x: NDArray[Any]) -> NDArray[np.float32]:
        """(n, history) ids, 0 for nothing and ``i + 1`` for item ``i`` -> (n, outputs)."""
        parts = [
            _weighed(x[at : at + ROWS], self.weights, len(self.evidence)) @ self.evidence + self.prior
            for at in range(0, len(x), ROWS)
        ]
        return np.concatenate(parts).astype(np.float32)


def count(
    x: NDArray[Any], y: NDArray[np.int64], held_out: tuple[NDArray[Any], NDArray[np.int64]], outputs: int
) -> Counts:
    """Counted on ``x`` (n, history) ids and the next items ``y`` (n,); weights, smoothing and sharpness are those of
    the least cross-entropy on ``held_out``, such a pair."""
    best: tuple[float, Counts] | None = None
    taken = np.bincount(y, minlength=outputs)
    prior = np.log(taken + 0.5) - np.log((taken + 0.5).sum())
    for decay, latest in itertools.product(DECAYS, LATEST):
        weights = decay ** np.arange(x.shape[1], dtype=np.float64)[::-1]
        weights[-1] += latest
        seen = np.zeros((outputs, outputs))
        for at in range(0, len(x), ROWS):
            np.add.at(seen, y[at : at + ROWS], _weighed(x[at : at + ROWS], weights, outputs))
        judged = _weighed(held_out[0], weights, outputs)
        for smoothing in SMOOTHINGS:
            given = np.log(seen + smoothing) - np.log((seen + smoothing).sum(axis=1, keepdims=True))
            usual = np.log(seen.sum(axis=0) + smoothing)
            evidence = (given - (usual - np.log(np.exp(usual).sum()))).T
            answer = judged @ evidence + prior
            for sharpness in SHARPNESSES:
                loss = _cross_entropy(sharpness * answer, held_out[1])
                if best is None or loss < best[0]:
                    found = (sharpness * evidence, sharpness * prior, weights)
                    best = (loss, Counts(*(part.astype(np.float32) for part in found)))
    assert best is not None
    return best[1]


def _weighed(x: NDArray[Any], weights: NDArray[Any], items: int) -> NDArray[np.float64]:
    """(n, items): the weights of the places where each item stands."""
    out = np.zeros((len(x), items + 1))
    np.add.at(out, (np.arange(len(x))[:, None], np.asarray(x, np.int64)), np.broadcast_to(weights, x.shape))
    return out[:, 1:]


def _cross_entropy(answer: NDArray[np.float64], y: NDArray[np.int64]) -> float:
    top = answer.max(axis=1, keepdims=True)
    total = np.log(np.exp(answer - top).sum(axis=1)) + top[:, 0]
    return float((total - answer[np.arange(len(y)), y]).mean())
