"""Makes a release of model files: measures each through the engine, profiles it, and writes the directory whole.

Shared by ``cloud-trainer train`` and ``cloud-trainer package``; no torch here. The order is always the same:
:func:`staging` -> model files -> :func:`draft` -> :func:`measure` each -> :func:`finish`.
"""

from __future__ import annotations

import glob
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

from cloud_trainer.evaluation import Judge, answer_of, figures, fit_temperature, held_out, run_batch, run_variant
from edge_agent.steps import plain
from shared.drift import HeldOut, ProfileSet, ReferenceProfile, WatchSpec
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
    StatePair,
    Variant,
    reference_file,
    save_manifest,
)
from shared.pipeline.spec import Pipeline

GOLDEN, PROFILE, CARD, REPORT = "golden.npz", "profile.npz", "card.md", "report.html"
GOLDEN_SAMPLES = 64
GOLDEN_BYTES = 16 << 20
REFERENCE_MINIMUM = 50
"""Samples that a baseline needs: fewer say too little about the tails."""
_UNKNOWN = FileReference(path="unknown", bytes=0, sha256="0" * 64)


class Measured(Struct, frozen=True, eq=False):
    """A variant with its temperature and figures, and what it answered: part -> field -> (n, ...)."""

    variant: Variant
    outputs: dict[str, dict[str, NDArray[Any]]]


