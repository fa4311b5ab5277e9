"""Generated files of every format, and tasks about them."""

from __future__ import annotations

import json
import wave

import msgspec
import numpy as np
from PIL import Image

from cloud_trainer.config import DataConfig, TaskConfig


def task(kind="tabular-classification", **data):
    return TaskConfig(name="t", kind=kind, data=msgspec.convert(data, DataConfig))


def rows(n=400, seed=0):
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=n).round(4), rng.normal(size=n).round(4)
    color = rng.choice(["red", "green", "blue"], n)
    label = np.where(a + b + (color == "red") + rng.normal(size=n) > 0, "yes", "no")
    return {"a": a, "b": b, "color": color, "label": label}


def write_csv(path, columns, separator=",", header=True):
    lines = [separator.join(columns)] if header else []
    lines += [separator.join(map(str, row)) for row in zip(*columns.values(), strict=True)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(path)


def write_jsonl(path, columns):
    cells = {name: np.asarray(values).tolist() for name, values in columns.items()}
    lines = [json.dumps(dict(zip(cells, row, strict=True))) for row in zip(*cells.values(), strict=True)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(path)


def write_images(root, classes, n=60, size=(8, 8), seed=0, mode="L"):
    rng = np.random.default_rng(seed)
    for name in classes:
        (root / name).mkdir(parents=True)
        for i in range(n):
            shape = size if mode == "L" else (*size, 3)
            pixels = rng.integers(0, 256, shape, dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"part{i // 4}_{i % 4}.png")
    return str(root)


def write_wav(path, values, rate=8000, width=2, channels=1):
    """``values`` (n,) or (n, channels) of -1 to 1."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scaled = np.clip(
        np.rint(np.asarray(values) * (1 << (8 * width - 1))), -(1 << (8 * width - 1)), (1 << (8 * width - 1)) - 1
    )
    whole = scaled.astype(np.int64) + (128 if width == 1 else 0)
    data = whole.astype("<i8").tobytes()
    raw = np.frombuffer(data, np.uint8).reshape(-1, 8)[:, :width].tobytes()
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(raw)


def write_sounds(root, classes, n=60, samples=400, rate=8000, seed=0):
    rng = np.random.default_rng(seed)
    for name in classes:
        for i in range(n):
            write_wav(root / name / f"speaker{i // 4}_{i % 4}.wav", rng.uniform(-0.5, 0.5, samples), rate)
    return str(root)
