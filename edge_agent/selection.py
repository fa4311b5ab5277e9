"""Which variant is best here: measured on this device, not guessed from its name.

The decision (:func:`choose`) is a pure function of a table and the configuration. Measurements are kept in a cache
file, valid for one release (by its manifest's digest), one device fingerprint and one number of threads.

What is measured is ``Engine.infer``, one sample at a time, on the golden samples, or on random ones where a release (or
a bare file) has none.
"""

from __future__ import annotations

import logging
import platform
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from edge_agent.backends import EXTRA, available
from edge_agent.config import SelectionConfig
from edge_agent.energy import EnergyMeter
from edge_agent.hardware import fingerprint
from edge_agent.health import rss_mib
from edge_agent.selftest import golden_samples, random_samples, rows_of
from shared.errors import UNREADABLE, BackendError, NoVariantError, SelfTestError, UsageError
from shared.files import inside, sha256_bytes, write_atomic
from shared.manifest import Manifest, Variant, encode_manifest
from shared.messages import SelectionRow
from shared.quantiles import quantiles

log = logging.getLogger("edge_agent.selection")

WARM_UP = 20
LEAST_RUNS = 50
SAMPLES_PER_MEASUREMENT = 64
NOT_DOWNLOADED = "not downloaded"


class Measured(Struct, frozen=True):
    """The cache file: what was measured, and for which release, device and number of threads it is true."""

    release: str
    fingerprint: str
    threads: int
    rows: list[SelectionRow]
    energy_uj: dict[str, float] = {}  # variant -> of one inference; only where it was asked for


Progress = Callable[[str], None]
"""Told in a few words what is measured now."""


def candidates(manifest: Manifest, config: SelectionConfig) -> list[Variant]:
    """The variants that this device can run: backend installed, machine meant, within ``config.max_bytes``."""
    return [variant for variant in manifest.variants if not _unfit(variant, config)]


def _unfit(variant: Variant, config: SelectionConfig) -> str:
    """Why ``variant`` can't be run here, before trying; empty if it can."""
    if variant.runtime not in EXTRA:
        return f"runtime {variant.runtime} is unknown to this version"
    if variant.runtime not in available():
        return f"backend {variant.runtime} not installed: pip install 'sanderling[{EXTRA[variant.runtime]}]'"
    if variant.meant_for and platform.machine() not in variant.meant_for:
        return f"meant for {', '.join(variant.meant_for)}, this is {platform.machine()}"
    if config.max_bytes is not None and variant.file.bytes > config.max_bytes:
        return f"{variant.file.bytes} bytes, over the limit of {config.max_bytes}"
    return ""


def quality_of(variant: Variant) -> float | None:
    """The one number that variants are compared by: accuracy where it was measured, else the first that was."""
    if "accuracy" in variant.quality:
        return variant.quality["accuracy"]
    return next(iter(variant.quality.values()), None)


def select(
    manifest: Manifest,
    release: Path,
    config: SelectionConfig,
    *,
    threads: int = 1,
    cache: Path | None = None,
    progress: Progress = lambda _: None,
) -> tuple[Variant, list[SelectionRow]]:
    """Measure (or read from ``cache``) and choose. Variants whose files were not downloaded are left out.

    Raises:
        DigestError: a variant's file is there and damaged.
        NoVariantError: none can run; the message says why for each.
        UsageError: energy is to be minimized on a device that cannot measure it.
    """
    if config.goal == "energy":
        _meter()  # now, and not after a minute of measuring
    rows, energy = _measured(manifest, release, config, threads, cache, progress)
    rows = choose(rows, config, energy)
    for row in rows:
        if row.chosen:
            return manifest.variant(row.variant), rows
    reasons = "; ".join(f"{row.variant}: {row.why}" for row in rows)
    raise NoVariantError(f"no variant of {manifest.name}/{manifest.version} can run here: {reasons}")


