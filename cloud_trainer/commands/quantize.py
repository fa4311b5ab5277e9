"""Quantize an ONNX file that was trained elsewhere, and make a release of it and its smaller variants.

  cloud-trainer quantize model.onnx --calibration data.npz --labels cat,dog --out releases/pets/1

data.npz has x (n, ...), samples as devices will give them, and y (n,), their truth. Some of them choose ranges and
repairs, the others measure every variant through the engine; --quality names a file of its own to measure on. A variant
that is more than --gate-points below the fp32 file is repaired (other ranges, then the worst layers in float) or left
out, with the reason. Without y, the gate is agreement with the fp32 file's answers. --quality labels says that y is
classes without their names: they are called by their numbers, or as the file has them (names, labels or classes). There
is no converter from ONNX to TFLite here: the release has .onnx files only.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from msgspec import Struct

from cloud_trainer.card import card
from cloud_trainer.commands.package import (
    manifest_around,
    profile_of,
    reference_of,
    truth_of,
    values_of,
    warnings_about,
)
from cloud_trainer.exporting.recipes import Recipe, recipes
from cloud_trainer.packaging import CARD, REPORT, Measured, finish, staging, write_golden_outputs
from cloud_trainer.progress import JsonLines, Lines, Progress, within
from cloud_trainer.quantization.calibration import calibration_samples
from cloud_trainer.quantization.gate import Fields, measure_of, score_of
from cloud_trainer.reference import Reference, labels_in
from cloud_trainer.wrap import Wrapped, answers, measured, read_files, sample_spec, task_of
from cloud_trainer.wrap_options import labels_of, options_of
from edge_agent.bare import model_name
from edge_agent.roles import sample_of
from edge_agent.tasks import TASKS, Options
from shared.cli import add_json, print_json, table
from shared.errors import DataError, MissingExtraError, SanderlingError, UsageError
from shared.manifest import Manifest, Variant, reference_file
from shared.pipeline.bind import run_arrays
from shared.topics import NAME_PATTERN

if TYPE_CHECKING:
    from cloud_trainer.quantization.agreement import Agreement
    from cloud_trainer.quantization.foreign import Model, Outcome

HELP = "int8, fp16 and smaller variants of an ONNX file from elsewhere"
PRECISIONS = ("int8", "int8-reduced", "fp16", "weight8", "weight4")
CALIBRATION_MINIMUM, MEASURED_MINIMUM = 16, 32
LABELS = "labels"
"""In the place of a file to measure on: the truth is classes, whatever they are called."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments."""
    parser.add_argument("model", type=Path, metavar="MODEL.onnx", help="the float32 file")
    parser.add_argument(
        "--calibration", type=Path, required=True, metavar="FILE", help=".npz or .csv with samples, and y, their truth"
    )
    parser.add_argument(
        "--quality",
        type=Path,
        metavar="FILE",
        help="samples and y to measure on (default: held out); or the word labels: y is classes",
    )
    parser.add_argument("--labels", default="", help="names of the classes, with commas, or a file of one a line")
    parser.add_argument(
        "--task", default="", choices=("", *TASKS), metavar="TASK", help=f"{', '.join(TASKS)} (default: by --labels)"
    )
    parser.add_argument("--name", help="of the model: small letters, digits, '-', '_' (default: the file's)")
    parser.add_argument("--version", type=int, default=1, help="the release's number (default: 1)")
    parser.add_argument(
        "--out", type=Path, required=True, help="the release directory to make; it must be new or empty"
    )
    parser.add_argument("--precisions", default="int8,fp16", help=f"of {', '.join(PRECISIONS)} (default: int8,fp16)")
    parser.add_argument("--gate-points", type=float, default=1.0, help="points of score that may be lost (default: 1)")
    parser.add_argument("--samples", type=int, default=256, help="that choose ranges, at most (default: 256)")
    parser.add_argument("--no-mixed", action="store_true", help="do not keep single layers in float")
    parser.add_argument("--input-scale", default="1", help="what samples are multiplied by, e.g. 1/255 (default: 1)")
    parser.add_argument("--input-offset", default="0", help="what is added after that (default: 0)")
    parser.add_argument("--mean", default="", help="then subtracted: one number, or one a channel, with commas")
    parser.add_argument("--std", default="", help="then divided by, like --mean")
    parser.add_argument("--threshold", help="of a score: boxes, two classes by one number, anomalies, 'unsure'")
    parser.add_argument("--boxes", default="", choices=("", "xyxy", "yxyx", "cxcywh"), help="how boxes are written")
    parser.add_argument("--unit", default="", help="of a regression's or forecast's numbers")
    parser.add_argument("--note", default="", help="where the model comes from, for its card")
    add_json(parser)


