"""From data to a release: teacher, student, variants, drift reference. Read it from top to bottom."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from msgspec import Struct
from numpy.typing import NDArray
from torch import nn

import cloud_trainer
from cloud_trainer.compare import answers_of, distances, right
from cloud_trainer.config import TaskConfig
from cloud_trainer.corruptions import corrupted
from cloud_trainer.data import (
    Dataset,
    Labelled,
    Shares,
    Splits,
    check_data,
    deal,
    digest,
    join,
    load_splits,
    stop_if_strict,
    value_range,
)
from cloud_trainer.data.oversample import oversample
from cloud_trainer.deploy import Held, deploy
from cloud_trainer.energy import measured
from cloud_trainer.engines import Engine
from cloud_trainer.evaluation import Judge, best_variant, chance_warning, mean_warning
from cloud_trainer.evaluation.numbers import naive_scale
from cloud_trainer.evaluation.robustness import robustness_of_variant
from cloud_trainer.exporting.variants import Student, open_worker
from cloud_trainer.features import float_warning
from cloud_trainer.fit import Encoded
from cloud_trainer.gates import GATES_NAME, Gates, better, decide, no_worse, save_gates
from cloud_trainer.kinds import Kind, Prepared, kind_of
from cloud_trainer.learn import Learned, finetuned, learn, load_checkpoint, save_checkpoint
from cloud_trainer.lesson import HERE, Lesson
from cloud_trainer.packaging import (
    REFERENCE_MINIMUM,
    Measured,
    draft,
    finish,
    profiles,
    staging,
    watch_of,
    write_golden,
    write_golden_outputs,
)
from cloud_trainer.progress import WARNING, Progress, silent, within
from cloud_trainer.quantization import calibration_samples
from cloud_trainer.quantization.prune import prune
from cloud_trainer.story import Story, documents
from cloud_trainer.work import working_on
from shared.errors import DataError, ExportError, StoppedError, UsageError
from shared.files import sha256_bytes
from shared.manifest import Baseline, Lineage, Manifest, load_manifest
from shared.pipeline.decode import Threshold
from shared.pipeline.spec import Pipeline

SHORT = 200_000
"""Samples, each counted in every epoch, of a training of seconds."""

__all__ = ["Labelled", "TrainedRelease", "train_release"]


class TrainedRelease(Struct, frozen=True):
    """What came of it. ``gates`` is there when there was a parent; ``left_out``: variant -> reason; ``scores``: of
    teacher, student and the student without its teacher, on the test split; ``warnings`` were told to the progress,
    too; ``comparison``: of the ``seconds``, those that the student without teacher took."""

    path: Path
    manifest: Manifest
    gates: Gates | None
    left_out: dict[str, str]
    seconds: float
    warnings: tuple[str, ...] = ()
    scores: dict[str, float] = {}
    macs: dict[str, int] = {}
    comparison: float = 0.0


def train_release(
    task: TaskConfig,
    out: Path,
    *,
    version: int,
    parent: Path | None = None,
    labelled: Sequence[Labelled] = (),
    progress: Progress = silent,
    stop: Callable[[], bool] | None = None,
    engine: Engine = HERE,
) -> TrainedRelease:
    """Train, distil, export, quantize, measure, and write the release directory ``out``, whole or not at all.

    With ``parent``, a release directory, and ``labelled``, samples of devices that drifted: trains on old and new data,
    gives each such device a baseline of its own, and writes ``gates.json`` beside ``out``. A candidate that fails its
    gates is written too, for people to look at: see ``gates.passed``. A training that was ended early goes on where it
    was when it is called again with the same arguments: what it needs for that lies in ``out.work/``.

    Raises:
        UsageError: ``out`` exists already and is not empty; there is no data file.
        DataError: the data cannot be used.
        ExportError: a model file could not be made.
        StoppedError: ``stop`` said so.
    """
    started = time.monotonic()
    kind = kind_of(task.kind)
    progress("data", 0.0, f"loading {task.name}")
    splits = load_splits(task)
    warnings = Warnings(progress)
    findings = check_data(task, splits)
    stop_if_strict(findings, strict=task.data.strict)
    for finding in findings:
        severe = finding.severity == "error"
        warnings.add(f"figures of this release cannot be believed: {finding.text}" if severe else finding.text)
    if len(splits.reference) < REFERENCE_MINIMUM:
        raise DataError(
            f"reference split: {len(splits.reference)} samples; the drift reference needs {REFERENCE_MINIMUM}"
        )
    old = load_manifest(parent) if parent else None
    if old is not None and version <= old.version:
        raise UsageError(f"version {version} must be above the parent's, {old.version}")
    shares = [deal(part, splits.train, task.retrain.held_out_share, task.seed) for part in labelled]
    images = task.kind.startswith("image")
    splits = msgspec.structs.replace(splits, train=_with_new(splits.train, shares, task.seed, images=images))

    with staging(out) as release, working_on(out) as work, ExitStack() as stack:
        worker = open_worker(task.export.runtimes, progress)
        if worker is not None:
            stack.enter_context(worker)
        with (
            _threads(task.training.threads, beside=worker is not None and _short(task, len(splits.train))),
            measured() as energy,
        ):
            start = load_checkpoint(parent) if parent else None
            progress("features", 0.02, f"preparing {len(splits.train):,} samples")
            prepared = kind.prepare(task, splits)
            values = _values(splits.train.x, kind, warnings)
            if old is not None and start is not None and prepared.answer == "logits":
                prepared = msgspec.structs.replace(prepared, pipeline=old.pipeline)
            lesson = Lesson(
                task=task,
                kind=kind,
                prepared=prepared,
                objective=kind.objective(task, prepared, splits),
                data=_encoded(kind, task, prepared, splits.train, task.seed, task.training.corrupt),
                validation=_encoded(kind, task, prepared, splits.validation, task.seed + 1),
                work=work,
                stop=stop,
                engine=engine,
            )
            learned = learn(lesson, start=start, progress=within(progress, 0.03, 0.55))
            for curve in learned.curves:
                warnings.add(curve.finding)
            calibration = calibration_samples(splits.train.x, task.export.calibration_samples, task.seed)
            student = Student(
                model=learned.student.model,
                input=lesson.input_shape,
                macs=learned.macs[1],
                name=learned.student.architecture.label,
                calibration=prepared.encode(calibration),
                tokens=lesson.data.x.dtype == torch.int64,
                answer=prepared.answer,
            )
            if task.export.prune:
                student = _pruned(lesson, learned, student, splits, warnings)
            pipeline = kind.finish(task, prepared, student.model, splits)
            manifest = draft(
                task.name,
                version,
                sample=prepared.sample,
                pipeline=pipeline,
                labels=splits.train.labels,
                variants=(),
                lineage=_lineage(task, [*splits.parts().values(), *_all(shares)], old),
                drift=task.drift,
                baselines=(
                    Baseline("default"),
                    *(Baseline(s.device, (s.device,)) for s in shares if len(s.held_out) >= REFERENCE_MINIMUM),
                ),
                task=kind.task,
            )
            judge = judge_of(pipeline, kind.task, splits)
            parts = {"reference": splits.reference.x, "test": splits.test.x}
            parts |= {share.device: share.held_out.x for share in shares}
            chosen_on = splits.validation
            if judge.family == "anomaly":  # normal samples alone: anomalies are made up
                x, y = kind.examples(task, prepared, chosen_on, task.seed + 1)
                chosen_on = Dataset(x, np.minimum(y, 1), splits.train.labels)
            held = Held(manifest, release, judge, chosen_on, splits.test, parts)
            try:
                deployed = deploy(lesson, learned, student, held, worker, within(progress, 0.55, 0.9))
            except ExportError as error:  # Ctrl-C reaches the worker, too
                if stop is not None and stop():
                    raise StoppedError(f"stopped while it was exported; {work} goes on from there") from error
                raise
        kept = deployed.kept
        manifest = msgspec.structs.replace(manifest, variants=tuple(one.variant for one in kept))
        references = {"default": ("reference", splits.reference.x)}
        references |= {b.name: (b.name, parts[b.name]) for b in manifest.baselines[1:]}
        truth = {"default": splits.reference.y} | {share.device: share.held_out.y for share in shares}
        profile = profiles(
            watch_of(manifest, kept, "reference"),
            kept,
            references,
            truth,
            manifest.labels,
            time_ordered=_ordered(splits.reference) and not shares,
        )
        if kind.task.endswith("classification") and manifest.sample.fixed:
            write_golden(release, splits.test.x, kept, "test")
        else:
            write_golden_outputs(release, manifest, {manifest.sample.name: splits.test.x}, kept, "test")
        best = _best(manifest, kept)
        if judge.family == "classes":
            warnings.add(chance_warning(best.outputs["test"]["index"], splits.test.y, manifest.labels))
        elif judge.family == "numbers":
            warnings.add(mean_warning(best.variant.quality, len(splits.test)))
        progress("robustness", 0.9, best.variant.id)
        robust = robustness_of_variant(
            manifest,
            release,
            best.variant,
            splits.test,
            task.kind,
            judge,
            keep=_time_place(task, splits.test),
            seed=task.seed,
        )
        gates = _gates(manifest, parent, old, best, judge, splits.test, shares)
        progress("report", 0.92, "card and report")
        counts = {name: len(part) for name, part in splits.parts().items()}
        counts |= {f"labelled by {s.device}, trained on": len(s.train) for s in shares}
        counts |= {f"labelled by {s.device}, held out": len(s.held_out) for s in shares}
        story = Story(
            task=task,
            manifest=manifest,
            prepared=prepared,
            learned=learned,
            released=student.model,
            deployed=deployed,
            judge=judge,
            splits=splits,
            objective=lesson.objective,
            kind=kind,
            profile=profile,
            counts=counts,
            values=values,
            findings=findings,
            gates=gates,
            warnings=tuple(warnings.told),
            robustness=robust,
            energy=energy.joules,
        )
        scores, pages = documents(story)
        manifest = finish(manifest, release, kept, profile, pages)
    save_checkpoint(learned, out)
    if gates is not None:
        save_gates(gates, out.parent / GATES_NAME)
    seconds = time.monotonic() - started
    progress("done", 1.0, f"{out} in {seconds:.1f} s")
    macs = dict(zip(("teacher", "student"), learned.macs, strict=True))
    alone = sum(learned.alone.curve.seconds) if learned.alone else 0.0
    told = tuple(warnings.told)
    return TrainedRelease(
        out, manifest, gates, deployed.left_out, round(seconds, 2), told, scores, macs, comparison=round(alone, 2)
    )


class Warnings:
    """What a person should know, told once and kept."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self.told: list[str] = []

    def add(self, text: str | None) -> None:
        """Tell and keep ``text``, if there is one."""
        if text:
            self.told.append(text)
            self._progress(WARNING, 0.0, text)