@contextmanager
def staging(out: Path) -> Iterator[Path]:
    """A directory beside ``out`` that becomes ``out`` when the block ends well, and is removed when it does not; what
    processes that were killed left of theirs, too.

    Raises:
        UsageError: ``out`` exists already and is not empty, or its parent cannot be written to.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out}: exists already; a release is never changed, choose another --out")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        _remove_stale(out)
        directory = Path(tempfile.mkdtemp(prefix=f".{out.name}.{os.getpid()}.", dir=out.parent))
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


def _remove_stale(out: Path) -> None:
    """Staging directories of ``out`` whose process is gone."""
    for path in out.parent.glob(f".{glob.escape(out.name)}.*.*"):
        process = path.name.removeprefix(f".{out.name}.").split(".")[0]
        if process.isdecimal() and path.is_dir() and not path.is_symlink() and not _runs(int(process)):
            shutil.rmtree(path, ignore_errors=True)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # another user's
        return True
    return True


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
    task: str = "image-classification",
    extra_inputs: tuple[SampleSpec, ...] = (),
    state: tuple[StatePair, ...] = (),
) -> Manifest:
    """A manifest whose golden and profile files are still to come: enough for an engine that trusts its files."""
    return Manifest(
        format=FORMAT,
        name=name,
        version=version,
        task=task,
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
        extra_inputs=extra_inputs,
        state=state,
    )


def measure(
    manifest: Manifest,
    release: Path,
    variant: Variant,
    parts: Mapping[str, NDArray[Any]],
    *,
    judge: Judge | None = None,
    calibrate: tuple[NDArray[Any], NDArray[Any]] | None = None,
    truth: NDArray[Any] | None = None,
    groups: NDArray[Any] | None = None,
) -> Measured:
    """Run ``parts`` (name -> samples) through ``variant``.

    ``calibrate``: samples and classes that the temperature is fitted on. ``truth``: of part ``test``, for the quality,
    and its ``groups``, where figures go by them.
    """
    if calibrate is not None:
        x, y = calibrate
        logits = run_batch(manifest, release, variant, x)["logits"]
        variant = msgspec.structs.replace(variant, temperature=fit_temperature(logits, y))
    outputs = run_variant(manifest, release, variant, parts)
    answer = answer_of(manifest.task, outputs["test"]) if truth is not None else None
    if truth is not None and answer is not None:
        variant = msgspec.structs.replace(
            variant, quality=figures(judge or Judge(manifest.task), answer, truth, groups)
        )
    return Measured(variant, outputs)


def watch_of(manifest: Manifest, measured: Sequence[Measured], part: str) -> WatchSpec:
    """What devices watch of this release. The variants have answers to ``part``, which they were not fitted on; the
    directions in which a classifier's embedding is watched are those in which the first one's vary. Trees have none:
    beside them no embedding is watched.

    Raises:
        ProfileError: nothing in the answers can be watched.
    """
    fields = dict(measured[0].outputs[part])
    if not all("embedding" in one.outputs[part] for one in measured):
        fields.pop("embedding", None)
    if manifest.task.endswith("classification"):
        embedding = fields.get("embedding")
        return WatchSpec.fit(manifest.sample, len(manifest.labels), embedding, pipeline=manifest.pipeline)
    row = {name: plain(values[0]) for name, values in fields.items()}
    return WatchSpec.choose((manifest.sample,), row, manifest.task, pipeline=manifest.pipeline)


def profiles(
    watch: WatchSpec,
    measured: Sequence[Measured],
    baselines: Mapping[str, tuple[str, NDArray[Any]]],
    truth: Mapping[str, NDArray[Any]] | None = None,
    labels: Sequence[str] = (),
    *,
    time_ordered: bool = False,
) -> ProfileSet:
    """The drift reference: inputs once, outputs for each variant, for each of ``baselines``: name -> (part that the
    variants were measured on, its raw samples (n, *shape)). ``truth``: of their samples, by name, where it is known:
    classes as indices of ``labels``, or numbers; none of them is what the variants were trained on, or how good they
    were there says nothing. ``time_ordered``: samples follow each other as those of a device's stream will.

    Raises:
        DataError: a baseline has fewer than 50 samples.
    """
    found: dict[str, dict[str, ReferenceProfile]] = {}
    known: dict[str, dict[str, HeldOut]] = {}
    for name, (part, x) in baselines.items():
        if len(x) < REFERENCE_MINIMUM:
            raise DataError(f"baseline {name}: {len(x)} samples; at least {REFERENCE_MINIMUM} are needed")
        inputs = ReferenceProfile.fit(
            watch.inputs(x),
            watch.input_names,
            time_ordered=time_ordered,
            families=watch.input_families,
            kinds=watch.input_kinds,
        )
        found[name] = {"inputs": inputs}
        for one in measured:
            fields = one.outputs[part]
            if truth is not None and name in truth:
                held = held_out(fields, truth[name], labels)
                if held.known:
                    known.setdefault(name, {})[one.variant.id] = held
            found[name][one.variant.id] = ReferenceProfile.fit(
                watch.outputs_of(fields),
                watch.output_names,
                time_ordered=time_ordered,
                families=watch.output_families,
                kinds=watch.output_kinds,
            )
    return ProfileSet(watch, found, known)


def watched_answers(
    manifest: Manifest,
    measured: Sequence[Measured],
    samples: Mapping[str, NDArray[Any]],
    part: str,
    truth: NDArray[Any] | None = None,
) -> ProfileSet:
    """The drift reference of any task: the first input's ``samples`` (n, ...) and what the variants answered to them;
    ``truth`` (n,) about these, where it is known: classes, or numbers.

    Raises:
        DataError: fewer than 50 samples.
        ProfileError: nothing in the answers can be watched.
    """
    x = samples[manifest.sample.name]
    if len(x) < REFERENCE_MINIMUM:
        raise DataError(f"{len(x)} samples; the drift reference needs {REFERENCE_MINIMUM}")
    row = {name: plain(values[0]) for name, values in measured[0].outputs[part].items()}
    watch = WatchSpec.choose((manifest.sample,), row, manifest.task, pipeline=manifest.pipeline)
    inputs = ReferenceProfile.fit(
        watch.inputs(x), watch.input_names, families=watch.input_families, kinds=watch.input_kinds
    )
    found = {"inputs": inputs}
    for one in measured:
        found[one.variant.id] = ReferenceProfile.fit(
            watch.outputs_of(one.outputs[part]),
            watch.output_names,
            families=watch.output_families,
            kinds=watch.output_kinds,
        )
    known = {}
    if truth is not None:
        known = {one.variant.id: held_out(one.outputs[part], truth, manifest.labels) for one in measured}
    return ProfileSet(watch, {"default": found}, {"default": {id_: one for id_, one in known.items() if one.known}})


def write_golden_outputs(
    release: Path,
    manifest: Manifest,
    samples: Mapping[str, NDArray[Any]],
    measured: Sequence[Measured],
    part: str,
) -> None:
    """The first samples of every input, raw, with what each variant answered: scores, and its outputs that are numbers
    of one shape (see :mod:`edge_agent.selftest`). As many as keep within a quarter of what a device reads."""
    count = min(GOLDEN_SAMPLES, *map(len, samples.values()))
    carried = {pair.output for pair in manifest.state}
    while True:
        first, *others = ({name: _storable(values[:count]) for name, values in samples.items()}).items()
        arrays: dict[str, Any] = {"x": first[1]} | {f"input.{name}": values for name, values in others}
        for one in measured:
            fields = {name: values[:count] for name, values in one.outputs[part].items()}
            if "scores" in fields and manifest.task.endswith("classification"):
                arrays[f"scores.{one.variant.id}"] = fields["scores"]
            for spec in one.variant.outputs:
                if spec.name not in carried and fields[spec.name].dtype.kind in "biuf":
                    arrays[f"output.{one.variant.id}.{spec.name}"] = fields[spec.name]
        if count == 1 or sum(values.nbytes for values in arrays.values()) <= GOLDEN_BYTES:
            break
        count = max(1, count // 2)
    if "index" in measured[0].outputs[part]:
        arrays["index"] = measured[0].outputs[part]["index"][:count].astype(np.int64)
    np.savez_compressed(release / GOLDEN, **arrays)


def _storable(values: NDArray[Any]) -> NDArray[Any]:
    """Text without Python objects, which no device would unpickle."""
    return values.astype(np.str_) if values.dtype == object else values


def write_golden(release: Path, x: NDArray[Any], measured: Sequence[Measured], part: str) -> None:
    """The first samples of ``part``, raw ``x``, with every variant's scores and the first one's answers."""
    count = min(GOLDEN_SAMPLES, len(x))
    arrays: dict[str, Any] = {f"scores.{one.variant.id}": one.outputs[part]["scores"][:count] for one in measured}
    index = measured[0].outputs[part]["index"][:count].astype(np.int64)
    np.savez_compressed(release / GOLDEN, x=x[:count], index=index, **arrays)


def finish(
    manifest: Manifest,
    release: Path,
    measured: Sequence[Measured],
    profile: ProfileSet | None,
    documents: Mapping[str, str],
) -> Manifest:
    """Write what is missing, the manifest last; without a ``profile`` devices learn their own. Files in ``variants/``
    that no variant names are removed."""
    if profile is not None:
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
        profile=None if profile is None else reference_file(release, PROFILE),
        documents=tuple(reference_file(release, name) for name in documents),
    )
    save_manifest(whole, release)
    return whole
