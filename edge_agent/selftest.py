"""Does a release answer here as it did where it was made? Its golden samples say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from shared.errors import DigestError, SanderlingError, SelfTestError

if TYPE_CHECKING:
    from edge_agent.engine import Engine

MAX_BYTES = 64 << 20
"""Golden arrays in memory, at most."""


class Tolerance(Struct, frozen=True):
    """How much a correct device may differ.

    ``score`` bounds the difference of one probability; ``share`` is the part of the samples that may exceed it.
    """

    score: float
    share: float


TOLERANCES = {
    "fp32": Tolerance(score=0.01, share=0.0),
    # an x86 without VNNI saturates sums of U8 × S8 pairs, ARM rounds elsewhere: answers stay, probabilities move
    "int8": Tolerance(score=0.15, share=0.05),
}


def self_test(engine: Engine) -> None:
    """Run the golden samples and compare with the answers in ``golden.npz``.

    Raises:
        SelfTestError: answers differ by more than the precision's tolerance, or the golden file is unusable.
    """
    variant = engine.variant
    where = f"self-test of {engine.manifest.name}/{engine.manifest.version}, variant {variant.id}"
    x, expected = _golden(engine, where)
    try:
        found = engine.outputs(x)["scores"]
    except SanderlingError as error:
        raise SelfTestError(f"{where}: {error}") from error
    problem = difference(found, expected, TOLERANCES.get(variant.precision, TOLERANCES["int8"]))
    if problem:
        raise SelfTestError(f"{where}: {problem}")


def difference(found: NDArray[Any], expected: NDArray[Any], tolerance: Tolerance) -> str:
    """What is wrong with ``found`` (n, classes), in words; empty when nothing is.

    >>> difference(np.array([[0.9, 0.1]]), np.array([[0.2, 0.8]]), Tolerance(0.01, 0.0))
    '1 of 1 golden samples differ by more than 0.01 (largest difference 0.700); at most 0 may'
    """
    if found.shape != expected.shape:
        return f"scores have shape {found.shape}, golden.npz has {expected.shape}"
    if not np.isfinite(found).all():
        return "scores are NaN or infinite"
    gap = np.abs(found.astype(np.float64) - expected).max(axis=-1)
    beyond, allowed = int((gap > tolerance.score).sum()), int(tolerance.share * len(gap))
    if beyond > allowed:
        return (
            f"{beyond} of {len(gap)} golden samples differ by more than {tolerance.score:g} "
            f"(largest difference {gap.max():.3f}); at most {allowed} may"
        )
    return ""


def golden_samples(engine: Engine) -> NDArray[Any]:
    """The golden samples (n, *shape), raw: real inputs for a measurement.

    Raises:
        SelfTestError: the file is unusable.
    """
    return _golden(engine, f"golden samples of {engine.manifest.name}/{engine.manifest.version}")[0]


def _golden(engine: Engine, where: str) -> tuple[NDArray[Any], NDArray[Any]]:
    try:
        path = engine.manifest.golden.verify(engine.release)
        with np.load(path, allow_pickle=False) as file:
            _bounded(file)
            return file["x"], file[f"scores.{engine.variant.id}"]
    except DigestError as error:
        raise SelfTestError(f"{where}: {error}") from error
    except KeyError as error:
        raise SelfTestError(f"{where}: golden.npz lacks {error}") from error
    except (OSError, ValueError, EOFError) as error:
        raise SelfTestError(f"{where}: golden.npz cannot be read: {error}") from error


def _bounded(file: Any) -> None:
    size = sum(info.file_size for info in file.zip.infolist())
    if size > MAX_BYTES:
        raise ValueError(f"{size} bytes unpacked; at most {MAX_BYTES} are allowed")
