"""From data to a release: teacher, student, variants, drift reference. Read it from top to bottom."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec
import numpy as np
import torch
from msgspec import Struct

import cloud_trainer
from cloud_trainer.card import card
from cloud_trainer.config import TaskConfig
from cloud_trainer.data import Dataset, Labelled, Shares, deal, digest, join, load_splits, value_range
from cloud_trainer.data.oversample import oversample
from cloud_trainer.evaluate import best_variant, chance_warning, left_out, right_answers
from cloud_trainer.export.variants import Student, export_all, open_worker
from cloud_trainer.features import encode, fit_pipeline, float_warning, sample_spec
from cloud_trainer.fit import Encoded
from cloud_trainer.gates import GATES_NAME, Gates, better, decide, no_worse, save_gates
from cloud_trainer.learn import learn, load_checkpoint, save_checkpoint
from cloud_trainer.package import (
    CARD,
    REFERENCE_MINIMUM,
    REPORT,
    Measured,
    draft,
    finish,
    measure,
    profiles,
    staging,
    write_golden,
)
from cloud_trainer.progress import WARNING, Progress, silent, within
from cloud_trainer.quantize import calibration_samples
from cloud_trainer.report import CurveView, ReportData, report
from shared.errors import DataError, UsageError
from shared.files import sha256_bytes
from shared.manifest import Baseline, Lineage, Manifest, load_manifest
from shared.pipeline.spec import Pipeline

__all__ = ["Labelled", "TrainedRelease", "train_release"]


class TrainedRelease(Struct, frozen=True):
    """What came of it. ``gates`` is there when there was a parent; ``left_out``: variant -> reason; ``warnings`` were
    told to the progress, too."""

    path: Path
    manifest: Manifest
    gates: Gates | None
    left_out: dict[str, str]
    seconds: float
    warnings: tuple[str, ...] = ()


def train_release(
    task: TaskConfig,
    out: Path,
    *,
    version: int,
    parent: Path | None = None,
    labelled: Sequence[Labelled] = (),
    progress: Progress = silent,
) -> TrainedRelease:
    """Train, distil, export, quantize, measure, and write the release directory ``out``, whole or not at all.

    With ``parent``, a release directory, and ``labelled``, samples of devices that drifted: trains on old and new data,
    gives each such device a baseline of its own, and writes ``gates.json`` beside ``out``. A candidate that fails its
    gates is written too, for people to look at: see ``gates.passed``.

    Raises:
        UsageError: ``out`` exists already and is not empty; there is no data file.
        DataError: the data cannot be used.
        ExportError: a model file could not be made.
    """
    started = time.monotonic()
    progress("data", 0.0, f"loading {task.name}")
    splits = load_splits(task)
    sample = sample_spec(splits.train)
    values = value_range(splits.train.x, "train split")
    warnings = [text for text in (float_warning(splits.train.x, values),) if text]
    for text in warnings:
        progress(WARNING, 0.0, text)
    if len(splits.reference) < REFERENCE_MINIMUM:
        raise DataError(
            f"reference split: {len(splits.reference)} samples; the drift reference needs {REFERENCE_MINIMUM}"
        )
    old = load_manifest(parent) if parent else None
    if old is not None and version <= old.version:
        raise UsageError(f"version {version} must be above the parent's, {old.version}")
    shares = [deal(part, splits.train, task.retrain.held_out_share, task.seed) for part in labelled]
    train_data = _with_new(splits.train, shares, task.seed)

    with staging(out) as release, ExitStack() as stack:
        worker = open_worker(task.export.runtimes, progress)
        if worker is not None:
            stack.enter_context(worker)
        with _threads(task.training.threads, beside=worker is not None):
            start = load_checkpoint(parent) if parent else None
            pipeline = old.pipeline if old is not None and start is not None else fit_pipeline(train_data)
            learned = learn(
                task,
                _encoded(pipeline, train_data),
                _encoded(pipeline, splits.validation),
                len(train_data.labels),
                start=start,
                progress=within(progress, 0.03, 0.55),
            )
            calibration = calibration_samples(train_data.x, task.export.calibration_samples, task.seed)
            student = Student(
                model=learned.student,
                input=learned.student.shape.input,
                macs=learned.macs[1],
                name=f"resnet-w{learned.student.shape.width}",
                calibration=encode(pipeline, calibration),
            )
            variants = export_all(student, task.export.runtimes, release, worker, within(progress, 0.55, 0.75))

        manifest = draft(
            task.name,
            version,
            sample=sample,
            pipeline=pipeline,
            labels=train_data.labels,
            variants=variants,
            lineage=_lineage(task, [*splits.parts().values(), *_all(shares)], old),
            drift=task.drift,
            baselines=(
                Baseline("default"),
                *(Baseline(s.device, (s.device,)) for s in shares if len(s.held_out) >= REFERENCE_MINIMUM),
            ),
        )
        parts = {"reference": splits.reference.x, "test": splits.test.x}
        parts |= {share.device: share.held_out.x for share in shares}
        measured = []
        for i, variant in enumerate(variants):
            progress("evaluate", 0.75 + 0.15 * i / len(variants), variant.id)
            validation = (splits.validation.x, splits.validation.y)
            measured.append(measure(manifest, release, variant, parts, calibrate=validation, truth=splits.test.y))
        kept, reasons = _gate(measured, task.export.gate_points)
        references = {"default": ("reference", splits.reference.x)}
        references |= {b.name: (b.name, parts[b.name]) for b in manifest.baselines[1:]}
        truth = {"default": splits.reference.y} | {share.device: share.held_out.y for share in shares}
        profile = profiles(sample, len(manifest.labels), kept, references, truth, manifest.labels)
        write_golden(release, splits.test.x, kept, "test")
        chance = chance_warning(_best(manifest, kept).outputs["test"]["index"], splits.test.y, manifest.labels)
        if chance is not None:
            warnings.append(chance)
            progress(WARNING, 0.9, chance)

        gates = _gates(manifest, parent, old, kept, splits.test, shares)
        progress("report", 0.92, "card and report")
        counts = {name: len(part) for name, part in splits.parts().items()}
        counts |= {f"labelled by {s.device}, trained on": len(s.train) for s in shares}
        counts |= {f"labelled by {s.device}, held out": len(s.held_out) for s in shares}
        data = ReportData(
            manifest=manifest,
            measured=tuple(kept),
            left_out=reasons,
            counts=counts,
            curves=tuple(map(CurveView.of, learned.curves)),
            macs=learned.macs,
            test=splits.test,
            reference=profile.watch.inputs(splits.reference.x),
            watched=profile.watch.input_names,
            values=values,
            gates=gates,
            warm=learned.warm,
            warnings=tuple(warnings),
        )
        documents = {
            CARD: card(
                manifest,
                [m.variant for m in kept],
                data=counts,
                values=values,
                left_out=reasons,
                notes=_notes(learned.macs),
                warnings=warnings,
            ),
            REPORT: report(data),
        }
        manifest = finish(manifest, release, kept, profile, documents)
    save_checkpoint(learned, out)
    if gates is not None:
        save_gates(gates, out.parent / GATES_NAME)
    seconds = time.monotonic() - started
    progress("done", 1.0, f"{out} in {seconds:.1f} s")
    return TrainedRelease(out, manifest, gates, reasons, round(seconds, 2), tuple(warnings))


def _with_new(old: Dataset, shares: Sequence[Shares], seed: int) -> Dataset:
    if not shares:
        return old
    return join([old, oversample(join([share.train for share in shares]), len(old), seed)])


def _all(shares: Sequence[Shares]) -> Iterator[Dataset]:
    for share in shares:
        yield share.train
        yield share.held_out


def _encoded(pipeline: Pipeline, data: Dataset) -> Encoded:
    return Encoded.of(encode(pipeline, data.x), data.y)


@contextmanager
def _threads(wanted: int, *, beside: bool) -> Iterator[None]:
    """Threads of torch, for the duration; 0: as many as this process may use, less one for a worker ``beside`` it.

    Small networks wait for their slowest thread after every layer: on a core that the worker uses, too, two threads
    take longer than one.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(wanted or max(1, len(os.sched_getaffinity(0)) - beside))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _lineage(task: TaskConfig, parts: Sequence[Dataset], old: Manifest | None) -> Lineage:
    # where the file lies says nothing about the model
    data = msgspec.structs.replace(task.data, path=Path(task.data.path).name)
    config = msgspec.json.encode(msgspec.structs.replace(task, data=data))
    return Lineage(
        data_sha256=digest(parts),
        config_sha256=sha256_bytes(config),
        code_version=cloud_trainer.__version__,
        seed=task.seed,
        parent=old.version if old else None,
    )


