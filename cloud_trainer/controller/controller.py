"""One tick of the controller: fold, decide, ask. No threads and no sockets, so that tests drive it by hand."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

import msgspec

from cloud_trainer.config import TaskConfig
from cloud_trainer.controller import collect, records, schema
from cloud_trainer.controller.fleet import FOLD_ROWS, Fleet
from cloud_trainer.controller.incident_desk import IncidentDesk
from cloud_trainer.controller.releases import Releases
from cloud_trainer.controller.retrain import TRAIN_COMMAND
from cloud_trainer.controller.rollout_desk import RolloutDesk
from cloud_trainer.controller.store import DAY, Store, prune, read_meta, upsert
from cloud_trainer.controller.timeline import Timeline
from cloud_trainer.registry import Registry
from shared import topics
from shared.errors import SanderlingError
from shared.messages import Command, Desired, Message

HOUSEKEEPING_SECONDS = 3600.0
RETRY_SECONDS = 60.0
GAP_SECONDS = 60.0  # between two ticks: longer than any tick takes
HEARD = "heard"
WARN_SECONDS = 45 * DAY

logger = logging.getLogger(__name__)


class Publisher(Protocol):
    """What the controller needs of MQTT (see ``ingest.Link``)."""

    connects: int

    @property
    def online(self) -> bool:
        """There is a connection: devices can be heard."""
        ...

    def publish(self, topic: str, message: Message, *, retain: bool = False, token: str = "") -> bool:
        """Hand over a message; false if there is no connection."""
        ...

    def take_sent(self) -> list[str]:
        """Tokens of what the broker has acknowledged since the last call."""
        ...


class Controller:
    """Everything between the rows and the wishes. Used by one thread."""

    def __init__(
        self,
        store: Store,
        registry: Registry,
        tasks: Sequence[tuple[Path, TaskConfig]],
        site: str,
        workspace: Path,
        publisher: Publisher,
        *,
        train_command: Sequence[str] = TRAIN_COMMAND,
    ) -> None:
        self._store, self._registry, self._site, self._publisher = store, registry, site, publisher
        releases = Releases(registry)
        self._fleet = Fleet(releases, {task.name: task.fleet.false_alarm_every_reports for _, task in tasks})
        self._incidents = [
            IncidentDesk(store, registry, releases, self._fleet, task, path, workspace, train_command=train_command)
            for path, task in tasks
        ]
        self._rollouts = [RolloutDesk(store, releases, task) for _, task in tasks]
        self._timeline = Timeline(workspace)
        self._asked: dict[tuple[str, str], int] = {}  # (device, model) -> release that was asked for
        self._under_way: set[str] = set()  # commands handed over and not yet acknowledged by the broker
        self._connection = 0
        self._housekeeping = 0.0
        self._heard: float | None = None  # when devices could be heard last
        self._warned = 0.0
        self._noted = 0.0  # the same, as it is in the database

    def tick(self, now: float) -> None:
        """Take in what came, decide, ask. Safe to repeat, and to be killed in."""
        if not self._housekeeping - HOUSEKEEPING_SECONDS <= now < self._housekeeping:  # or the clock was set back
            self._keep_house(now)
        if self._publisher.online:
            self._catch_up(now)
            self._decide(now)
        self._timeline.copy(self._store)

    def _decide(self, now: float) -> None:
        with self._store.reading() as connection:
            mark = records.last_window(connection, folded=True)
        while True:
            with self._store.transaction() as connection:
                if self._fleet.fold(connection) < FOLD_ROWS:
                    break
        for incidents in self._incidents:
            incidents.step(now, mark)
        for rollouts in self._rollouts:
            rollouts.step(now)
        self._ask_releases(now)
        self._send_commands(now)

    def stop(self) -> None:
        """End trainings and copy the last lines of the timeline."""
        self.end_trainings()
        self._timeline.copy(self._store)

    def end_trainings(self) -> None:
        """End the training processes; the rows stay as they are, so the next controller starts them again."""
        for incidents in self._incidents:
            incidents.stop()

    def _catch_up(self, now: float) -> None:
        """Time in which no device could be heard (controller or broker down) counts against no time limit, and neither
        does a clock that is set."""
        with self._store.reading() as connection:
            heard = self._heard or float(read_meta(connection, HEARD) or now)
        gap = now - heard
        if abs(gap) > GAP_SECONDS or abs(now - self._noted) >= GAP_SECONDS / 6 or self._heard is None:
            with self._store.transaction() as connection:
                if abs(gap) > GAP_SECONDS:
                    logger.info("nobody was heard for %.0f s: time limits are moved by as much", gap)
                    records.shift_open(connection, gap)
                upsert(connection, schema.meta, {"key": HEARD, "value": repr(now)})
            self._noted = now
        self._heard = now

    def _keep_house(self, now: float) -> None:
        self._housekeeping = now + HOUSEKEEPING_SECONDS
        with self._store.transaction() as connection:
            prune(connection, now)
        try:
            if self._registry.refresh(now):
                logger.info("the repository's signatures were renewed")
            self._warn(now)
        except SanderlingError as error:
            self._housekeeping = now + RETRY_SECONDS
            logger.warning("the repository's signatures could not be renewed: %s", error)

    def _warn(self, now: float) -> None:
        """Once a day, while there is time to fetch the offline keys."""
        late = {role: at for role, at in self._registry.offline_expiry().items() if at - now < WARN_SECONDS}
        if late and not 0 <= now - self._warned < DAY:
            self._warned = now
            for role, at in late.items():
                day = datetime.fromtimestamp(at, UTC)
                logger.warning(
                    "the %s role expires on %s: sign it again with the offline keys, or devices take no update",
                    role,
                    f"{day:%Y-%m-%d}",
                )

    def _ask_releases(self, now: float) -> None:
        if self._publisher.connects != self._connection:
            # the broker may have forgotten retained messages, and what was on its way is on its way no more
            self._connection = self._publisher.connects
            self._asked.clear()
            self._under_way.clear()
        for desk in self._rollouts:
            with self._store.reading() as connection:
                wanted = desk.wanted(connection)
            for device, release in wanted.items():
                if release == 0 or self._asked.get((device, desk.model)) == release:
                    continue
                desired = Desired(model=desk.model, release=release, time=now)
                if self._publisher.publish(
                    topics.down(self._site, device, "desired", desk.model), desired, retain=True
                ):
                    self._asked[device, desk.model] = release
                    logger.debug("asked %s to run %s/%d", device, desk.model, release)

    def _send_commands(self, now: float) -> None:
        table = schema.commands
        sent = self._publisher.take_sent()
        with self._store.transaction() as connection:
            for token in sent:
                self._under_way.discard(token)
                device, _, id_ = token.partition(" ")
                mine = (table.c.id == id_) & (table.c.device == device)
                connection.execute(table.update().where(mine).values(sent=now))
            collect.ask_again(connection, now)
            rows = connection.execute(table.select().where(table.c.sent.is_(None)).order_by(table.c.created)).all()
        for row in rows:
            token = f"{row.device} {row.id}"
            if token in self._under_way:
                continue
            command = msgspec.json.decode(row.payload, type=Command)
            if self._publisher.publish(topics.down(self._site, row.device, "cmd", row.verb), command, token=token):
                self._under_way.add(token)