class Made(Struct, frozen=True, eq=False):
    """What became of the file: ``kept`` variants, fp32 first; the rest is for the report."""

    kept: tuple[Variant, ...]
    scores: dict[str, float]
    sizes: dict[str, int]
    agreements: tuple[Agreement, ...]
    outcomes: dict[str, Outcome]
    left_out: dict[str, str]
    goal: float
    measure: str


def run(args: argparse.Namespace) -> int:
    """Make the release, and say what it is."""
    with closing(JsonLines() if args.json else Lines()) as show:
        made, manifest, warnings = make(args, show)
    for text in warnings:
        print(f"warning: {text}", file=sys.stderr)
    _show(args, manifest, made)
    return 0


def make(args: argparse.Namespace, show: Progress) -> tuple[Made, Manifest, list[str]]:
    """The release, and what its user should know."""
    precisions = _precisions(args.precisions)
    labels = labels_of(args.labels)
    name = args.name if args.name is not None else model_name(args.model)
    if not re.fullmatch(NAME_PATTERN, name):
        raise UsageError(f"--name {name!r}: small letters, digits, '-' and '_' only, at most 64")
    if args.version < 1:
        raise UsageError(f"--version {args.version}: must be at least 1")
    if not args.gate_points > 0:
        raise UsageError(f"--gate-points {args.gate_points:g}: must be above 0")
    if args.samples < CALIBRATION_MINIMUM:
        raise UsageError(f"--samples {args.samples}: must be at least {CALIBRATION_MINIMUM}")
    if args.quality is not None and str(args.quality) == LABELS and not args.quality.is_file():
        args = argparse.Namespace(**vars(args) | {"quality": None, "task": args.task or "classification"})
    elif args.task == "classification" and not labels:
        raise UsageError("--task classification: name the classes with --labels, or say --quality labels")
    for path in (args.calibration, args.quality):
        if path is not None and not path.is_file():
            raise UsageError(f"{path}: no such file")
    options = options_of(args)
    try:
        import onnx  # noqa: F401  (everything below needs it)
        import onnxruntime.quantization  # noqa: F401
    except ModuleNotFoundError as error:
        raise MissingExtraError("cloud-trainer quantize", "trainer") from error
    from cloud_trainer.quantization.foreign import open_model

    with tempfile.TemporaryDirectory() as directory:
        show("model", 0.0, f"reading {args.model.name}")
        model = open_model(args.model, Path(directory))
        with staging(args.out) as release:
            found = _release(args, name, labels, options, precisions, model, release, show)
        show("done", 1.0, str(args.out))
    return found


def _precisions(text: str) -> tuple[str, ...]:
    found = tuple(part.strip() for part in text.split(",") if part.strip())
    for one in found:
        if one not in PRECISIONS:
            raise UsageError(f"--precisions: {one!r} is none of {', '.join(PRECISIONS)}")
    if not found:
        raise UsageError(f"--precisions: name some of {', '.join(PRECISIONS)}")
    return found


