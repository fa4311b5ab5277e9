"""Samples that came back from devices, with their truth: what a retraining learns from."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from cloud_trainer.data.dataset import Allowed, Dataset, check
from cloud_trainer.data.npz import read_arrays
from cloud_trainer.data.split import strata, stratified
from shared.errors import DataError, UsageError
from shared.files import sha256_bytes
from shared.topics import NAME_PATTERN


class Labelled(Struct, frozen=True, eq=False):
    """One device's samples: ``ids`` as the device gave them, ``x`` (n, *shape), ``y`` (n,) class indices or numbers."""

    device: str
    ids: tuple[str, ...]
    x: NDArray[Any]
    y: NDArray[Any]


class Shares(Struct, frozen=True, eq=False):
    """A device's samples, dealt out: what is trained on, and what is held out for the gate and the new baseline."""

    device: str
    train: Dataset
    held_out: Dataset


def read_labelled(directory: Path) -> tuple[Labelled, ...]:
    """Every ``<device>.npz`` (arrays ``x``, ``y``, optionally ``ids``) of ``directory``, sorted by name.

    Raises:
        UsageError: no such directory, or no files in it.
        DataError: a file cannot be used.
    """
    if not directory.is_dir():
        raise UsageError(f"{directory}: no such directory; expected one <device>.npz for each device")
    files = sorted(directory.glob("*.npz"))
    if not files:
        raise UsageError(f"{directory}: no .npz files; expected one <device>.npz for each device")
    found = []
    for file in files:
        if not re.fullmatch(NAME_PATTERN, file.stem):
            raise DataError(f"{file}: {file.stem!r} is not a device name (small letters, digits, '-', '_')")
        arrays = read_arrays(file)
        missing = {"x", "y"} - set(arrays)
        if missing:
            raise DataError(f"{file}: no array {min(missing)!r}; expected x (n, ...) and y (n,)")
        ids = tuple(str(i) for i in arrays.get("ids", np.arange(len(arrays["y"]))))
        found.append(Labelled(file.stem, ids, arrays["x"], arrays["y"]))
    return tuple(found)


def write_labelled(directory: Path, labelled: Sequence[Labelled]) -> None:
    """The reverse of :func:`read_labelled`; ``directory`` is made where it is missing."""
    directory.mkdir(parents=True, exist_ok=True)
    for part in labelled:
        np.savez_compressed(directory / f"{part.device}.npz", x=part.x, y=part.y, ids=np.asarray(part.ids, dtype=str))


def deal(labelled: Labelled, like: Dataset, held_out_share: float, seed: int) -> Shares:
    """Split one device's samples by class, seeded by ``seed`` and the device's name.

    Raises:
        DataError: samples of another shape or class than ``like``, or too few to hold any out.
    """
    where = f"labelled samples of {labelled.device}"
    allowed = Allowed(
        words=like.x.dtype == object,
        missing=bool(like.columns),
        times=like.x.dtype == np.float64,
        flat=like.x.ndim == 1,
    )
    data = Dataset(labelled.x, labelled.y, like.labels, like.columns, rate=like.rate)
    data = check(data, where, every_class=False, allowed=allowed)
    if len(labelled.ids) != len(data):
        raise DataError(f"{where}: {len(labelled.ids)} ids for {len(data)} samples")
    if data.x.shape[1:] != like.x.shape[1:] or data.x.dtype != like.x.dtype:
        raise DataError(
            f"{where}: {data.x.dtype} {data.x.shape[1:]}, but the model takes {like.x.dtype} {like.x.shape[1:]}"
        )
    rng = np.random.default_rng([seed, 2, int(sha256_bytes(labelled.device.encode())[:8], 16)])
    index = stratified(strata(data.y), {"train": 1 - held_out_share, "held_out": held_out_share}, rng)
    if not len(index["train"]) or not len(index["held_out"]):
        raise DataError(f"{where}: {len(data)} samples are too few to train on some and hold others out")
    return Shares(labelled.device, data.take(index["train"]), data.take(index["held_out"]))
