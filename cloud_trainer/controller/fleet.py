"""Folds the windows that devices report into evidence about the fleet.

A fold takes all windows that came since the last one, adds those of each device together, and feeds each (model,
release, variant)'s ``FleetDetector`` once: devices in order of their names, time in units of reports. Windows carry
the number of their fold, and detector and numbers are saved in one transaction: a controller that is killed goes on
from the same state, and :func:`replay` gets the same numbers from the windows alone.

Each detector keeps its promise (on average one false alarm in A reports) in *its own* reports, so a fleet whose devices
run different variants still has at most one in A reports altogether.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any, NamedTuple

import msgspec
import sqlalchemy as sa

from cloud_trainer.controller import schema
from cloud_trainer.controller.releases import Release, Releases
from cloud_trainer.controller.store import upsert
from shared.drift import FleetDetector, WindowCounts, effects
from shared.errors import ProfileError, SanderlingError

FOLD_ROWS = 2000
NOT_FOLDED = 0
EFFECT_WINDOWS = 500  # of each device, the newest: more would say the same and take longer
COMPLAINTS_MAX = 1000

logger = logging.getLogger(__name__)


class Key(NamedTuple):
    """What a detector is about."""

    model: str
    release: int
    variant: str


class Evidence(msgspec.Struct, frozen=True):
    """The fleet's evidence about one release, over all variants."""

    evidence: float = 0.0  # 1.0 is the alarm
    devices: tuple[str, ...] = ()  # those that e-BH names


class Effect(msgspec.Struct, frozen=True):
    """The largest effect on a set of devices: |mean shift| or Wasserstein-1 distance, in robust sigma."""

    size: float = 0.0
    feature: str = ""
    shift: float = 0.0
    samples: int = 0  # independent ones that what it was measured on is worth

    def beyond_chance(self, minimum: float) -> bool:
        """At least ``minimum``, and more than the largest of a few dozen scalars shows by chance (the mean of n
        samples has a standard deviation of 1/sqrt(n) sigma)."""
        return self.samples > 0 and self.size >= max(minimum, 3 / math.sqrt(self.samples))