def _release(
    args: argparse.Namespace,
    name: str,
    labels: tuple[str, ...],
    options: Options,
    precisions: tuple[str, ...],
    model: Model,
    release: Path,
    show: Progress,
) -> tuple[Made, Manifest, list[str]]:
    from cloud_trainer.quantization.page import Page, page

    wrapped = read_files([model.path], release, ())
    first = wrapped.given[0]
    ranged, judged, where = _samples(args, wrapped, options)
    if args.task == "classification" and not labels:
        outputs = wrapped.variants[0].outputs[0].shape
        labels = labels_in(judged.truth, args.calibration, outputs[-1] if outputs else None)
    sample = sample_spec(first, judged.first, options, judged.columns)
    task = task_of(args.task, labels, sample)
    truth = truth_of(judged, task, labels, where)
    extra = tuple(sample_of(spec) for spec in wrapped.given[1:])
    asked = msgspec.structs.replace  # shorter lines below
    words = argparse.Namespace(**vars(args) | {"model": [args.model], "reference": args.calibration})
    manifest = manifest_around(words, name, release, wrapped, sample, extra, task, labels, options, judged)
    made = _quantized(args, model, manifest, release, ranged, judged, truth, precisions, show)
    manifest = asked(manifest, variants=made.kept)
    show("evaluate", 0.9, "every variant through the engine")
    ran = measured(manifest, release, judged.rows, truth)
    if made.measure == "r2":
        ran = [_first(one, "r2", made.scores[one.variant.id]) for one in ran]
    profile = profile_of(manifest, ran, judged, truth)
    write_golden_outputs(release, manifest, judged.inputs, ran, "test")
    warnings = warnings_about(judged, ran, truth, task, labels)
    if truth is None:
        warnings.append(f"no truth to measure with: the gate is {made.measure}")
    counts = {"that ranges were chosen by": len(ranged), "that variants were measured on": len(judged)}
    notes = [f"Quantized from {args.model.name}, which was trained elsewhere.", *([args.note] if args.note else ())]
    if model.floats:
        notes.append("Left in float: " + ", ".join(f"{count} {op}" for op, count in model.floats) + ".")
    manifest = asked(manifest, variants=tuple(one.variant for one in ran))
    documents = {
        CARD: card(
            manifest,
            manifest.variants,
            data=counts,
            values=values_of(judged.first),
            left_out=made.left_out,
            notes=notes,
            warnings=warnings,
            watched=profile is not None,
            wrapped=True,
        ),
        REPORT: page(
            Page(
                manifest=manifest,
                measure=made.measure,
                goal=made.goal,
                scores=made.scores,
                sizes=made.sizes,
                agreements=made.agreements,
                outcomes=made.outcomes,
                left_out=made.left_out,
                floats=model.floats,
                counts=counts,
                warnings=warnings,
            )
        ),
    }
    return made, finish(manifest, release, ran, profile, documents), warnings


