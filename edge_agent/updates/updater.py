"""The device's side of an update: from a version number to a verified release in a slot."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edge_agent.updates.floors import FloorFile, check_floors, raised, reference_time
from edge_agent.updates.note import ReleaseNote, read_note, target_path
from edge_agent.updates.slots import Installed, Slots, settle
from shared.enrolment import Enrolment
from shared.errors import ReleaseError, TrustError, UpdateError
from shared.files import inside
from shared.manifest import (
    MANIFEST_MAX_BYTES,
    MANIFEST_NAME,
    FileReference,
    Manifest,
    Variant,
    decode_manifest,
)

if TYPE_CHECKING:
    from tuf.api.metadata import TargetFile
    from tuf.ngclient import FetcherInterface

    from edge_agent.updates.client import Session

RELEASE_MAX_BYTES = 2 << 30
SPARE_BYTES = 8 << 20
"""Left free on the disk beside a release, so that the outbox and the pointer can still be written."""


class Updater:
    """Fetches releases of ``model`` for the device that ``enrolment`` names, under the directory ``state``.

    Not for use by several threads or processes at once; the agent holds a lock on its state directory.

    >>> updater = Updater(enrolment, Path("state"), "digits")                   # doctest: +SKIP
    >>> new = updater.fetch(7, lambda manifest: manifest.variants[:1])          # doctest: +SKIP
    >>> updater.commit(new)                                                     # doctest: +SKIP
    """

    def __init__(
        self,
        enrolment: Enrolment,
        state: Path,
        model: str,
        *,
        clock: Callable[[], float] = time.time,
        fetcher: FetcherInterface | None = None,
    ) -> None:
        self._enrolment = enrolment
        self._state = state
        self._model = model
        self._clock = clock
        self._fetcher = fetcher
        self._floors = FloorFile(state / "floors.json")
        self._slots = Slots(state / "models" / model, model)

    def current(self) -> Installed | None:
        """The release that was committed last, or ``None``. Its files are verified by ``Engine.load``."""
        return self._slots.current()

    def commit(self, installed: Installed) -> None:
        """Make a fetched release the current one, durably; the one that it replaces becomes the lowest acceptable.

        Raises:
            UpdateError: the slot does not hold that release.
        """
        self._slots.commit(installed)

    def discard(self, installed: Installed) -> None:
        """Delete a fetched release that is not wanted after all.

        Raises:
            UpdateError: it is the current one.
        """
        self._slots.discard(installed)

    def fetch(self, version: int, wanted: Callable[[Manifest], Sequence[Variant]]) -> Installed:
        """Download and verify release ``version`` into the free slot: manifest, golden samples, profile, and the
        variants that ``wanted`` picks from the manifest. What runs is not touched.

        Raises:
            LinkError: the repository can't be reached.
            TrustError: a signature, expiry, version floor, digest, cohort or name says no.
            UpdateError: the release is not there, too old, too large, or unusable here.
        """
        minimum = self._slots.minimum()
        if version < minimum:
            raise UpdateError(f"{self._model}/{version} is below this device's minimum version {minimum}")
        try:
            # the free slot may hold the release before: it goes only once there is one to take its place
            session, info = self._open(version)
            slot, path = self._slots.free()
            try:
                self._stage(session, info, wanted, path, version)
            except BaseException:
                self._slots.wipe_free()
                raise
        except OSError as error:
            raise UpdateError(f"{self._model}/{version} cannot be stored under {self._state}: {error}") from error
        return Installed(version, path, slot)

    def _stage(
        self,
        session: Session,
        info: TargetFile,
        wanted: Callable[[Manifest], Sequence[Variant]],
        slot: Path,
        version: int,
    ) -> None:
        label = f"{self._model}/{version}"
        if info.length > MANIFEST_MAX_BYTES:
            raise TrustError(f"{info.path}: {info.length} bytes are signed; at most {MANIFEST_MAX_BYTES} are allowed")
        staged = slot / f".{MANIFEST_NAME}"
        session.download(info, staged)
        try:
            manifest = decode_manifest(staged.read_bytes(), where=info.path)
        except ReleaseError as error:
            raise UpdateError(str(error)) from error
        if (manifest.name, manifest.version) != (self._model, version):
            raise TrustError(f"{info.path}: the manifest says {manifest.name}/{manifest.version}, not {label}")
        files = files_to_fetch(manifest, wanted(manifest))
        free = shutil.disk_usage(slot).free
        needed = sum(file.bytes for file in files) + SPARE_BYTES
        if free < needed:
            raise UpdateError(f"{label} needs {needed >> 20} MiB of disk, {free >> 20} MiB are free in {self._state}")
        for file in files:
            self._download(session, version, file, slot)
        # last, so that a slot with a manifest is a slot with everything that was asked for
        staged.rename(slot / MANIFEST_NAME)
        settle(slot)

    def _open(self, version: int) -> tuple[Session, TargetFile]:
        """A refreshed session and the signed record of the release's manifest; floors and time are raised."""
        from edge_agent.updates.client import Session

        memory = self._floors.load()
        now = reference_time(self._clock(), self._enrolment.not_before, memory.time)
        session = Session(self._enrolment, self._state, now, self._fetcher)
        session.refresh()
        offered = session.offered()
        check_floors(offered, self._enrolment.floors, memory.roles)
        # Only now is `now` remembered: the timestamp was valid at that moment, so a clock that runs ahead can push
        # the memory forward by no more than a timestamp's life.
        memory = raised(memory, offered, now)
        self._floors.save(memory)

        info = session.target(target_path(self._model, version, MANIFEST_NAME))
        note = read_note(info.custom, info.path)
        check_note(note, self._model, version, self._enrolment.device, session.timestamp_expires())
        self._floors.save(raised(memory, {}, note.not_before))
        return session, info

    def _download(self, session: Session, version: int, file: FileReference, slot: Path) -> None:
        info = session.target(target_path(self._model, version, file.path))
        if info.length != file.bytes or info.hashes.get("sha256") != file.sha256:
            raise TrustError(f"{info.path}: the signed metadata and the manifest name different files")
        session.download(info, inside(slot, file.path))
        try:
            file.verify(slot)
        except ReleaseError as error:
            raise TrustError(str(error)) from error


