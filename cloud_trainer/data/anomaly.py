"""Normal samples and anomalies: a model of the normal ones learns from these alone. Pure."""

from __future__ import annotations

import msgspec
import numpy as np

from cloud_trainer.config import DataConfig
from cloud_trainer.data.dataset import Dataset, Splits, join
from cloud_trainer.data.loaded import Loaded
from cloud_trainer.data.split import By, split
from cloud_trainer.data.table import listed
from shared.errors import DataError

NORMAL = ("good", "normal", "ok", "0")
"""What normal samples are called where ``data.target`` does not say it."""


def only_normal(loaded: Loaded, config: DataConfig) -> Loaded:
    """Classes as 0 normal, 1 anomaly. In folders ``data.target`` names the normal class; in arrays it is the name of
    ``y``, whose normal class is called as in :data:`NORMAL`, else the first.

    Raises:
        DataError: nobody says which class is normal, or there are no anomalies.
    """
    data = loaded.data
    folder = config.format == "image-folder"
    normal = normal_class(data.labels, config.target if folder else "", config.path)
    if len(data.labels) < 2:
        raise DataError(
            f"{config.path}: only {data.labels[0]!r} is there; some anomalies are needed to see how well they are found"
        )
    others = [label for label in data.labels if label != normal]
    name = others[0] if len(others) == 1 and not others[0].isdigit() else "anomaly"
    y = (data.y != data.labels.index(normal)).astype(np.int64)
    return msgspec.structs.replace(loaded, data=msgspec.structs.replace(data, y=y, labels=("normal", name)))


def normal_class(labels: tuple[str, ...], asked: str, where: str) -> str:
    """Which label is the normal one.

    Raises:
        DataError: there is none of that name, or none that can be guessed.

    >>> normal_class(("broken", "good"), "", "bottles")
    'good'
    """
    if asked:
        if asked not in labels:
            raise DataError(f"{where}: no class {asked!r} (data.target, the normal one); there are {listed(labels)}")
        return asked
    lower = {label.lower(): label for label in labels}
    for name in NORMAL:
        if name in lower:
            return lower[name]
    raise DataError(f"{where}: which class is the normal one? Name it in data.target; there are {listed(labels)}")


def split_normal(data: Dataset, config: DataConfig, seed: int, by: By) -> Splits:
    """Normal samples in every part; anomalies in the test part only. By group, anomalies of whose group normal samples
    are in another part are tested, too: nothing was learned from them.

    Raises:
        DataError: there are too few normal samples.
    """
    normal, odd = data.take(data.y == 0), data.take(data.y == 1)
    if len(normal) < 2:
        raise DataError(f"{config.path}: {len(normal)} normal samples; a model of the normal ones needs many")
    splits = split(
        normal,
        reference_share=config.reference_share,
        test_share=config.test_share,
        seed=seed,
        by=by,
        every_class=False,
    )
    return msgspec.structs.replace(splits, test=join([splits.test, odd]))