def _samples(args: argparse.Namespace, wrapped: Wrapped, options: Options) -> tuple[Reference, Reference, str]:
    """Those that choose ranges, those that variants are measured on, and where the latter come from."""
    words = argparse.Namespace(reference=args.calibration)
    every = reference_of(words, wrapped, options)
    assert every is not None
    where = str(args.calibration)
    needed = CALIBRATION_MINIMUM + (0 if args.quality is not None else MEASURED_MINIMUM)
    if len(every) < needed:
        beside = "" if args.quality is not None else f", {MEASURED_MINIMUM} of them to measure on"
        raise DataError(f"{where}: {len(every)} samples; quantization needs at least {needed}{beside}")
    if args.quality is None:
        count = min(args.samples, max(CALIBRATION_MINIMUM, len(every) // 2))
        rows = calibration_samples(np.arange(len(every)), count, 0)
        others = np.setdiff1d(np.arange(len(every)), rows)
        return _rows(every, rows), _rows(every, others), where
    judged = reference_of(argparse.Namespace(reference=args.quality), wrapped, options)
    assert judged is not None
    if len(judged) < MEASURED_MINIMUM:
        raise DataError(f"{args.quality}: {len(judged)} samples; at least {MEASURED_MINIMUM} are needed to measure on")
    rows = calibration_samples(np.arange(len(every)), args.samples, 0)
    return _rows(every, rows), judged, str(args.quality)


def _rows(reference: Reference, rows: Any) -> Reference:
    inputs = {name: values[rows] for name, values in reference.inputs.items()}
    truth = None if reference.truth is None else reference.truth[rows]
    return msgspec.structs.replace(reference, inputs=inputs, truth=truth)


def _quantized(
    args: argparse.Namespace,
    model: Model,
    manifest: Manifest,
    release: Path,
    ranged: Reference,
    judged: Reference,
    truth: Any,
    precisions: tuple[str, ...],
    show: Progress,
) -> Made:
    from cloud_trainer.quantization.agreement import compare
    from cloud_trainer.quantization.foreign import quantize_to_goal

    fp32 = manifest.variants[0]
    output = fp32.outputs[0].name
    feeds = _feeds(model, manifest, ranged)
    real = answers(manifest, release, fp32, judged.rows)
    measure = measure_of(manifest.task, real, truth)

    def scored(fields: Fields) -> float:
        return score_of(manifest.task, output, fields, real, truth, manifest.labels)

    # repairs are chosen by the samples that chose the ranges: the others only see the end of it
    choosing = truth_of(ranged, manifest.task, manifest.labels, str(args.calibration)) if truth is not None else None
    before = answers(manifest, release, fp32, ranged.rows)

    def chosen(fields: Fields) -> float:
        return score_of(manifest.task, output, fields, before, choosing, manifest.labels)

    goal = scored(real) - args.gate_points / 100
    kept, outcomes, left_out, agreements = [fp32], {}, {}, []
    scores, sizes = {fp32.id: scored(real)}, {fp32.id: fp32.file.bytes}
    wanted = recipes(precisions, "onnxruntime", transformer=model.transformer)[1:]
    for at, recipe in enumerate(wanted):
        share = within(show, 0.1 + 0.8 * at / len(wanted), 0.1 + 0.8 * (at + 1) / len(wanted))
        share("quantize", 0.0, recipe.id)
        read = _reader(manifest, release, fp32, recipe)
        try:
            outcome = quantize_to_goal(
                model,
                recipe,
                release / "variants" / recipe.file,
                feeds,
                score=lambda read=read: chosen(read(ranged.rows)[1]),  # type: ignore[misc]  # a lambda has no types
                goal=chosen(before) - args.gate_points / 100,
                mixed=not args.no_mixed,
                progress=share,
            )
        except SanderlingError as error:  # this precision can't be; the others may
            left_out[recipe.id] = str(error)
            continue
        variant, fields = read(judged.rows)
        outcomes[recipe.id], scores[recipe.id], sizes[recipe.id] = outcome, scored(fields), variant.file.bytes
        if fields[output].dtype.kind == "f":
            classes = manifest.task.endswith("classification")
            agreements.append(compare(recipe.id, real[output], fields[output], classes=classes))
        if scores[recipe.id] >= goal - 1e-9:
            kept.append(variant)
        else:
            lost = 100 * (scores[fp32.id] - scores[recipe.id])
            left_out[recipe.id] = (
                f"{measure} {scores[recipe.id]:.4f} is {lost:.2f} points below fp32's {scores[fp32.id]:.4f}; at most "
                f"{args.gate_points:g} are allowed"
            )
    return Made(tuple(kept), scores, sizes, tuple(agreements), outcomes, left_out, goal, measure)


def _reader(
    manifest: Manifest, release: Path, fp32: Variant, recipe: Recipe
) -> Callable[[Any], tuple[Variant, dict[str, Any]]]:
    """Gives the variant that lies there now, and every field that the engine answers with it to some rows."""

    def read(rows: Any) -> tuple[Variant, dict[str, Any]]:
        variant = msgspec.structs.replace(
            fp32,
            id=recipe.id,
            precision=recipe.precision,
            file=reference_file(release, f"variants/{recipe.file}"),
            meant_for=recipe.meant_for,
        )
        return variant, answers(manifest, release, variant, rows)

    return read


def _feeds(model: Model, manifest: Manifest, ranged: Reference) -> dict[str, Any]:
    """Samples as the model's inputs read them, by the file's own names."""
    spec = manifest.variants[0].inputs[0]
    encoded = run_arrays(manifest.pipeline, ranged.first).astype(spec.dtype, copy=False)
    if len(model.inputs) == 1:
        return {model.inputs[0]: encoded}
    return dict(ranged.inputs) | {spec.name: encoded}


def _first(one: Measured, name: str, score: float) -> Measured:
    """``score`` as the first of its figures: what devices choose by."""
    quality = {name: round(score, 6)} | one.variant.quality
    return Measured(msgspec.structs.replace(one.variant, quality=quality), one.outputs)


def _show(args: argparse.Namespace, manifest: Manifest, made: Made) -> None:
    if args.json:
        print_json(
            {
                "path": str(args.out),
                "name": manifest.name,
                "version": manifest.version,
                "task": manifest.task,
                "measure": made.measure,
                "goal": round(made.goal, 6),
                "variants": [
                    {"id": v.id, "bytes": v.file.bytes, "score": made.scores[v.id], "quality": v.quality}
                    for v in manifest.variants
                ],
                "agreements": made.agreements,
                "outcomes": made.outcomes,
                "left_out": made.left_out,
            }
        )
        return
    rows = [[v.id, round(v.file.bytes / 1024, 1), f"{made.scores[v.id]:.4f}"] for v in manifest.variants]
    print(table(rows, ["variant", "KiB", made.measure]))
    for name, outcome in made.outcomes.items():
        if len(outcome.trials) > 1 and name not in made.left_out:
            print(f"{name} was repaired: {outcome.trials[-1].what}")
    for name, why in made.left_out.items():
        print(f"{name} was left out: {why}")
    print(f"{args.out}: release {manifest.name}/{manifest.version}, {manifest.task}")
