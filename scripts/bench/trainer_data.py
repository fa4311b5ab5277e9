"""The data sets of ``scripts/bench/trainer``, split once and for all: trainer and baselines get the same splits.

Each function of ``CASES`` is named in a task file as ``factory = "trainer_data:NAME"`` and called with the task, whose
``data.path`` is the folder given by ``--data``. Shares, seeds and held-out people are fixed here, and the task's seed
deals other splits where these are dealt at random; nothing is tuned on the test part.
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from msgspec import Struct
from trainer_made import SEED, dealt, keywords, machines, one_class, parts, shop, splits
from trainer_table import Limits

from cloud_trainer.config import TaskConfig
from cloud_trainer.data import Dataset, Splits


def _path(task: TaskConfig, name: str) -> Path:
    return Path(task.data.path) / name


def fashion(task: TaskConfig) -> Splits:
    """20,000 images; where ``fashion_mnist_test.npz`` lies beside them (the 10,000 official test images, then others
    that are in neither), all 20,000 are for training. Source of both: zalandoresearch/fashion-mnist."""
    names = ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot")
    with np.load(_path(task, "fashion_mnist_20k.npz")) as file:
        data = Dataset(file["x"], file["y"].astype(np.int64), names)
    other = _path(task, "fashion_mnist_test.npz")
    if not other.is_file():
        return splits(data, dealt(data.y, {"train": 0.65, "validation": 0.05, "reference": 0.1, "test": 0.2}))
    with np.load(other) as file:
        held = Dataset(file["x"], file["y"].astype(np.int64), names)
    parts = dealt(data.y, {"train": 0.95, "validation": 0.05})
    at = np.arange(len(held))
    return Splits(
        data.take(parts["train"]), data.take(parts["validation"]), held.take(at[10_000:]), held.take(at[:10_000])
    )


def digits(task: TaskConfig) -> Splits:
    """scikit-learn's 1,797 digits of 8 x 8."""
    from sklearn.datasets import load_digits

    found = load_digits()
    data = Dataset(found.images.astype(np.uint8) * 15, found.target.astype(np.int64), tuple("0123456789"))
    return splits(data, dealt(data.y, seed=SEED + task.seed))


def digits_one_class(task: TaskConfig) -> Splits:
    """Digits 0 to 4 are normal, 5 to 9 were never seen."""
    from sklearn.datasets import load_digits

    found = load_digits()
    return one_class(found.images.astype(np.uint8) * 15, found.target > 4, "unseen", SEED + task.seed)


def cancer(task: TaskConfig) -> Splits:
    """scikit-learn's Wisconsin breast cancer table: 569 rows, 30 numbers."""
    from sklearn.datasets import load_breast_cancer

    found = load_breast_cancer()
    names = tuple(str(name) for name in found.feature_names)
    data = Dataset(found.data.astype(np.float32), found.target.astype(np.int64), ("malignant", "benign"), names)
    return splits(data, dealt(data.y, seed=SEED + task.seed))


def diabetes(task: TaskConfig) -> Splits:
    """scikit-learn's diabetes table: 442 rows, 10 numbers."""
    from sklearn.datasets import load_diabetes

    found = load_diabetes()
    data = Dataset(found.data.astype(np.float32), found.target.astype(np.float32), columns=tuple(found.feature_names))
    return splits(data, dealt(np.zeros(len(data), int), seed=SEED + task.seed))