def check_note(note: ReleaseNote, model: str, version: int, device: str, latest: float) -> None:
    """Whether the signed note is for this release and this device.

    ``latest`` is the expiry of the repository's timestamp: a not-before time beyond it would put the device's idea of
    the time past everything that is signed now, and shut it out.

    Raises:
        TrustError: it is not.
    """
    if (note.model, note.version) != (model, version):
        raise TrustError(f"{model}/{version}: the signed note is for {note.model}/{note.version}")
    if note.cohort and device not in note.cohort:
        raise TrustError(f"{model}/{version} is signed for {len(note.cohort)} other devices, not for {device}")
    if note.not_before > latest:
        raise TrustError(f"{model}/{version}: signed not-before time {note.not_before} lies in the future")


def files_to_fetch(manifest: Manifest, variants: Sequence[Variant]) -> tuple[FileReference, ...]:
    """Golden samples, profile and the files of ``variants``.

    Raises:
        UpdateError: no variant, one that the manifest does not have, or too many bytes.
        TrustError: a file name leaves the release, stands twice, or hides the manifest.
    """
    label = f"{manifest.name}/{manifest.version}"
    if not variants:
        raise UpdateError(f"{label} has no variant that this device can run")
    if manifest.golden is None:
        raise UpdateError(f"{label} has no golden samples; an update is taken only after a self-test")
    files = [manifest.golden] if manifest.profile is None else [manifest.golden, manifest.profile]
    for variant in variants:
        if variant not in manifest.variants:
            raise UpdateError(f"{label} has no variant {variant.id!r} as it was asked for")
        if variant.file not in files:
            files.append(variant.file)
    names: set[Path] = {Path(MANIFEST_NAME), Path(f".{MANIFEST_NAME}")}
    for file in files:
        try:
            name = inside(Path(), file.path)
        except ReleaseError as error:
            raise TrustError(f"{label}: {error}") from error
        if name in names:
            raise TrustError(f"{label}: the manifest uses the file name {file.path!r} twice")
        names.add(name)
    total = sum(file.bytes for file in files)
    if total > RELEASE_MAX_BYTES:
        raise UpdateError(f"{label}: {total >> 20} MiB to download; at most {RELEASE_MAX_BYTES >> 20} MiB are allowed")
    return tuple(files)
