"""What a training has to tell: scores of its networks, card and report."""

from __future__ import annotations

from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray
from torch import nn

from cloud_trainer.card import card
from cloud_trainer.config import TaskConfig
from cloud_trainer.data import Finding, Splits
from cloud_trainer.deploy import Deployed
from cloud_trainer.energy import Joules
from cloud_trainer.evaluation import Judge, bootstrap, score_difference
from cloud_trainer.evaluation.comparison import Compared, compare
from cloud_trainer.evaluation.figures import figure_intervals
from cloud_trainer.evaluation.robustness import Robustness
from cloud_trainer.gates import Gates
from cloud_trainer.kinds import Kind, Prepared
from cloud_trainer.learn import Learned
from cloud_trainer.objectives import Objective
from cloud_trainer.packaging import CARD, REPORT
from cloud_trainer.report import (
    CurveView,
    DifferenceView,
    FeatureView,
    FindingView,
    NetworkView,
    ReportData,
    TrialView,
    VariantNote,
    report,
)
from shared.drift import ProfileSet
from shared.manifest import Manifest


class Story(Struct, frozen=True, eq=False):
    """Everything that there is to tell of one training."""

    task: TaskConfig
    kind: Kind
    manifest: Manifest
    prepared: Prepared
    learned: Learned
    released: nn.Module
    deployed: Deployed
    judge: Judge
    splits: Splits
    objective: Objective
    profile: ProfileSet
    counts: dict[str, int]
    values: tuple[float, float] | None
    findings: tuple[Finding, ...]
    gates: Gates | None
    warnings: tuple[str, ...]
    robustness: Robustness | None
    energy: Joules | None


class Graded(Struct, frozen=True, eq=False):
    """A network's answers to the test split, as the objective takes them, and their score."""

    answer: NDArray[Any]
    truth: NDArray[Any]
    score: float


def graded(story: Story) -> dict[str, Graded]:
    """Of teachers, student, student without teachers, and pruned student: before any export."""
    learned = story.learned
    wanted: dict[str, list[Any]] = {"teacher": list(learned.council), "student": [learned.student.model]}
    if learned.alone is not None:
        wanted["student without teacher"] = [learned.alone.model]
    if story.released is not learned.student.model:
        wanted["student, pruned"] = [story.released]
    found = {}
    for name, models in wanted.items():
        answer, truth = story.kind.graded(story.prepared, models, story.splits, story.splits.test)
        found[name] = Graded(answer, truth, round(story.objective.score(answer, truth), 6))
    return found


def documents(story: Story) -> tuple[dict[str, float], dict[str, str]]:
    """Scores by network, and the pages of the release by file name."""
    grades = graded(story)
    test = story.splits.test
    fields = [(one.variant, one.outputs["test"]) for one in story.deployed.kept]
    compared = compare(story.judge, fields, test.y, test.groups)
    text = card(
        story.manifest,
        [one.variant for one in story.deployed.kept],
        data=story.counts,
        values=story.values,
        left_out=story.deployed.left_out,
        notes=(_taught(story, grades), *story.prepared.notes),
        warnings=story.warnings,
        compared=compared,
    )
    page = report(report_data(story, grades, compared))
    return {name: one.score for name, one in grades.items()}, {CARD: text, REPORT: page}


def report_data(story: Story, grades: dict[str, Graded], compared: dict[str, Compared]) -> ReportData:
    """Everything that the report shows."""
    learned, splits, prepared = story.learned, story.splits, story.prepared
    labels = splits.train.labels
    return ReportData(
        manifest=story.manifest,
        measured=story.deployed.kept,
        left_out=story.deployed.left_out,
        counts=story.counts,
        class_counts=_class_counts(splits) if labels and story.judge.family in {"classes", "anomaly"} else {},
        findings=tuple(FindingView(one.check, one.severity, one.text, one.where) for one in story.findings),
        features=tuple(FeatureView(f.name, f.importance, f.kept, f.why) for f in prepared.features.features),
        feature_measure=prepared.features.measure,
        feature_notes=prepared.notes,
        trials=_trials(learned),
        search_notes=_limits(learned),
        networks=_networks(story, grades),
        differences=_differences(story, grades),
        curves=tuple(map(CurveView.of, learned.curves)),
        warm=learned.warm,
        macs=learned.macs,
        test=splits.test,
        judge=story.judge,
        kind=story.task.kind,
        compared=compared,
        notes=_variant_notes(story.deployed),
        robustness=story.robustness,
        reference=story.profile.watch.inputs(splits.reference.x),
        watched=story.profile.watch.input_names,
        values=story.values,
        gates=story.gates,
        cost=_cost(story),
        warnings=story.warnings,
    )


def _class_counts(splits: Splits) -> dict[str, tuple[int, ...]]:
    size = len(splits.train.labels)
    return {
        name: tuple(int(count) for count in np.bincount(part.y, minlength=size))
        for name, part in splits.parts().items()
    }


