"""What each kind of task needs around a model file: its pipeline. Pure functions.

Used for bare files (:mod:`edge_agent.bare`) and for files that are wrapped into a release. ``ValueError`` says in one
line what does not fit; the callers know the file and say it in front.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from msgspec import Struct

from edge_agent.roles import first_real, is_real, sample_of, shape_text, width
from shared.manifest import SampleSpec, TensorSpec
from shared.pipeline.decode import AnomalyScore, Argmax, Boxes, Normalize, Rank, Sigmoid, Softmax, Threshold
from shared.pipeline.encode import AddChannel, Cast, Layout
from shared.pipeline.postprocess import Labels, Units, Value
from shared.pipeline.preprocess import Scale, Standardize
from shared.pipeline.ranking import Item
from shared.pipeline.spec import Decode, Encode, Pipeline, Postprocess, Preprocess

TASKS = (
    "classification", "regression", "detection", "anomaly", "forecast", "embedding", "ranking", "raw",
)  # fmt: skip
IMAGE_CLASSIFICATION = "image-classification"
LARGEST_VALUE = 64
"""Numbers of a raw output that still make a readable answer; larger ones stay among the raw outputs."""
SSD_OUTPUTS = 4


class Options(Struct, frozen=True, kw_only=True):
    """What a person knows about a model and the file does not say.

    ``factor`` and ``offset`` bring samples into the model's range, then ``mean`` and ``std`` (one for all values, or
    one for each entry of the last axis). ``probabilities``: a classifier ends in a softmax or sigmoid of its own.
    ``threshold``: of a detection's, a binary classifier's or an anomaly's score. ``layout``, ``overlap``: of boxes, see
    :class:`shared.pipeline.boxes.Boxes`. ``unit``: of a regression's or forecast's numbers.
    """

    factor: float = 1.0
    offset: float = 0.0
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    probabilities: bool = False
    threshold: float | None = None
    overlap: float | None = None
    layout: str = ""
    unit: str = ""


def pipeline_for(
    task: str,
    sample: SampleSpec,
    tensor: TensorSpec,
    outputs: Sequence[TensorSpec],
    labels: tuple[str, ...] = (),
    options: Options | None = None,
) -> Pipeline:
    """The pipeline from ``sample`` into ``tensor``, the model's first input, and from ``outputs``, as
    :func:`name_outputs` gave them, to an answer.

    Raises:
        ValueError: the task needs other outputs or labels, or the samples don't fit into the tensor.
    """
    options = options or Options()
    if task not in TASKS and task != IMAGE_CLASSIFICATION:
        raise ValueError(f"task {task!r}; expected one of {', '.join(TASKS)}")
    if task == "anomaly":
        _check_anomaly(tensor, outputs)
    preprocess = _scaled(options)
    decode, postprocess = _DECODERS[task.removeprefix("image-")](outputs, labels, options)
    changed = "float32" if preprocess else sample.dtype
    return Pipeline(
        preprocess=preprocess, encode=fit_into(sample, tensor, changed), decode=decode, postprocess=postprocess
    )


def _scaled(options: Options) -> tuple[Preprocess, ...]:
    if len(options.mean) != len(options.std):
        raise ValueError(f"{len(options.mean)} means for {len(options.std)} standard deviations")
    operations: list[Preprocess] = []
    if (options.factor, options.offset) != (1.0, 0.0):
        operations.append(Scale(factor=options.factor, offset=options.offset))
    if options.mean:
        operations.append(Standardize(mean=options.mean, std=options.std))
    return tuple(operations)


def fit_into(sample: SampleSpec, tensor: TensorSpec, dtype: str) -> tuple[Encode, ...]:
    """Operations that bring samples, of ``dtype`` after preprocessing, into ``tensor``: as they are, with a channel
    axis added, or with the channels moved to the front or back.

    Raises:
        ValueError: none of these fits.
    """
    takes = sample_of(tensor)
    wanted, shape = takes.shape, sample.shape
    cast: tuple[Encode, ...] = () if dtype == takes.dtype else (Cast(takes.dtype),)
    if "str" in {dtype, takes.dtype} and cast:
        raise ValueError(f"samples are {dtype}, but the model takes {takes.dtype}")
    if _fits(shape, wanted):
        return cast
    if _fits((1, *shape), wanted):
        return (AddChannel(axis=1), *cast)
    if _fits((*shape, 1), wanted):
        return (AddChannel(axis=-1), *cast)
    if len(shape) == 3 and _fits((shape[2], shape[0], shape[1]), wanted):
        return (Layout(to="nchw"), *cast)
    if len(shape) == 3 and _fits((shape[1], shape[2], shape[0]), wanted):
        return (Layout(to="nhwc"), *cast)
    raise ValueError(f"samples have shape {_open(shape)}, but the model takes {_open(wanted)}")


def _fits(shape: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    return len(shape) == len(wanted) and all(w in {-1, s} for s, w in zip(shape, wanted, strict=True))


def _open(shape: tuple[int, ...]) -> str:
    return "(" + ", ".join("any" if size == -1 else str(size) for size in shape) + ")"


Ends = tuple[tuple[Decode, ...], tuple[Postprocess, ...]]
Outputs = Sequence[TensorSpec]


def _classification(outputs: Outputs, labels: tuple[str, ...], options: Options) -> Ends:
    if len(labels) < 2:
        raise ValueError("classification needs the names of at least two classes")
    spec = next((spec for spec in outputs if spec.name in {"logits", "scores"}), outputs[0])
    size = width(spec)
    if size == 1 and len(labels) == 2:
        threshold = Threshold(threshold=0.5 if options.threshold is None else options.threshold, names=labels)
        if options.probabilities:
            return (msgspec.structs.replace(threshold, source=spec.name),), ()
        sigmoid = Sigmoid(source=spec.name, target="probability")
        return (sigmoid, msgspec.structs.replace(threshold, source="probability")), ()
    if len(spec.shape) != 2 or size not in {None, len(labels)}:
        raise ValueError(
            f"output {spec.name} has shape {shape_text(spec)}; {len(labels)} labels need (batch, {len(labels)})"
        )
    minimum = 0.0 if options.threshold is None else options.threshold
    softmax: tuple[Decode, ...] = () if spec.name == "scores" else (Softmax(source=spec.name),)
    return (*softmax, Argmax()), (Labels(names=labels, minimum_score=minimum),)


def _units(options: Options) -> tuple[Postprocess, ...]:
    return (Units(unit=options.unit),) if options.unit else ()


def _numbers(outputs: Outputs, _labels: tuple[str, ...], options: Options) -> Ends:
    """Regression and forecasts: the first output of real numbers is the answer."""
    return (), (Value(source=outputs[first_real(outputs)].name), *_units(options))


def _anomaly(outputs: Outputs, labels: tuple[str, ...], options: Options) -> Ends:
    """One number a sample is the score itself; anything else is a reconstruction of the input."""
    spec = outputs[first_real(outputs)]
    names = labels or ("normal", "anomaly")
    if len(names) != 2:
        raise ValueError(f"{len(names)} labels; an anomaly task has two: the normal one and the other")
    decode: tuple[Decode, ...] = ()
    source = spec.name
    if width(spec) != 1:
        decode, source = (AnomalyScore(method="reconstruction", source=spec.name, target="strangeness"),), "strangeness"
    if options.threshold is not None:
        decode = (*decode, Threshold(threshold=options.threshold, names=names, source=source))
    return decode, (Value(source=source),)


def _check_anomaly(tensor: TensorSpec, outputs: Outputs) -> None:
    """Raise ``ValueError`` unless the output is a score, or may be a reconstruction of ``tensor``."""
    spec = outputs[first_real(outputs)]
    size, wanted = width(spec), width(tensor)
    if size not in {1, None, wanted} and wanted is not None:
        raise ValueError(
            f"output {spec.name} has shape {shape_text(spec)}; an anomaly task needs one score a sample, or the "
            f"reconstructed input {shape_text(tensor)}"
        )


def _embedding(_outputs: Outputs, _labels: tuple[str, ...], _options: Options) -> Ends:
    return (Normalize(source="embedding", target="embedding"),), (Value(source="embedding"),)


def _ranking(outputs: Outputs, labels: tuple[str, ...], _options: Options) -> Ends:
    spec = next(spec for spec in outputs if spec.name == "scores")
    if len(spec.shape) != 2 or width(spec) not in {None, len(labels)} or not labels:
        raise ValueError(
            f"output {shape_text(spec)} scores {width(spec) or 'any number of'} items; {len(labels)} labels were given"
        )
    return (Rank(items=tuple(Item(id=label) for label in labels)),), ()


def _detection(outputs: Outputs, labels: tuple[str, ...], options: Options) -> Ends:
    found = _boxes_of(outputs, labels)
    changes = {"threshold": options.threshold, "overlap": options.overlap, "layout": options.layout or None}
    chosen = {name: value for name, value in changes.items() if value is not None}
    return (msgspec.structs.replace(found, names=labels, target="detections", **chosen),), ()


def _boxes_of(outputs: Outputs, labels: tuple[str, ...]) -> Boxes:
    """Which output has boxes, which scores, in what form: as TensorFlow's post-processing, SSD heads and the YOLO
    family write them."""
    real = [spec for spec in outputs if is_real(spec)]
    boxes = [spec for spec in real if len(spec.shape) == 3 and spec.shape[2] == 4]
    tables = [spec for spec in outputs if len(spec.shape) == 2 and spec.dtype != "str"]
    if boxes and len(outputs) == SSD_OUTPUTS and len(tables) >= 2:
        of_scores = next((spec for spec in tables if "score" in spec.name.lower()), None)
        of_classes = next((spec for spec in tables if "class" in spec.name.lower()), None)
        classes, scores = (of_classes, of_scores) if of_scores and of_classes else tables[:2]
        return Boxes(source=boxes[0].name, scores=scores.name, classes=classes.name, layout="yxyx", overlap=1.0)
    cubes = [spec for spec in real if len(spec.shape) == 3 and spec is not (boxes[0] if boxes else None)]
    if boxes and cubes:
        return Boxes(source=boxes[0].name, scores=cubes[0].name)
    if boxes and tables:
        scores = next((spec for spec in tables if is_real(spec)), tables[0])
        other = next((spec for spec in tables if spec is not scores and not is_real(spec)), None)
        return Boxes(source=boxes[0].name, scores=scores.name, classes=other.name if other else "")
    if len(real) == 1 and cubes:
        (rows, columns) = cubes[0].shape[1:]
        transposed = rows is not None and (columns is None or columns > rows)
        length = rows if transposed else columns
        objectness = bool(labels) and length == 5 + len(labels)
        if labels and length is not None and length not in {4 + len(labels), 5 + len(labels)}:
            raise ValueError(
                f"output {cubes[0].name} {shape_text(cubes[0])}: rows of {length} numbers; {len(labels)} labels need "
                f"{4 + len(labels)} (box, classes) or {5 + len(labels)} (box, objectness, classes)"
            )
        return Boxes(
            source=cubes[0].name,
            scores="",
            layout="cxcywh",
            transposed=transposed,
            objectness=objectness,
            one_class=True,
        )
    told = ", ".join(f"{spec.name} {shape_text(spec)}" for spec in outputs)
    raise ValueError(
        f"no boxes among the outputs {told}; expected (n, boxes, 4) with scores, or rows of box and scores"
    )


def _raw(outputs: Outputs, _labels: tuple[str, ...], _options: Options) -> Ends:
    """Tensors as they are; the first output is also the answer's value where a person could read it."""
    size = width(outputs[0]) if outputs else None
    readable = size is not None and 0 < size <= LARGEST_VALUE and outputs[0].name != "label"
    return (), (Value(source=outputs[0].name),) if readable else ()


_DECODERS = {
    "classification": _classification,
    "regression": _numbers,
    "detection": _detection,
    "anomaly": _anomaly,
    "forecast": _numbers,
    "embedding": _embedding,
    "ranking": _ranking,
    "raw": _raw,
}
