"""What the agent with this state directory is doing.

WHERE is the agent's state directory or its configuration file. Works while the agent runs and when it does not: then it
shows what it left behind. Exit code 0 when the agent runs, 1 when it does not.
"""

from __future__ import annotations

import argparse
import sqlite3
import time
from pathlib import Path
from typing import Any

import msgspec

from edge_agent.config import load_config
from edge_agent.screen import duration
from edge_agent.state import AgentStatus, StateDirectory, performance_text
from edge_agent.updates.slots import Slots
from shared import cli
from shared.enrolment import Enrolment
from shared.errors import ConfigError, UsageError


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments."""
    parser.add_argument("where", type=Path, metavar="WHERE", help="state directory or configuration file")
    cli.add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Read, print."""
    state = StateDirectory(_directory(args.where))
    running = state.running()
    status = state.read(state.status, AgentStatus)
    enrolment = _enrolment(state)
    if status is None and enrolment is None:
        raise UsageError(f"{state.root} is no agent's state directory; first run: edge-agent enroll FILE --state DIR")
    found = _found(state, status, enrolment, running=running)
    if args.json:
        cli.print_json(found)
    else:
        print(_text(found, time.time()))
    return cli.DONE if running else cli.FAILED


def _directory(where: Path) -> Path:
    if where.is_file():
        return Path(load_config(where).state)
    if not where.exists():
        raise UsageError(f"{where}: no such file or directory")
    return where


def _enrolment(state: StateDirectory) -> Enrolment | None:
    try:
        return state.enrolment()
    except ConfigError:
        return None


def _found(
    state: StateDirectory, status: AgentStatus | None, enrolment: Enrolment | None, *, running: bool
) -> dict[str, Any]:
    found: dict[str, Any] = {"state": str(state.root), "running": running}
    if enrolment is not None:
        found |= {"site": enrolment.site, "device": enrolment.device, "models": list(enrolment.models)}
        found["installed"] = {model: _installed(state, model) for model in enrolment.models}
    if status is not None:
        found["agent"] = msgspec.to_builtins(status)
    if not running:
        found["outbox_rows"] = _outbox_rows(state)
    return found


def _installed(state: StateDirectory, model: str) -> int:
    current = Slots(state.root / "models" / model, model).current()
    return current.version if current else 0


def _outbox_rows(state: StateDirectory) -> int | None:
    """Rows that wait on disk; None when the file cannot be read."""
    if not state.outbox.exists():
        return 0
    try:
        connection = sqlite3.connect(f"file:{state.outbox}?mode=ro", uri=True)
        try:
            return int(connection.execute("SELECT COUNT(*) FROM outbox").fetchone()[0])
        finally:
            connection.close()
    except sqlite3.Error:
        return None


def _text(found: dict[str, Any], now: float) -> str:
    agent = found.get("agent")
    running = found["running"]
    alone = "device" not in found  # a model that runs without a fleet: nobody to report to
    rows = [] if alone else [("device", f"{found.get('site', '?')}/{found['device']}")]
    if running and agent:
        rows.append(("agent", f"running, process {agent['pid']}, for {duration(now - agent['started'])}"))
    else:
        rows.append(("agent", "running" if running else "not running"))
    for model, version in found.get("installed", {}).items():
        rows.append((model, f"release {version}" if version else "no release installed"))
    if agent:
        rows += _agent_rows(agent, now, running=running, alone=alone)
    if not running and not alone:
        waiting = found["outbox_rows"]
        rows.append(("outbox", "cannot be read" if waiting is None else f"{waiting} messages wait on disk"))
    width = max(len(name) for name, _ in rows) + 2
    return "\n".join(f"{name:<{width}}{text}" for name, text in rows)


def _agent_rows(agent: dict[str, Any], now: float, *, running: bool, alone: bool) -> list[tuple[str, str]]:
    seen = "" if running else f" (as of {duration(now - agent['time'])} ago)"
    answers = (
        f"{agent['samples']} samples, {agent['errors']} errors, {agent['rate_hz']:.1f} a second, "
        f"p50 {agent['p50_us']:.0f} µs, p99 {agent['p99_us']:.0f} µs"
    )
    rows = [
        ("variant", (agent["variant"] or "none") + (", paused" if agent["paused"] else "") + seen),
        ("source", agent["source"]),
        ("answers", answers),
        ("drift", f"evidence {agent['drift_evidence']:.3g} of 1" + (", ALARM" if agent["drift_alarm"] else "")),
    ]
    if text := performance_text(agent):
        rows.append(("accuracy", text))
    rows += [("sink", error) for error in agent["sink_errors"]]
    if agent["learned"] < agent["learning"]:
        rows.append(("baseline", f"{agent['learned']} of {agent['learning']} answers learned; no alarm before that"))
    elif agent["learning_note"]:
        rows.append(("baseline", agent["learning_note"]))
    if running and agent["http"]:
        rows.insert(2, ("http", f"http://{agent['http']}/v2"))
    if alone:
        return rows
    rows.append(("report", f"{duration(now - agent['last_report'])} ago" if agent["last_report"] else "none yet"))
    if running:
        since = duration(now - agent["connection_since"])
        link = f"connected for {since}" if agent["connected"] else f"not connected: {agent['connection']}"
        rows.append(("broker", link))
        rows.append(("outbox", f"{agent['outbox_rows']} messages wait, {agent['dropped']} dropped so far"))
    if agent["update"]:
        rows.append(("update", agent["update"]))
    return rows
