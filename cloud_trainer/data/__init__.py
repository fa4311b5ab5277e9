"""Training data: where it comes from and how it is split. No torch here."""

from __future__ import annotations

from pathlib import Path

from cloud_trainer.config import TaskConfig
from cloud_trainer.data.dataset import Dataset, Splits, check, check_splits, digest, join, value_range
from cloud_trainer.data.factory import from_factory
from cloud_trainer.data.labelled import Labelled, Shares, deal, read_labelled, write_labelled
from cloud_trainer.data.npz import read_npz
from cloud_trainer.data.split import split
from shared.errors import ConfigError

__all__ = [
    "Dataset",
    "Labelled",
    "Shares",
    "Splits",
    "check",
    "check_splits",
    "deal",
    "digest",
    "join",
    "load_splits",
    "read_labelled",
    "read_npz",
    "value_range",
    "write_labelled",
]


def load_splits(task: TaskConfig) -> Splits:
    """The data that ``task`` names, split and checked.

    Raises:
        UsageError: no such file.
        ConfigError: ``[data]`` lacks what its format needs.
        DataError: the data cannot be used.
    """
    config = task.data
    if config.format == "python":
        return from_factory(task)
    if not config.path:
        raise ConfigError("data.path: missing; format 'npz' needs the file's path")
    data = read_npz(Path(config.path))
    return split(data, reference_share=config.reference_share, test_share=config.test_share, seed=task.seed)
