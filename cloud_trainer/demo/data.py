"""Real handwritten digits, seen through a camera model: endless streams that are exchangeable with their reference.

What holds, and what the tests check:

- The 1,797 base images of scikit-learn's digits (8 x 8) are split once, by class, with a fixed seed. A base image is in
  one of: train, validation, held out, one device's stream. So no device sees an image that anything was trained,
  tuned or profiled on. Reference and test share the held-out images (other draws of them): nothing is fitted or
  chosen on either, and a pool twice the size is a better picture of the streams.
- Every draw picks a class uniformly, then an image of the class, then a pose, a light, a contrast and the sensor's
  noise. Their spread is far larger than the differences between pools of about 185 images, which is what makes the
  streams exchangeable with the reference. It is not perfect: pools that small differ a little in what a model thinks
  of them. ``[drift] tolerance`` = :data:`TOLERANCE` says by how much a value may wander unreported.
- A picture is a function of (device, seed, index, bad or not), so whoever knows the seed knows the truth.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:  # a camera needs no more than numpy
    from cloud_trainer.config import TaskConfig
    from cloud_trainer.data import Splits

Images = NDArray[np.uint8]
Labels = NDArray[np.int64]
Floats = NDArray[np.float32]

SIDE = 16
CLASSES = 10
LABELS = tuple(str(digit) for digit in range(CLASSES))
DEVICES = ("cam-1", "cam-2", "cam-3")
BLOCK = 64
"""Pictures are generated in blocks of this size, each from a generator of its own."""
TOLERANCE = 0.5
"""Robust sigmas by which a pool of 185 images may differ from the reference."""
SPLIT_SEED = 1797

_SHARES = {"train": 640, "validation": 100, "held-out": 500, **dict.fromkeys(DEVICES, 185)}


class Pool(NamedTuple):
    """Base images (n, 8, 8) float32 in 0..1, and their classes (n,)."""

    bases: Floats
    labels: Labels


@lru_cache(maxsize=1)
def pools() -> dict[str, Pool]:
    """The base images by purpose: ``train``, ``validation``, ``held-out`` and one pool for each device.

    Images of each class are dealt out in proportion, so that every pool has every class about equally often.
    """
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = (digits.images / 16.0).astype(np.float32)
    labels = digits.target.astype(np.int64)
    rng = np.random.default_rng(SPLIT_SEED)
    edges = np.cumsum(list(_SHARES.values())) / sum(_SHARES.values())
    members: dict[str, list[NDArray[Any]]] = {name: [] for name in _SHARES}
    for digit in range(CLASSES):
        chosen = rng.permutation(np.flatnonzero(labels == digit))
        parts = np.split(chosen, np.rint(edges[:-1] * len(chosen)).astype(int))
        for name, part in zip(_SHARES, parts, strict=True):
            members[name].append(part)
    return {name: Pool(images[np.concatenate(parts)], labels[np.concatenate(parts)]) for name, parts in members.items()}


def save_pool(path: Path, device: str) -> None:
    """Write a device's base images for its camera: reading them takes 10 ms, importing scikit-learn 1.5 s."""
    pool = pools()[device]
    np.savez(path, bases=pool.bases, labels=pool.labels)


def load_pool(path: Path) -> Pool:
    """What :func:`save_pool` wrote."""
    with np.load(path, allow_pickle=False) as file:
        return Pool(file["bases"], file["labels"])


def draw(bases: Floats, labels: Labels, n: int, rng: np.random.Generator) -> tuple[Images, Labels]:
    """``n`` new pictures of the base images (m, 8, 8) in 0..1: (n, 16, 16) uint8 and their classes (n,).

    Classes are uniform and drawn first (:func:`stream_labels` relies on it).
    """
    y = rng.integers(0, CLASSES, n)
    order = np.argsort(labels, kind="stable")
    counts = np.bincount(labels, minlength=CLASSES)
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    pick = order[starts[y] + (rng.random(n) * counts[y]).astype(np.int64)]
    ink = _seen(bases[pick], rng)
    # light, contrast and noise differ for every picture, and by more than any two images differ
    light = rng.uniform(10.0, 70.0, (n, 1, 1)).astype(np.float32)
    contrast = rng.uniform(90.0, 180.0, (n, 1, 1)).astype(np.float32)
    grain = rng.uniform(2.0, 8.0, (n, 1, 1)).astype(np.float32)
    picture = light + contrast * ink + grain * rng.standard_normal(ink.shape, np.float32)
    return _to_bytes(picture), y


