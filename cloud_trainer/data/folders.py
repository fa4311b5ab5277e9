"""Folders of files, one folder for each class.

``root/CLASS/**/file``, or ``root/train/CLASS/**/file`` beside ``root/test/...``: then the parts are put together and
split anew, so that every part has what the splits of a release need. Names that begin with ``.`` or ``_`` are left out.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from cloud_trainer.config import DataConfig
from cloud_trainer.data.findings import Finding, some
from cloud_trainer.data.table import listed
from shared.errors import ConfigError, DataError, UsageError
from shared.files import reason

PARTS = frozenset({"train", "test", "val", "valid", "validation"})
GROUPS = ("prefix", "folder")
MASKS = "ground_truth"
"""Beside parts, in data sets of anomalies: masks, no samples."""


class Files(Struct, frozen=True):
    """``paths`` (n) and their classes ``y`` (n) of ``labels``; ``groups`` (n) where the task wants them."""

    paths: tuple[Path, ...]
    y: tuple[int, ...]
    labels: tuple[str, ...]
    groups: tuple[str, ...] | None = None
    findings: tuple[Finding, ...] = ()


def find_files(root: Path, config: DataConfig, suffixes: Iterable[str], what: str) -> Files:
    """Every file of a class, in the order of names.

    Raises:
        UsageError: there is no such directory, or it cannot be read.
        ConfigError: ``data.group`` is neither "prefix" nor "folder".
        DataError: there are no folders of classes, or one is empty.
    """
    if config.group and config.group not in GROUPS:
        raise ConfigError(f"data.group: of files it is one of {', '.join(GROUPS)}; got {config.group!r}")
    classes, findings = _classes(root, config.ignore)
    ending = frozenset(suffixes)
    paths: list[Path] = []
    y: list[int] = []
    groups: list[str] = []
    others = 0
    labels = tuple(sorted(classes))
    for i, label in enumerate(labels):
        before = len(paths)
        for folder in classes[label]:
            for path in walk(folder):
                if path.suffix.lower() not in ending:
                    others += 1
                    continue
                paths.append(path)
                y.append(i)
                groups.append(group_of(path, folder, config.group))
        if len(paths) == before:
            raise DataError(
                f"{classes[label][0]}: class {label!r} is empty: no {what} ({_endings(ending)}) in its folder"
            )
    if others:
        text = f"{others} files are of another kind than {what} ({_endings(ending)}): left out"
        findings.append(Finding("unused files", "warning", text, str(root)))
    return Files(tuple(paths), tuple(y), labels, tuple(groups) if config.group else None, tuple(findings))


def group_of(path: Path, folder: Path, how: str) -> str:
    """Which group a file of a class ``folder`` is in.

    >>> group_of(Path("yes/ann_nohash_0.wav"), Path("yes"), "prefix")
    'ann'
    >>> group_of(Path("yes/bo/1.wav"), Path("yes"), "folder")
    'bo'
    """
    if how == "prefix":
        return path.stem.partition("_")[0]
    inner = path.relative_to(folder).parts
    return inner[0] if how == "folder" and len(inner) > 1 else ""


def walk(folder: Path) -> list[Path]:
    """Every file below ``folder`` whose name, and whose folders' names, begin with neither ``.`` nor ``_``, sorted.

    Raises:
        UsageError: a directory cannot be read.
    """
    found: list[Path] = []
    for entry in _entries(folder):
        if entry.name.startswith((".", "_")):
            continue
        if entry.is_dir():
            found += walk(Path(entry.path))
        else:
            found.append(Path(entry.path))
    return found


def _classes(root: Path, ignore: Sequence[str]) -> tuple[dict[str, list[Path]], list[Finding]]:
    folders = [Path(entry.path) for entry in _entries(root) if entry.is_dir()]
    hidden = [folder.name for folder in folders if folder.name.startswith((".", "_"))]
    folders = [folder for folder in folders if folder.name not in {*hidden, *ignore}]
    findings = []
    if hidden:
        text = f"folders that begin with '.' or '_' are left out: {some(hidden)}"
        findings.append(Finding("unused files", "warning", text, str(root)))
    parts = [folder for folder in folders if folder.name.lower() in PARTS]
    if parts and len(parts) + sum(folder.name == MASKS for folder in folders) == len(folders):
        text = f"the folders {some([part.name for part in parts])} were put together; the samples are split anew"
        findings.append(Finding("parts", "warning", text, str(root)))
        folders = [
            Path(entry.path)
            for part in parts
            for entry in _entries(part)
            if entry.is_dir() and not entry.name.startswith((".", "_")) and entry.name not in ignore
        ]
    found: dict[str, list[Path]] = {}
    for folder in folders:
        found.setdefault(folder.name, []).append(folder)
    if not found:
        raise DataError(f"{root}: no folders in it; expected one for each class, with its files inside")
    return found, findings


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except FileNotFoundError:
        raise UsageError(f"{folder}: no such directory") from None
    except NotADirectoryError:
        raise UsageError(f"{folder}: it is a file; expected a directory with a folder for each class") from None
    except OSError as error:
        raise UsageError(f"{folder}: cannot be read: {reason(error)}") from error


def _endings(endings: Iterable[str]) -> str:
    return listed(sorted(endings)).replace("'", "")


def group_array(files: Files, kept: NDArray[np.intp]) -> NDArray[np.str_] | None:
    """Groups (m,) of the files at ``kept``. A file without a folder of its own is a group alone."""
    if files.groups is None:
        return None
    return np.array([files.groups[i] or str(files.paths[i].stem) for i in kept], np.str_)


def complete(files: Files, kept: NDArray[np.intp], root: Path) -> NDArray[np.int64]:
    """Classes (m,) of the files that could be read.

    Raises:
        DataError: a class has none left.
    """
    y = np.array(files.y, np.int64)[kept]
    counts = np.bincount(y, minlength=len(files.labels))
    if not counts.all():
        label = files.labels[int(counts.argmin())]
        raise DataError(f"{root}: no file of class {label!r} can be read")
    return y
