"""Reports of every kind of task from made-up but likely data; nothing is trained."""

from __future__ import annotations

import msgspec
import numpy as np

from cloud_trainer.data import Dataset
from cloud_trainer.evaluation import Judge, answer_of, figures, softmax
from cloud_trainer.evaluation.bootstrap import Interval
from cloud_trainer.evaluation.robustness import Robustness, RobustRow
from cloud_trainer.package import Measured
from cloud_trainer.report import (
    CurveView,
    DifferenceView,
    FeatureView,
    FindingView,
    NetworkView,
    ReportData,
    TrialView,
    VariantNote,
)
from shared.manifest import FileReference, Lineage, Manifest, SampleSpec, TensorSpec, Variant
from shared.pipeline.spec import Pipeline

KINDS = (
    "image-classification", "image-anomaly", "tabular-classification", "tabular-regression", "series-classification",
    "forecasting", "audio-classification", "text-classification", "recommendation",
)  # fmt: skip
FLEET = ("fp32-onnx", "int8-onnx", "int8-arm-onnx", "fp32-litert", "int8-litert")
WORDS = [
    "ship",
    "order",
    "late",
    "refund",
    "broken",
    "hello",
    "thanks",
    "parcel",
    "card",
    "account",
    "when",
    "where",
    "please",
    "invoice",
    "the",
    "a",
    "my",
    "it",
    "is",
]


def classified(rng, n, classes, strength=3.0):
    y = rng.integers(0, classes, n)
    near = np.exp(-np.abs(np.subtract.outer(np.arange(classes), np.arange(classes))) / 1.5)
    return y, lambda noise: rng.normal(0, noise, (n, classes)) + strength * near[y]


def answered(logits, temperature=1.3):
    scores = softmax(logits, temperature)
    index = scores.argmax(axis=1)
    return {"logits": logits, "scores": scores, "index": index, "score": scores.max(axis=1)}


def manifest(kind, task, sample, labels, variants):
    return Manifest(
        format=1, name=f"{kind}-demo", version=3, task=task, sample=sample, pipeline=Pipeline(), labels=labels,
        variants=variants, golden=None, profile=None, lineage=Lineage("a" * 64, "b" * 64, "0.1.0", 7, 2),
        created="2026-05-01T08:00:00Z",
    )  # fmt: skip


def variant(id_, quality, place):
    precision, _, runtime = id_.partition("-")
    litert = runtime.endswith("litert")
    return Variant(
        id=id_, runtime="litert" if litert else "onnxruntime", precision=precision, student="student",
        file=FileReference(f"variants/{id_}", (412_345, 118_222, 118_300, 401_100, 104_552)[place], "0" * 64),
        inputs=(TensorSpec("input", "float32", (None, 4)),), outputs=(TensorSpec("logits", "float32", (None, 4)),),
        macs=4_512_340, quality=quality, temperature=1.3, meant_for=("aarch64", "armv7l") if "arm" in id_ else (),
    )  # fmt: skip


