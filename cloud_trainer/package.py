"""Makes a release of model files: measures each through the engine, profiles it, and writes the directory whole.

Shared by ``cloud-trainer train`` and ``cloud-trainer package``; no torch here. The order is always the same:
:func:`staging` -> model files -> :func:`draft` -> :func:`measure` each -> :func:`finish`.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from cloud_trainer.evaluate import figures, fit_temperature, run_batch, run_variant
from shared.drift import ProfileSet, ReferenceProfile, WatchSpec
from shared.errors import DataError, UsageError
from shared.files import fsync_directory, write_atomic
from shared.manifest import (
    FORMAT,
    Baseline,
    DriftPolicy,
    FileReference,
    Lineage,
    Manifest,
    SampleSpec,
    Variant,
    reference_file,
    save_manifest,
)
from shared.pipeline.spec import Pipeline

GOLDEN, PROFILE, CARD, REPORT = "golden.npz", "profile.npz", "card.md", "report.html"
GOLDEN_SAMPLES = 64
REFERENCE_MINIMUM = 50
"""Samples that a baseline needs: fewer say too little about the tails."""
_UNKNOWN = FileReference(path="unknown", bytes=0, sha256="0" * 64)


class Measured(Struct, frozen=True, eq=False):
    """A variant with its temperature and figures, and what it answered: part -> field -> (n, ...)."""

    variant: Variant
    outputs: dict[str, dict[str, NDArray[Any]]]


@contextmanager
def staging(out: Path) -> Iterator[Path]:
    """A directory beside ``out`` that becomes ``out`` when the block ends well, and is removed when it does not.

    Raises:
        UsageError: ``out`` exists already and is not empty, or its parent cannot be written to.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out}: exists already; a release is never changed, choose another --out")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        directory = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    except OSError as error:
        raise UsageError(f"{out}: cannot be written ({error.strerror})") from error
    try:
        (directory / "variants").mkdir()
        yield directory
        for path in directory.rglob("*"):
            _settle(path)
        directory.chmod(0o755)
        if out.is_dir():
            out.rmdir()
        directory.rename(out)
    except BaseException:
        shutil.rmtree(directory, ignore_errors=True)
        raise
    fsync_directory(out.parent)


def _settle(path: Path) -> None:
    """To the disk, and readable by others."""
    path.chmod(0o755 if path.is_dir() else 0o644)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def draft(
    name: str,
    version: int,
    *,
    sample: SampleSpec,
    pipeline: Pipeline,
    labels: tuple[str, ...],
    variants: Sequence[Variant],
    lineage: Lineage,
    drift: DriftPolicy,
    baselines: tuple[Baseline, ...] = (Baseline("default"),),
) -> Manifest:
    """A manifest whose golden and profile files are still to come: enough for an engine that trusts its files."""
    return Manifest(
        format=FORMAT,
        name=name,
        version=version,
        task="image-classification",
        sample=sample,
        pipeline=pipeline,
        labels=labels,
        variants=tuple(variants),
        golden=_UNKNOWN,
        profile=_UNKNOWN,
        lineage=lineage,
        created=datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        drift=drift,
        baselines=baselines,
    )


def measure(
    manifest: Manifest,
    release: Path,
    variant: Variant,
    parts: Mapping[str, NDArray[Any]],
    *,
    calibrate: tuple[NDArray[Any], NDArray[np.int64]] | None = None,
    truth: NDArray[np.int64] | None = None,
) -> Measured:
    """Run ``parts`` (name -> samples) through ``variant``.

    ``calibrate``: samples and classes that the temperature is fitted on. ``truth``: the classes of part ``test``, for
    the quality.
    """
    if calibrate is not None:
        x, y = calibrate
        logits = run_batch(manifest, release, variant, x)["logits"]
        variant = msgspec.structs.replace(variant, temperature=fit_temperature(logits, y))
    outputs = run_variant(manifest, release, variant, parts)
    if truth is not None:
        variant = msgspec.structs.replace(variant, quality=figures(outputs["test"]["scores"], truth))
    return Measured(variant, outputs)


def profiles(
    sample: SampleSpec, classes: int, measured: Sequence[Measured], baselines: Mapping[str, tuple[str, NDArray[Any]]]
) -> ProfileSet:
    """The drift reference: inputs once, outputs for each variant, for each of ``baselines``: name -> (part that the
    variants were measured on, its raw samples (n, *shape)). The first must be ``default``; projections are its.

    Raises:
        DataError: a baseline has fewer than 50 samples.
    """
    first_part = next(iter(baselines.values()))[0]
    watch = WatchSpec.fit(sample, classes, measured[0].outputs[first_part].get("embedding"))
    found: dict[str, dict[str, ReferenceProfile]] = {}
    for name, (part, x) in baselines.items():
        if len(x) < REFERENCE_MINIMUM:
            raise DataError(f"baseline {name}: {len(x)} samples; at least {REFERENCE_MINIMUM} are needed")
        inputs = ReferenceProfile.fit(
            watch.inputs(x), watch.input_names, families=watch.input_families, kinds=watch.input_kinds
        )
        found[name] = {"inputs": inputs}
        for one in measured:
            fields = one.outputs[part]
            found[name][one.variant.id] = ReferenceProfile.fit(
                watch.outputs(fields["scores"], fields.get("embedding")),
                watch.output_names,
                families=watch.output_families,
                kinds=watch.output_kinds,
            )
    return ProfileSet(watch, found)


def write_golden(release: Path, x: NDArray[Any], measured: Sequence[Measured], part: str) -> None:
    """The first samples of ``part``, raw ``x``, with every variant's scores and the first one's answers."""
    count = min(GOLDEN_SAMPLES, len(x))
    arrays: dict[str, Any] = {f"scores.{one.variant.id}": one.outputs[part]["scores"][:count] for one in measured}
    index = measured[0].outputs[part]["index"][:count].astype(np.int64)
    np.savez_compressed(release / GOLDEN, x=x[:count], index=index, **arrays)


def finish(
    manifest: Manifest, release: Path, measured: Sequence[Measured], profile: ProfileSet, documents: Mapping[str, str]
) -> Manifest:
    """Write what is missing, the manifest last; files in ``variants/`` that no variant names are removed."""
    profile.save(release / PROFILE)
    for name, text in documents.items():
        write_atomic(release / name, text.encode())
    variants = tuple(one.variant for one in measured)
    named = {variant.file.path for variant in variants}
    for path in (release / "variants").iterdir():
        if f"variants/{path.name}" not in named:
            path.unlink()
    whole = msgspec.structs.replace(
        manifest,
        variants=variants,
        golden=reference_file(release, GOLDEN),
        profile=reference_file(release, PROFILE),
        documents=tuple(reference_file(release, name) for name in documents),
    )
    save_manifest(whole, release)
    return whole