def _rentals(task: TaskConfig) -> list[dict[str, str]]:
    with _path(task, "bike_hourly_2011.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


BIKE = ("season", "mnth", "hr", "holiday", "weekday", "workingday", "weathersit", "temp", "atemp", "hum", "windspeed")


def bike(task: TaskConfig) -> Splits:
    """Hourly rentals of 2011 from calendar and weather, random split; not from ``casual`` and ``registered``, whose sum
    is the target."""
    rows = _rentals(task)
    x = np.array([[float(row[name]) for name in BIKE] for row in rows], np.float32)
    data = Dataset(x, np.array([float(row["cnt"]) for row in rows], np.float32), columns=BIKE)
    return splits(data, dealt(np.zeros(len(data), int), seed=SEED + task.seed))


HISTORY, HORIZON = 48, 24


def bike_forecast(task: TaskConfig) -> Splits:
    """The next 24 hours from the last 48, every third hour; split by time, and no window of two parts overlaps.

    Hours that the file leaves out had no rentals; their weather is that of the hour before. Channels: rentals,
    temperature, humidity, wind, seconds since 1970.
    """
    rows = {
        datetime.fromisoformat(row["dteday"]).replace(tzinfo=UTC).timestamp() + 3600 * int(row["hr"]): row
        for row in _rentals(task)
    }
    series, last = [], [0.0, 0.0, 0.0]
    for second in np.arange(min(rows), max(rows) + 1, 3600):
        row = rows.get(float(second))
        if row is not None:
            last = [float(row[name]) for name in ("temp", "hum", "windspeed")]
        series.append([float(row["cnt"]) if row is not None else 0.0, *last, second])
    table = np.array(series)
    starts = np.arange(HISTORY, len(table) - HORIZON + 1, 3)
    x = np.stack([table[at - HISTORY : at] for at in starts])
    y = np.stack([table[at : at + HORIZON, 0] for at in starts]).astype(np.float32)
    data = Dataset(x, y, columns=("cnt", "temp", "hum", "windspeed", "time"), times=table[starts, 4])
    edges = {"train": (0.0, 0.6), "validation": (0.6, 0.7), "reference": (0.7, 0.8), "test": (0.8, 1.0)}
    index = {}
    for name, (begin, end) in edges.items():
        low, high = begin * len(table) + (HISTORY if begin else 0), end * len(table) - HORIZON
        index[name] = np.flatnonzero((starts >= low) & (starts <= high))
    return splits(data, index)


WINDOW, STEP = 128, 64
USERS = {"test": ("m1", "m7", "m9", "f2"), "reference": ("m2", "m10"), "validation": ("m3", "m4", "f3")}


def wrist(task: TaskConfig) -> Splits:
    """Windows of 4 s of a wrist's acceleration; the 7 movements that at least 9 people made, split by people."""
    with np.load(_path(task, "wrist_accelerometer.npz")) as file:
        x, lengths, y, user, names = (file[name] for name in ("X", "lens", "y", "user", "names"))
    chosen = [label for label in range(len(names)) if len(set(user[y == label])) >= 9]
    windows, labels, people = [], [], []
    begin = 0
    for length, label, person in zip(lengths, y, user, strict=True):
        if label in chosen:
            for at in range(begin, begin + int(length) - WINDOW + 1, STEP):
                windows.append(x[at : at + WINDOW])
                labels.append(chosen.index(label))
                people.append(str(person))
        begin += int(length)
    groups = np.array(people, dtype=object)
    data = Dataset(
        np.stack(windows).astype(np.float32),
        np.array(labels, np.int64),
        tuple(str(names[label]) for label in chosen),
        ("x", "y", "z"),
        groups,
        rate=32.0,
    )
    held = [person for some in USERS.values() for person in some]
    index = {name: np.flatnonzero(np.isin(groups, some)) for name, some in USERS.items()}
    return splits(data, {"train": np.flatnonzero(~np.isin(groups, held))} | index)


def kws(task: TaskConfig) -> Splits:
    """1,000 spoken words, ready as 49 frames of 10 coefficients (scale and zero point of MLPerf Tiny)."""
    with np.load(_path(task, "kws_test1000.npz")) as file:
        x = (file["x"].astype(np.float32) - 83) * np.float32(0.5847)
        data = Dataset(x.reshape(-1, 49, 10), file["y"].astype(np.int64), tuple(str(name) for name in file["labels"]))
    return splits(data, dealt(data.y, seed=SEED + task.seed))


def sms(task: TaskConfig) -> Splits:
    """5,574 messages, wanted or not; the same text twice is one, so that none is on both sides."""
    lines = _path(task, "sms_spam.tsv").read_text(encoding="utf-8").splitlines()
    pairs = dict(reversed([line.partition("\t")[::2][::-1] for line in lines if "\t" in line]))
    x = np.array(list(reversed(pairs)), dtype=object)
    data = Dataset(x, np.array([int(pairs[text] == "spam") for text in x], np.int64), ("ham", "spam"))
    return splits(data, dealt(data.y, seed=SEED + task.seed))


class Case(Struct, frozen=True):
    """``name`` is that of the factory; ``files`` must be in the data folder; ``options`` are lines of the task file."""

    name: str
    kind: str
    metric: str  # of the single score, as the table calls it
    files: tuple[str, ...] = ()
    options: str = ""
    dealt: bool = False  # at random, so that another seed is another split


LIMITS = {"fashion": Limits(score=0.905, macs=5_000_000, bytes=150_000, seconds=720)}
FASHION = "[model]\nmax_macs = 5_000_000\nmax_bytes = 140_000\n[training]\nmirror = true\nstudent_epochs = 25"

CASES = (
    Case("fashion", "image-classification", "accuracy", ("fashion_mnist_20k.npz",), FASHION),
    Case("digits", "image-classification", "accuracy", dealt=True),
    Case("digits_one_class", "image-anomaly", "AUC", dealt=True),
    Case("parts", "image-anomaly", "AUC"),
    Case("cancer", "tabular-classification", "accuracy", dealt=True),
    Case("machines", "tabular-classification", "accuracy", dealt=True),
    Case("diabetes", "tabular-regression", "R²", dealt=True),
    Case("bike", "tabular-regression", "R²", ("bike_hourly_2011.csv",), dealt=True),
    Case("bike_forecast", "forecasting", "R²", ("bike_hourly_2011.csv",), ""),
    Case("wrist", "series-classification", "accuracy", ("wrist_accelerometer.npz",)),
    Case("keywords", "audio-classification", "accuracy"),
    Case("kws", "audio-classification", "accuracy", ("kws_test1000.npz",), dealt=True),
    Case("sms", "text-classification", "accuracy", ("sms_spam.tsv",), dealt=True),
    Case("shop", "recommendation", "NDCG@10"),
)  # fmt: skip

FACTORIES: dict[str, Callable[[TaskConfig], Splits]] = {
    factory.__name__: factory
    for factory in (
        *(fashion, digits, digits_one_class, parts, cancer, machines, diabetes, bike, bike_forecast, wrist),
        *(keywords, kws, sms, shop),
    )
}