def problem(kind, *, classes=6, n=1200, seed=0):
    """Samples and truth, how the best answers look, and what the manifest says."""
    rng = np.random.default_rng(seed)
    labels = tuple(
        ("ankle boot", "bag", "coat", "dress", "pullover", "sandal", "shirt", "sneaker", "t-shirt", "trouser")[i]
        if i < 10
        else f"a rather long name of class {i}"
        for i in range(classes)
    )
    groups = np.array([f"device {int(g)}" for g in rng.exponential(4, n)])
    groups[0] = "seen once only"
    task, judge, x, columns, rate = "classification", None, None, (), 0.0
    if kind.endswith("classification"):
        y, logits = classified(rng, n, classes)

        def fields(noise):
            return answered(logits(1 + noise))

        if kind.startswith("image"):
            task = "image-classification"
            base = rng.random((classes, 7, 7)).repeat(4, 1).repeat(4, 2)
            x = np.clip(base[y] * 200 + rng.normal(0, 30, (n, 28, 28)), 0, 255).astype(np.uint8)
            sample = SampleSpec("uint8", (28, 28), "image")
        elif kind.startswith("tabular"):
            columns = (
                "age in years",
                "balance",
                "day",
                "a column with quite a long name",
                "x5",
                "x6",
                "x7",
                "x8",
                "x9",
            )
            x = rng.normal(0, 10, (n, 9)).astype(np.float32)
            x[rng.random(x.shape) < 0.1] = np.nan
            sample = SampleSpec("float32", (9,), "row", columns)
        elif kind.startswith("series"):
            x = np.cumsum(rng.normal(0, 1, (n, 128, 3)), axis=1).astype(np.float32)
            sample = SampleSpec("float32", (128, 3), "window")
            rate = 50.0
        elif kind.startswith("audio"):
            envelope = np.exp(-((np.linspace(-2, 2, 4000) - rng.normal(0, 0.5, (n, 1))) ** 2) * 4)
            x = (envelope * rng.normal(0, 6000, (n, 4000))).astype(np.int16)
            sample, rate = SampleSpec("int16", (4000,), "window"), 16000.0
        else:
            x = np.array([" ".join(rng.choice(WORDS, rng.integers(3, 40))) for _ in range(n)], object)
            sample = SampleSpec("str", (), "text")
    elif kind == "image-anomaly":
        task, labels = "anomaly", ("normal", "scratched surface")
        y = (rng.random(n) < 0.12).astype(np.int64)
        x = np.clip(
            rng.normal(120, 12, (n, 24, 32, 3)) + 60 * y[:, None, None, None] * (rng.random((n, 24, 32, 1)) < 0.1),
            0,
            255,
        )
        x = x.astype(np.uint8)
        sample, judge = SampleSpec("uint8", (24, 32, 3), "image"), Judge("anomaly", threshold=2.4)
        base = np.exp(rng.normal(0, 0.5, n)) + 1.8 * y

        def fields(noise):
            return {"value": base + rng.normal(0, 0.2 + noise, n)}

    elif kind == "tabular-regression":
        task, labels = "regression", ()
        x = np.empty((n, 5), object)
        columns = ("street", "rooms", "area in m²", "year", "heating")
        for k, make in enumerate(
            (lambda: "Main st.", lambda: "4", lambda: f"{rng.gamma(9, 9):.1f}", lambda: "1978", lambda: "")
        ):
            x[:, k] = [make() for _ in range(n)]
        y = np.exp(rng.normal(12, 0.5, n)).astype(np.float32)
        sample = SampleSpec("str", (5,), "row", columns)

        def fields(noise):
            return {"value": y * np.exp(rng.normal(0, 0.12 + 0.05 * noise, n))}

    elif kind == "forecasting":
        task, labels, horizon, levels = "forecast", (), 24, (0.1, 0.5, 0.9)
        time = np.arange(n)[:, None] * 5 + np.arange(96 + horizon)
        series = 100 + 40 * np.sin(time * 2 * np.pi / 24) + 20 * np.sin(time * 2 * np.pi / 168)
        series += rng.normal(0, 6, series.shape)
        x, y = series[:, :96, None].astype(np.float32), series[:, 96:].astype(np.float32)
        sample, judge = SampleSpec("float32", (96, 1), "window"), Judge("forecast", quantiles=levels, scale=11.0)

        def fields(noise):
            middle = y + rng.normal(0, 6 + 3 * noise, y.shape) * np.linspace(0.6, 1.4, horizon)
            return {"value": np.concatenate([middle - 9, middle, middle + 9], axis=1).astype(np.float32)}

    else:
        task, labels = "ranking", tuple(f"item {i:03d}: a film" for i in range(200))
        x = np.array([[f"item {i:03d}: a film" for i in rng.integers(0, 200, 12)] for _ in range(n)], object)
        x[:, :4] = ""
        y = rng.integers(0, 200, n)
        sample = SampleSpec("str", (12,), "tensor")
        base = rng.normal(0, 1, (n, 200))

        def fields(noise):
            scores = base + rng.normal(0, 0.3 + noise, base.shape)
            scores[np.arange(n), y] += rng.exponential(2.2, n)
            return {"scores": softmax(scores)}

    data = Dataset(x, y, labels, columns, groups, None, rate)
    return data, fields, sample, labels, task, judge


