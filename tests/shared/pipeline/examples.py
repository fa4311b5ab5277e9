"""Examples of every operation of the pipeline: what it takes, and what it must refuse."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, get_args

import numpy as np

from shared.pipeline.base import ArrayOperation, FieldOperation, objects
from shared.pipeline.decode import (
    AnomalyScore,
    Argmax,
    Boost,
    Boxes,
    Exclude,
    Filter,
    Inverse,
    Item,
    JointScore,
    Limit,
    Normalize,
    Rank,
    Sigmoid,
    Softmax,
    Threshold,
    TopK,
)
from shared.pipeline.encode import (
    AddChannel,
    Cast,
    Categories,
    EmbeddingIndex,
    HashedNgrams,
    Layout,
    OneHot,
    Ordinal,
    Reshape,
    Tokens,
)
from shared.pipeline.postprocess import Action, Actions, Labels, Payload, Round, Units, Value
from shared.pipeline.preprocess import (
    BandPower,
    Calendar,
    ChannelOrder,
    Choose,
    CleanText,
    Clip,
    Combine,
    Concatenate,
    Correlations,
    Crop,
    Detrend,
    Difference,
    Envelope,
    Grayscale,
    Impute,
    Lags,
    LogMel,
    Magnitude,
    Mfcc,
    Pad,
    Pair,
    Parse,
    Pick,
    Piecewise,
    Rates,
    Recent,
    Resample,
    Resize,
    Rolling,
    Scale,
    Standardize,
    Summary,
    Window,
)
from shared.pipeline.summary import Statistic

Random = np.random.Generator
WORD = ("pump", "Fan", "belt!", "Été", "x_1", "２", "", "  ", "a\tb", "\x00c", "naïve", "pump-fan", "🛠")


class Example(NamedTuple):
    operation: ArrayOperation | FieldOperation
    make: Callable[[Random, int], Any]  # a batch (n, ...), or fields with n rows
    refused: tuple[Any, ...]  # batches, or fields


def grey(random: Random, n: int) -> Any:
    return random.integers(0, 256, (n, 8, 12)).astype(np.uint8)


def colour(random: Random, n: int) -> Any:
    return random.integers(0, 256, (n, 9, 7, 3)).astype(np.uint8)


def floats(*shape: int, dtype: str = "float32") -> Callable[[Random, int], Any]:
    return lambda random, n: (random.normal(size=(n, *shape)) * 10).astype(dtype)


def whole(*shape: int, dtype: str = "int64", high: int = 5) -> Callable[[Random, int], Any]:
    return lambda random, n: random.integers(0, high, (n, *shape)).astype(dtype)


def missing(random: Random, n: int) -> Any:
    x = random.normal(size=(n, 4)).astype(np.float32)
    x[random.random(x.shape) < 0.3] = np.nan
    return x


def words(random: Random, n: int) -> Any:
    return np.array([" ".join(random.choice(WORD, 6)) for _ in range(n)], dtype=np.str_)


def word_objects(random: Random, n: int) -> Any:
    return objects(words(random, n).tolist())


def word(random: Random, n: int) -> Any:
    return random.choice(np.array(["low", "high", "odd"]), n)


def table(random: Random, n: int) -> Any:
    return random.choice(np.array(["low", "high", "odd"]), (n, 2))


CELLS = ("", "1.5", " 2 ", "low", "high", "nan", "1e999", "2024-02-29T12:00:00", "1970-01-02", "86400", "é")


def cells(random: Random, n: int) -> Any:
    return objects(random.choice(np.array(CELLS), n * 3).tolist()).reshape(n, 3)


def cell_words(random: Random, n: int) -> Any:
    return random.choice(np.array(CELLS), (n, 3))


def gaps(*shape: int, dtype: str = "float32") -> Callable[[Random, int], Any]:
    def make(random: Random, n: int) -> Any:
        x = (random.normal(size=(n, *shape)) * 10).round(1).astype(dtype)
        x[random.random(x.shape) < 0.2] = random.choice([np.nan, 0.0])
        return x

    return make


def moments(*shape: int) -> Callable[[Random, int], Any]:
    def make(random: Random, n: int) -> Any:
        x = random.normal(size=(n, *shape, 3)) * 10
        x[..., 1] = random.uniform(-1e10, 1e10, x.shape[:-1])
        x[..., 1][random.random(x.shape[:-1]) < 0.2] = random.choice([np.nan, np.inf, 1e300])
        return x

    return make


TEXT = np.array(["some text"])
NUMBERS = np.zeros((2, 3), np.float32)
COMPLEX = np.zeros((2, 4), np.complex64)
LEVELS = (Categories(0, ("low", "high")),)

ARRAYS = [
    Example(Impute((1.0, 2.0, 3.0, 4.0)), missing, (TEXT, NUMBERS)),
    Example(Impute((0.5,), flags=(0, 3)), missing, (TEXT, NUMBERS)),
    Example(Parse(3), cells, (TEXT, NUMBERS, objects([["a", 1, "b"]]).reshape(1, 1))),
    Example(Parse(3, (Categories(2, ("low", "", "é")),), times=(0,)), cells, (NUMBERS, np.array([["a", "b"]]))),
    Example(Parse(3, (Categories(0, ("low", "high")), Categories(1, ("1.5",))), unknown=7), cell_words, (NUMBERS,)),
    Example(Choose((2, 0, 2)), floats(3), (TEXT, NUMBERS[:, :2], np.zeros(3))),
    Example(Choose((1,)), whole(4, 2, dtype="uint8"), (TEXT, np.zeros((2, 4, 1)))),
    Example(
        Combine((Pair("ratio", 0, 1), Pair("product", 2, 2), Pair("ratio", 2, 0))), gaps(3), (TEXT, NUMBERS[:, :2])
    ),
    Example(Combine((Pair("difference", 1, 0),)), gaps(4, 2, dtype="float64"), (TEXT, np.zeros(3))),
    Example(Combine((Pair("ratio", 1, 0), Pair("difference", 0, 1))), whole(2), (TEXT, COMPLEX)),
    Example(Calendar(1), moments(), (TEXT, NUMBERS[:, :1], np.zeros(3))),
    Example(Calendar(1, ("month", "monthday", "hour"), harmonics=0, weekend=True, offset=-5.5), moments(), (TEXT,)),
    Example(Calendar(1, ("hour", "yearday"), harmonics=3), moments(4), (TEXT,)),
    Example(Calendar(0, (), weekend=True), whole(1, high=1 << 33), (TEXT,)),
    Example(
        Recent((Pick(0), Pick(1, "value", 4), Pick(0, "mean", 3), Pick(1, "std", 9))), floats(9, 2), (TEXT, NUMBERS)
    ),
    Example(Recent((Pick(1, "change", 8), Pick(0, "max", 2), Pick(1, "min", 9))), whole(9, 2), (np.zeros((1, 8, 2)),)),
    Example(Recent((Pick(0, "mean", 40), Pick(0, "std", 7))), floats(40, 1, dtype="float64"), (np.zeros((1, 39, 1)),)),
    Example(Piecewise(((0.0, 1.0, 5.0), (-3.0, 3.0))), floats(2), (TEXT, NUMBERS)),
    Example(Piecewise(((0.0, 1.0), (-3.0, 0.1, 3.0))), gaps(4, 2, dtype="float64"), (TEXT, np.zeros(2))),
    Example(Clip(10, 200), grey, (TEXT, COMPLEX)),
    Example(Clip(-5.5, 99.5), floats(3, dtype="float64"), (TEXT,)),
    Example(Scale(1 / 255), grey, (TEXT, COMPLEX)),
    Example(Scale(0.5, offset=-1.0), floats(5), (TEXT,)),
    Example(Standardize((100.0,), (50.0,)), grey, (TEXT, COMPLEX)),
    Example(Standardize(tuple(range(12)), tuple(range(1, 13))), grey, (TEXT, NUMBERS, np.zeros((3, 1), np.float32))),
    *(
        Example(Resize(*size, method=method), make, (TEXT, NUMBERS, np.zeros((2, 0, 4))))
        for method in ("bilinear", "nearest", "antialias", "area")
        for make in (grey, colour)
        for size in ((5, 4), (17, 19))
    ),
    Example(Crop(4, 5), grey, (TEXT, NUMBERS, np.zeros((1, 3, 9)))),
    Example(Crop(4, 5, top=1, left=2), colour, (TEXT, NUMBERS, np.zeros((1, 4, 9)))),
    Example(Pad(1, 2, 3, 4, value=7), grey, (TEXT, NUMBERS)),
    Example(Pad(1, 0, 2, 0, value=0.5), floats(3, 4), (TEXT, np.zeros((1, 2, 2), np.uint8))),
    Example(Pad(1, 2, 3, 4, mode="reflect"), colour, (TEXT, np.zeros((1, 2, 2)))),
    Example(Pad(1, 2, 3, 4, mode="edge"), grey, (TEXT, np.zeros((1, 0, 2)))),
    Example(Grayscale(), colour, (TEXT, np.zeros((1, 4, 4, 2)))),
    Example(Grayscale(order="bgr", keep_channel=True), floats(4, 5, 4), (TEXT, np.zeros((1, 4, 4)))),
    Example(ChannelOrder(), colour, (TEXT, np.zeros((1, 4, 4, 2)))),
    Example(ChannelOrder((0, 2), axis=1), floats(3, 4, 5), (TEXT, np.zeros((1, 2, 4)), np.zeros(3))),
    Example(Resample(3, 2), floats(40), (TEXT, np.zeros((1, 0)), np.zeros(4))),
    Example(Resample(2, 7), floats(33, 2), (TEXT, np.zeros(4))),
    Example(Resample(4, 4), whole(9, dtype="int16"), (TEXT,)),
    Example(Window(8, 3), floats(30), (TEXT, np.zeros((1, 7)))),
    Example(Window(8, 5, taper="hann"), floats(30, 2), (TEXT, np.zeros((1, 7)))),
    Example(Detrend(), floats(21), (TEXT, np.zeros(3), np.zeros((2, 0)))),
    Example(Detrend(), floats(21, 1), (TEXT,)),
    Example(Detrend("constant"), floats(21, 3), (TEXT,)),
    Example(LogMel(1000, 64, 32, bands=8), floats(200), (TEXT, np.zeros((1, 63)), np.zeros((1, 99, 2)))),
    Example(LogMel(1000, 64, 64, bands=1, fft=128, scale="htk", decibel=True), floats(64), (TEXT,)),
    Example(Mfcc(5), floats(6, 8), (TEXT, np.zeros((1, 8)), np.zeros((1, 3, 4)))),
    Example(Mfcc(1), floats(1, 8), (TEXT,)),
    Example(Lags((1, 3)), floats(9), (TEXT, np.zeros((1, 3)))),
    Example(Lags((2,)), whole(9, 2), (TEXT, np.zeros(9))),
    Example(Difference(), floats(9), (TEXT, np.zeros((1, 1)))),
    Example(Difference(lag=4), whole(9, 2, dtype="uint8"), (TEXT, np.zeros((1, 4)))),
    Example(Rolling(3, ("mean", "std", "min", "max")), floats(9), (TEXT, np.zeros((1, 2)))),
    Example(Rolling(9, ("std",)), floats(9, 1), (TEXT,)),
    Example(Rates(), floats(9), (TEXT, np.zeros((1, 1)), np.zeros(3))),
    Example(Rates((1, 4)), whole(9, 2, dtype="uint8"), (TEXT, np.zeros((1, 4)))),
    Example(Magnitude(), floats(9, 3), (TEXT, NUMBERS)),
    Example(Magnitude((0, 2), keep=False), whole(9, 3, dtype="int16"), (TEXT, np.zeros((1, 9, 2)))),
    Example(Summary(get_args(Statistic)), floats(37, 3), (TEXT, np.zeros((1, 1)), np.zeros(3))),
    Example(Summary(get_args(Statistic)), whole(8, dtype="uint8", high=2), (TEXT,)),
    Example(Summary(("mean", "skewness"), size=8, step=5), floats(37, 2), (TEXT, np.zeros((1, 7)))),
    Example(Summary(("std",), size=8), floats(37), (TEXT, np.zeros((1, 7)))),
    Example(Correlations(), floats(11, 4), (TEXT, NUMBERS, np.zeros((1, 5, 1)))),
    Example(BandPower(50.0, (0.0, 4.0, 10.0, 25.0)), floats(40, 3), (TEXT, np.zeros((1, 3)), np.zeros(3))),
    Example(BandPower(1.0, (0.1, 0.3, 0.5), size=9, step=4, taper="none"), floats(31), (TEXT, np.zeros((1, 8)))),
    Example(Envelope(50.0), floats(21, 2), (TEXT, np.zeros((1, 1)), np.zeros(3))),
    Example(Envelope(50.0, 5.0, 20.0), whole(16, dtype="int16"), (TEXT,)),
    Example(Concatenate(((), (Difference(),), (Summary(("max",)),))), floats(9, 2), (TEXT, np.zeros((1, 1, 2)))),
    Example(
        Concatenate(((Magnitude(),), (Rates(), Scale(0.5))), flat=False), floats(9, 2), (TEXT, np.zeros((1, 1, 2)))
    ),
    Example(Concatenate(((), (Difference(),)), flat=False), floats(9), (TEXT, np.zeros((1, 9, 2)))),
    Example(Concatenate(((HashedNgrams(8),), (CleanText(), HashedNgrams(16, split="characters")))), words, (NUMBERS,)),
    Example(CleanText(), words, (NUMBERS, objects(["a", 1]))),
    Example(CleanText("none", lowercase=False, digits="drop", max_characters=5), word_objects, (NUMBERS,)),
    Example(CleanText(accents=False, digits="zero", punctuation=False), words, (NUMBERS,)),
    Example(AddChannel(1), grey, (np.zeros(()),)),
    Example(AddChannel(-1), grey, (np.zeros(()),)),
    Example(Layout("nchw"), colour, (TEXT, NUMBERS)),
    Example(Layout("nhwc"), floats(3, 4, 5), (TEXT, NUMBERS)),
    Example(Reshape((4, -1)), grey, (NUMBERS, np.zeros((2, 5)))),
    Example(Reshape((96,)), grey, (NUMBERS,)),
    Example(Reshape(()), floats(1), (NUMBERS,)),
    Example(Cast("float32"), grey, (TEXT, COMPLEX)),
    Example(Cast("int64"), floats(3), (TEXT,)),
    Example(Cast("float16"), floats(3, dtype="float64"), (TEXT,)),
    Example(OneHot((Categories(0, (1, 3)), Categories(2, (0, 2, 4)))), whole(3), (TEXT, np.zeros((2, 2)), COMPLEX)),
    Example(OneHot((Categories(1, (0.1, 0.5)),)), lambda r, n: r.choice([0.1, 0.5], (n, 2)).astype("f4"), (TEXT,)),
    Example(OneHot(LEVELS), word, (NUMBERS, np.array([["low", "low"]]))),
    Example(Ordinal(LEVELS, unknown=9, dtype="int32"), word, (NUMBERS, np.array([["low", "low"]]))),
    Example(Ordinal((*LEVELS, Categories(1, ("odd",)))), table, (NUMBERS, TEXT)),
    Example(Ordinal((Categories(1, (2, 1)),)), whole(3), (TEXT, np.zeros((2, 1)))),
    Example(EmbeddingIndex((7, 3, 1)), whole(2, dtype="uint16"), (TEXT, NUMBERS)),
    Example(EmbeddingIndex(("low", "high"), dtype="int32"), table, (NUMBERS,)),
    Example(Tokens(("pump", "Fan", "x_1"), 4), words, (NUMBERS, np.array([["a"]]))),
    Example(Tokens(("p", "u", "##mp", "F", "a", "##n"), 9, "subwords", begin=7, end=8), word_objects, (NUMBERS,)),
    Example(Tokens(("a", "b"), 12, "characters", dtype="int32"), words, (NUMBERS,)),
    Example(HashedNgrams(16), words, (NUMBERS, np.array([["a"]]))),
    Example(HashedNgrams(8, 2, 3, "characters", signed=True, normalize=True), word_objects, (NUMBERS,)),
]


def classes(random: Random, n: int) -> Any:
    logits = (random.normal(size=(n, 10)) * 5).astype(np.float32)
    scores = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return {
        "logits": logits,
        "scores": scores,
        "index": scores.argmax(axis=1),
        "score": scores.max(axis=1),
        "embedding": random.normal(size=(n, 3)).astype(np.float32),
        "input": random.normal(size=(n, 2, 5)).astype(np.float32),
        "many": random.normal(size=(n, 37)).astype(np.float64),
        "grid": random.normal(size=(n, 3, 5)).astype(np.float32),
        "counts": random.integers(0, 4, (n, 6)).astype(np.uint8),
        "single": random.normal(size=(n, 1)).astype(np.float32),
        "label": objects(["a"] * n),
        "list": objects([{"box": [0.123, float(i)], "label": "x"}] for i in range(n)),
        "candidates": random.integers(-1, 4, (n, 10)),
    }


def detections(random: Random, n: int) -> Any:
    start = random.random((n, 30, 2)).astype(np.float32)
    boxes = np.concatenate([start, start + random.random((n, 30, 2)).astype(np.float32) * 0.5], axis=2)
    scores = random.random((n, 30, 4)).astype(np.float32)
    return {
        "boxes": boxes,
        "scores": scores,
        "best": scores.max(axis=2),
        "classes": scores.argmax(axis=2).astype(np.float32),
        "rows": np.concatenate([boxes, scores], axis=2),
        "turned": np.concatenate([boxes, scores], axis=2).transpose(0, 2, 1),
    }


def fields(**values: Any) -> dict[str, Any]:
    return {name: np.asarray(value) for name, value in values.items()}


NAMES = tuple("abcdefghij")
ITEMS = tuple(Item(name, ("even",) if i % 2 == 0 else ("odd",)) for i, name in enumerate(NAMES))
ANCHORS = tuple((0.1 + 0.02 * i, 0.5, 0.2, 0.3) for i in range(30))

FIELDS = [
    Example(Softmax(), classes, (fields(logits=[1.0, 2.0]), fields(other=[[1.0]]), fields(logits=[["a"]]))),
    Example(Softmax(temperature=2.5), classes, (fields(logits=np.zeros((2, 0))),)),
    Example(Softmax(source="many", temperature=0.7), classes, (fields(),)),
    Example(Softmax(source="grid"), classes, (fields(),)),
    Example(Softmax(source="counts"), classes, (fields(),)),
    Example(Sigmoid(), classes, (fields(), fields(logits=["a"]))),
    Example(Sigmoid(source="score", temperature=3.0), classes, (fields(),)),
    Example(Argmax(), classes, (fields(scores=[1.0]), fields(), fields(scores=np.zeros((1, 2, 2))))),
    Example(Argmax(source="counts", target="most"), classes, (fields(counts=np.zeros((2, 0))),)),
    Example(TopK(3), classes, (fields(), fields(scores=[1.0]))),
    Example(TopK(50, source="counts"), classes, (fields(),)),
    Example(Threshold(0.5), classes, (fields(score=["a"]), fields(score=np.zeros((2, 3))))),
    Example(Threshold(0.1, source="single", target="word", flag="yes"), classes, (fields(),)),
    Example(Threshold(0.05, NAMES, source="scores", otherwise="-"), classes, (fields(scores=np.zeros((2, 3))),)),
    Example(Boxes(limit=5), detections, (fields(boxes=np.zeros((1, 4)), scores=np.zeros((1, 4))), fields())),
    Example(Boxes(layout="cxcywh", one_class=True, names=("a", "b"), background=0), detections, (fields(),)),
    Example(
        Boxes(layout="ssd", anchors=ANCHORS, scale=(320.0, 240.0)), detections, (fields(boxes=np.zeros((1, 2, 4))),)
    ),
    Example(Boxes(layout="yxyx", scores="best", classes="classes", overlap=1.0), detections, (fields(),)),
    Example(Boxes("rows", "", objectness=True, threshold=0.2), detections, (fields(rows=np.zeros((1, 2, 5))),)),
    Example(Boxes("turned", "", transposed=True, threshold=0.9), detections, (fields(turned=np.zeros((1, 4, 2))),)),
    Example(Inverse("logits", (3.0,), (0.5,)), classes, (fields(), fields(logits=["a"]))),
    Example(Inverse("grid", tuple(range(5)), tuple(range(1, 6))), classes, (fields(grid=np.zeros((2, 4))),)),
    Example(AnomalyScore("reconstruction", "logits"), classes, (fields(logits=np.zeros((1, 2))), fields())),
    Example(AnomalyScore("distance", centre=(0.0, 1.0, 2.0)), classes, (fields(embedding=np.zeros((2, 2))),)),
    Example(
        AnomalyScore("distance", centre=(0.0, 1.0, 2.0), precision=((2.0, 0.1, 0), (0.1, 1, 0), (0, 0, 3))),
        classes,
        (fields(),),
    ),
    Example(
        AnomalyScore("neighbours", prototypes=((0.0, 1.0, 2.0), (1, 1, 1), (2, 0, 0)), k=2),
        classes,
        (fields(embedding=np.zeros((1, 4))),),
    ),
    Example(
        AnomalyScore(
            "distance", prototypes=((0.0, 1.0, 2.0), (1, 1, 1)), precision=((2.0, 0.1, 0), (0.1, 1, 0), (0, 0, 3))
        ),
        classes,
        (fields(embedding=np.zeros((2, 2))),),
    ),
    Example(
        AnomalyScore("distance", "grid", centre=(0.5,) * 4, grid=2),
        classes,
        (fields(grid=np.zeros((2, 4))), fields(grid=np.zeros((2, 1, 4)))),
    ),
    Example(
        AnomalyScore("neighbours", "input", prototypes=((0.0,) * 10, (1.0,) * 10), grid=12),
        classes,
        (fields(input=np.zeros((1, 1, 3, 4))),),
    ),
    Example(
        JointScore(("score", "single"), (0.1, -0.2), (0.5, 2.0)),
        classes,
        (fields(score=np.zeros((2, 3))), fields()),
    ),
    Example(Normalize(), classes, (fields(embedding=[1.0]), fields())),
    Example(Normalize("grid", "unit"), classes, (fields(),)),
    Example(Rank(ITEMS), classes, (fields(scores=np.zeros((2, 3))), fields())),
    Example(
        Rank(
            ITEMS,
            (
                Exclude(ids=("c",)),
                Boost(tags=("odd",), factor=1.5, add=0.01),
                Limit(tags=("even",), count=2),
                Filter(minimum_score=0.001),
                Limit(count=4),
            ),
        ),
        classes,
        (fields(scores=["a"]),),
    ),
    Example(Rank(ITEMS, candidates="candidates"), classes, (fields(scores=[[1.0]], candidates=[[10]]),)),
    Example(Labels(NAMES), classes, (fields(index=[10]), fields(index=[-1]), fields(index=[0.5]), fields())),
    Example(Labels(NAMES, minimum_score=0.5), classes, (fields(index=[0]),)),
    Example(Units(1.8, 32.0, "°F", source="score", target="value"), classes, (fields(score=["a"]), fields())),
    Example(Units(0.001, source="logits", target="kilo"), classes, (fields(),)),
    Example(Round(1, source="score"), classes, (fields(score=["a"]), fields())),
    Example(Round(-1, source="logits"), classes, (fields(),)),
    Example(Round(2, source="list"), classes, (fields(),)),
    Example(Actions((Action(0.3, "warn"), Action(0.6, "stop")), "fine"), classes, (fields(score=np.zeros((2, 2))),)),
    Example(Actions((Action(0.3, "warn"),), source="single"), classes, (fields(),)),
    Example(
        Payload({"who": "label", "p": "scores", "n": "index"}, {"site": "hall 3", "kg": 2.5}), classes, (fields(),)
    ),
    Example(Value("single"), classes, (fields(),)),
    Example(Value("grid"), classes, (fields(),)),
    Example(Value("score"), classes, (fields(),)),
    Example(Value("list"), classes, (fields(),)),
]
