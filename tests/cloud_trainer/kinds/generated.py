"""Small sets that anybody could tell apart: movements, tones, messages."""

from __future__ import annotations

import numpy as np

from cloud_trainer.config import DataConfig, TaskConfig
from cloud_trainer.data import Dataset, Splits


def task(kind: str, **parts) -> TaskConfig:
    return TaskConfig(name="test", kind=kind, data=DataConfig(format="npz", path="x.npz"), **parts)


def dealt(data: Dataset) -> Splits:
    """Every fifth sample is of the validation split, the next of reference, the next of test."""
    place = np.arange(len(data)) % 5
    return Splits(data.take(place < 2), data.take(place == 2), data.take(place == 3), data.take(place == 4))


def movements(n: int = 120, *, seed: int = 0, time: int = 48) -> Dataset:
    """Bytes (n, time, 3) at 32 Hz: still, slow and fast, held at any angle."""
    random = np.random.default_rng(seed)
    y = np.arange(n) % 3
    t = np.arange(time) / 32
    wave = np.sin(2 * np.pi * (np.array([0, 1.5, 6.0])[y, None] * t + random.random((n, 1)))) * (y[:, None] > 0)
    along = random.normal(size=(n, 1, 3))
    along /= np.linalg.norm(along, axis=2, keepdims=True)
    x = 32 + 12 * along + 8 * wave[:, :, None] * along + random.normal(size=(n, time, 3))
    x = np.clip(x, 0, 63).astype(np.uint8)
    return Dataset(x, y.astype(np.int64), ("still", "slow", "fast"), ("x", "y", "z"), rate=32.0)


def tones(n: int = 120, *, seed: int = 0, rate: int = 4000, seconds: float = 0.25) -> Dataset:
    """int16 (n, samples): a tone that stays, rises or falls, in noise."""
    random = np.random.default_rng(seed)
    y = np.arange(n) % 3
    t = np.arange(int(rate * seconds)) / rate
    start = random.uniform(400, 900, (n, 1))
    slope = np.array([0.0, 1.5, -1.2])[y, None] * start / seconds / 2
    wave = np.sin(2 * np.pi * (start * t + slope * t**2))
    x = 3000 * (wave + 0.5 * random.normal(size=wave.shape))
    return Dataset(x.astype(np.int16), y.astype(np.int64), ("stays", "rises", "falls"), rate=float(rate))


def messages(n: int = 200, *, seed: int = 0) -> Dataset:
    """Objects (n,): what a customer writes, with a letter wrong now and then."""
    random = np.random.default_rng(seed)
    said = (
        ("the invoice {} is wrong", "pay back my money please", "you charged {} too much"),
        ("where is my parcel {}", "the delivery is late", "tracking {} shows nothing"),
    )
    y = np.arange(n) % 2
    texts = []
    for label in y:
        text = list(str(random.choice(said[label])).format(random.integers(1000)))
        if random.random() < 0.5:
            text[random.integers(len(text))] = "x"
        texts.append("".join(text))
    return Dataset(np.array(texts, dtype=object), y.astype(np.int64), ("billing", "delivery"))
