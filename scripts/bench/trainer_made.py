"""What ``scripts/bench/trainer`` generates: pictures, readings, words, purchases.

Each generator has its own fixed seed and a structure that can be learned in part: noise bounds every score below 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cloud_trainer.config import TaskConfig
from cloud_trainer.data import Dataset, Splits

Array = NDArray[Any]
Shares = Mapping[str, float]
SEED = 7
"""Of splits, where the task's own is 0."""
SHARES: Shares = {"train": 0.5, "validation": 0.1, "reference": 0.15, "test": 0.25}


def dealt(strata: Array, shares: Shares = SHARES, seed: int = SEED) -> dict[str, Array]:
    """Indices of each part; every value of ``strata`` (n,) is dealt out by ``shares``."""
    rng = np.random.default_rng(seed)
    edges = np.cumsum(list(shares.values()))[:-1]
    parts: dict[str, list[Array]] = {name: [] for name in shares}
    for value in np.unique(strata):
        members = rng.permutation(np.flatnonzero(strata == value))
        cut = np.rint(edges * len(members)).astype(int)
        for name, chosen in zip(shares, np.split(members, cut), strict=True):
            parts[name].append(chosen)
    return {name: np.sort(np.concatenate(chosen)) for name, chosen in parts.items()}


def splits(data: Dataset, index: Mapping[str, Array]) -> Splits:
    return Splits(**{name: data.take(chosen) for name, chosen in index.items()})


def one_class(x: Array, anomaly: Array, label: str, seed: int = SEED) -> Splits:
    """Normal samples everywhere, anomalies (n,) bool in the test part only."""
    data = Dataset(x, anomaly.astype(np.int64), ("normal", label))
    normal = np.flatnonzero(~anomaly)
    index = {name: normal[chosen] for name, chosen in dealt(np.zeros(len(normal), int), seed=seed).items()}
    index["test"] = np.concatenate([index["test"], np.flatnonzero(anomaly)])
    return splits(data, index)


def parts(task: TaskConfig) -> Splits:
    """Generated: 2,400 pictures (32 x 32) of a drilled, brushed plate under changing light; 400 more with a scratch, a
    stain or a missing bore."""
    del task
    rng = np.random.default_rng(11)
    row, column = np.mgrid[0:32, 0:32].astype(np.float32)
    images, flaws = [], []
    for k in range(2800):
        flaw = k >= 2400
        x0, y0, radius = 15.5 + rng.normal(0, 1.0), 15.5 + rng.normal(0, 1.0), 6 + rng.normal(0, 0.4)
        image = 130 + 8 * np.sin(row * 1.7 + rng.uniform(0, 6)) + rng.normal(0, 5, (32, 32))
        image += rng.normal(0, 1) * (column - 16) + rng.normal(0, 12)
        bore = (row - y0) ** 2 + (column - x0) ** 2
        kind = rng.integers(0, 3) if flaw else -1
        if kind != 2:
            image -= 70 / (1 + np.exp((np.sqrt(bore) - radius) * 2))
        if kind == 0:
            angle, offset = rng.uniform(0, np.pi), rng.uniform(-9, 9)
            distance = np.abs((row - 16) * np.cos(angle) + (column - 16) * np.sin(angle) - offset)
            image += rng.choice([-1, 1]) * rng.uniform(18, 40) * np.exp(-((distance / 0.8) ** 2))
        if kind == 1:
            y1, x1 = rng.uniform(3, 29, 2)
            spot = ((row - y1) ** 2 + (column - x1) ** 2) / rng.uniform(3, 9)
            image += rng.choice([-1, 1]) * rng.uniform(18, 40) * np.exp(-spot)
        images.append(np.clip(image, 0, 255).astype(np.uint8))
        flaws.append(flaw)
    return one_class(np.stack(images), np.array(flaws), "flaw")


def machines(task: TaskConfig) -> Splits:
    """Generated: 6,000 rows of 12 readings; three states set by thresholds, a product, a ratio and noise, with 3 % of
    the cells missing and three columns that tell nothing."""
    rng = np.random.default_rng(5)
    n = 6000
    x = rng.normal(size=(n, 12))
    x[:, 3] = np.exp(0.5 * x[:, 3])
    wear = np.abs(x[:, 0]) * x[:, 3] + 0.8 * (x[:, 1] > 0.5) + 0.6 * x[:, 2] * x[:, 4] + 0.3 * x[:, 5]
    heat = x[:, 6] / (1 + np.abs(x[:, 7])) + 0.5 * np.sin(2 * x[:, 8]) + 0.2 * rng.normal(size=n)
    y = np.where(wear + 0.2 * rng.normal(size=n) > 1.9, 2, np.where(heat > 0.35, 1, 0))
    x[rng.random(x.shape) < 0.03] = np.nan
    names = tuple(f"reading {k}" for k in range(12))
    data = Dataset(x.astype(np.float32), y.astype(np.int64), ("well", "hot", "worn"), names)
    return splits(data, dealt(data.y, seed=SEED + task.seed))


RATE = 8000
WORDS = {  # two formants (Hz) at the beginning and at the end of each word, and whether a hiss opens it
    "start": ((500, 1500), (700, 1100), True),
    "stop": ((450, 900), (400, 800), True),
    "left": ((550, 1750), (500, 1400), False),
    "right": ((750, 1150), (350, 2100), False),
    "up": ((650, 1200), (550, 1000), False),
    "down": ((780, 1300), (420, 900), False),
}


