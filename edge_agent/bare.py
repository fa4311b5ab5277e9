"""A model file without a release around it, described as one: ``Engine.load("model.onnx")``.

Nothing is guessed but what cannot be wrong: tensors go in and come out raw, under the file's own names. Labels (an
argument, or a file ``model.onnx.labels.txt`` or ``model.labels.txt`` beside it, one name a line) make it a classifier.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import numpy as np

import edge_agent
from edge_agent.backends import open_backend
from edge_agent.backends.inspect import FileSignature, inspect_file
from edge_agent.roles import name_outputs, sample_of, shape_text
from edge_agent.tasks import IMAGE_CLASSIFICATION, Options, pipeline_for
from shared.errors import BackendError, UsageError
from shared.manifest import FORMAT, Lineage, Manifest, SampleSpec, StatePair, TensorSpec, Variant, reference_file

SHORT = {"onnxruntime": "onnx"}
"""Runtimes whose name in a variant's id is another one."""
LABELS_MAX_BYTES = 1 << 20
PROBES = 4


def describe(
    path: Path,
    *,
    labels: Sequence[str] = (),
    task: str = "raw",
    state: Sequence[str] = (),
    options: Options | None = None,
) -> Manifest:
    """The manifest of a bare file: one variant, no golden samples, no drift reference.

    ``labels`` turn task ``raw`` into a classification. ``state`` are pairs ``input=output`` of tensors that the model
    hands itself from call to call.

    Raises:
        UsageError: no such file, or labels, task or state don't fit what is in it.
        MissingExtraError: the runtime that runs it is not installed.
        BackendError: the runtime refuses the file.
    """
    if not path.is_file():
        raise UsageError(f"{path}: {'a directory, not a file' if path.is_dir() else 'no such file'}")
    found = inspect_file(path)
    if not found.outputs:
        raise BackendError(f"{path}: has no outputs")
    pairs = state_pairs(state, found, str(path))
    given = given_inputs(found, pairs, str(path))
    names = tuple(labels) or beside(path)
    sample, *others = (sample_of(tensor) for tensor in given)
    task = _task(task, names, sample)
    variant = variant_of(path, found)
    options = options or Options()
    try:
        if task.endswith("classification") and not options.probabilities and not others and not pairs:
            outputs = name_outputs(task, _without(found.outputs, pairs))
            if gives_probabilities(variant, path, sample, outputs):
                options = Options(probabilities=True, threshold=options.threshold)
        outputs = name_outputs(task, _without(found.outputs, pairs), probabilities=options.probabilities)
        pipeline = pipeline_for(task, sample, given[0], outputs, names, options)
    except ValueError as error:
        raise UsageError(f"{path}: {error}") from error
    in_order, carried = iter(outputs), {pair.output for pair in pairs}
    of_file = tuple(spec if spec.name in carried else next(in_order) for spec in found.outputs)
    return Manifest(
        format=FORMAT,
        name=model_name(path),
        version=1,
        task=task,
        sample=sample,
        pipeline=pipeline,
        labels=names,
        variants=(msgspec.structs.replace(variant, outputs=of_file),),
        golden=None,
        profile=None,
        lineage=Lineage(
            data_sha256="0" * 64,
            config_sha256=variant.file.sha256,
            code_version=edge_agent.__version__,
            seed=0,
            note="a bare file, not a release",
        ),
        created=datetime.fromtimestamp(path.stat().st_mtime, UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        extra_inputs=tuple(others),
        state=pairs,
    )


def variant_of(path: Path, found: FileSignature) -> Variant:
    """The file as a variant ``<precision>-<runtime>``, with the file's own names."""
    return Variant(
        id=f"{found.precision}-{SHORT.get(found.runtime, found.runtime)}",
        runtime=found.runtime,
        precision=found.precision,
        student="",
        file=reference_file(path.parent, path.name),
        inputs=found.inputs,
        outputs=found.outputs,
        macs=0,
        quality={},
    )


def model_name(path: Path) -> str:
    """A name that is safe in topics and file names.

    >>> model_name(Path("models/ResNet-8 (v2).onnx"))
    'resnet-8_v2'
    """
    name = re.sub(r"[^a-z0-9_-]+", "_", path.stem.lower())[:64].strip("_")
    return name or "model"


def beside(path: Path) -> tuple[str, ...]:
    """Labels from ``model.onnx.labels.txt`` or ``model.labels.txt``, one name a line; none where there is no such file.

    Raises:
        UsageError: the file cannot be read, or holds a name twice.
    """
    for file in (path.with_name(f"{path.name}.labels.txt"), path.with_suffix(".labels.txt")):
        if file.is_file():
            return read_labels(file)
    return ()


def read_labels(file: Path) -> tuple[str, ...]:
    """Names from a text file, one a line; empty lines don't count.

    Raises:
        UsageError: it cannot be read, is too large, or holds fewer than two names or one twice.
    """
    try:
        if file.stat().st_size > LABELS_MAX_BYTES:
            raise UsageError(f"{file}: {file.stat().st_size} bytes; a file of labels has one name a line")
        lines = file.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise UsageError(f"{file}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{file}: not UTF-8 text; expected one name a line") from error
    names = tuple(line.strip() for line in lines if line.strip())
    check_labels(names, str(file))
    return names


def check_labels(names: Sequence[str], where: str) -> None:
    """At least two names, each once.

    Raises:
        UsageError: they are not.
    """
    twice = next((name for i, name in enumerate(names) if name in names[:i]), None)
    if twice is not None:
        raise UsageError(f"{where}: the name {twice!r} stands there twice")
    if len(names) < 2 or not all(names):
        raise UsageError(f"{where}: {len([n for n in names if n])} names; at least two are needed")


def state_pairs(state: Sequence[str], found: FileSignature, where: str) -> tuple[StatePair, ...]:
    """``input=output`` in words, checked against the file.

    Raises:
        UsageError: no such tensor, or the output does not fit back into the input.
    """
    inputs, outputs = ({spec.name: spec for spec in specs} for specs in (found.inputs, found.outputs))
    pairs: list[StatePair] = []
    for text in state:
        name, equals, output = text.partition("=")
        if not equals or name not in inputs or output not in outputs:
            raise UsageError(
                f"{where}: state {text!r}: expected INPUT=OUTPUT with an input of {', '.join(inputs)} "
                f"and an output of {', '.join(outputs)}"
            )
        a, b = inputs[name], outputs[output]
        same = len(a.shape) == len(b.shape) and all(
            x is None or y is None or x == y for x, y in zip(a.shape, b.shape, strict=True)
        )
        if not same or a.dtype != b.dtype or a.dtype == "str":
            raise UsageError(
                f"{where}: state {text}: {name} is {a.dtype} {shape_text(a)}, {output} {b.dtype} {shape_text(b)}; "
                "they must be numbers of one shape"
            )
        if any(pair.input == name or pair.output == output for pair in pairs):
            raise UsageError(f"{where}: state {text!r}: {name} or {output} is in another pair already")
        pairs.append(StatePair(name, output))
    return tuple(pairs)


def given_inputs(found: FileSignature, pairs: Sequence[StatePair], where: str) -> tuple[TensorSpec, ...]:
    """The inputs that a caller gives: all but the carried ones.

    Raises:
        UsageError: none is left.
    """
    carried = {pair.input for pair in pairs}
    given = tuple(spec for spec in found.inputs if spec.name not in carried)
    if not given:
        raise UsageError(f"{where}: no input is left for samples; its inputs are {', '.join(carried) or 'none'}")
    return given


def gives_probabilities(variant: Variant, path: Path, sample: SampleSpec, outputs: Sequence[TensorSpec]) -> bool:
    """Whether the first scores of a classifier are probabilities already, by its answers to a few random inputs:
    none negative, each row sums to one (within what int8 rounds), or lies in 0..1 if it is a single number."""
    if not sample.fixed:
        return False
    place = next(i for i, spec in enumerate(outputs) if spec.name == "logits")
    random = np.random.default_rng(0)
    backend = open_backend(variant, path)
    try:
        rows = random.normal(0, 10, (PROBES, *sample.shape))
        low, high = (0, 255) if sample.dtype == "uint8" else (-100, 100)
        inputs = np.clip(np.abs(rows * 10) if low == 0 else rows, low, high).astype(sample.dtype)
        name = variant.inputs[0].name
        found = [
            backend.run({name: one[None] if variant.inputs[0].batch else one})[variant.outputs[place].name]
            for one in inputs
        ]
    finally:
        backend.close()
    return probabilities(np.concatenate([values.reshape(1, -1) for values in found]))


def probabilities(rows: np.ndarray[tuple[int, ...], np.dtype[np.floating]]) -> bool:
    """Whether (n, classes) are probabilities: none negative, each row sums to one within int8's rounding; a single
    number a row lies in 0..1.

    >>> probabilities(np.array([[0.2, 0.8]])), probabilities(np.array([[2.0, -1.0]]))
    (True, False)
    """
    if not np.isfinite(rows).all() or rows.min() < 0:
        return False
    if rows.shape[1] == 1:
        return bool(rows.max() <= 1)
    return bool(np.abs(rows.sum(axis=1) - 1).max() < 0.05)


def _without(outputs: Sequence[TensorSpec], pairs: Sequence[StatePair]) -> tuple[TensorSpec, ...]:
    carried = {pair.output for pair in pairs}
    return tuple(spec for spec in outputs if spec.name not in carried)


def _task(task: str, labels: tuple[str, ...], sample: SampleSpec) -> str:
    if task == "raw" and labels:
        task = "classification"
    return IMAGE_CLASSIFICATION if task == "classification" and sample.kind == "image" else task