def choose(
    rows: Sequence[SelectionRow], config: SelectionConfig, energy: Mapping[str, float] | None = None
) -> list[SelectionRow]:
    """Mark the best row and say in words, for each, why or why not.

    Rows without a measurement (``p50_us`` is ``None``) keep their reason. Quality counts in points of 0.01; an unknown
    quality counts as the worst. ``energy`` (microjoules of one inference, by variant) decides where that is the goal.
    """
    energy = energy or {}
    limit_us = None if config.p99_ms is None else config.p99_ms * 1000
    fit: list[SelectionRow] = []
    refused: dict[str, str] = {}
    for row in rows:
        if row.p50_us is None:
            refused[row.variant] = row.why
        elif config.variant is not None and row.variant != config.variant:
            refused[row.variant] = f"the configuration wants {config.variant}"
        elif config.max_bytes is not None and row.bytes > config.max_bytes:
            refused[row.variant] = f"{row.bytes} bytes, over the limit of {config.max_bytes}"
        elif config.goal == "energy" and row.variant not in energy:
            refused[row.variant] = "its energy could not be measured"
        elif limit_us is not None and row.p99_us is not None and row.p99_us > limit_us:
            refused[row.variant] = f"p99 {row.p99_us / 1000:.3g} ms, over the limit of {config.p99_ms:g} ms"
        else:
            fit.append(row)
    best_quality = max((_quality(row) for row in fit), default=0.0)
    within = [row for row in fit if best_quality - _quality(row) <= config.quality_drop + 1e-9]
    if config.goal == "energy":
        chosen = min(within, key=lambda row: (energy[row.variant], -_quality(row)), default=None)
    elif config.goal == "latency":
        chosen = min(within, key=lambda row: (row.p50_us, -_quality(row)), default=None)
    else:
        chosen = max(fit, key=lambda row: (_quality(row), -(row.p50_us or 0.0)), default=None)
    result = []
    for row in rows:
        why = refused.get(row.variant) or _why(row, chosen, best_quality, config, energy, alone=len(fit) == 1)
        result.append(msgspec.structs.replace(row, chosen=row is chosen, why=why))
    return result


def _why(
    row: SelectionRow,
    chosen: SelectionRow | None,
    best_quality: float,
    config: SelectionConfig,
    energy: Mapping[str, float],
    *,
    alone: bool,
) -> str:
    drop = 100 * (best_quality - _quality(row))
    if row is chosen:
        if config.variant is not None:
            return "named in the configuration"
        if alone:
            return "the only one that can run here"
        if config.goal == "quality":
            return "best quality"
        within = f"within {_points(100 * config.quality_drop)} of the best"
        if config.goal == "energy":
            return f"least energy ({energy[row.variant]:.3g} uJ) {within}"
        return f"fastest {within}"
    if drop > 100 * config.quality_drop + 1e-7 or (config.goal == "quality" and drop > 1e-7):
        return f"{_points(drop)} below the best"
    if chosen and config.goal == "energy":
        return f"{energy[row.variant] / max(energy[chosen.variant], 1e-9):.1f} times the energy of {chosen.variant}"
    slower = (row.p50_us or 0.0) / max((chosen.p50_us if chosen else None) or 1e-9, 1e-9)
    if chosen is None:
        return "not needed"
    return f"{slower:.1f} times as slow as {chosen.variant}" if slower >= 1.05 else f"about as fast as {chosen.variant}"


def _points(value: float) -> str:
    return f"{value:.1f} point" + ("" if f"{value:.1f}" == "1.0" else "s")


def _quality(row: SelectionRow) -> float:
    return -1.0 if row.quality is None else row.quality


def row_of(variant: Variant, **measured: Any) -> SelectionRow:
    """A row of the table with what the manifest knows."""
    return SelectionRow(
        variant=variant.id,
        runtime=variant.runtime,
        precision=variant.precision,
        bytes=variant.file.bytes,
        quality=quality_of(variant),
        **measured,
    )


def measure(
    manifest: Manifest, release: Path, variant: Variant, *, seconds: float = 0.3, threads: int = 1
) -> SelectionRow:
    """Load ``variant``, warm it up, and time it on golden samples for ``seconds``.

    ``rss_mib`` is what this process grew by, the runtime's own code included if it was not loaded yet.

    Raises:
        BackendError: it cannot be loaded or run.
    """
    from edge_agent.engine import Engine

    before = rss_mib()
    engine = Engine(manifest, release, variant, threads=threads)
    try:
        latencies = timed(engine.infer, _inputs(engine), seconds)
    finally:
        engine.close()
    p50, p99 = quantiles(latencies, (0.5, 0.99))
    return row_of(variant, p50_us=p50, p99_us=p99, rss_mib=max(rss_mib() - before, 0.0))