class Fleet:
    """All detectors. ``promises``: model -> reports between false alarms."""

    def __init__(self, releases: Releases, promises: Mapping[str, int]) -> None:
        self._releases = releases
        self._promises = promises
        self._complaints: set[tuple[str, Key]] = set()

    def fold(self, connection: sa.Connection) -> int:
        """Fold what is new; the number of windows that were looked at."""
        table = schema.windows
        query = table.select().where(table.c.round.is_(None)).order_by(table.c.id).limit(FOLD_ROWS)
        rows = connection.execute(query).all()
        for key, group in groupby(sorted(rows, key=_key), key=_key):
            self._fold_one(connection, key, list(group))
        return len(rows)

    def _fold_one(self, connection: sa.Connection, key: Key, rows: Sequence[sa.Row[Any]]) -> None:
        table = schema.windows
        counted, refused = self._counts(key, rows)
        for row, note in refused:
            connection.execute(table.update().where(table.c.id == row.id).values(round=NOT_FOLDED, note=note))
        if not counted:
            return
        before = connection.execute(schema.detectors.select().where(*_is(schema.detectors, key))).one_or_none()
        detector = self._restored(key, before.state if before else None)
        number = before.round + 1 if before else 1
        status = feed(detector, [(row.device, counts) for row, counts in counted])
        upsert(
            connection,
            schema.detectors,
            key._asdict()
            | {
                "round": number,
                "reports": (before.reports if before else 0) + len(counted),
                "evidence": status.evidence,
                "devices": msgspec.json.encode(status.devices).decode(),
                "by_device": msgspec.json.encode(status.by_device).decode(),
                "state": detector.to_bytes(),
            },
        )
        ids = [row.id for row, _ in counted]
        connection.execute(table.update().where(table.c.id.in_(ids)).values(round=number))

    def _restored(self, key: Key, state: bytes | None) -> FleetDetector:
        try:
            return self.detector(key, state)
        except ProfileError as error:
            if state is None:
                raise
            # a state that can't be read must not silence the fleet for ever
            logger.warning("evidence about %s/%d (%s) starts anew: %s", *key, error)
            return self.detector(key, None)

    def detector(self, key: Key, state: bytes | None) -> FleetDetector:
        """The detector of ``key``, from its saved state if there is one.

        Raises:
            ProfileError: the release is unknown, or the state is of another profile.
        """
        release = self._releases.get(key.model, key.release)
        profile, own = release.shared_profile(key.variant), release.own_profiles(key.variant)
        if state is not None:
            return FleetDetector.from_bytes(profile, state, profiles=own)
        policy = release.manifest.drift
        return FleetDetector(
            profile,
            self._promises[key.model],
            unit="reports",
            tolerance=policy.tolerance,
            replaced=policy.replaced,
            profiles=own,
        )

    def _counts(
        self, key: Key, rows: Iterable[sa.Row[Any]]
    ) -> tuple[list[tuple[sa.Row[Any], WindowCounts]], list[tuple[sa.Row[Any], str]]]:
        """Windows whose counts belong to this release and profile, and the others with what is wrong with them."""
        counted, refused = [], []
        for row in rows:
            try:
                counted.append((row, self._window(self._release(key), key, row)))
            except SanderlingError as error:
                self._complain(row.device, key, error)
                refused.append((row, str(error)[:1000]))
        return counted, refused

    def _complain(self, device: str, key: Key, error: SanderlingError) -> None:
        """Once: a device whose reports do not fit sends them for hours."""
        if (device, key) in self._complaints:
            return
        if len(self._complaints) >= COMPLAINTS_MAX:
            self._complaints.clear()
        self._complaints.add((device, key))
        logger.warning("reports of %s about %s/%d are not counted: %s", device, key.model, key.release, error)

    def _release(self, key: Key) -> Release:
        if key.model not in self._promises:
            raise SanderlingError(f"no task of this controller is about model {key.model!r}")
        return self._releases.get(key.model, key.release)

    @staticmethod
    def _window(release: Release, key: Key, row: sa.Row[Any]) -> WindowCounts:
        profile = release.profile(row.device, key.variant)
        if row.profile != profile.digest:
            raise SanderlingError(f"made with profile {row.profile!r}, not with this device's {profile.digest!r}")
        return WindowCounts.from_mapping(profile, msgspec.json.decode(row.counts), row.samples)

    def evidence(self, connection: sa.Connection, model: str, release: int) -> Evidence:
        """The strongest evidence about ``release`` over its variants, and every device that any of them names."""
        table = schema.detectors
        query = sa.select(table.c.evidence, table.c.devices).where(table.c.model == model, table.c.release == release)
        rows = connection.execute(query).all()
        named = {device for row in rows for device in msgspec.json.decode(row.devices, type=list[str])}
        return Evidence(max((row.evidence for row in rows), default=0.0), tuple(sorted(named)))

    def acknowledge(self, connection: sa.Connection, model: str, release: int) -> None:
        """Start the evidence about ``release`` anew; what normal looks like, as learned so far, is kept."""
        table = schema.detectors
        rows = connection.execute(table.select().where(table.c.model == model, table.c.release == release)).all()
        for row in rows:
            key = Key(row.model, row.release, row.variant)
            detector = self._restored(key, row.state)
            detector.acknowledge()
            connection.execute(
                table.update()
                .where(*_is(table, key))
                .values(state=detector.to_bytes(), evidence=0.0, devices="[]", by_device="{}")
            )

    def effect(self, connection: sa.Connection, model: str, release: int, devices: Sequence[str], mark: int) -> Effect:
        """The largest effect in the newest windows after number ``mark`` of ``devices``, merged where they share a
        profile."""
        table = schema.windows
        query = table.select().where(
            table.c.model == model,
            table.c.release == release,
            table.c.device.in_(devices),
            table.c.id > mark,
            table.c.round > NOT_FOLDED,
        )
        found = self._releases.get(model, release)
        merged: dict[str, tuple[Any, WindowCounts]] = {}
        newest = query.order_by(table.c.id.desc()).limit(EFFECT_WINDOWS * len(devices))
        for row in connection.execute(newest):
            counts = self._window(found, Key(model, release, row.variant), row)
            profile = found.profile(row.device, row.variant)
            have = merged.get(row.profile)
            merged[row.profile] = (profile, counts if have is None else have[1] + counts)
        largest = Effect()
        for profile, counts in merged.values():
            for feature, value in effects(profile, counts).items():
                size = max(abs(value.mean_shift), value.w1)
                if size > largest.size:
                    worth = int(counts.samples / profile.tau(feature))
                    largest = Effect(float(size), feature, float(value.mean_shift), worth)
        return largest


def feed(detector: FleetDetector, windows: Iterable[tuple[str, WindowCounts]]) -> Any:
    """One round: add each device's windows together and feed them in the order of the devices' names."""
    merged: dict[str, WindowCounts] = {}
    reports = 0
    for device, counts in windows:
        merged[device] = merged[device] + counts if device in merged else counts
        reports += 1
    return detector.update({device: merged[device] for device in sorted(merged)}, time=float(reports))


def replay(fleet: Fleet, connection: sa.Connection, key: Key) -> FleetDetector:
    """The detector that follows from the stored windows alone (as long as nothing was acknowledged)."""
    table = schema.windows
    query = table.select().where(*_is(table, key), table.c.round > NOT_FOLDED).order_by(table.c.round, table.c.id)
    detector = fleet.detector(key, None)
    for _, group in groupby(connection.execute(query).all(), key=lambda row: row.round):
        counted, _refused = fleet._counts(key, group)  # noqa: SLF001  (same module)
        feed(detector, [(row.device, counts) for row, counts in counted])
    return detector


def _key(row: sa.Row[Any]) -> Key:
    return Key(row.model, row.release, row.variant)


def _is(table: sa.Table, key: Key) -> tuple[sa.ColumnElement[bool], ...]:
    return table.c.model == key.model, table.c.release == key.release, table.c.variant == key.variant
