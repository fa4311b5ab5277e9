"""Version floors and the reference time: what a device remembers so that nobody can turn it back.

Both live in ``floors.json`` beside the metadata cache, so they survive when the cache is wiped. The decisions here are
pure functions; :class:`FloorFile` is the file around them.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

import msgspec
from msgspec import Struct

from shared.errors import UNREADABLE, TrustError
from shared.files import write_atomic

log = logging.getLogger(__name__)

BUILD_TIME = 1_780_272_000.0
"""2026-06-01T00:00:00Z, moved forward with each release of sanderling: no device that runs this code lives before."""


class Floor(Struct, frozen=True):
    """A metadata version, and the ids of the keys that were entitled to sign it."""

    version: int
    keys: tuple[str, ...] = ()


class Memory(Struct, frozen=True):
    """What is remembered: a floor for each TUF role, and a moment that has certainly passed."""

    roles: dict[str, Floor] = {}
    time: float = 0.0


def reference_time(clock: float, *known_past: float) -> float:
    """The time to judge expiry by: the clock, unless something trustworthy is later.

    ``known_past`` are moments known to have passed (build, enrolment, signed not-before times, what was remembered),
    so a device whose clock starts in 1970 is neither shut out nor fooled with metadata that expired long ago.

    >>> reference_time(0.0, 1_800_000_000.0) > BUILD_TIME
    True
    """
    return max(clock, BUILD_TIME, *known_past)


def check_floors(offered: Mapping[str, Floor], enrolled: Mapping[str, int], learned: Mapping[str, Floor]) -> None:
    """Refuse metadata older than what the enrolment names or this device has seen.

    A floor that was learned counts only while the same keys sign the role: when the owner of the fleet replaces a
    stolen key, versions that its thief had run up must not shut the device out (TUF specification, 5.3.11). Root's
    floor and the enrolment's hold always.

    Raises:
        TrustError: a role is below its floor; the message names both versions.
    """
    for role, found in offered.items():
        floor = enrolled.get(role, 0)
        seen = learned.get(role)
        if seen and (role == "root" or set(seen.keys) == set(found.keys)):
            floor = max(floor, seen.version)
        if found.version < floor:
            raise TrustError(
                f"the repository offers {role} version {found.version}, but this device knows of version {floor}: "
                "it is an old copy"
            )


def raised(memory: Memory, offered: Mapping[str, Floor], time: float) -> Memory:
    """``memory`` after accepting ``offered`` at ``time``; call it only with what :func:`check_floors` let pass."""
    return Memory(roles={**memory.roles, **offered}, time=max(memory.time, time))


class FloorFile:
    """``floors.json``."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self) -> Memory:
        """What was remembered. A file that can't be read counts as empty, with a warning: the enrolment's floors still
        hold, and a device that refuses every update for a bad block of flash would be worse off."""
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=Memory)
        except FileNotFoundError:
            return Memory()
        except (OSError, *UNREADABLE) as error:
            log.warning("%s cannot be used (%s); going on with the floors of the enrolment file", self._path, error)
            return Memory()

    def save(self, memory: Memory) -> None:
        """Replace the file, durably."""
        write_atomic(self._path, msgspec.json.encode(memory) + b"\n")
