"""Does a release answer here as it did where it was made? Its golden samples say.

``golden.npz`` holds ``x`` (n, ...), samples of the first input, ``input.<name>`` for each further one, and what a
correct device gives for them: ``scores.<variant>`` (n, classes) of a classifier, ``output.<variant>.<name>`` of any
model output that is numbers of one shape. Samples of a model with state are consecutive.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from shared.errors import DigestError, SanderlingError, SelfTestError
from shared.manifest import FileReference, SampleSpec

if TYPE_CHECKING:
    from edge_agent.engine import Engine

Array = NDArray[Any]

MAX_BYTES = 64 << 20
"""Golden arrays in memory, at most."""
RANDOM_SAMPLES = 16
DYNAMIC_SIZE = 64
"""Size that random samples have where the model takes any."""
WORDS = ("red", "light", "ahead", "stop", "the", "sea", "is", "calm", "and", "wide")
INDEX_SHARE = 0.05
"""Part of the samples whose whole-number outputs (a class, a rank) may be others: equals are ordered by rounding."""


class Tolerance(Struct, frozen=True):
    """How much a correct device may differ.

    ``score`` bounds the difference of one probability, and of any other output as a part of the largest magnitude that
    it has among the golden samples; ``share`` is the part of the samples that may exceed it.
    """

    score: float
    share: float


TOLERANCES = {
    "fp32": Tolerance(score=0.01, share=0.0),
    "fp64": Tolerance(score=0.01, share=0.0),
    # half precision has 11 bits, and processors without it compute in another order
    "fp16": Tolerance(score=0.03, share=0.0),
    # an x86 without VNNI saturates sums of U8 × S8 pairs, ARM rounds elsewhere: answers stay, probabilities move
    "int8": Tolerance(score=0.15, share=0.05),
}


def self_test(engine: Engine) -> None:
    """Run the golden samples and compare with the answers in ``golden.npz``. A bare file has none: random samples must
    give numbers.

    Raises:
        SelfTestError: answers differ by more than the precision's tolerance, or the golden file is unusable.
    """
    variant = engine.variant
    where = f"self-test of {engine.manifest.name}/{engine.manifest.version}, variant {variant.id}"
    golden = engine.manifest.golden
    given, expected = _golden(engine, golden, where) if golden is not None else (random_samples(engine.signature), {})
    engine.reset()
    try:
        found = engine.outputs(given)
    except SanderlingError as error:
        raise SelfTestError(f"{where}: {error}") from error
    finally:
        engine.reset()
    tolerance = TOLERANCES.get(variant.precision, TOLERANCES["int8"])
    for name, wanted in expected.items():
        if name not in found:
            raise SelfTestError(f"{where}: no output {name}, which golden.npz expects")
        problem = _compare(name, found[name], wanted, tolerance)
        if problem:
            raise SelfTestError(f"{where}: {problem}")


def _compare(name: str, found: Array, expected: Array, tolerance: Tolerance) -> str:
    if name == "scores":
        return difference(found, expected, tolerance)
    if found.dtype.kind not in "biuf" or found.shape != expected.shape:
        return f"{name} is {found.dtype.name} {found.shape}, golden.npz has {expected.dtype.name} {expected.shape}"
    count = len(expected)
    if expected.dtype.kind in "biu":
        off = int((found != expected).reshape(count, -1).any(axis=1).sum())
        allowed = int(max(INDEX_SHARE, tolerance.share) * count)
        return "" if off <= allowed else f"{name}: {off} of {count} golden samples differ; at most {allowed} may"
    scale = float(np.abs(expected, dtype=np.float64).max(initial=0.0)) or 1.0
    return difference(_flat(found, scale), _flat(expected, scale), tolerance, what=name)


def _flat(values: Array, scale: float) -> Array:
    flat: Array = values.reshape(len(values), -1).astype(np.float64) / scale
    return flat


def difference(found: Array, expected: Array, tolerance: Tolerance, *, what: str = "scores") -> str:
    """What is wrong with ``found`` (n, values), in words; empty when nothing is.

    >>> difference(np.array([[0.9, 0.1]]), np.array([[0.2, 0.8]]), Tolerance(0.01, 0.0))
    '1 of 1 golden samples differ by more than 0.01 (largest difference 0.700); at most 0 may'
    """
    if found.shape != expected.shape:
        return f"{what} have shape {found.shape}, golden.npz has {expected.shape}"
    if not np.isfinite(found).all():
        return f"{what} are NaN or infinite"
    gap = np.abs(found.astype(np.float64) - expected).max(axis=-1, initial=0.0)
    beyond, allowed = int((gap > tolerance.score).sum()), int(tolerance.share * len(gap))
    if beyond > allowed:
        return (
            f"{'' if what == 'scores' else what + ': '}{beyond} of {len(gap)} golden samples differ by more than "
            f"{tolerance.score:g} (largest difference {gap.max():.3f}); at most {allowed} may"
        )
    return ""


def golden_samples(engine: Engine) -> Any:
    """Samples, raw, to measure with, one by one: the golden ones (n, *shape), or random ones for a bare file; a list of
    dicts where the model has several inputs.

    Raises:
        SelfTestError: the file is unusable.
    """
    golden = engine.manifest.golden
    where = f"golden samples of {engine.manifest.name}/{engine.manifest.version}"
    given = _golden(engine, golden, where)[0] if golden is not None else random_samples(engine.signature)
    return given if isinstance(given, np.ndarray) else rows_of(given)


def rows_of(samples: Mapping[str, Array]) -> list[dict[str, Array]]:
    """Samples of several inputs, each (n, ...), one by one."""
    count = min(map(len, samples.values()), default=0)
    return [{name: values[i] for name, values in samples.items()} for i in range(count)]


def random_samples(
    signature: Sequence[SampleSpec],
    count: int = RANDOM_SAMPLES,
    *,
    seed: int = 0,
    limits: tuple[float, float] | None = None,
) -> Array | dict[str, Array]:
    """``count`` seeded random samples of what a model takes: (n, *shape), or a dict of such where there are several
    inputs. Where no ``limits`` of the first input are given: 0 to 1 for floating point, all values of 8-bit integers,
    0 and 1 for wider ones (which are mostly indices), a few words for text."""
    random = np.random.default_rng(seed)
    made = {spec.name: _random(random, spec, count, limits if spec is signature[0] else None) for spec in signature}
    return made if len(made) > 1 else next(iter(made.values()))


def _random(random: np.random.Generator, spec: SampleSpec, count: int, limits: tuple[float, float] | None) -> Array:
    shape = (count, *(DYNAMIC_SIZE if size == -1 else size for size in spec.shape))
    if spec.dtype == "str":
        flat = [" ".join(random.choice(WORDS, 4)) for _ in range(int(np.prod(shape)))]
        return np.array(flat, object).reshape(shape)
    dtype = np.dtype(spec.dtype)
    if dtype.kind == "f":
        return random.uniform(*(limits or (0.0, 1.0)), shape).astype(dtype)
    if dtype.kind == "b":
        return random.integers(0, 2, shape).astype(bool)
    kind = np.iinfo(dtype)
    low, high = limits or ((kind.min, kind.max) if dtype.itemsize == 1 else (0, 1))
    low, high = max(int(np.ceil(low)), kind.min), min(int(np.floor(high)), kind.max)
    return random.integers(low, high, shape, dtype=dtype, endpoint=True)


def _golden(engine: Engine, golden: FileReference, where: str) -> tuple[Array | dict[str, Array], dict[str, Array]]:
    """What goes in, and what must come out, by field."""
    variant, signature = engine.variant.id, engine.signature
    try:
        with np.load(golden.verify(engine.release), allow_pickle=False) as file:
            _bounded(file)
            given = {signature[0].name: file["x"]}
            given |= {spec.name: file[f"input.{spec.name}"] for spec in signature[1:]}
            start = f"output.{variant}."
            expected = {name.removeprefix(start): file[name] for name in file.files if name.startswith(start)}
            if f"scores.{variant}" in file.files or not expected:
                expected = {"scores": file[f"scores.{variant}"], **expected}
    except DigestError as error:
        raise SelfTestError(f"{where}: {error}") from error
    except KeyError as error:
        raise SelfTestError(f"{where}: golden.npz lacks {error}") from error
    except (OSError, ValueError, EOFError) as error:
        raise SelfTestError(f"{where}: golden.npz cannot be read: {error}") from error
    return (given if len(given) > 1 else given[signature[0].name]), expected


def _bounded(file: Any) -> None:
    size = sum(info.file_size for info in file.zip.infolist())
    if size > MAX_BYTES:
        raise ValueError(f"{size} bytes unpacked; at most {MAX_BYTES} are allowed")
