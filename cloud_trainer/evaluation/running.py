"""Runs variants through ``edge_agent.Engine``: what stands in a manifest is what a device gets."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.backends import available
from edge_agent.engine import Engine
from edge_agent.selection import quality_of
from shared.drift import HeldOut
from shared.errors import NoVariantError
from shared.manifest import Manifest, Variant
from shared.pipeline.base import objects

Fields = dict[str, NDArray[Any]]


def run_variant(
    manifest: Manifest, release: Path, variant: Variant, parts: Mapping[str, NDArray[Any]]
) -> dict[str, Fields]:
    """Every part (n, *sample shape) through one variant: part -> field (``logits``, ``scores``, ``index``, ...).

    Sample by sample, as a device does it: a batch may round in another order, and confidences close to 1 show that.

    Raises:
        BackendError: the runtime refuses the file, or the model gives NaN.
    """
    engine = Engine(manifest, release, variant, threads=1)
    try:
        return {name: _one_by_one(engine, x) for name, x in parts.items()}
    finally:
        engine.close()


def _one_by_one(engine: Engine, x: NDArray[Any]) -> Fields:
    rows = [engine.infer(sample).outputs for sample in x]
    return {field: _stacked([row[field] for row in rows]) for field in rows[0]}


def _stacked(values: list[Any]) -> NDArray[Any]:
    """(n, ...); (n,) objects where values are lists or mappings, which may be of any length."""
    if isinstance(values[0], list | dict):
        return objects(values)
    return np.asarray(values)


def run_batch(manifest: Manifest, release: Path, variant: Variant, x: NDArray[Any]) -> Fields:
    """Like :func:`run_variant` for one part, in bulk: where rounding does not matter.

    Raises:
        BackendError: the runtime refuses the file.
    """
    engine = Engine(manifest, release, variant, threads=1)
    try:
        return engine.outputs(x)
    finally:
        engine.close()


def best_variant(manifest: Manifest) -> Variant:
    """The one with the highest measured score among those that this machine can run; the first of equals.

    Raises:
        NoVariantError: no runtime of this release is installed.
    """
    runtimes, machine = available(), platform.machine()
    candidates = [
        variant
        for variant in manifest.variants
        if variant.runtime in runtimes and (not variant.meant_for or machine in variant.meant_for)
    ]
    if not candidates:
        raise NoVariantError(
            f"release {manifest.name}/{manifest.version} needs one of "
            + ", ".join(sorted({variant.runtime for variant in manifest.variants}))
            + "; none is installed here"
        )
    return max(candidates, key=lambda variant: quality_of(variant) or 0.0)


def held_out(fields: Mapping[str, NDArray[Any]], truth: NDArray[Any], labels: Sequence[str]) -> HeldOut:
    """How good the answers ``fields``, each (n, ...), to held-out samples were, for devices to compare theirs with:
    ``truth`` (n,) are classes of ``labels`` by index, or numbers where the answers are single numbers; nothing for
    other answers. An answer is right when its label is: one that says "unsure" is not. Scores of a ranking are no
    confidences."""
    value, scores = fields.get("value"), fields.get("scores")
    if "label" in fields and labels and truth.dtype.kind in "iu":
        right = fields["label"] == np.asarray(labels)[truth]
        return HeldOut.of_classes(right, None if scores is None or "index" not in fields else scores.max(axis=1))
    if value is not None and value.dtype.kind == "f" and value.shape == truth.shape == (len(truth),):
        return HeldOut.of_numbers(np.abs(value.astype(np.float64) - truth))
    return HeldOut()
