"""The files that a student becomes: exported, measured through the engine, gated, and repaired where they fail."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import torch
from msgspec import Struct
from numpy.typing import NDArray
from torch import nn

from cloud_trainer.config import ExportConfig
from cloud_trainer.data import Dataset
from cloud_trainer.evaluation import Judge, answer_of, figures, left_out, run_batch
from cloud_trainer.exporting.specs import onnx_specs
from cloud_trainer.exporting.to_onnx import INPUT
from cloud_trainer.exporting.to_tflite import TfliteWorker
from cloud_trainer.exporting.variants import Student, export_all
from cloud_trainer.fit import answers
from cloud_trainer.learn import Learned, finetuned
from cloud_trainer.lesson import Lesson
from cloud_trainer.models.trees import Trees, export_trees
from cloud_trainer.packaging import Measured, measure
from cloud_trainer.progress import Progress, within
from cloud_trainer.quantization.agreement import Agreement, agreements
from cloud_trainer.quantization.repair import Repairs
from edge_agent.backends import available
from edge_agent.selection import quality_of
from shared.manifest import Manifest, Variant, reference_file

AGREEMENT_SAMPLES = 500
TREES = "fp32-trees-onnx"


class Deployed(Struct, frozen=True, eq=False):
    """``kept``: variants that are good enough; ``left_out``: variant -> why it is not; ``repairs``: variant -> what was
    tried, in a line; ``agreement``: how close each variant is to the network's own answers."""

    kept: tuple[Measured, ...]
    left_out: dict[str, str]
    repairs: dict[str, str] = {}
    agreement: tuple[Agreement, ...] = ()


class Held(Struct, frozen=True, eq=False):
    """What variants are measured on: ``validation`` chooses, ``test`` is for the figures. ``parts``: raw samples by
    name, ``test`` and ``reference`` among them."""

    manifest: Manifest
    release: Path
    judge: Judge
    validation: Dataset
    test: Dataset
    parts: Mapping[str, NDArray[Any]]

    def measured(self, variant: Variant) -> Measured:
        """``variant`` with its temperature, its quality, and what it answered."""
        calibrate = (self.validation.x, self.validation.y) if self.judge.family == "classes" else None
        return measure(
            self._with(variant), self.release, variant, self.parts, judge=self.judge, calibrate=calibrate,
            truth=self.test.y, groups=self.test.groups,
        )  # fmt: skip

    def score(self, variant: Variant) -> float:
        """Of the validation split, which repairs are chosen by."""
        part = self.validation
        fields = run_batch(self._with(variant), self.release, variant, part.x)
        answer = answer_of(self.manifest.task, fields)
        if answer is None:
            return 0.0
        return figures(self.judge, answer, part.y, part.groups)[self.judge.score]

    def _with(self, variant: Variant) -> Manifest:
        return msgspec.structs.replace(self.manifest, variants=(variant,))


def deploy(
    lesson: Lesson, learned: Learned, student: Student, held: Held, worker: TfliteWorker | None, progress: Progress
) -> Deployed:
    """Write ``release/variants/*``, measure each, and repair what misses its gate.

    Raises:
        ExportError: a file could not be made.
        BackendError: a runtime refuses one.
    """
    config = lesson.task.export
    variants = export_all(student, config, held.release, worker, within(progress, 0.0, 0.4))
    if learned.small_trees is not None and "onnxruntime" in config.runtimes:
        variants.append(_trees(learned.small_trees, student, held.release))
    measured = []
    for i, variant in enumerate(variants):
        progress("evaluate", 0.4 + 0.3 * i / len(variants), variant.id)
        measured.append(held.measured(variant))
    kept, reasons = gate(measured, config, held.judge)
    repairs: dict[str, str] = {}
    failed = [variant for variant in variants if variant.id in reasons and variant.precision == "int8"]
    if failed and (config.qat or config.mixed):
        progress("repair", 0.7, ", ".join(f"{one.id} misses its gate" for one in failed))
        redone = _repaired(
            lesson, learned, student, held, worker, variants, failed, repairs, within(progress, 0.7, 0.95)
        )
        kept, reasons = gate([redone.get(one.variant.id, one) for one in measured], config, held.judge)
    for name, story in repairs.items():
        if name in reasons:
            reasons[name] = f"{reasons[name]}; tried: {story}"
    progress("evaluate", 0.95, "agreement with the network")
    agreement = _agreement(lesson, student, held, [one.variant for one in kept])
    return Deployed(tuple(kept), reasons, repairs, agreement)


def gate(measured: Sequence[Measured], config: ExportConfig, judge: Judge) -> tuple[list[Measured], dict[str, str]]:
    """Those that are good enough beside the best fp32 file of the student; one that a converter has spoilt is not."""
    students = [one for one in measured if one.variant.precision == "fp32" and one.variant.id != TREES]
    best = max((quality_of(one.variant) or 0.0 for one in students), default=None)
    kept, reasons = [], {}
    for one in measured:
        score = quality_of(one.variant)
        reason = None
        if one.variant.id != TREES and score is not None and best is not None:
            reason = left_out(score, best, config.gate_points, judge.score)
        if reason is None:
            kept.append(one)
        else:
            reasons[one.variant.id] = reason
    return kept, reasons


def _trees(trees: Trees, student: Student, release: Path) -> Variant:
    """Boosted trees as a variant of their own."""
    path = release / "variants" / "trees.onnx"
    export_trees(trees, path, answer=student.answer)
    (given,), (answer,) = onnx_specs(path)
    return Variant(
        id=TREES,
        runtime="onnxruntime",
        precision="fp32",
        student=trees.label,
        file=reference_file(release, "variants/trees.onnx"),
        inputs=(msgspec.structs.replace(given, name=INPUT),),
        outputs=(msgspec.structs.replace(answer, name=student.answer),),
        macs=trees.macs,
        quality={},
    )


def _repaired(
    lesson: Lesson,
    learned: Learned,
    student: Student,
    held: Held,
    worker: TfliteWorker | None,
    variants: Sequence[Variant],
    failed: Sequence[Variant],
    repairs: dict[str, str],
    progress: Progress,
) -> dict[str, Measured]:
    """Each failed variant as it is now; what was tried goes into ``repairs``."""
    config = lesson.task.export

    def finetune(model: nn.Module) -> None:
        finetuned(lesson, learned, model, config.qat_epochs)

    found = {}
    wanted = {one.runtime for one in failed}
    best = {
        one.runtime: held.score(one)
        for one in variants
        if one.precision == "fp32" and one.id != TREES and one.runtime in wanted
    }
    with Repairs(
        student, config, held.release, worker, score=held.score, finetune=finetune, progress=progress
    ) as workshop:
        for variant in failed:
            result = workshop.repair(variant, best[variant.runtime] - config.gate_points / 100)
            repairs[variant.id] = result.text
            if result.variant is not None:
                found[variant.id] = held.measured(result.variant)
    return found


def _agreement(lesson: Lesson, student: Student, held: Held, kept: Sequence[Variant]) -> tuple[Agreement, ...]:
    x = lesson.prepared.encode(held.test.x[:AGREEMENT_SAMPLES])
    wanted = answers(student.model, torch.from_numpy(x)).numpy()
    runnable = [one for one in kept if one.runtime in available() and one.student == student.name]
    return agreements(runnable, held.release, x, wanted, classes=held.judge.family == "classes")
