r"""Wrap .onnx and .tflite classifiers that exist already into a release: pipeline, drift reference, golden samples.

  cloud-trainer package --model model.onnx model_int8.tflite --reference held_out.npz \
      --labels cat,dog --name pets --version 1 --input-scale 1/255 --out releases/pets/1

--reference holds x (n, ...), samples as the sensor gives them that the model was not trained on, at least 50: what
devices compare with. With y (n,) too, the accuracy of each file is measured. Needs the runtimes, not torch.
"""

from __future__ import annotations

import argparse
import re
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import cloud_trainer
from cloud_trainer.card import card
from cloud_trainer.data import Dataset, check, value_range
from cloud_trainer.data.npz import read_arrays
from cloud_trainer.evaluate import chance_warning, run_batch
from cloud_trainer.features import float_warning
from cloud_trainer.package import (
    CARD,
    REFERENCE_MINIMUM,
    Measured,
    draft,
    finish,
    measure,
    profiles,
    staging,
    write_golden,
)
from cloud_trainer.wrap import ends_in_softmax, fit_around, read_variant, runtime_of, sample_of, without_softmax
from shared.cli import add_json, print_json, table
from shared.errors import DataError, UsageError
from shared.files import sha256_bytes
from shared.manifest import DriftPolicy, Lineage, Manifest
from shared.topics import NAME_PATTERN

HELP = "wrap model files that exist already into a release"


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments."""
    parser.add_argument("--model", type=Path, nargs="+", required=True, metavar="FILE", help=".onnx or .tflite files")
    parser.add_argument("--reference", type=Path, required=True, help=".npz with x (n, ...) and optionally y (n,)")
    parser.add_argument("--labels", required=True, help="names of the classes, with commas")
    parser.add_argument("--name", required=True, help="of the model: small letters, digits, '-', '_'")
    parser.add_argument("--version", type=int, default=1, help="the release's number (default: 1)")
    parser.add_argument(
        "--out", type=Path, required=True, help="the release directory to make; it must be new or empty"
    )
    parser.add_argument("--input-scale", default="1", help="what samples are multiplied by, e.g. 1/255 (default: 1)")
    parser.add_argument("--input-offset", default="0", help="what is added after that (default: 0)")
    parser.add_argument("--note", default="", help="where the model comes from, for its card")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Make the release."""
    labels = tuple(label.strip() for label in args.labels.split(","))
    if len(labels) < 2 or len(set(labels)) < len(labels) or not all(labels):
        raise UsageError("--labels: expected at least two different names, e.g. --labels cat,dog")
    if not re.fullmatch(NAME_PATTERN, args.name):
        raise UsageError(f"--name {args.name!r}: small letters, digits, '-' and '_' only, at most 64")
    if args.version < 1:
        raise UsageError(f"--version {args.version}: must be at least 1")
    scale = _number(args.input_scale, "--input-scale"), _number(args.input_offset, "--input-offset")
    for file in args.model:
        runtime_of(file)
    x, y = _reference(args.reference, labels)
    values = value_range(x, str(args.reference))
    warnings = [text for text in (float_warning(x, values),) if text]
    with staging(args.out) as release:
        manifest, measured = _measure(args, release, labels, x, y, scale)
        profile = profiles(manifest.sample, len(labels), measured, {"default": ("test", x)})
        write_golden(release, x, measured, "test")
        if y is not None:
            best = max(measured, key=lambda one: one.variant.quality["accuracy"])
            chance = chance_warning(best.outputs["test"]["index"], y, labels)
            warnings += [chance] if chance is not None else []
        document = card(
            manifest,
            [one.variant for one in measured],
            data={"reference": len(x)},
            values=values,
            left_out={},
            notes=[args.note] if args.note else (),
            warnings=warnings,
        )
        manifest = finish(manifest, release, measured, profile, {CARD: document})
    for text in warnings:
        print(f"warning: {text}", file=sys.stderr)
    _show(args, manifest)
    return 0


def _measure(
    args: argparse.Namespace,
    release: Path,
    labels: tuple[str, ...],
    x: NDArray[Any],
    y: NDArray[np.int64] | None,
    scale: tuple[float, float],
) -> tuple[Manifest, list[Measured]]:
    variants = [read_variant(file, release, len(labels)) for file in args.model]
    pipeline = fit_around(x.shape[1:], variants[0].inputs[0], labels, factor=scale[0], offset=scale[1])
    lineage = Lineage(
        data_sha256=sha256_bytes(args.reference.read_bytes()),
        config_sha256=sha256_bytes("".join(v.file.sha256 for v in variants).encode()),
        code_version=cloud_trainer.__version__,
        seed=0,
        note=args.note,
    )

    def manifest_of(pipeline: Any, variants: Any) -> Manifest:
        return draft(
            args.name,
            args.version,
            sample=sample_of(x),
            pipeline=pipeline,
            labels=labels,
            variants=variants,
            lineage=lineage,
            drift=DriftPolicy(),
        )

    manifest = manifest_of(pipeline, variants)
    few = x[:REFERENCE_MINIMUM]
    if all(ends_in_softmax(run_batch(manifest, release, v, few)["logits"]) for v in variants):
        manifest = manifest_of(*without_softmax(pipeline, variants))
    return manifest, [measure(manifest, release, v, {"test": x}, truth=y) for v in manifest.variants]


def _number(text: str, option: str) -> float:
    try:
        return float(Fraction(text))
    except (ValueError, ZeroDivisionError):
        raise UsageError(f"{option} {text}: expected a number or a fraction like 1/255") from None


def _reference(path: Path, labels: tuple[str, ...]) -> tuple[NDArray[Any], NDArray[np.int64] | None]:
    arrays = read_arrays(path)
    if "x" not in arrays:
        raise DataError(f"{path}: no array 'x'; expected x (n, ...), found {sorted(arrays)}")
    x = arrays["x"]
    y = arrays.get("y", np.zeros(len(x), np.int64) if x.ndim else np.empty(0))
    data = check(Dataset(x, y, labels), str(path), every_class=False)
    if len(x) < REFERENCE_MINIMUM:
        raise DataError(f"{path}: {len(x)} samples; the drift reference needs {REFERENCE_MINIMUM}")
    return data.x, data.y if "y" in arrays else None


def _show(args: argparse.Namespace, manifest: Manifest) -> None:
    if args.json:
        variants = [{"id": v.id, "bytes": v.file.bytes, "quality": v.quality} for v in manifest.variants]
        print_json({"path": str(args.out), "name": manifest.name, "version": manifest.version, "variants": variants})
        return
    rows = [
        [v.id, round(v.file.bytes / 1024, 1), f"{v.quality['accuracy']:.2%}" if v.quality else "–"]
        for v in manifest.variants
    ]
    print(table(rows, ["variant", "KiB", "accuracy"]))
    print(f"{args.out}: release {manifest.name}/{manifest.version}")