def made(kind, **options):
    """A whole :class:`ReportData`, every part filled."""
    data, fields, sample, labels, task, judge = problem(kind, **options)
    rng = np.random.default_rng(1)
    judge = judge or Judge(task)
    measured = []
    for place, id_ in enumerate(FLEET):
        outputs = fields(0.25 * id_.startswith("int8"))
        quality = figures(judge, answer_of(task, outputs), data.y, data.groups)
        measured.append(Measured(variant(id_, quality, place), {"test": outputs}))
    best = max(measured, key=lambda one: next(iter(one.variant.quality.values())))
    score = next(iter(best.variant.quality.values()))
    counts = {"train": 14_000, "validation": 2_000, "reference": 2_000, "test": len(data)}
    class_counts = {}
    if judge.family == "classes":
        class_counts = {p: tuple(rng.integers(20, 400, len(labels)).tolist()) for p in ("train", "validation", "test")}
    metric = judge.score
    names = ("noise", "blur", "fog", "contrast", "brightness", "pixelate", "JPEG blocks")
    falls = [tuple(score - 0.03 * rate * k for k in range(1, 6)) for rate in range(len(names))]
    rows = (
        *(RobustRow(name, "from a little to a lot", fall) for name, fall in zip(names, falls, strict=True)),
        RobustRow("dropout", "2 to 30 % of the pixels", (None,) * 5),
    )
    return ReportData(
        manifest=manifest(kind, task, sample, labels, tuple(m.variant for m in measured)),
        measured=tuple(measured),
        left_out={"weight4-onnx": f"{metric} is 2.31 points below fp32's; at most 1 are allowed"},
        counts=counts,
        class_counts=class_counts,
        findings=(
            FindingView(
                "duplicate_rows", "warning", "37 rows stand in the file twice; one of each was kept", "train split"
            ),
            FindingView(
                "constant_columns", "note", "column 'firmware' is the same everywhere and was left out", "data.csv"
            ),
            FindingView(
                "unreadable", "error", "2 files cannot be read: a/very/long/path/to/an/image/file_000123.png", "data"
            ),
        ),
        features=tuple(
            FeatureView(
                f"{name} of a channel whose name is long" if i == 3 else name,
                max(0.0, 0.3 * 0.75**i - 0.005),
                i < 14,
                "helps" if i < 14 else "without it the validation score is as good",
            )
            for i, name in enumerate(f"rolling mean {k}" if k % 2 else f"band {k}" for k in range(22))
        ),
        feature_measure="permutation importance on the validation split: points of the score lost.",
        trials=tuple(
            TrialView(
                f"{family} w{width} d{depth}",
                int(9e4 * width**1.6 * depth),
                score - 0.25 / width + 0.01 * rng.normal(),
                2 if width < 6 else 6,
                4000 * width,
                chosen=(family, width, depth) == ("ds-cnn", 8, 2),
                why="within the budget" if width < 9 else "beyond max_macs",
            )
            for family in ("ds-cnn", "resnet")
            for width in (2, 4, 8, 12)
            for depth in (1, 2)
        ),
        networks=(
            NetworkView(
                "resnet w32", "teacher", 45_200_000, score + 0.008, Interval(score, score - 0.01, score + 0.02, 1200)
            ),
            NetworkView(
                "ds-cnn w8", "student", 4_512_340, score, Interval(score, score - 0.012, score + 0.012, 1200), 98_000
            ),
            NetworkView("ds-cnn w8", "student without teacher", 4_512_340, score - 0.011, None, 98_000),
            NetworkView("gradient-boosted trees", "baseline", None, score - 0.02, None, 0, "scikit-learn, tuned"),
        ),
        differences=(
            DifferenceView("student less teacher", Interval(-0.008, -0.014, -0.002, 1200)),
            DifferenceView("student less the same student without teacher", Interval(0.011, 0.003, 0.019, 1200)),
        ),
        curves=tuple(
            curve(name, metric, score, seed)
            for seed, name in enumerate(("teacher", "student", "student without teacher"))
        ),
        warm=False,
        macs=(45_200_000, 4_512_340),
        test=data,
        judge=judge,
        kind=kind,
        notes={
            "int8-onnx": VariantNote(0.9942),
            "int8-litert": VariantNote(
                0.9911, "quantization-aware training, 3 epochs: from 1.8 to 0.3 points below fp32"
            ),
            "weight4-onnx": VariantNote(None, "", ("quantization-aware training: still 2.3 points below fp32",)),
        },
        robustness=Robustness("int8-litert", metric, score, 500, rows),
        reference=np.column_stack(
            [rng.normal(0, 1, 2000), rng.gamma(2, 3, 2000), rng.integers(0, 5, 2000), np.zeros(2000)]
        ),
        watched=("mean", "standard deviation", "number of edges in the picture, counted", "constant"),
        values=(0.0, 255.0) if kind.startswith("image") else None,
        cost=("Training took 11 minutes and about 0.013 kWh (estimated).", "An answer takes about 0.2 mJ."),
        warnings=("x is float: devices must send float32 in the same range",) if kind.startswith("series") else (),
    )


def curve(name, metric, score, seed):
    rng = np.random.default_rng(seed)
    epochs = np.arange(20)
    loss = 1.5 * np.exp(-epochs / 5) + 0.1 + 0.02 * rng.random(20)
    rise = score - 0.3 * np.exp(-epochs / 4) + 0.005 * rng.normal(size=20)
    return CurveView(
        name, metric, tuple(loss), tuple(loss + 0.15 + 0.01 * epochs), tuple(rise + 0.02), tuple(rise),
        tuple(3e-3 * np.sin(np.pi * (epochs + 1) / 21)), (2.0,) * 20, 17,
        "student: overfitting: 12.1 points apart" if name == "student" else "",
    )  # fmt: skip


def bare(kind):
    """The manifest and its measured variants, and nothing else."""
    full = made(kind, n=200)
    return ReportData(manifest=full.manifest, measured=tuple(Measured(m.variant, {}) for m in full.measured))


def changed(data, **changes):
    return msgspec.structs.replace(data, **changes)
