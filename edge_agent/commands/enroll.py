"""Take an enrolment file and prepare this device.

FILE is what "cloud-trainer fleet enroll" wrote for this very device. It is checked and copied into the state directory,
readable by its owner only (it may hold the broker's password). Enrolling again replaces the old enrolment; an agent
that runs takes it at its next start.
"""

from __future__ import annotations

import argparse
import os
import socket
import urllib.error
import urllib.request
from pathlib import Path

from edge_agent.connection import tls_context
from edge_agent.state import StateDirectory
from shared import cli
from shared.enrolment import Enrolment, load_enrolment, save_enrolment
from shared.errors import ConfigError, LinkError, TrustError, UsageError
from shared.files import reason, write_atomic

CHECK_SECONDS = 5.0

CONFIG = """\
# The agent's configuration; relative paths are relative to this file. Start it with: edge-agent run {name}
state = {state}
model = "{model}"

[source]
kind = "command"                      # a program that writes {{"id": "...", "data": BASE64}} lines; or "npz", "stdin"
command = ["python3", "camera.py"]

[[sinks]]
kind = "file"                         # or "stdout", "mqtt"
path = "answers.jsonl"

[selection]
goal = "latency"                      # the fastest variant ...
quality_drop = 0.01                   # ... that is at most this much worse than the best

[report]
every_seconds = 30.0
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments."""
    parser.add_argument("file", type=Path, metavar="FILE", help="the enrolment file")
    parser.add_argument("--state", type=Path, default=Path("state"), help="state directory (default: %(default)s)")
    parser.add_argument("--config-out", type=Path, help="also write a configuration to start from, e.g. agent.toml")
    parser.add_argument("--check", action="store_true", help="also try to reach the broker and the repository")


def run(args: argparse.Namespace) -> int:
    """Validate, copy, say what is next."""
    enrolment = load_enrolment(args.file)
    if enrolment.broker.tls:
        tls_context(enrolment.broker)
    _check_root(enrolment, args.file)
    if args.config_out is not None:
        _check_config_out(args.config_out, args.state)
    try:
        _write(enrolment, StateDirectory(args.state), args.config_out)
    except OSError as error:
        raise UsageError(f"{error.filename or args.state}: cannot be written: {reason(error)}") from error
    print(f"enrolled {enrolment.site}/{enrolment.device} for {', '.join(enrolment.models)} in {args.state}")
    if args.check:
        for line in check(enrolment):
            print(line)
    config = args.config_out or Path("agent.toml")
    hint = "" if args.config_out else f' (with state = "{args.state}"; --config-out writes one)'
    print(f"next: edit {config}{hint}, then: edge-agent run {config}")
    return cli.DONE


def _check_root(enrolment: Enrolment, file: Path) -> None:
    from edge_agent.updates.client import verify_root

    try:
        verify_root(enrolment.root)
    except TrustError as error:
        text = f"its root of trust is not genuine, the file was damaged or changed ({error}); get it again"
        raise ConfigError(text, file=str(file)) from error


def _check_config_out(path: Path, state: Path) -> None:
    if path.exists():
        raise UsageError(f"--config-out {path}: exists already; it is not overwritten")
    if not path.parent.is_dir() and path.parent.resolve() != state.resolve():
        raise UsageError(f"--config-out {path}: there is no directory {path.parent}")


def _write(enrolment: Enrolment, state: StateDirectory, config_out: Path | None) -> None:
    """Both files, or none: the enrolment, which counts, comes last."""
    state.root.mkdir(parents=True, exist_ok=True, mode=0o700)
    if config_out is not None:
        write_atomic(config_out, _config(config_out, state.root, enrolment.models[0]).encode())
    try:
        save_enrolment(enrolment, state.enrolment_file)
    except OSError:
        if config_out is not None:
            config_out.unlink(missing_ok=True)
        raise


def _config(path: Path, state: Path, model: str) -> str:
    base = path.resolve().parent
    relative = os.path.relpath(state.resolve(), base)
    name = relative if not relative.startswith("..") else str(state.resolve())
    quoted = '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return CONFIG.format(name=path.name, state=quoted, model=model)


def check(enrolment: Enrolment) -> list[str]:
    """Try the broker's port and the repository.

    Raises:
        LinkError: one does not answer; the message says which.
    """
    broker = enrolment.broker
    where = f"{broker.host}:{broker.port}"
    try:
        with socket.create_connection((broker.host, broker.port), CHECK_SECONDS) as connection:
            if broker.tls:
                tls_context(broker).wrap_socket(connection, server_hostname=broker.host).close()
    except OSError as error:
        raise LinkError(f"the broker at {where} cannot be reached: {error.strerror or error}") from error
    url = enrolment.repository.rstrip("/") + "/metadata/timestamp.json"
    try:
        if not url.startswith(("http://", "https://")):
            raise LinkError(f"the repository {url} is no http or https address")
        with urllib.request.urlopen(url, timeout=CHECK_SECONDS):  # noqa: S310  (the scheme was checked)
            pass
    except (urllib.error.URLError, OSError) as error:
        reason = getattr(error, "reason", error)
        raise LinkError(f"the repository at {enrolment.repository} cannot be reached: {reason}") from error
    return [f"the broker at {where} answers", f"the repository at {enrolment.repository} answers"]
