"""Model files made elsewhere, read as variants: the runtimes themselves say what is in them. No torch, no onnx."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from cloud_trainer.packaging import Measured
from cloud_trainer.trial import try_file
from edge_agent.backends import RUNTIMES
from edge_agent.backends.inspect import FileSignature, inspect_file
from edge_agent.bare import given_inputs, probabilities, state_pairs, variant_of
from edge_agent.engine import Engine
from edge_agent.roles import name_outputs, sample_of, shape_text
from edge_agent.steps import join
from edge_agent.tasks import IMAGE_CLASSIFICATION, Options, pipeline_for
from shared.errors import DataError, UsageError
from shared.files import inside
from shared.manifest import Manifest, SampleSpec, StatePair, TensorSpec, Variant, reference_file
from shared.pipeline.spec import Pipeline

Array = NDArray[Any]
INPUT = "input"
"""Name of the only input of wrapped models: files of several runtimes call it differently."""
BYTE_SCALES = (1 / 255, 1 / 256, 1 / 128, 2 / 255, 1 / 127.5)
"""Factors that say that samples are bytes."""


class Wrapped(Struct, frozen=True, eq=False):
    """Files that belong together: their variants, without pipeline, and what a caller gives."""

    variants: tuple[Variant, ...]
    given: tuple[TensorSpec, ...]
    """The inputs of the first file that a caller gives; the first may have got the name ``input``."""
    state: tuple[StatePair, ...]


def check_file(file: Path) -> None:
    """A model file by its name.

    Raises:
        UsageError: no such file, or neither .onnx nor .tflite.
    """
    if file.suffix.lower() not in {runtime.suffix for runtime in RUNTIMES.values()}:
        raise UsageError(f"{file}: expected a .onnx or .tflite file")
    if not file.is_file():
        raise UsageError(f"{file}: no such file")


def read_files(files: Sequence[Path], release: Path, state: Sequence[str]) -> Wrapped:
    """Copy ``files`` into ``release/variants`` and describe each as ``<precision>-<runtime>``.

    Raises:
        UsageError: one file twice, files of different inputs, or state that they don't have.
        MissingExtraError: the runtime that reads one is not installed.
        BackendError: the runtime refuses one, or crashes on it; the message names the operator or type where the
            runtime tells it.
    """
    variants: list[Variant] = []
    first: tuple[TensorSpec, ...] = ()
    pairs: tuple[StatePair, ...] = ()
    for file in files:
        try_file(file)
        found = inspect_file(file)
        pairs = state_pairs(state, found, str(file))
        given = given_inputs(found, pairs, str(file))
        if len(given) == 1:
            found = _rename(found, given[0].name, INPUT)
            given = (msgspec.structs.replace(given[0], name=INPUT),)
        if first:
            _check_same(first, given, file)
        first = first or given
        variants.append(_copied(file, release, found, variants))
    return Wrapped(tuple(variants), first, pairs)


def _rename(found: FileSignature, old: str, new: str) -> FileSignature:
    inputs = tuple(msgspec.structs.replace(spec, name=new) if spec.name == old else spec for spec in found.inputs)
    return msgspec.structs.replace(found, inputs=inputs)


def _check_same(first: Sequence[TensorSpec], given: Sequence[TensorSpec], file: Path) -> None:
    if [sample_of(spec) for spec in first] != [sample_of(spec) for spec in given]:
        told = [", ".join(f"{s.name} {sample_of(s).dtype} {shape_text(s)}" for s in specs) for specs in (given, first)]
        raise UsageError(f"{file}: takes {told[0]}, but the first file {told[1]}; files of one release take the same")


def _copied(file: Path, release: Path, found: FileSignature, others: Sequence[Variant]) -> Variant:
    beside = file.with_name(f"{file.name}.data")
    if beside.exists():
        raise UsageError(f"{file}: keeps its weights in {beside.name}; save it as one file")
    variant = variant_of(file, found)
    if any(variant.file.sha256 == other.file.sha256 for other in others):
        raise UsageError(f"{file}: given twice; a release has each file once")
    # int8 weights alone and int8 throughout are both int8
    same = sum(other.id.split("--")[0] == variant.id for other in others)
    mark = f"--{same + 1}" if same else ""
    name = f"variants/{found.precision}{mark}{file.suffix.lower()}"
    shutil.copyfile(file, inside(release, name))
    return msgspec.structs.replace(variant, id=f"{variant.id}{mark}", file=reference_file(release, name))


def sample_spec(tensor: TensorSpec, x: Array | None, options: Options, columns: tuple[str, ...] = ()) -> SampleSpec:
    """What one sample of the first input is: like the reference's ``x`` (n, ...), else what the file takes.

    Without a reference, images for a model with channels in front are taken as cameras give them, channels last, where
    mean and std are per channel; and as bytes, where the scale says so.
    """
    spec = sample_of(tensor)
    if x is not None:
        shape = x.shape[1:]
        if len(shape) == len(spec.shape):  # a model of any size stays one
            shape = tuple(-1 if want == -1 else size for size, want in zip(shape, spec.shape, strict=True))
        kind = "text" if x.dtype.kind in "UO" else "image" if _pictures(shape) else "row" if columns else "tensor"
        dtype = "str" if kind == "text" else x.dtype.name
        return SampleSpec(dtype=dtype, shape=shape, kind=kind, columns=columns, name=spec.name)
    shape = spec.shape
    if spec.kind == "image" and shape[0] in {1, 3} and len(options.mean) == shape[0] > 1:
        shape = (*shape[1:], shape[0])
    scaled_bytes = spec.kind == "image" and any(abs(options.factor - one) < 1e-9 for one in BYTE_SCALES)
    return msgspec.structs.replace(spec, shape=shape, dtype="uint8" if scaled_bytes else spec.dtype)


def _pictures(shape: tuple[int, ...]) -> bool:
    if len(shape) == 3 and shape[0] in {1, 3} and shape[2] not in {1, 3, 4}:
        shape = (*shape[1:], shape[0])
    return (len(shape) == 2 and min(shape) >= 8) or (len(shape) == 3 and shape[2] in {1, 3, 4} and min(shape[:2]) >= 8)


def suited(x: Array, tensor: TensorSpec, options: Options, where: str) -> Array:
    """``x`` (n, ...) in a dtype that devices will send: floats as the model takes them, whole numbers as they are
    unless the model takes others and can hold them.

    Raises:
        DataError: not numbers or text, or NaN.
    """
    if x.dtype.kind in "UO":
        return x
    if x.dtype.kind not in "biuf":
        raise DataError(f"{where}: samples have dtype {x.dtype}; expected numbers")
    takes = np.dtype(sample_of(tensor).dtype) if tensor.dtype != "str" else np.dtype(np.float32)
    plain = (options.factor, options.offset) == (1.0, 0.0) and not options.mean
    if x.dtype.kind == "f":
        if not np.isfinite(x).all():
            bad = int(np.flatnonzero(~np.isfinite(x.reshape(len(x), -1)).all(axis=1))[0])
            raise DataError(f"{where}: sample {bad} has NaN or infinite values; clean the data first")
        wanted = takes if plain else np.dtype(np.float32)
        with np.errstate(over="ignore", invalid="ignore"):
            made = x.astype(wanted)
        return made if wanted.kind == "f" or (made == x).all() else x
    if plain and takes.kind in "iu":
        made = x.astype(takes)
        return made if (made == x).all() else x
    return x


def fit_around(
    wrapped: Wrapped, task: str, sample: SampleSpec, labels: tuple[str, ...], options: Options, where: str
) -> tuple[Pipeline, tuple[Variant, ...]]:
    """The pipeline around the first file, and all variants with their outputs under the names that it goes by.

    Raises:
        UsageError: task, labels, samples and files do not fit together.
    """
    carried = {pair.output for pair in wrapped.state}
    named: list[TensorSpec] = []
    variants = []
    try:
        for variant in wrapped.variants:
            own = [spec for spec in variant.outputs if spec.name not in carried]
            found = name_outputs(task, own, probabilities=options.probabilities)
            named = named or list(found)
            alike = _like(named, found, variant.id)
            whole = iter(alike)
            outputs = tuple(spec if spec.name in carried else next(whole) for spec in variant.outputs)
            variants.append(msgspec.structs.replace(variant, outputs=outputs))
        return pipeline_for(task, sample, wrapped.given[0], named, labels, options), tuple(variants)
    except ValueError as error:
        raise UsageError(f"{where}: {error}") from error


def _like(first: Sequence[TensorSpec], found: Sequence[TensorSpec], variant: str) -> list[TensorSpec]:
    """``found`` outputs under the names of the ``first`` file's: runtimes call the same output differently."""
    if {spec.name for spec in first} == {spec.name for spec in found}:
        return list(found)
    if len(first) != len(found):
        told = ", ".join(spec.name for spec in found)
        raise ValueError(f"{variant} has other outputs ({told}) than the first file")
    return [msgspec.structs.replace(spec, name=one.name) for spec, one in zip(found, first, strict=True)]


