"""How far a variant's answers are from the network's own, on the same samples."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from edge_agent.backends import open_backend
from shared.manifest import Variant

Array = NDArray[Any]
EXACT_DB = 200.0
"""What identical answers count as: float32 itself has some 150 dB."""


class Agreement(Struct, frozen=True):
    """Of one variant's first output with the reference's, over ``samples``: the largest and the mean absolute
    difference in the output's unit, the signal-to-quantization-noise ratio in dB, and the share of samples with the
    same best class (``None``: no classes)."""

    variant: str
    samples: int
    max_abs: float
    mean_abs: float
    sqnr_db: float
    same: float | None = None


def compare(variant: str, wanted: Array, found: Array, *, classes: bool) -> Agreement:
    """``wanted`` and ``found``, (n, ...) each.

    >>> compare("int8-onnx", np.array([[1.0, 0.0]]), np.array([[0.9, 0.0]]), classes=True)
    Agreement(variant='int8-onnx', samples=1, max_abs=0.1, mean_abs=0.05, sqnr_db=20.0, same=1.0)
    """
    wanted, found = (np.asarray(one, np.float64).reshape(len(one), -1) for one in (wanted, found))
    gap = np.abs(found - wanted)
    same = float((found.argmax(1) == wanted.argmax(1)).mean()) if classes and wanted.shape[1] > 1 else None
    return Agreement(
        variant=variant,
        samples=len(wanted),
        max_abs=float(f"{gap.max(initial=0.0):.6g}"),
        mean_abs=float(f"{gap.mean():.6g}"),
        sqnr_db=round(sqnr(wanted, found), 2),
        same=same,
    )


def sqnr(wanted: Array, found: Array) -> float:
    """10 log10 of the wanted answers' power over the power of what differs, in dB; at most 200."""
    signal, noise = float(np.square(wanted).sum()), float(np.square(found - wanted).sum())
    if noise == 0:
        return EXACT_DB
    return min(EXACT_DB, 10 * float(np.log10(max(signal, 1e-300) / noise)))


def answers_of(variant: Variant, release: Path, x: Array, threads: int = 1) -> dict[str, Array]:
    """What the file gives for encoded samples ``x`` (n, *input), by the names of its outputs; each (n, ...).

    Raises:
        BackendError: the runtime refuses the file.
    """
    backend = open_backend(variant, release / variant.file.path, threads=threads)
    try:
        return backend.run({variant.inputs[0].name: x})
    finally:
        backend.close()


def agreements(
    variants: Sequence[Variant], release: Path, x: Array, wanted: Array, *, classes: bool
) -> tuple[Agreement, ...]:
    """Every variant's first output for ``x`` (n, *input) beside ``wanted`` (n, outputs), the network's own.

    Raises:
        BackendError: a runtime refuses a file.
    """
    found = []
    for variant in variants:
        answer = answers_of(variant, release, x)[variant.outputs[0].name]
        found.append(compare(variant.id, wanted, answer, classes=classes))
    return tuple(found)
