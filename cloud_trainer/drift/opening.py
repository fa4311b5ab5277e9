"""Which reader a file needs, and whether it is a saved profile."""

from __future__ import annotations

import zipfile
from pathlib import Path

from cloud_trainer.drift.columnar import ArrayTable, ParquetTable
from cloud_trainer.drift.tables import CsvTable, Table
from shared.errors import UsageError

PROFILE_MEMBERS = {"format.npy", "names.npy", "families.npy", "kinds.npy", "edges.npy", "gaps.npy"}
TEXT = (".csv", ".tsv", ".txt")
ARRAYS = (".npz", ".npy")
PARQUET = (".parquet", ".pq")


def check_file(path: Path) -> None:
    """Raise ``UsageError`` unless ``path`` is a file that is there."""
    if path.is_dir():
        raise UsageError(f"{path}: it is a directory; expected a CSV, Parquet or NPZ file")
    if not path.exists():
        raise UsageError(f"{path}: no such file")


def open_table(path: Path, *, header: bool = True) -> Table:
    """The table in ``path``, by the ending of its name.

    Raises:
        UsageError: missing, of another kind, damaged, or empty.
    """
    check_file(path)
    ending = path.suffix.lower()
    if ending in TEXT:
        table: Table = CsvTable(path, header=header)
    elif ending in ARRAYS:
        table = ArrayTable(path)
    elif ending in PARQUET:
        table = ParquetTable(path)
    else:
        raise UsageError(f"{path}: expected a file that ends in .csv, .tsv, .parquet, .npz or .npy")
    if table.rows == 0 or not table.names:
        raise UsageError(f"{path}: the file is empty; expected rows with columns")
    return table


def is_profile(path: Path) -> bool:
    """Whether ``path`` is a saved reference profile."""
    if path.suffix.lower() != ".npz" or not path.is_file():
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            return set(archive.namelist()) >= PROFILE_MEMBERS
    except (OSError, zipfile.BadZipFile):
        return False
