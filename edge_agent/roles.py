"""What the tensors of a model file are: samples of the caller, and the names that answers know outputs by. Pure.

``ValueError`` says in one line what does not fit; the callers know the file and say it in front.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from shared.manifest import SampleSpec, TensorSpec

SMALLEST_IMAGE = 16
MEANINGS = ("label", "score", "scores", "value", "index", "input")
"""Fields that an answer is made of: a file's own output of such a name must mean the same, or gets another name."""


def sample_of(tensor: TensorSpec, *, name: str = "") -> SampleSpec:
    """What a caller gives for one input of a file: its tensor without the batch axis; -1 where any size will do.
    Quantized tensors take real numbers.

    >>> sample_of(TensorSpec("pixels", "uint8", (None, 96, 96, 3)))
    SampleSpec(dtype='uint8', shape=(96, 96, 3), kind='image', columns=(), name='pixels')
    """
    sizes = tensor.shape[1:] if tensor.batch else tensor.shape
    shape = tuple(-1 if size is None else size for size in sizes)
    dtype = "float32" if tensor.scale else tensor.dtype
    return SampleSpec(dtype=dtype, shape=shape, kind=_kind(dtype, shape), name=name or tensor.name)


def _kind(dtype: str, shape: tuple[int, ...]) -> str:
    if dtype == "str":
        return "text"
    pixels = dtype == "uint8" or dtype.startswith("float")
    if pixels and len(shape) == 3:
        for channels, sides in ((shape[2], shape[:2]), (shape[0], shape[1:])):
            if channels in {1, 3} and min(sides) >= SMALLEST_IMAGE:
                return "image"
    return "tensor"


def name_outputs(task: str, outputs: Sequence[TensorSpec], *, probabilities: bool = False) -> tuple[TensorSpec, ...]:
    """``outputs`` under the names that the task's pipeline and the drift monitor know: a classifier's first one is
    ``logits`` (or ``scores``, if they are ``probabilities``), the next table an ``embedding``. Others keep the file's
    names, but for those that mean something else in an answer.

    >>> [spec.name for spec in name_outputs("raw", [TensorSpec("label", "int64", (None,))])]
    ['output_label']
    """
    named = list(outputs)
    wanted: dict[int, str] = {}
    if task.endswith("classification"):
        place = _scores_place(outputs)
        wanted[place] = "scores" if probabilities and width(outputs[place]) != 1 else "logits"
        tables = [i for i, spec in enumerate(outputs) if i != place and len(spec.shape) == 2 and is_real(spec)]
        if tables:
            wanted[_called("embedding", outputs, tables[0])] = "embedding"
    elif task == "embedding":
        wanted[_called("embedding", outputs, first_real(outputs))] = "embedding"
    elif task == "ranking":
        wanted[_called("scores", outputs, first_real(outputs))] = "scores"
    taken = {spec.name for i, spec in enumerate(named) if i not in wanted} | set(wanted.values())
    for i, spec in enumerate(named):
        name = wanted.get(i, spec.name)
        if i not in wanted and (name in wanted.values() or (name in MEANINGS and not _means_it(task, spec))):
            name = f"output_{name}"
            while name in taken:
                name += "_"
        taken.add(name)
        named[i] = msgspec.structs.replace(spec, name=name)
    return tuple(named)


def _means_it(task: str, spec: TensorSpec) -> bool:
    """Whether a file's output may keep a name that an answer uses, because it is just that."""
    if task == "detection":
        return spec.name == "scores"  # the boxes' own; the answer has none
    if spec.name == "scores":
        return task == "raw" and len(spec.shape) == 2 and is_real(spec)
    if spec.name == "label":
        return spec.dtype == "str" and len(spec.shape) == 1 and spec.batch
    return False


def is_real(spec: TensorSpec) -> bool:
    """Whether the caller sees real numbers: floating point, or quantized."""
    return bool(spec.scale) or spec.dtype.startswith("float")


def first_real(outputs: Sequence[TensorSpec]) -> int:
    """Place of the first output of real numbers.

    Raises:
        ValueError: there is none.
    """
    found = next((i for i, spec in enumerate(outputs) if is_real(spec)), None)
    if found is None:
        told = ", ".join(f"{spec.name} {spec.dtype} {shape_text(spec)}" for spec in outputs)
        raise ValueError(f"no output of real numbers; there are {told}")
    return found


def _called(name: str, outputs: Sequence[TensorSpec], other: int) -> int:
    """The place of the output of that name, else ``other``: backends go by names first."""
    return next((i for i, spec in enumerate(outputs) if spec.name == name), other)


def _scores_place(outputs: Sequence[TensorSpec]) -> int:
    """The first output of real numbers (n, classes): converters put the predicted label in front of it."""
    found = [i for i, spec in enumerate(outputs) if is_real(spec) and len(spec.shape) == 2]
    first = found[0] if found else first_real(outputs)
    return _called("logits", outputs, _called("scores", outputs, first))


def width(spec: TensorSpec) -> int | None:
    """Numbers of a sample, where the file says; ``None`` where it does not."""
    size = 1
    for length in spec.shape[1:] if spec.batch else spec.shape:
        if length is None:
            return None
        size *= length
    return size


def shape_text(spec: TensorSpec) -> str:
    """``(n, 10)``."""
    return "(" + ", ".join("n" if size is None else str(size) for size in spec.shape) + ")"