def _gate(measured: Sequence[Measured], gate_points: float) -> tuple[list[Measured], dict[str, str]]:
    """Keep fp32, and int8 that is good enough beside the fp32 of its runtime."""
    fp32 = {one.variant.runtime: one.variant.quality["accuracy"] for one in measured if one.variant.precision == "fp32"}
    kept, reasons = [], {}
    for one in measured:
        variant = one.variant
        reason = None
        if variant.precision == "int8":
            reason = left_out(variant.quality["accuracy"], fp32[variant.runtime], gate_points)
        if reason is None:
            kept.append(one)
        else:
            reasons[variant.id] = reason
    return kept, reasons


def _best(manifest: Manifest, kept: Sequence[Measured]) -> Measured:
    chosen = best_variant(msgspec.structs.replace(manifest, variants=tuple(one.variant for one in kept)))
    return next(one for one in kept if one.variant.id == chosen.id)


def _gates(
    manifest: Manifest,
    parent: Path | None,
    old: Manifest | None,
    kept: Sequence[Measured],
    test: Dataset,
    shares: Sequence[Shares],
) -> Gates | None:
    """Candidate against parent, each with its best variant; ``None`` without a parent."""
    if parent is None or old is None:
        return None
    best = _best(manifest, kept)
    found = [
        no_worse(right_answers(parent, test.x, test.y, test.labels), best.outputs["test"]["index"] == test.y),
    ]
    if shares:
        x, y = (np.concatenate([getattr(share.held_out, field) for share in shares]) for field in "xy")
        candidate = np.concatenate([best.outputs[share.device]["index"] for share in shares]) == y
        found.append(better(right_answers(parent, x, y, test.labels), candidate))
    return decide(manifest.name, manifest.version, old.version, tuple(found))


def _notes(macs: tuple[int, int]) -> list[str]:
    return [f"The student was distilled from a teacher of {macs[0]:,} MACs and has {macs[1]:,} itself."]