def task_of(task: str, labels: tuple[str, ...], sample: SampleSpec) -> str:
    """The task by its full name: labels alone make it a classification."""
    task = task or ("classification" if labels else "raw")
    return IMAGE_CLASSIFICATION if task == "classification" and sample.kind == "image" else task


def gives_probabilities(manifest: Manifest, release: Path, samples: Any) -> bool:
    """Whether every variant's first output is probabilities already, on ``samples``."""
    for variant in manifest.variants:
        rows = answers(manifest, release, variant, samples)["logits"]
        if not probabilities(rows.reshape(len(rows), -1)):
            return False
    return True


def answers(manifest: Manifest, release: Path, variant: Variant, samples: Any) -> dict[str, Array]:
    """Every field for ``samples``, one by one as a device does it: (n, ...), or (n,) of objects where the model gives
    another shape for each.

    Raises:
        BackendError: the runtime fails, or the model gives NaN.
    """
    engine = Engine(manifest, release, variant, threads=1)
    try:
        rows = [engine.infer(sample).outputs for sample in samples]
    finally:
        engine.close()
    return join([{name: _batch(value) for name, value in row.items()} for row in rows])


def _batch(value: Any) -> Array:
    if isinstance(value, np.ndarray | int | float | bool):
        return np.asarray(value)[None]
    one = np.empty(1, object)
    one[0] = value
    return one


