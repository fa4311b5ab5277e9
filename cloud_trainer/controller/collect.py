"""Asking devices for samples: who is asked when, again, and when there is nothing more to expect."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from cloud_trainer.controller import schema
from cloud_trainer.controller.inbox import samples_of
from cloud_trainer.controller.incidents import Incident
from cloud_trainer.controller.records import add_command
from shared.messages import Command

FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 60.0
PAUSES = 20  # from the first to the longest
SILENCE_SECONDS = 30.0  # a request without any answer is sent again after this
BARREN_REQUESTS = 4  # that brought nothing, in a row: the device has no more


def ask(connection: sa.Connection, incident: Incident, total: int, now: float) -> None:
    """Ask every device of ``incident`` that has samples to give and no request under way.

    Samples since a device's alarm are asked for: those before it are mostly the old world. As a camera needs time to
    see enough, a device that sent less than ``total`` is asked again, after longer and longer pauses.
    """
    for device in incident.devices:
        requests = _requests(connection, incident.id, device)
        have = samples_of(connection, incident.id, device)
        if requests and not _due(requests, have, total, now):
            continue
        since = max((row.until for row in requests), default=0.0) or _alarm(connection, incident, device)
        command = Command(
            id=f"incident-{incident.id}-{len(requests) + 1}",
            model=incident.model,
            time=now,
            count=total - have,
            since=since,
        )
        add_command(connection, device, "samples", command, incident=incident.id, total=total, had=have)


def ask_again(connection: sa.Connection, now: float) -> None:
    """Have requests sent again that nobody answered: a broker that restarted has forgotten them."""
    table = schema.commands
    silent = table.c.answered.is_(None) & (table.c.sent < now - SILENCE_SECONDS) & (table.c.verb == "samples")
    of_open = table.c.incident.in_(sa.select(schema.incidents.c.id).where(schema.incidents.c.state == "collecting"))
    connection.execute(table.update().where(silent, of_open).values(sent=None))


def finished(connection: sa.Connection, incident: Incident) -> frozenset[str]:
    """Devices that refused, or had nothing more to send several times in a row."""
    done = set()
    for device in incident.devices:
        requests = _requests(connection, incident.id, device)
        have = samples_of(connection, incident.id, device)
        barren = [row for row in requests[-BARREN_REQUESTS:] if row.answered is not None and row.had == have]
        if len(barren) == BARREN_REQUESTS or any(row.ok == 0 for row in requests):
            done.add(device)
    return frozenset(done)


def _requests(connection: sa.Connection, incident: int, device: str) -> Sequence[sa.Row[Any]]:
    table = schema.commands
    mine = (table.c.incident == incident) & (table.c.device == device) & (table.c.verb == "samples")
    return connection.execute(table.select().where(mine).order_by(table.c.created)).all()


def _due(requests: Sequence[sa.Row[Any]], have: int, total: int, now: float) -> bool:
    last = requests[-1]
    if have >= total or last.answered is None or last.ok == 0:
        return False
    pause = min(FIRST_PAUSE_SECONDS * 1.5 ** min(len(requests) - 1, PAUSES), LONGEST_PAUSE_SECONDS)
    return bool(now - last.answered >= pause)


def _alarm(connection: sa.Connection, incident: Incident, device: str) -> float:
    table = schema.alarms
    mine = (table.c.device == device) & (table.c.model == incident.model) & (table.c.release == incident.release)
    return connection.scalar(sa.select(table.c.time).where(mine)) or incident.since