def judge_of(pipeline: Pipeline, manifest_task: str, splits: Splits) -> Judge:
    """What the figures of this task need to know."""
    thresholds = [one.threshold for one in pipeline.decode if isinstance(one, Threshold)]
    scale = 0.0
    if manifest_task == "forecast":
        scale = naive_scale(splits.train.x[:, :, 0])
    return Judge(
        manifest_task,
        threshold=thresholds[0] if thresholds and manifest_task == "anomaly" else None,
        scale=scale,
    )


def _with_new(old: Dataset, shares: Sequence[Shares], seed: int, *, images: bool) -> Dataset:
    if not shares:
        return old
    return join([old, oversample(join([share.train for share in shares]), len(old), seed, images=images)])


def _all(shares: Sequence[Shares]) -> Iterator[Dataset]:
    for share in shares:
        yield share.train
        yield share.held_out


def _encoded(
    kind: Kind, task: TaskConfig, prepared: Prepared, part: Dataset, seed: int, corrupt: float = 0.0
) -> Encoded:
    x, targets = kind.examples(task, prepared, part, seed)
    if corrupt:
        x = corrupted(task.kind, x, corrupt, np.random.default_rng([seed, 6]), keep=_time_place(task, part))
    return Encoded.of(prepared.encode(x), targets)


