"""Two slots for releases, and the pointer that says which one runs.

::

    <root>/a/  b/            release directories; the one that current.json does not name is free
    <root>/current.json      {"version": 7, "slot": "a"}
    <root>/minimum.json      {"version": 6}
"""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct

from shared.errors import UNREADABLE, ManifestError, UpdateError
from shared.files import fsync_directory, write_atomic
from shared.manifest import Positive, load_manifest

log = logging.getLogger(__name__)

SlotName = Literal["a", "b"]


class Installed(Struct, frozen=True):
    """A release in a slot; ``path`` is its directory."""

    version: int
    path: Path
    slot: SlotName


class _Pointer(Struct, frozen=True):
    version: Positive
    slot: SlotName


class _Minimum(Struct, frozen=True):
    version: Positive


class Slots:
    """The slots of one model under ``root``. One process at a time (the agent holds a lock on its state)."""

    def __init__(self, root: Path, model: str) -> None:
        self.root = root
        self.model = model

    def current(self) -> Installed | None:
        """What the pointer names, or ``None`` when there is nothing whole to run.

        A damaged pointer or slot is logged and counts as nothing, so that the next fetch repairs it.
        """
        path = self.root / "current.json"
        try:
            pointer = msgspec.json.decode(path.read_bytes(), type=_Pointer)
            manifest = load_manifest(self.root / pointer.slot)
        except FileNotFoundError:
            return None
        except (OSError, *UNREADABLE, ManifestError) as error:
            log.warning("no current release of %s: %s: %s", self.model, path, error)
            return None
        if (manifest.name, manifest.version) != (self.model, pointer.version):
            log.warning("no current release: slot %s holds %s/%d", pointer.slot, manifest.name, manifest.version)
            return None
        return Installed(pointer.version, self.root / pointer.slot, pointer.slot)

    def minimum(self) -> int:
        """The lowest version that may be installed; 1 on a new device."""
        path = self.root / "minimum.json"
        try:
            return msgspec.json.decode(path.read_bytes(), type=_Minimum).version
        except FileNotFoundError:
            return 1
        except (OSError, *UNREADABLE) as error:
            log.warning("%s cannot be used (%s); the current release counts as the minimum", path, error)
            current = self.current()
            return current.version if current else 1

    def free(self) -> tuple[SlotName, Path]:
        """The slot that nothing runs from, wiped and empty."""
        slot = self._free_name()
        path = self.root / slot
        self.root.mkdir(parents=True, exist_ok=True)
        _remove(path)
        path.mkdir()
        fsync_directory(self.root)
        return slot, path

    def commit(self, installed: Installed) -> None:
        """Make ``installed`` the current release.

        The minimum rises to the release that is replaced, not to the new one: one step back must stay possible, for a
        canary that is called off; anything older is out of reach for good.

        Raises:
            UpdateError: the slot does not hold that release.
        """
        try:
            manifest = load_manifest(self.root / installed.slot)
        except ManifestError as error:
            raise UpdateError(f"{self.model}/{installed.version} cannot be made current: {error}") from error
        if (manifest.name, manifest.version) != (self.model, installed.version):
            raise UpdateError(
                f"{self.model}/{installed.version} cannot be made current: slot {installed.slot} holds "
                f"{manifest.name}/{manifest.version}"
            )
        replaced = self.current()
        # the minimum first: after a power cut between the two writes it names what still runs
        if replaced and self.minimum() < replaced.version < installed.version:
            write_atomic(self.root / "minimum.json", msgspec.json.encode(_Minimum(replaced.version)) + b"\n")
        pointer = _Pointer(installed.version, installed.slot)
        write_atomic(self.root / "current.json", msgspec.json.encode(pointer) + b"\n")

    def discard(self, installed: Installed) -> None:
        """Delete a release that will not be made current.

        Raises:
            UpdateError: it is the current one.
        """
        current = self.current()
        if current and current.slot == installed.slot:
            raise UpdateError(f"{self.model}/{current.version} runs from slot {current.slot}; it cannot be discarded")
        _remove(self.root / installed.slot)
        if self.root.exists():
            fsync_directory(self.root)

    def wipe_free(self) -> None:
        """Empty the slot that nothing runs from (leftovers of an interrupted or refused fetch)."""
        _remove(self.root / self._free_name())

    def _free_name(self) -> SlotName:
        current = self.current()
        return "b" if current and current.slot == "a" else "a"


def settle(release: Path) -> None:
    """Make every file and directory under ``release`` durable."""
    for directory, _, files in os.walk(release, topdown=False):
        for name in files:
            with (Path(directory) / name).open("rb") as file:
                os.fsync(file.fileno())
        fsync_directory(Path(directory))
    fsync_directory(release.parent)


def _remove(path: Path) -> None:
    """Delete a directory tree, or whatever else stands in its place."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
