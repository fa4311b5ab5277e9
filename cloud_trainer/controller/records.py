"""Incidents, rollouts, targets and commands as rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import sqlalchemy as sa
from msgspec.structs import replace

from cloud_trainer.controller import schema
from cloud_trainer.controller.incidents import Incident
from cloud_trainer.controller.rollout import Rollout
from cloud_trainer.controller.store import LogEntry, insert_ignore, upsert, write_log
from shared.messages import Command


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def add_incident(connection: sa.Connection, incident: Incident, now: float) -> Incident:
    """Store a new incident; returns it with its number."""
    table = schema.incidents
    values = {"model": incident.model, "state": incident.state, "closed": None, "data": "{}"}
    key = connection.execute(table.insert().values(**values)).inserted_primary_key
    assert key is not None
    numbered = replace(incident, id=key[0])
    save_incident(connection, numbered)
    log_incident(connection, numbered, now)
    return numbered


def save_incident(connection: sa.Connection, incident: Incident) -> None:
    """Write an incident's present state."""
    table = schema.incidents
    values = {
        "state": incident.state,
        "closed": incident.entered if incident.closed else None,
        "data": _json(incident),
    }
    connection.execute(table.update().where(table.c.id == incident.id).values(**values))


def log_incident(connection: sa.Connection, incident: Incident, now: float) -> None:
    """Log the state that an incident has just entered."""
    details = {
        "release": incident.release,
        "devices": incident.devices,
        "evidence": incident.evidence,
        "effect": incident.effect,
        "feature": incident.feature,
        "shift": incident.shift,
        "version": incident.version,
    }
    entry = LogEntry("incident", str(incident.id), incident.model, incident.state, incident.reason, details)
    write_log(connection, now, [entry])


def open_incident_of(connection: sa.Connection, model: str) -> Incident | None:
    """The incident of ``model`` that is under way."""
    table = schema.incidents
    query = sa.select(table.c.data).where(table.c.model == model, table.c.closed.is_(None))
    data = connection.scalar(query)
    return msgspec.json.decode(data, type=Incident) if data else None


def incidents_of(connection: sa.Connection, model: str | None = None) -> list[Incident]:
    """All incidents, oldest first, of one model or of all."""
    table = schema.incidents
    query = sa.select(table.c.data).order_by(table.c.id)
    if model is not None:
        query = query.where(table.c.model == model)
    return [msgspec.json.decode(data, type=Incident) for data in connection.scalars(query)]


def add_rollout(connection: sa.Connection, rollout: Rollout, now: float) -> Rollout:
    """Store a new rollout; returns it with its number, or the one that this release has already."""
    table = schema.rollouts
    values = {
        "model": rollout.model,
        "release": rollout.release,
        "state": rollout.state,
        "closed": None,
        "data": "{}",
    }
    new = insert_ignore(connection, table, values)
    mine = (table.c.model == rollout.model) & (table.c.release == rollout.release)
    row = connection.execute(table.select().where(mine)).one()
    if not new:
        return msgspec.json.decode(row.data, type=Rollout)
    numbered = replace(rollout, id=row.id)
    save_rollout(connection, numbered)
    log_rollout(connection, numbered, now)
    return numbered


def save_rollout(connection: sa.Connection, rollout: Rollout) -> None:
    """Write a rollout's present state."""
    table = schema.rollouts
    values = {"state": rollout.state, "closed": rollout.entered if rollout.closed else None, "data": _json(rollout)}
    connection.execute(table.update().where(table.c.id == rollout.id).values(**values))


def log_rollout(connection: sa.Connection, rollout: Rollout, now: float) -> None:
    """Log the state that a rollout has just entered."""
    details = {
        "release": rollout.release,
        "parent": rollout.parent,
        "canaries": rollout.canaries,
        "incident": rollout.incident,
    }
    text = f"release {rollout.release}: {rollout.reason}"
    write_log(connection, now, [LogEntry("rollout", str(rollout.id), rollout.model, rollout.state, text, details)])


def rollouts_of(connection: sa.Connection, model: str | None = None, *, only_open: bool = False) -> list[Rollout]:
    """Rollouts by release, of one model or of all."""
    table = schema.rollouts
    query = sa.select(table.c.data).order_by(table.c.model, table.c.release)
    if model is not None:
        query = query.where(table.c.model == model)
    if only_open:
        query = query.where(table.c.closed.is_(None))
    return [msgspec.json.decode(data, type=Rollout) for data in connection.scalars(query)]


def rollout_of(connection: sa.Connection, model: str, release: int) -> Rollout | None:
    """The rollout of a release, if it has one."""
    table = schema.rollouts
    data = connection.scalar(sa.select(table.c.data).where(table.c.model == model, table.c.release == release))
    return msgspec.json.decode(data, type=Rollout) if data else None


def shift_open(connection: sa.Connection, seconds: float) -> None:
    """Move the time limits of everything that is under way: ``seconds`` have passed that do not count."""
    incidents = schema.incidents
    for data in connection.scalars(sa.select(incidents.c.data).where(incidents.c.closed.is_(None))).all():
        incident = msgspec.json.decode(data, type=Incident)
        save_incident(connection, replace(incident, entered=incident.entered + seconds))
    for rollout in rollouts_of(connection, only_open=True):
        save_rollout(connection, replace(rollout, entered=rollout.entered + seconds))


def target_of(connection: sa.Connection, model: str) -> int:
    """The release that the whole fleet should run; 0: none yet."""
    table = schema.targets
    return connection.scalar(sa.select(table.c.release).where(table.c.model == model)) or 0


def set_target(connection: sa.Connection, model: str, release: int, now: float) -> None:
    """From now on the whole fleet should run ``release``."""
    upsert(connection, schema.targets, {"model": model, "release": release})
    text = f"release {release} of {model} is what the fleet should run"
    write_log(connection, now, [LogEntry("release", str(release), model, "current", text)])


def last_window(connection: sa.Connection, *, folded: bool = False) -> int:
    """Number of the newest window (that was looked at); 0: none."""
    table = schema.windows
    query = sa.select(sa.func.max(table.c.id))
    return connection.scalar(query.where(table.c.round.is_not(None)) if folded else query) or 0


def add_command(
    connection: sa.Connection, device: str, verb: str, command: Command, *, incident: int, total: int = 0, had: int = 0
) -> bool:
    """Store a command to be sent; false if this device has one of that id already."""
    return insert_ignore(
        connection,
        schema.commands,
        {
            "id": command.id,
            "device": device,
            "incident": incident,
            "verb": verb,
            "payload": _json(command),
            "created": command.time,
            "total": total,
            "had": had,
            "until": 0.0,
            "text": "",
        },
    )


def device_release(connection: sa.Connection, model: str) -> Mapping[str, sa.Row[Any]]:
    """Every device that has ``model``, with what it reports: device, online, seen, release, variant, refused, error."""
    devices, running = schema.devices, schema.device_models
    query: sa.Select[Any] = (
        sa.select(
            devices.c.device,
            devices.c.online,
            devices.c.seen,
            running.c.release,
            running.c.variant,
            running.c.refused,
            running.c.error,
        )
        .join(running, running.c.device == devices.c.device)
        .where(running.c.model == model)
        .order_by(devices.c.device)
    )
    return {row.device: row for row in connection.execute(query)}
