"""The TUF repository on disk, as a web server hands it out.

::

    <root>/metadata/timestamp.json
    <root>/metadata/4.snapshot.json  1.root.json  1.targets.json
    <root>/metadata/3.releases/digits.json        clients ask for 3.releases%2Fdigits.json, which servers decode
    <root>/targets/digits/2/<sha256>.manifest.json

``timestamp.json`` is the only file that is ever replaced; every other is new under a name of its own. Whatever the
timestamp does not lead to has not happened, so a publisher that is killed leaves the repository that was there before.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path, PurePosixPath
from typing import TypeVar

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Root, Snapshot, Targets, Timestamp

from edge_agent.updates.note import target_path
from shared.errors import StoreError
from shared.files import fsync_directory, sha256_file
from shared.manifest import FileReference

S = TypeVar("S", Root, Timestamp, Snapshot, Targets)


class Repository:
    """Reads and writes under ``root``; files are assembled in ``staging`` (same file system), which is never served."""

    def __init__(self, root: Path, staging: Path) -> None:
        self.root = root
        self.metadata = root / "metadata"
        self.targets = root / "targets"
        self.staging = staging

    def latest_root(self) -> bytes:
        """The newest root metadata, as signed.

        Raises:
            StoreError: there is none.
        """
        versions = [int(path.name.split(".")[0]) for path in self.metadata.glob("[0-9]*.root.json")]
        if not versions:
            raise StoreError(f"{self.metadata} has no root metadata; the fleet is damaged, restore it from a backup")
        return self._bytes(f"{max(versions)}.root.json")

    def timestamp(self) -> Timestamp:
        """The timestamp that clients see now.

        Raises:
            StoreError: it is missing or damaged; likewise the methods below.
        """
        return _parsed(self._bytes("timestamp.json"), Timestamp, "timestamp.json")

    def snapshot(self) -> Snapshot:
        """The snapshot that the timestamp leads to."""
        name = f"{self.timestamp().snapshot_meta.version}.snapshot.json"
        return _parsed(self._bytes(name), Snapshot, name)

    def role(self, role: str) -> Targets:
        """The targets metadata of ``role`` that the snapshot leads to."""
        name = f"{self.snapshot().meta[f'{role}.json'].version}.{role}.json"
        return _parsed(self._bytes(name), Targets, name)

    def write_metadata(self, name: str, data: bytes) -> None:
        """Put ``data`` in place as ``metadata/<name>``, whole and durable."""
        temporary = self.staging / "metadata"
        temporary.write_bytes(data)
        place(temporary, self.metadata / name)

    def forget(self, model: str, version: int) -> None:
        """Delete target files of a version that was never signed: those of a publisher that was killed."""
        leftover = self.targets / model / str(version)
        if leftover.exists():
            shutil.rmtree(leftover)

    def add_target(self, model: str, version: int, file: FileReference, release: Path) -> None:
        """Copy a release's file into place under its hash.

        Raises:
            StoreError: the copy is not what ``file`` names.
        """
        path = PurePosixPath(target_path(model, version, file.path))
        temporary = self.staging / "target"
        shutil.copyfile(release / file.path, temporary)
        if sha256_file(temporary) != file.sha256:
            raise StoreError(f"{release / file.path} changed while it was being published")
        place(temporary, self.targets / path.with_name(f"{file.sha256}.{path.name}"))

    def _bytes(self, name: str) -> bytes:
        try:
            return (self.metadata / name).read_bytes()
        except OSError as error:
            raise StoreError(f"{self.metadata / name} cannot be read: {error.strerror}") from error


def _parsed(data: bytes, type_: type[S], name: str) -> S:
    try:
        signed = Metadata[S].from_bytes(data).signed
    except RepositoryError as error:
        raise StoreError(f"{name} is damaged ({error}); restore the fleet directory from a backup") from error
    if not isinstance(signed, type_):
        raise StoreError(f"{name} holds {signed.type} metadata, not {type_.type}")
    return signed


def place(temporary: Path, final: Path) -> None:
    """Move a file or directory into place so that it is whole after a power cut, parents included."""
    if temporary.is_dir():
        for directory, _, files in os.walk(temporary, topdown=False):
            for name in files:
                _fsync(Path(directory) / name)
            fsync_directory(Path(directory))
    else:
        _fsync(temporary)
    make_directory(final.parent)
    temporary.replace(final)
    fsync_directory(final.parent)


def make_directory(path: Path) -> None:
    """``mkdir -p``, durable."""
    if path.is_dir():
        return
    make_directory(path.parent)
    path.mkdir(exist_ok=True)
    fsync_directory(path.parent)


def _fsync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
