r"""Wrap .onnx and .tflite files that exist already into a release: pipeline, golden samples, drift reference.

  cloud-trainer package --model model.onnx --out releases/model/1                      raw tensors in and out
  cloud-trainer package --model model.onnx --model model_int8.tflite --labels cat,dog \
      --input-scale 1/255 --reference held_out.npz --out releases/pets/1               a classifier, measured

--reference holds samples as the sensor gives them that the model was not trained on: arrays x (n, ...), or one for each
input by its name, or a table (.csv); with y, the truth, quality is measured. At least 50 make a drift reference;
without, devices learn their baseline from their first answers. Needs the runtimes, not torch.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

import cloud_trainer
from cloud_trainer.card import card
from cloud_trainer.packaging import (
    CARD,
    REFERENCE_MINIMUM,
    Measured,
    draft,
    finish,
    profiles,
    staging,
    watch_of,
    watched_answers,
    write_golden_outputs,
)
from cloud_trainer.reference import Reference, classes_of, read_reference
from cloud_trainer.wrap import (
    Wrapped,
    check_file,
    fit_around,
    gives_probabilities,
    measured,
    read_files,
    sample_spec,
    suited,
    task_of,
)
from cloud_trainer.wrap_options import labels_of, limits_of, options_of
from edge_agent.bare import model_name
from edge_agent.roles import sample_of
from edge_agent.selftest import random_samples
from edge_agent.tasks import TASKS, Options
from shared.cli import add_json, print_json, table
from shared.drift import ProfileSet
from shared.errors import DataError, UsageError
from shared.files import sha256_bytes
from shared.manifest import DriftPolicy, Lineage, Manifest, SampleSpec
from shared.topics import NAME_PATTERN

HELP = "wrap model files that exist already into a release"
GOLDEN_RANDOM = 32


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments."""
    parser.add_argument(
        "--model", type=Path, nargs="+", action="extend", required=True, metavar="FILE", help=".onnx or .tflite files"
    )
    parser.add_argument("--reference", type=Path, help=".npz or .csv with samples, and y (n,), their truth")
    parser.add_argument("--labels", default="", help="names of the classes, with commas, or a file of one a line")
    parser.add_argument(
        "--task", default="", choices=("", *TASKS), metavar="TASK", help=f"{', '.join(TASKS)} (default: by --labels)"
    )
    parser.add_argument("--name", help="of the model: small letters, digits, '-', '_' (default: the file's)")
    parser.add_argument("--version", type=int, default=1, help="the release's number (default: 1)")
    parser.add_argument(
        "--out", type=Path, required=True, help="the release directory to make; it must be new or empty"
    )
    parser.add_argument(
        "--input-range",
        nargs=2,
        metavar=("LOW", "HIGH"),
        help="what sensors give, for golden samples without --reference",
    )
    parser.add_argument("--input-scale", default="1", help="what samples are multiplied by, e.g. 1/255 (default: 1)")
    parser.add_argument("--input-offset", default="0", help="what is added after that (default: 0)")
    parser.add_argument("--mean", default="", help="then subtracted: one number, or one a channel, with commas")
    parser.add_argument("--std", default="", help="then divided by, like --mean")
    parser.add_argument(
        "--state", action="append", default=[], metavar="IN=OUT", help="a tensor carried from call to call (repeat)"
    )
    parser.add_argument("--threshold", help="of a score: boxes, two classes by one number, anomalies, 'unsure'")
    parser.add_argument("--boxes", default="", choices=("", "xyxy", "yxyx", "cxcywh"), help="how boxes are written")
    parser.add_argument("--unit", default="", help="of a regression's or forecast's numbers")
    parser.add_argument("--note", default="", help="where the model comes from, for its card")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Make the release, and say what it is."""
    manifest, warnings = make(args)
    for text in warnings:
        print(f"warning: {text}", file=sys.stderr)
    _show(args, manifest)
    return 0


def make(args: argparse.Namespace) -> tuple[Manifest, list[str]]:
    """The release, and what its user should know."""
    if not args.model:
        raise UsageError("package: no model file; give at least one")
    labels = labels_of(args.labels)
    name = args.name if args.name is not None else model_name(args.model[0])
    if not re.fullmatch(NAME_PATTERN, name):
        raise UsageError(f"--name {name!r}: small letters, digits, '-' and '_' only, at most 64")
    if args.version < 1:
        raise UsageError(f"--version {args.version}: must be at least 1")
    if args.task == "classification" and not labels:
        raise UsageError("--task classification: name the classes with --labels")
    options, limits = options_of(args), limits_of(args.input_range)
    for file in args.model:
        check_file(file)
    if args.reference is not None and not args.reference.is_file():
        raise UsageError(f"{args.reference}: no such file")
    with staging(args.out) as release:
        wrapped = read_files(args.model, release, args.state)
        reference = reference_of(args, wrapped, options)
        first = wrapped.given[0]
        columns = reference.columns if reference else ()
        sample = sample_spec(first, reference.first if reference else None, options, columns)
        task = task_of(args.task, labels, sample)
        truth = truth_of(reference, task, labels, str(args.reference)) if reference else None
        extra = tuple(sample_of(spec) for spec in wrapped.given[1:])
        golden = reference or random_reference(sample, extra, limits, options)
        manifest = manifest_around(args, name, release, wrapped, sample, extra, task, labels, options, golden)
        ran = measured(manifest, release, golden.rows, truth)
        profile = profile_of(manifest, ran, reference, truth)
        write_golden_outputs(release, manifest, golden.inputs, ran, "test")
        warnings = warnings_about(reference, ran, truth, task, labels)
        values = values_of(golden.first) if reference or limits else None
        document = card(
            msgspec.structs.replace(manifest, variants=tuple(one.variant for one in ran)),
            [one.variant for one in ran],
            data={"reference" if reference else "random golden samples": len(golden)},
            values=values,
            left_out={},
            notes=[args.note] if args.note else (),
            warnings=warnings,
            watched=profile is not None,
            wrapped=True,
        )
        manifest = finish(manifest, release, ran, profile, {CARD: document})
    return manifest, warnings


def manifest_around(
    args: argparse.Namespace,
    name: str,
    release: Path,
    wrapped: Wrapped,
    sample: SampleSpec,
    extra: tuple[SampleSpec, ...],
    task: str,
    labels: tuple[str, ...],
    options: Options,
    golden: Reference,
) -> Manifest:
    """The manifest around all files, after a look at whether a classifier gives probabilities already."""
    where = ", ".join(map(str, args.model))
    seen = args.reference.read_bytes() if args.reference is not None else b""
    lineage = Lineage(
        data_sha256=sha256_bytes(seen),
        config_sha256=sha256_bytes("".join(v.file.sha256 for v in wrapped.variants).encode()),
        code_version=cloud_trainer.__version__,
        seed=0,
        note=args.note,
    )

    def manifest_of(options: Options) -> Manifest:
        pipeline, variants = fit_around(wrapped, task, sample, labels, options, where)
        return draft(
            name,
            args.version,
            sample=sample,
            pipeline=pipeline,
            labels=labels,
            variants=variants,
            lineage=lineage,
            drift=DriftPolicy(),
            task=task,
            extra_inputs=extra,
            state=wrapped.state,
        )

    manifest = manifest_of(options)
    if task.endswith("classification"):
        few = golden.rows[:REFERENCE_MINIMUM]
        named = {spec.name for spec in manifest.variants[0].outputs}
        if "logits" in named and gives_probabilities(manifest, release, few):
            manifest = manifest_of(msgspec.structs.replace(options, probabilities=True))
    return manifest


def reference_of(args: argparse.Namespace, wrapped: Wrapped, options: Options) -> Reference | None:
    """The samples that ``args.reference`` names, as the files take them; ``None`` where it names none."""
    if args.reference is None:
        return None
    found = read_reference(args.reference, [spec.name for spec in wrapped.given])
    first, *others = wrapped.given
    where = str(args.reference)
    inputs = {first.name: suited(found.first, first, options, where)}
    inputs |= {spec.name: suited(found.inputs[spec.name], spec, Options(), f"{where}: {spec.name}") for spec in others}
    if inputs[first.name].ndim < 2 and first.batch and len(first.shape) > 1:
        raise DataError(f"{where}: x has shape {found.first.shape}; expected (samples, ...)")
    return msgspec.structs.replace(found, inputs=inputs)


def random_reference(
    sample: SampleSpec, extra: tuple[SampleSpec, ...], limits: tuple[float, float] | None, options: Options
) -> Reference:
    """Seeded random samples within the range that is declared, else in the one that the options imply."""
    if limits is None and options.mean and (options.factor, options.offset) == (1.0, 0.0):
        spread = 2 * max(options.std)
        limits = (min(options.mean) - spread, max(options.mean) + spread)
    found: Any = random_samples((sample, *extra), GOLDEN_RANDOM, limits=limits)
    return Reference(found if isinstance(found, dict) else {sample.name: found})


def truth_of(reference: Reference, task: str, labels: tuple[str, ...], where: str) -> NDArray[Any] | None:
    """What the truth is compared with: class indices, or numbers; ``None`` for tasks without a measure."""
    truth = reference.truth
    if truth is None:
        return None
    if task.endswith("classification"):
        return classes_of(truth, labels, where)
    if task in {"regression", "forecast"}:
        if truth.dtype.kind not in "biuf" or not np.isfinite(truth).all():
            raise DataError(f"{where}: y has dtype {truth.dtype}; expected finite numbers")
        return truth.astype(np.float64)
    return None


def profile_of(
    manifest: Manifest, ran: list[Measured], reference: Reference | None, truth: NDArray[Any] | None
) -> ProfileSet | None:
    """The drift reference, or ``None`` without samples to make one of."""
    if reference is None:
        return None
    if len(reference) < REFERENCE_MINIMUM:
        raise DataError(f"the reference has {len(reference)} samples; a drift reference needs {REFERENCE_MINIMUM}")
    if manifest.task.endswith("classification") and "scores" in ran[0].outputs["test"] and manifest.sample.fixed:
        baselines = {"default": ("test", reference.first)}
        known = None if truth is None else {"default": truth}
        return profiles(watch_of(manifest, ran, "test"), ran, baselines, known, manifest.labels)
    return watched_answers(manifest, ran, reference.inputs, "test", truth)


def warnings_about(
    reference: Reference | None,
    ran: list[Measured],
    truth: NDArray[Any] | None,
    task: str,
    labels: tuple[str, ...],
) -> list[str]:
    """What a person should know of the samples and of what was answered to them."""
    if reference is None:
        return []
    from cloud_trainer.evaluation import chance_warning
    from cloud_trainer.features import float_warning

    found: list[str | None] = []
    if reference.truth is not None and truth is None:
        found.append(
            f"y is not used: quality is measured for classification, regression and forecast, not for {task}; "
            "name the classes with --labels, or the task with --task"
        )
    values = values_of(reference.first)
    if values is not None and task.endswith("classification"):
        if values[0] == values[1]:
            raise DataError(f"every value of x is {values[0]:g}; there is nothing in it to tell classes apart")
        found.append(float_warning(reference.first, values))
    if truth is not None and "index" in ran[0].outputs["test"]:
        best = max(ran, key=lambda one: one.variant.quality["accuracy"])
        found.append(chance_warning(best.outputs["test"]["index"], truth, labels))
    return [text for text in found if text]


def values_of(x: NDArray[Any]) -> tuple[float, float] | None:
    """The smallest and the largest number in ``x``."""
    return (float(x.min()), float(x.max())) if x.dtype.kind in "biuf" and x.size else None


def _show(args: argparse.Namespace, manifest: Manifest) -> None:
    if args.json:
        variants = [{"id": v.id, "bytes": v.file.bytes, "quality": v.quality} for v in manifest.variants]
        found = {"path": str(args.out), "name": manifest.name, "version": manifest.version, "task": manifest.task}
        print_json({**found, "profile": manifest.profile is not None, "variants": variants})
        return
    rows = [[v.id, round(v.file.bytes / 1024, 1), *_quality(v.quality)] for v in manifest.variants]
    names = {"accuracy": "accuracy", "mae": "mean error"}
    quality = [text for name, text in names.items() if name in manifest.variants[0].quality]
    print(table(rows, ["variant", "KiB", *quality]))
    print(f"{args.out}: release {manifest.name}/{manifest.version}, {manifest.task}")
    if manifest.profile is None:
        print("no reference: devices learn their baseline from their first answers")


def _quality(quality: dict[str, float]) -> list[str]:
    """The cell of what was measured; none where there was no truth, or the task has no measure."""
    if "accuracy" in quality:
        return [f"{quality['accuracy']:.2%}"]
    return [f"{quality['mae']:g}"] if "mae" in quality else []