def _seen(bases: Floats, rng: np.random.Generator) -> Floats:
    """Upsample (n, 8, 8) to (n, 16, 16) bilinearly under a small random rotation, shift and scale."""
    n, height, width = bases.shape
    angle = rng.normal(0.0, 0.08, n)
    scale = rng.uniform(0.92, 1.06, n)
    shift = rng.normal(0.0, 0.25, (2, n, 1, 1))
    centre = (np.arange(SIDE) - (SIDE - 1) / 2) * (height / SIDE)
    v, u = np.meshgrid(centre, centre, indexing="ij")
    cos, sin = (np.cos(angle) / scale)[:, None, None], (np.sin(angle) / scale)[:, None, None]
    rows = cos * v - sin * u + shift[0] + (height - 1) / 2
    columns = sin * v + cos * u + shift[1] + (width - 1) / 2
    # one dark pixel around the image, so that what lies outside is background
    padded = np.zeros((n, (height + 2) * (width + 2)), np.float32)
    padded.reshape(n, height + 2, width + 2)[:, 1:-1, 1:-1] = bases
    rows = np.clip(rows + 1, 0, height + 0.999)
    columns = np.clip(columns + 1, 0, width + 0.999)
    top, left = rows.astype(np.int64), columns.astype(np.int64)
    down, right = (rows - top).astype(np.float32), (columns - left).astype(np.float32)
    first = (np.arange(n) * padded.shape[1])[:, None, None] + top * (width + 2) + left
    flat = padded.ravel()
    above = flat[first] * (1 - right) + flat[first + 1] * right
    below = flat[first + width + 2] * (1 - right) + flat[first + width + 3] * right
    out: Floats = above * (1 - down) + below * down
    return out


def go_bad(x: Images, rng: np.random.Generator, severity: float = 1.0) -> Images:
    """What a fogged and failing camera makes of clean pictures (n, 16, 16) uint8: blur, lost contrast (a veil of
    stray light), noise. A small network that never saw such pictures is right about every second one of them; trained
    on them it is nearly as good as on clean ones, so what was lost can be won back.

    ``severity`` 0 leaves them as they are; 1 is the demo's.
    """
    if severity <= 0:
        return x.copy()
    picture = _blur(x.astype(np.float32), 1.0 * severity)
    veil = np.float32(0.55 * severity)
    picture = (1 - veil) * picture + veil * np.float32(130.0)
    picture += np.float32(3.5 * severity) * rng.standard_normal(picture.shape, np.float32)
    return _to_bytes(picture)


def _blur(picture: Floats, sigma: float) -> Floats:
    """Gaussian blur of (n, h, w), edges repeated."""
    reach = max(1, int(np.ceil(2.5 * sigma)))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    kernel = (kernel / kernel.sum()).astype(np.float32)
    for axis in (1, 2):
        widths = [(0, 0)] * 3
        widths[axis] = (reach, reach)
        padded = np.pad(picture, widths, mode="edge")
        size = picture.shape[axis]
        picture = sum(weight * np.take(padded, range(i, i + size), axis=axis) for i, weight in enumerate(kernel))
    return picture


def _to_bytes(picture: Floats) -> Images:
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8)


def splits(task: TaskConfig) -> Splits:
    """The demo's training data, drawn with the task's seed: what ``[data] factory`` names."""
    from cloud_trainer.data import Dataset, Splits

    rngs = np.random.default_rng([task.seed, 0x5A]).spawn(4)
    found = pools()
    parts = (("train", 6000), ("validation", 1000), ("held-out", 3000), ("held-out", 2000))
    train, validation, reference, test = (
        Dataset(*draw(*found[name], count, rng), LABELS) for (name, count), rng in zip(parts, rngs, strict=True)
    )
    return Splits(train, validation, reference, test)


def _block(device: str, seed: int, block: int) -> np.random.Generator:
    return np.random.default_rng([seed, DEVICES.index(device), block])


def stream(pool: Pool, device: str, seed: int, block: int) -> tuple[Images, Labels]:
    """Pictures number ``block * BLOCK`` and up of a device's clean stream: (BLOCK, 16, 16) uint8, classes (BLOCK,)."""
    return draw(*pool, BLOCK, _block(device, seed, block))


def spoil(x: Images, device: str, seed: int, block: int) -> Images:
    """The same block through the bad camera."""
    return go_bad(x, np.random.default_rng([seed, DEVICES.index(device), block, 1]))


def stream_labels(device: str, seed: int, start: int, stop: int) -> Labels:
    """Classes of a device's pictures number ``start`` to ``stop``: (stop - start,). Cheap, no picture is made."""
    first, last = start // BLOCK, -(-stop // BLOCK)
    blocks = [_block(device, seed, block).integers(0, CLASSES, BLOCK) for block in range(first, last)]
    return np.concatenate([np.empty(0, np.int64), *blocks])[start - first * BLOCK : stop - first * BLOCK]


def sample_id(device: str, index: int) -> str:
    """``cam-1-000017``: a picture's name, from the camera to the label."""
    return f"{device}-{index:06d}"


def parse_id(sample: str) -> tuple[str, int]:
    """Device and index of a picture's name.

    Raises:
        ValueError: it is no such name.

    >>> parse_id("cam-1-000017")
    ('cam-1', 17)
    """
    device, _, index = sample.rpartition("-")
    if device not in DEVICES or not index.isdecimal():
        raise ValueError(f"{sample!r} is not <device>-<number> of one of {', '.join(DEVICES)}")
    return device, int(index)
