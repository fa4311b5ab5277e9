"""Training data: where it comes from, how it is split, and what is wrong with it. No torch here."""

from __future__ import annotations

from cloud_trainer.data.checks import check_data
from cloud_trainer.data.dataset import Dataset, Splits, check, check_splits, digest, join, value_range
from cloud_trainer.data.findings import Finding, stop_if_strict
from cloud_trainer.data.labelled import Labelled, Shares, deal, read_labelled, write_labelled
from cloud_trainer.data.loading import load_splits
from cloud_trainer.data.npz import read_npz

__all__ = [
    "Dataset",
    "Finding",
    "Labelled",
    "Shares",
    "Splits",
    "check",
    "check_data",
    "check_splits",
    "deal",
    "digest",
    "join",
    "load_splits",
    "read_labelled",
    "read_npz",
    "stop_if_strict",
    "value_range",
    "write_labelled",
]
