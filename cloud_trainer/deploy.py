"""The files that a student becomes: exported, measured through the engine, gated, and repaired where they fail."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct
from numpy.typing import NDArray

from cloud_trainer.config import ExportConfig
from cloud_trainer.data import Splits
from cloud_trainer.evaluation import Judge, left_out
from cloud_trainer.export.to_tflite import TfliteWorker
from cloud_trainer.export.variants import Student, export_all
from cloud_trainer.learn import Learned, Lesson
from cloud_trainer.package import Measured, measure
from cloud_trainer.progress import Progress, within
from edge_agent.selection import quality_of
from shared.manifest import Manifest


class Deployed(Struct, frozen=True, eq=False):
    """``kept``: variants that are good enough; ``left_out``: variant -> why it is not."""

    kept: tuple[Measured, ...]
    left_out: dict[str, str]


def deploy(
    lesson: Lesson,
    student: Student,
    learned: Learned,
    *,
    manifest: Manifest,
    release: Path,
    worker: TfliteWorker | None,
    judge: Judge,
    splits: Splits,
    parts: Mapping[str, NDArray[Any]],
    progress: Progress,
) -> Deployed:
    """Write ``release/variants/*`` and measure ``parts`` (``test``, ``reference``, ...) with each.

    Raises:
        ExportError: a file could not be made.
        BackendError: a runtime refuses one.
    """
    config = lesson.task.export
    variants = export_all(student, config.runtimes, release, worker, within(progress, 0.0, 0.5))
    manifest = msgspec.structs.replace(manifest, variants=tuple(variants))
    validation = (splits.validation.x, splits.validation.y)
    measured = []
    for i, variant in enumerate(variants):
        progress("evaluate", 0.5 + 0.5 * i / len(variants), variant.id)
        measured.append(
            measure(
                manifest,
                release,
                variant,
                parts,
                judge=judge,
                calibrate=validation if judge.family == "classes" else None,
                truth=splits.test.y,
                groups=splits.test.groups,
            )
        )
    kept, reasons = gate(measured, config, judge)
    return Deployed(tuple(kept), reasons)


def gate(measured: Sequence[Measured], config: ExportConfig, judge: Judge) -> tuple[list[Measured], dict[str, str]]:
    """Keep fp32, and of the others those that are good enough beside the fp32 of their runtime."""
    fp32 = {one.variant.runtime: quality_of(one.variant) for one in measured if one.variant.precision == "fp32"}
    kept, reasons = [], {}
    for one in measured:
        score, best = quality_of(one.variant), fp32.get(one.variant.runtime)
        reason = None
        if one.variant.precision != "fp32" and score is not None and best is not None:
            reason = left_out(score, best, config.gate_points, judge.score)
        if reason is None:
            kept.append(one)
        else:
            reasons[one.variant.id] = reason
    return kept, reasons