def measured(manifest: Manifest, release: Path, samples: Any, truth: Array | None) -> list[Measured]:
    """Each variant with what it answered as part ``test``, and its quality where there is a truth to compare with."""
    found = []
    for variant in manifest.variants:
        fields = answers(manifest, release, variant, samples)
        quality = {} if truth is None else quality_of(manifest, fields, truth)
        found.append(Measured(msgspec.structs.replace(variant, quality=quality), {"test": fields}))
    return found


def quality_of(manifest: Manifest, fields: Mapping[str, Array], truth: Array) -> dict[str, float]:
    """Figures of a classifier or of numbers (:func:`cloud_trainer.evaluation.figures`), the one
    that variants are compared by first; nothing for other tasks. ``truth`` (n,) are class indices, or numbers of the
    answers' shape.

    >>> from types import SimpleNamespace
    >>> quality_of(SimpleNamespace(task="regression"), {"value": np.array([1.0, 3.0])}, np.array([1.0, 2.0]))["mae"]
    0.5
    """
    from cloud_trainer.evaluation import Judge, answer_of, figures

    judge, answer = Judge(manifest.task), answer_of(manifest.task, fields)
    if answer is not None and judge.family in {"classes", "numbers"}:
        return figures(judge, answer, truth)
    if judge.family == "classes":
        right = np.asarray(
            [label == manifest.labels[index] for label, index in zip(fields["label"], truth, strict=True)]
        )
        return {"accuracy": round(float(right.mean()), 6), "samples": float(len(truth))}
    return {}
