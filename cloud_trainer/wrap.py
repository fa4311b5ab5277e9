"""Model files made elsewhere, read as variants: the runtimes themselves say what is in them. No torch, no onnx."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_agent.backends import EXTRA, available
from shared.errors import DataError, ExportError, MissingExtraError, UsageError
from shared.files import inside
from shared.manifest import SampleSpec, TensorSpec, Variant, reference_file
from shared.pipeline.decode import Argmax, Softmax
from shared.pipeline.encode import AddChannel, Cast
from shared.pipeline.postprocess import Labels
from shared.pipeline.preprocess import Scale
from shared.pipeline.spec import Pipeline

RUNTIMES = {".onnx": ("onnxruntime", "onnx"), ".tflite": ("litert", "litert")}
SCORES = "scores"
"""The first output's role when the model ends in a softmax of its own; else it is ``logits``."""


def runtime_of(file: Path) -> tuple[str, str]:
    """The runtime that reads ``file``, and its short name.

    Raises:
        UsageError: no such file, or neither .onnx nor .tflite.
    """
    if file.suffix not in RUNTIMES:
        raise UsageError(f"{file}: expected a .onnx or .tflite file")
    if not file.is_file():
        raise UsageError(f"{file}: no such file")
    return RUNTIMES[file.suffix]


def read_variant(file: Path, release: Path, classes: int) -> Variant:
    """Copy ``file`` into ``release/variants`` and describe it: ``<precision>-<runtime>``, one input, first output
    (n, classes), second output, if it is (n, E) too, the embedding.

    Raises:
        UsageError: no such file, or neither .onnx nor .tflite.
        MissingExtraError: the runtime that reads it is not installed.
        ExportError: the runtime refuses it, or it has other tensors than a classifier.
    """
    runtime, short = runtime_of(file)
    if runtime not in available():
        raise MissingExtraError(f"reading {file.name}", EXTRA[runtime])
    inputs, outputs, integer = _onnx(file) if runtime == "onnxruntime" else _tflite(file)
    if len(inputs) != 1:
        raise ExportError(f"{file}: has {len(inputs)} inputs; one is supported")
    if len(outputs[0].shape) != 2 or outputs[0].shape[1] not in {None, classes}:
        raise ExportError(
            f"{file}: its first output has shape {outputs[0].shape}; {classes} labels need (batch, {classes})"
        )
    roles = ["logits", "embedding"] if len(outputs) > 1 and len(outputs[1].shape) == 2 else ["logits"]
    precision = "int8" if integer else "fp32"
    name = f"variants/{precision}{file.suffix}"
    target = inside(release, name)
    if target.exists():
        raise UsageError(f"{file}: a second {precision} {file.suffix} file; a release has one of each kind")
    shutil.copyfile(file, target)
    return Variant(
        id=f"{precision}-{short}",
        runtime=runtime,
        precision=precision,
        student="",
        file=reference_file(release, name),
        inputs=(msgspec.structs.replace(inputs[0], name="input"),),
        outputs=tuple(msgspec.structs.replace(s, name=role) for s, role in zip(outputs, roles, strict=False)),
        macs=0,
        quality={},
    )


Specs = tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...], bool]


def _onnx(file: Path) -> Specs:
    from cloud_trainer.export.specs import onnx_specs

    # operator names stand in the file as plain text; parsing it would need the onnx package
    data = file.read_bytes()
    integer = any(name in data for name in (b"QuantizeLinear", b"QLinearConv", b"QLinearMatMul", b"MatMulInteger"))
    return (*onnx_specs(file), integer)


def _tflite(file: Path) -> Specs:
    from cloud_trainer.export.specs import tflite_integer, tflite_specs

    return (*tflite_specs(file), tflite_integer(file))


def fit_around(
    sample_shape: tuple[int, ...], tensor: TensorSpec, labels: tuple[str, ...], *, factor: float, offset: float
) -> Pipeline:
    """The pipeline that brings samples of ``sample_shape`` into ``tensor`` (batch, ...), scaled, and answers back.

    Raises:
        DataError: the samples do not fit, not even with a channel axis added in front or behind.
    """
    wanted = tensor.shape[1:]
    dtype = "float32" if tensor.scale else tensor.dtype
    scaled = (Scale(factor=factor, offset=offset),) if (factor, offset) != (1.0, 0.0) else ()
    if _fits(sample_shape, wanted):
        encode: tuple[AddChannel | Cast, ...] = (Cast(dtype),)
    elif _fits((1, *sample_shape), wanted):
        encode = (AddChannel(axis=1), Cast(dtype))
    elif _fits((*sample_shape, 1), wanted):
        encode = (AddChannel(axis=-1), Cast(dtype))
    else:
        raise DataError(f"reference samples have shape {sample_shape}, but the model takes {wanted}")
    return Pipeline(preprocess=scaled, encode=encode, decode=(Softmax(), Argmax()), postprocess=(Labels(names=labels),))


def _fits(shape: tuple[int, ...], wanted: Sequence[int | None]) -> bool:
    return len(shape) == len(wanted) and all(w in {None, s} for s, w in zip(shape, wanted, strict=True))


def sample_of(x: NDArray[Any]) -> SampleSpec:
    """What one of ``x`` (n, ...) is: an image if it looks like one, else a tensor."""
    shape = x.shape[1:]
    image = (len(shape) == 2 and min(shape) >= 8) or (len(shape) == 3 and shape[2] in {1, 3, 4} and min(shape[:2]) >= 8)
    return SampleSpec(dtype=str(x.dtype), shape=tuple(shape), kind="image" if image else "tensor")


def ends_in_softmax(first_output: NDArray[Any]) -> bool:
    """Whether (n, classes) are probabilities already: none negative, each row sums to one within int8's rounding."""
    return bool(first_output.min() >= 0 and np.abs(first_output.sum(axis=1) - 1).max() < 0.05)


def without_softmax(pipeline: Pipeline, variants: Sequence[Variant]) -> tuple[Pipeline, list[Variant]]:
    """The same for models that give probabilities: their first output is ``scores``."""
    decode = tuple(operation for operation in pipeline.decode if not isinstance(operation, Softmax))
    changed = [
        msgspec.structs.replace(v, outputs=(msgspec.structs.replace(v.outputs[0], name=SCORES), *v.outputs[1:]))
        for v in variants
    ]
    return msgspec.structs.replace(pipeline, decode=decode), changed
