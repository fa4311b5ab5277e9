"""The work directory beside a release: what only the trainer needs, like the weights to go on from, and no device.

``releases/7.work/`` lies beside ``releases/7/`` and is no part of it: nothing in it is signed or served.
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shared.errors import UsageError
from shared.files import fsync_directory, reason

FILES_MAX = 64
BYTES_MAX = 4 << 30

logger = logging.getLogger(__name__)


def work_directory(release: Path) -> Path:
    """Where the work of ``release`` lies.

    >>> work_directory(Path("releases/7")).as_posix()
    'releases/7.work'
    """
    return release.parent / f"{release.name}.work"


@contextmanager
def working_on(release: Path) -> Iterator[Path]:
    """The work directory of ``release``, made if there is none, for one training at a time; a lock of the system, that
    ends with the process.

    Raises:
        UsageError: another training holds it, or it cannot be made.
    """
    work = work_directory(release)
    try:
        work.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(work, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise UsageError(f"{work}: cannot be used: {reason(error)}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise UsageError(f"{release}: another training makes it now; wait for it, or choose another --out") from None
    try:
        yield work
    finally:
        os.close(descriptor)


def forget(release: Path) -> None:
    """Remove the work directory of ``release``, if there is one.

    Raises:
        UsageError: a training holds it.
    """
    if work_directory(release).is_dir():
        with working_on(release) as work:
            shutil.rmtree(work, ignore_errors=True)


def copy(source: Path, to: Path) -> None:
    """One regular file; a link that took its place meanwhile stays a link, and is no use to anyone."""
    shutil.copyfile(source, to, follow_symlinks=False)


def keep_work(release: Path, kept: Path, staging: Path) -> None:
    """Copy the work directory of ``release``, if there is one, to that of ``kept``, whole or not at all.

    Only regular files at its top count. Work is a convenience, never a condition: where it is too much or cannot be
    copied, a warning says so, and the next training starts from scratch.
    """
    source, final, staged = work_directory(release), work_directory(kept), staging / "work"
    try:
        shutil.rmtree(final, ignore_errors=True)  # of a publisher that was killed
        if not source.is_dir():
            return
        files = [path for path in sorted(source.iterdir()) if stat.S_ISREG(path.lstat().st_mode)]
        size = sum(path.lstat().st_size for path in files)
        if len(files) > FILES_MAX or size > BYTES_MAX:
            logger.warning("%s is not kept: %d files of %d MiB", source, len(files), size >> 20)
            return
        staged.mkdir()
        for path in files:
            copy(path, staged / path.name)
        kept.parent.mkdir(parents=True, exist_ok=True)
        staged.replace(final)
        fsync_directory(final.parent)
    except OSError as error:
        logger.warning("%s is not kept: %s", source, error)