def _trials(learned: Learned) -> tuple[TrialView, ...]:
    if learned.search is None:
        return ()
    return tuple(
        TrialView(
            name=one.architecture.label,
            macs=one.macs,
            score=one.score if one.rounds else float("nan"),
            epochs=one.rounds[-1].epochs if one.rounds else 0,
            bytes=one.bytes,
            chosen=place == learned.search.chosen,
            why=one.failed,
        )
        for place, one in enumerate(learned.search.candidates)
        if one.rounds
    )


def _limits(learned: Learned) -> tuple[str, ...]:
    limits = learned.limits
    kept = [f"{limits.macs:,} MACs"] if limits.macs else []
    kept += [f"{limits.bytes:,} bytes of int8 weights"] if limits.bytes else []
    notes = [f"The student keeps to {' and '.join(kept)}."] if kept else []
    if learned.search is not None:
        points = 100 * learned.search.tolerance
        notes.append(f"Chosen is the smallest candidate within {points:g} points of the best.")
    return tuple(notes)


def _networks(story: Story, grades: dict[str, Graded]) -> tuple[NetworkView, ...]:
    learned = story.learned
    found = []
    for name, one in grades.items():
        macs, size, label, note = learned.student.macs, learned.student.bytes, learned.student.architecture.label, ""
        if name == "teacher":
            taught = learned.taught
            labels = [*(one.architecture.label for one in taught), *(one.label for one in learned.advisers)]
            macs, label = learned.macs[0], " + ".join(dict.fromkeys(labels))
            size = sum(one.bytes for one in taught) + sum(one.bytes for one in learned.advisers)
            note = f"{len(labels)} together" if len(labels) > 1 else ""
        if name == "student, pruned":
            macs, label = story.manifest.variants[0].macs, f"{label}-pruned"
            size = sum(parameter.numel() for parameter in story.released.parameters())
        found.append(NetworkView(label, name, macs, one.score, _interval(story, one), size, note))  # type: ignore[arg-type]
    return tuple(found)


def _interval(story: Story, one: Graded) -> bootstrap.Interval | None:
    """Of the score, where it is one that :mod:`cloud_trainer.evaluation` knows."""
    answer = _as_judged(story, one)
    if answer is None:
        return None
    judge = story.judge
    found = figure_intervals(judge, answer, one.truth, story.splits.test.groups, names=(judge.score,))
    return found.get(judge.score)


def _as_judged(story: Story, one: Graded) -> NDArray[Any] | None:
    """A network's answer in the form of :func:`cloud_trainer.evaluation.figures`."""
    family = story.judge.family
    if family == "anomaly":
        return one.answer.reshape(len(one.truth))
    if family == "ranking" and one.answer.shape[1] == 1:
        return one.answer[:, 0]  # of candidates, one by one
    if family == "numbers" and not story.judge.quantiles:
        return one.answer.reshape(one.truth.shape)
    return one.answer if family else None


def _differences(story: Story, grades: dict[str, Graded]) -> tuple[DifferenceView, ...]:
    pairs = [("student", "teacher", "student against teacher")]
    if "student, pruned" in grades:
        pairs.append(("student, pruned", "student", "what pruning cost"))
    if "student without teacher" in grades:
        pairs.append(("student", "student without teacher", "what the teacher was worth to the student"))
    found = []
    for first, second, text in pairs:
        a, b = _as_judged(story, grades[first]), _as_judged(story, grades[second])
        if a is None or b is None:
            continue
        interval = score_difference(story.judge, a, b, grades[first].truth, story.splits.test.groups)
        if interval is not None:
            found.append(DifferenceView(text, interval))
    return tuple(found)


def _variant_notes(deployed: Deployed) -> dict[str, VariantNote]:
    agreement = {one.variant: one.same for one in deployed.agreement}
    names = {*agreement, *deployed.repairs}
    return {
        name: VariantNote(agreement.get(name), deployed.repairs.get(name, "") if name not in deployed.left_out else "")
        for name in names
    }


def _cost(story: Story) -> tuple[str, ...]:
    if story.energy is None:
        return ()
    one = story.energy
    return (f"Training took {one.seconds:,.0f} s and {one.value / 1000:,.1f} kJ ({one.how}: {one.detail}).",)


def _taught(story: Story, grades: dict[str, Graded]) -> str:
    macs = story.learned.macs
    score = story.objective.metric
    text = (
        f"The student was distilled from a teacher of {macs[0]:,} MACs and has {macs[1]:,} itself; on the test samples "
        f"their {score} is {grades['teacher'].score:.4f} and {grades['student'].score:.4f}"
    )
    if "student, pruned" in grades:
        pruned = story.manifest.variants[0].macs
        text += f", that of the student pruned to {pruned:,} MACs {grades['student, pruned'].score:.4f}"
    if "student without teacher" in grades:
        text += f", without a teacher the student's is {grades['student without teacher'].score:.4f}"
    return f"{text}."