def _pruned(lesson: Lesson, learned: Learned, student: Student, splits: Splits, warnings: Warnings) -> Student:
    """The student with some of its channels cut off, and what that cost; as it is where it cannot be cut, which is
    told."""

    def finetune(model: nn.Module) -> None:
        finetuned(lesson, learned, model, lesson.task.export.qat_epochs)

    try:
        found = prune(student, lesson.task.export.prune, finetune)
    except ExportError as error:
        warnings.add(str(error))
        return student
    scores = []
    for model in (learned.student.model, found.student.model):
        answer, truth = lesson.kind.graded(lesson.prepared, [model], splits, splits.validation)
        scores.append(lesson.objective.score(answer, truth))
    warnings.add(
        f"{found.text}; {lesson.objective.metric} on the validation part: {scores[0]:.4f} before, {scores[1]:.4f} after"
    )
    return found.student


def _time_place(task: TaskConfig, part: Dataset) -> tuple[int, ...]:
    """Places of the last axis that no sensor measures: the time."""
    return (part.columns.index(task.data.time),) if task.data.time in part.columns else ()


def _values(x: NDArray[Any], kind: Kind, warnings: Warnings) -> tuple[float, float] | None:
    """The smallest and the largest value, where samples are numbers."""
    if x.dtype.kind not in "biuf" or not np.isfinite(x).all():
        return None
    values = value_range(x, "train split")
    if x.ndim > 2 and kind.task != "forecast":  # whose channels are named, and may be times
        warnings.add(float_warning(x, values))
    return values