def timed(call: Any, inputs: NDArray[Any], seconds: float) -> NDArray[np.float64]:
    """Durations in microseconds of ``call(input)``, over and over for ``seconds`` after a warm-up, at least 50."""
    for i in range(WARM_UP):
        call(inputs[i % len(inputs)])
    durations: list[float] = []
    end = perf_counter() + seconds
    now = perf_counter()
    while now < end or len(durations) < LEAST_RUNS:
        sample = inputs[len(durations) % len(inputs)]
        start = perf_counter()
        call(sample)
        now = perf_counter()
        durations.append((now - start) * 1e6)
    return np.asarray(durations)


def measure_energy(
    manifest: Manifest, release: Path, variant: Variant, *, seconds: float = 0.3, threads: int = 1
) -> float:
    """Microjoules that the processor takes for one inference, what it takes when idle included.

    Raises:
        BackendError: the variant cannot be loaded or run.
        UsageError: this device cannot measure energy.
    """
    from edge_agent.engine import Engine

    meter = _meter()
    engine = Engine(manifest, release, variant, threads=threads)
    try:
        samples = _inputs(engine)
        timed(engine.infer, samples, 0.0)  # warm
        before = meter.consumed_uj()
        runs = len(timed(engine.infer, samples, seconds)) + WARM_UP
        return (meter.consumed_uj() - before) / runs
    finally:
        engine.close()


def _meter() -> EnergyMeter:
    try:
        return EnergyMeter()
    except OSError as error:
        raise UsageError(f'goal "energy" needs a device that measures it, and this one does not: {error}') from error


def _inputs(engine: Any) -> Any:
    """Golden samples; a release whose golden file is unusable is still measured, on random ones."""
    try:
        return golden_samples(engine)[:SAMPLES_PER_MEASUREMENT]
    except SelfTestError:
        given = random_samples(engine.signature)
        return rows_of(given) if isinstance(given, dict) else given


def _measured(
    manifest: Manifest,
    release: Path,
    config: SelectionConfig,
    threads: int,
    cache: Path | None,
    progress: Progress,
) -> tuple[list[SelectionRow], dict[str, float]]:
    key = (sha256_bytes(encode_manifest(manifest))[:16], fingerprint(), threads)
    found = _read(cache, key)
    known = {row.variant: row for row in found.rows}
    energy = dict(found.energy_uj)
    rows = []
    for variant in manifest.variants:
        why = _unfit(variant, config) or _absent(variant, release)
        if why:
            rows.append(row_of(variant, why=why))
            continue
        variant.file.verify(release)
        options: dict[str, Any] = {"seconds": config.measure_seconds, "threads": threads}
        row = known.get(variant.id)
        try:
            if row is None:
                progress(f"measuring {variant.id}")
                row = measure(manifest, release, variant, **options)
            if config.goal == "energy" and variant.id not in energy:
                progress(f"measuring the energy of {variant.id}")
                energy[variant.id] = measure_energy(manifest, release, variant, **options)
        except BackendError as error:
            row = row_of(variant, why=str(error))
        rows.append(row)
    measured = [row for row in rows if row.p50_us is not None]
    if cache is not None and ({row.variant for row in measured} - set(known) or energy != found.energy_uj):
        result = Measured(*key, rows=measured, energy_uj=energy)
        try:
            cache.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(cache, msgspec.json.format(msgspec.json.encode(result), indent=2) + b"\n")
        except OSError as error:  # a full disk costs a measurement at the next start, not the release
            log.warning("measurements cannot be kept in %s: %s", cache, error.strerror)
    return rows, energy


def _absent(variant: Variant, release: Path) -> str:
    return "" if inside(release, variant.file.path).exists() else NOT_DOWNLOADED


def _read(cache: Path | None, key: tuple[str, str, int]) -> Measured:
    """What the cache file has for ``key``; a missing, damaged or outdated file is measured anew."""
    nothing = Measured(*key, rows=[])
    if cache is None or not cache.exists():
        return nothing
    try:
        found = msgspec.json.decode(cache.read_bytes(), type=Measured)
    except (OSError, *UNREADABLE):
        return nothing
    return found if (found.release, found.fingerprint, found.threads) == key else nothing