def keywords(task: TaskConfig) -> Splits:
    """Generated: one second at 8 kHz of six made-up words, or of noise and other vowels (``unknown``), by 30 speakers
    with a pitch, a vocal tract and a pace of their own; split by speaker."""
    del task
    rng = np.random.default_rng(21)
    names = (*WORDS, "unknown")
    sounds, labels, speakers = [], [], []
    for speaker in range(30):
        pitch, tract, pace = rng.uniform(85, 260), rng.normal(1, 0.07), rng.normal(0.42, 0.05)
        for label, name in enumerate(names):
            for _ in range(12):
                word = WORDS.get(name) or _unknown(rng)
                sounds.append(_spoken(word, pitch * rng.normal(1, 0.06), tract * rng.normal(1, 0.02), pace, rng))
                labels.append(label)
                speakers.append(f"s{speaker:02}")
    groups = np.array(speakers, dtype=object)
    data = Dataset(np.stack(sounds), np.array(labels, np.int64), names, groups=groups, rate=float(RATE))
    number = np.array([int(person[1:]) for person in speakers])
    bounds = {"train": (0, 16), "validation": (16, 19), "reference": (19, 23), "test": (23, 30)}
    return splits(data, {name: np.flatnonzero((number >= a) & (number < b)) for name, (a, b) in bounds.items()})


Word = tuple[tuple[int, int], tuple[int, int], bool]


def _unknown(rng: np.random.Generator) -> Word:
    def vowel() -> tuple[int, int]:
        return int(rng.uniform(300, 800)), int(rng.uniform(800, 2200))

    return vowel(), vowel(), bool(rng.integers(0, 2))


def _spoken(word: Word, pitch: float, tract: float, pace: float, rng: np.random.Generator) -> Array:
    """A harmonic source through two moving resonances, in noise: (RATE,) int16."""
    first, last, hiss = word
    n = int(RATE * np.clip(pace * rng.normal(1, 0.1), 0.25, 0.7))
    glide = np.linspace(0, 1, n)
    contour = pitch * (1 + 0.1 * rng.normal() * (glide - 0.5))
    phase = 2 * np.pi * np.cumsum(contour) / RATE
    voice = np.zeros(n)
    for k in range(1, int(3600 / pitch) + 1):
        gain = np.zeros(n)
        for a, b, width in zip(first, last, (90, 140), strict=True):
            gain += 1 / (1 + ((k * contour - tract * (a + (b - a) * glide)) / width) ** 2)
        voice += gain * np.sin(k * phase + rng.uniform(0, 6)) / np.sqrt(k)
    voice *= np.sin(np.pi * glide) ** 0.5
    sound = np.zeros(RATE)
    at = rng.integers(400, RATE - n - 400)
    sound[at : at + n] = voice / np.abs(voice).max()
    if hiss:
        m = int(0.07 * RATE)
        sound[at : at + m] += 0.5 * np.diff(rng.normal(size=m + 1)) * np.hanning(m)
    sound += 10 ** (-rng.uniform(8, 26) / 20) * 0.3 * rng.normal(size=RATE)
    return np.clip(sound * rng.uniform(4000, 14000), -32768, 32767).astype(np.int16)


ITEMS, GENRES, SEEN = 120, 8, 10


def shop(task: TaskConfig) -> Splits:
    """Generated: 1,500 customers, 120 articles in 8 genres. A customer likes some genres; of two articles in a row the
    second is often the first one's accessory, seldom anything. Split by time: each one's later purchases are foretold.
    """
    del task
    rng = np.random.default_rng(31)
    genre = rng.integers(0, GENRES, ITEMS)
    popular = rng.dirichlet(np.full(ITEMS, 2.0))
    accessory = rng.integers(0, ITEMS, ITEMS)
    histories, targets, users, times = [], [], [], []
    for customer in range(1500):
        taste = rng.dirichlet(np.full(GENRES, 0.4))
        weight = popular * taste[genre]
        weight /= weight.sum()
        bought: list[int] = []
        second = rng.uniform(0, 1000)
        for _ in range(rng.integers(6, 24)):
            second += rng.exponential(60)
            follows = bought and rng.random() < 0.35
            article = int(accessory[bought[-1]]) if follows else int(rng.choice(ITEMS, p=weight))
            if len(bought) >= 2:
                past = ["" for _ in range(SEEN - len(bought))] + [f"a{k:03}" for k in bought[-SEEN:]]
                histories.append(past)
                targets.append(article)
                users.append(f"u{customer:04}")
                times.append(second)
            bought.append(article)
    y = np.array(targets, np.int64)
    data = Dataset(
        np.array(histories, dtype=object),
        y,
        tuple(f"a{k:03}" for k in range(ITEMS)),
        groups=np.array(users, dtype=object),
        times=np.array(times),
    )
    order = np.argsort(data.times, kind="stable")
    cuts = np.rint(np.cumsum([0.6, 0.1, 0.1]) * len(order)).astype(int)
    return splits(data, dict(zip(SHARES, np.split(order, cuts), strict=True)))