def _ordered(part: Dataset) -> bool:
    """Whether the samples follow each other in time."""
    return part.times is not None and bool((np.diff(part.times) >= 0).all()) and part.groups is None


def _short(task: TaskConfig, samples: int) -> bool:
    """Whether training takes about as long as the TFLite worker's imports, which then get a core of their own."""
    training = task.training
    return samples * (training.teacher_epochs + training.student_epochs) <= SHORT


@contextmanager
def _threads(wanted: int, *, beside: bool) -> Iterator[None]:
    """Threads of torch, for the duration; 0: as many as this process may use, less one for a worker ``beside`` it.
    More than it may use only wait for each other: a thousand on two cores never came to an end.

    Small networks wait for their slowest thread after every layer: on a core that the worker uses, too, two threads
    take longer than one.
    """
    before = torch.get_num_threads()
    cores = len(os.sched_getaffinity(0))
    torch.set_num_threads(min(wanted, cores) or max(1, cores - beside))
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


def _best(manifest: Manifest, kept: Sequence[Measured]) -> Measured:
    chosen = best_variant(msgspec.structs.replace(manifest, variants=tuple(one.variant for one in kept)))
    return next(one for one in kept if one.variant.id == chosen.id)


def _gates(
    manifest: Manifest,
    parent: Path | None,
    old: Manifest | None,
    best: Measured,
    judge: Judge,
    test: Dataset,
    shares: Sequence[Shares],
) -> Gates | None:
    """Candidate against parent, each with its best variant; ``None`` without a parent."""
    if parent is None or old is None:
        return None
    before = answers_of(parent, test.x, test.labels)
    within_ = float(np.median(distances(judge, before, test.y))) if judge.family == "numbers" else 0.0
    found = [
        no_worse(right(judge, before, test.y, within_), right(judge, best.outputs["test"], test.y, within_)),
    ]
    if shares:
        x, y = (np.concatenate([getattr(share.held_out, field) for share in shares]) for field in "xy")
        candidate = [right(judge, best.outputs[one.device], one.held_out.y, within_) for one in shares]
        found.append(better(right(judge, answers_of(parent, x, test.labels), y, within_), np.concatenate(candidate)))
    return decide(manifest.name, manifest.version, old.version, tuple(found))
