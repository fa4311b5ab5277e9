"""What a training has to tell: scores of its networks, card and report."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from cloud_trainer.card import card
from cloud_trainer.config import TaskConfig
from cloud_trainer.data import Finding, Splits
from cloud_trainer.deploy import Deployed
from cloud_trainer.evaluation import Judge
from cloud_trainer.gates import Gates
from cloud_trainer.kinds import Kind, Prepared
from cloud_trainer.learn import Learned
from cloud_trainer.objectives import Objective
from cloud_trainer.package import CARD, REPORT, Measured
from cloud_trainer.report import ReportData, report
from shared.drift import ProfileSet
from shared.manifest import Manifest


class Story(Struct, frozen=True, eq=False):
    """Everything that there is to tell of one training."""

    task: TaskConfig
    kind: Kind
    manifest: Manifest
    prepared: Prepared
    learned: Learned
    deployed: Deployed
    best: Measured
    judge: Judge
    splits: Splits
    objective: Objective
    profile: ProfileSet
    counts: dict[str, int]
    values: tuple[float, float] | None
    findings: tuple[Finding, ...]
    gates: Gates | None
    warnings: tuple[str, ...]


def scores_of(story: Story) -> dict[str, float]:
    """On the test split, of teachers, student, and student without teachers: before any export."""
    learned, objective = story.learned, story.objective
    wanted: dict[str, list[Any]] = {
        "teacher": [
            *(one.model for one in learned.teachers),
            *([learned.trees.answers] if learned.trees is not None else []),
        ],
        "student": [learned.student.model],
    }
    if learned.alone is not None:
        wanted["student without teacher"] = [learned.alone.model]
    found = {}
    for name, models in wanted.items():
        answer, truth = story.kind.graded(story.prepared, models, story.splits, story.splits.test)
        found[name] = round(objective.score(answer, truth), 6)
    return found


def documents(story: Story) -> tuple[dict[str, float], dict[str, str]]:
    """Scores, and the pages of the release by file name."""
    scores = scores_of(story)
    learned, manifest = story.learned, story.manifest
    data = ReportData(
        manifest=manifest,
        measured=story.deployed.kept,
        left_out=story.deployed.left_out,
        counts=story.counts,
        curves=learned.curves,
        macs=learned.macs,
        test=story.splits.test,
        reference=story.profile.watch.inputs(story.splits.reference.x),
        watched=story.profile.watch.input_names,
        values=story.values or (0.0, 0.0),
        gates=story.gates,
        warm=learned.warm,
        warnings=story.warnings,
    )
    text = card(
        manifest,
        [m.variant for m in story.deployed.kept],
        data=story.counts,
        values=story.values,
        left_out=story.deployed.left_out,
        notes=_notes(learned.macs),
        warnings=story.warnings,
    )
    return scores, {CARD: text, REPORT: report(data) if manifest.task == "image-classification" else ""}


def _notes(macs: tuple[int, int]) -> list[str]:
    return [f"The student was distilled from a teacher of {macs[0]:,} MACs and has {macs[1]:,} itself."]
