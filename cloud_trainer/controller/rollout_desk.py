"""Gathers the facts about rollouts, lets the state machine decide, and says what each device should run."""

from __future__ import annotations

from collections.abc import Mapping

import sqlalchemy as sa
from msgspec.structs import replace

from cloud_trainer.config import TaskConfig
from cloud_trainer.controller import records, schema
from cloud_trainer.controller import rollout as machine
from cloud_trainer.controller.releases import Releases
from cloud_trainer.controller.rollout import Device, Policy, Rollout, Window
from cloud_trainer.controller.store import Store

STEPS_AT_ONCE = 6
CONTROL_WINDOWS = 200
SILENT_SECONDS = 3600.0  # a broker that restarts forgets the last wills of those that die meanwhile


class RolloutDesk:
    """The rollouts of one task's model, one at a time. Used by one thread."""

    def __init__(self, store: Store, releases: Releases, task: TaskConfig) -> None:
        self._store, self._releases, self._task = store, releases, task
        self._policy = Policy(
            canary_devices=task.rollout.canary_devices,
            canary_samples=task.rollout.canary_samples,
            canary_seconds=task.rollout.canary_seconds,
            settle_seconds=task.rollout.settle_seconds,
        )

    @property
    def model(self) -> str:
        """The model that this desk looks after."""
        return self._task.name

    def step(self, now: float) -> None:
        """Decide until the rollout waits for something."""
        for _ in range(STEPS_AT_ONCE):
            with self._store.transaction() as connection:
                self._notice(connection, now)
                if not self._decide(connection, now):
                    return

    def wanted(self, connection: sa.Connection) -> dict[str, int]:
        """What each device of this model should run; 0: nothing is published yet."""
        rollout = self._under_way(connection)
        target = records.target_of(connection, self.model)
        return {
            device: machine.wanted(rollout, target, device) for device in records.device_release(connection, self.model)
        }

    def _under_way(self, connection: sa.Connection) -> Rollout | None:
        return next(iter(records.rollouts_of(connection, self.model, only_open=True)), None)

    def _notice(self, connection: sa.Connection, now: float) -> None:
        """A release that a person published: the first one is for everyone at once, later ones roll out."""
        newest = self._releases.newest(self.model)
        target = records.target_of(connection, self.model)
        if newest <= target or records.rollout_of(connection, self.model, newest):
            return
        running = records.device_release(connection, self.model).values()
        if target == 0 or not any(row.release for row in running):
            records.set_target(connection, self.model, newest, now)
            return
        rollout = Rollout(
            id=0,
            model=self.model,
            release=newest,
            parent=target,
            state="staged",
            opened=now,
            entered=now,
            reason="was published",
        )
        records.add_rollout(connection, rollout, now)

    def _decide(self, connection: sa.Connection, now: float) -> bool:
        rollout = self._under_way(connection)
        if rollout is None:
            return False
        devices = self._devices(connection, rollout, now)
        control = self._control(connection, rollout) if rollout.state in {"canary", "expanding"} else ()
        following = machine.advance(rollout, devices, control, self._policy, now)
        if following is None:
            return False
        if following.state == "canary":
            parent = records.target_of(connection, self.model)  # another rollout may have ended since it was staged
            following = replace(following, parent=parent, mark=records.last_window(connection))
        records.save_rollout(connection, following)
        records.log_rollout(connection, following, now)
        if following.state == "done":
            records.set_target(connection, self.model, following.release, now)
        return True

    def _devices(self, connection: sa.Connection, rollout: Rollout, now: float) -> Mapping[str, Device]:
        alarms, events = schema.alarms, schema.events
        drifted = set(
            connection.scalars(
                sa.select(alarms.c.device).where(alarms.c.model == self.model, alarms.c.release == rollout.release)
            )
        )
        told = sa.select(events.c.device, events.c.kind, events.c.text).where(
            events.c.model == self.model,
            events.c.release == rollout.release,
            events.c.kind.in_(("fault", "rollback")),
            events.c.level == "error",
            events.c.received >= rollout.opened,
        )
        faults = {row.device: f"{row.kind}: {row.text}" for row in connection.execute(told)}
        windows = self._windows(connection, rollout.release, schema.windows.c.id > rollout.mark)
        before = self._windows(connection, rollout.parent)
        return {
            name: Device(
                online=bool(row.online) and now - row.seen < SILENT_SECONDS,
                release=row.release,
                refused=row.refused,
                error=row.error,
                fault=faults.get(name, ""),
                drifted=name in drifted,
                windows=tuple(windows.get(name, ())),
                before=tuple(before.get(name, ())),
            )
            for name, row in records.device_release(connection, self.model).items()
        }

    def _control(self, connection: sa.Connection, rollout: Rollout) -> tuple[Window, ...]:
        table = schema.windows
        others = self._windows(
            connection, rollout.parent, table.c.id > rollout.mark, table.c.device.not_in(rollout.canaries)
        )
        if not others:
            others = self._windows(
                connection, rollout.parent, table.c.id <= rollout.mark, table.c.device.in_(rollout.canaries)
            )
        return tuple(window for found in others.values() for window in found)

    def _windows(
        self, connection: sa.Connection, release: int, *conditions: sa.ColumnElement[bool]
    ) -> dict[str, list[Window]]:
        table = schema.windows
        query = (
            sa.select(
                table.c.device, table.c.samples, table.c.errors, table.c.p50_us, table.c.p99_us, table.c.confidence
            )
            .where(table.c.model == self.model, table.c.release == release, *conditions)
            .order_by(table.c.id.desc())
            .limit(CONTROL_WINDOWS * 50)
        )
        found: dict[str, list[Window]] = {}
        for row in connection.execute(query):
            mine = found.setdefault(row.device, [])
            if len(mine) < CONTROL_WINDOWS:
                mine.append(Window(row.samples, row.errors, row.p50_us, row.p99_us, row.confidence))
        return found
