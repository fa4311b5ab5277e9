"""Whether a candidate may replace the release that runs: two paired tests on held-out samples.

Both releases answer the same samples, so only those where exactly one of the two is right tell them apart; under "no
difference" each is a fair coin (McNemar 1947, in its exact form). One-sided, at the level :data:`LEVEL`.

- old hold-out: fails when the candidate is significantly worse *and* by more than :data:`MARGIN_POINTS`;
- drifted hold-out: passes when the candidate is significantly better.

Known weakness: on a small old hold-out nothing but a large loss is significant; the report shows the sample count.
"""

from __future__ import annotations

from math import comb, exp, fsum, lgamma, log, log1p
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from shared.files import write_atomic

LEVEL = 0.05
MARGIN_POINTS = 1.0
GATES_NAME = "gates.json"


class Gate(Struct, frozen=True):
    """One test. ``wins``: only the candidate is right; ``losses``: only the parent is. Accuracies 0 to 1."""

    name: str
    samples: int
    parent: float
    candidate: float
    wins: int
    losses: int
    p_value: float
    passed: bool
    text: str


class Gates(Struct, frozen=True):
    """What ``gates.json`` holds: ``text`` is one line for people."""

    passed: bool
    text: str
    model: str
    version: int
    parent: int
    gates: tuple[Gate, ...]


def sign_test(wins: int, losses: int) -> float:
    """P(at least ``wins`` heads in ``wins + losses`` throws of a fair coin), exactly.

    >>> sign_test(3, 0)
    0.125
    """
    throws = wins + losses
    return float(sum(comb(throws, k) for k in range(wins, throws + 1)) / (1 << throws))


def binomial_tail(successes: int, throws: int, share: float) -> float:
    """P(at least ``successes`` in ``throws``), each of probability ``share``; sums logarithms, for ``throws`` of any
    number.

    >>> round(binomial_tail(2, 3, 0.5), 12)
    0.5
    """
    if not successes or share >= 1:
        return 1.0
    terms = [
        lgamma(throws + 1) - lgamma(k + 1) - lgamma(throws - k + 1) + k * log(share) + (throws - k) * log1p(-share)
        for k in range(successes, throws + 1)
    ]
    return min(1.0, fsum(map(exp, terms)))


def no_worse(parent: NDArray[np.bool_], candidate: NDArray[np.bool_], name: str = "old hold-out") -> Gate:
    """``parent`` and ``candidate`` (n,): whether each answered the same samples right."""
    wins, losses = _discordant(parent, candidate)
    p_value = sign_test(losses, wins)
    points = 100 * (losses - wins) / len(parent)
    passed = points <= MARGIN_POINTS or p_value >= LEVEL
    change = f"{_change(name, parent, candidate)} on {len(parent)} samples"
    text = change if passed else f"{change}: {points:.1f} points worse, at most {MARGIN_POINTS:g} are allowed"
    return _gate(name, parent, candidate, wins, losses, p_value, passed, text)


def better(parent: NDArray[np.bool_], candidate: NDArray[np.bool_], name: str = "drifted hold-out") -> Gate:
    """``parent`` and ``candidate`` (n,): whether each answered the same samples right."""
    wins, losses = _discordant(parent, candidate)
    p_value = sign_test(wins, losses)
    passed = p_value < LEVEL
    change = f"{_change(name, parent, candidate)} on {len(parent)} samples"
    text = change if passed else f"{change}: not significantly better (p = {p_value:.2g}, needed below {LEVEL:g})"
    return _gate(name, parent, candidate, wins, losses, p_value, passed, text)


def decide(model: str, version: int, parent: int, gates: tuple[Gate, ...]) -> Gates:
    """All must pass."""
    failed = [gate.text for gate in gates if not gate.passed]
    text = "; ".join(failed or [gate.text for gate in gates])
    return Gates(not failed, text, model, version, parent, gates)


def save_gates(gates: Gates, path: Path) -> None:
    """Write ``gates.json`` atomically."""
    write_atomic(path, msgspec.json.format(msgspec.json.encode(gates), indent=2) + b"\n")


def _discordant(parent: NDArray[np.bool_], candidate: NDArray[np.bool_]) -> tuple[int, int]:
    return int((candidate & ~parent).sum()), int((parent & ~candidate).sum())


def _change(name: str, parent: NDArray[Any], candidate: NDArray[Any]) -> str:
    return f"{name}: {parent.mean():.1%} -> {candidate.mean():.1%}"


def _gate(
    name: str,
    parent: NDArray[np.bool_],
    candidate: NDArray[np.bool_],
    wins: int,
    losses: int,
    p_value: float,
    passed: bool,
    text: str,
) -> Gate:
    return Gate(
        name=name,
        samples=len(parent),
        parent=float(parent.mean()),
        candidate=float(candidate.mean()),
        wins=wins,
        losses=losses,
        p_value=p_value,
        passed=passed,
        text=text,
    )
