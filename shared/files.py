"""Files that are either whole or not there: write aside, fsync, rename, fsync the directory."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path, PurePosixPath

from shared.errors import ReleaseError


def fsync_directory(directory: Path) -> None:
    """Make renames and unlinks in ``directory`` durable."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_atomic(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Replace ``path`` by ``data`` so that a reader, or a power cut, sees the old file or the new one.

    Raises:
        OSError: the directory is missing, full or not writable; nothing is left behind.
    """
    try:
        _write_aside(path, data, mode)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error  # the temporary name says nothing to anybody
    fsync_directory(path.parent)


def _write_aside(path: Path, data: bytes, mode: int) -> None:
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    aside = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        aside.replace(path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise


def reason(error: OSError) -> str:
    """Why the system refused a file, in words, without the file's name.

    >>> reason(FileNotFoundError(2, "No such file or directory", "a.toml"))
    'No such file or directory'
    """
    if isinstance(error, IsADirectoryError):
        return "it is a directory, not a file"
    return error.strerror or str(error)


def sha256_bytes(data: bytes) -> str:
    """Hex SHA-256 of ``data``."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """Hex SHA-256 of a file, read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def inside(root: Path, name: str) -> Path:
    """The path of ``name`` under ``root``; a name from a file or a message must not leave its directory.

    Raises:
        ReleaseError: ``name`` is absolute, empty, or climbs out with ``..``.

    >>> inside(Path("/srv/release"), "variants/int8.onnx").as_posix()
    '/srv/release/variants/int8.onnx'
    """
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or "\\" in name or ".." in parts or "\0" in name:
        raise ReleaseError(f"file name {name!r} must be relative and stay inside {root}")
    return root.joinpath(*parts)
