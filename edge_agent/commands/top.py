"""Watch the agent live: rate, latency, the last answers, and the evidence of drift, scalar by scalar.

WHERE is the agent's state directory, its configuration file, or the model file or release that it was started with
(default: what runs in this directory). Bars show evidence on a logarithmic scale; a full one is the alarm. Ctrl-C ends.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from edge_agent.config import load_config
from edge_agent.engine import BARE_FILES
from edge_agent.screen import render
from edge_agent.service.options import model_name
from edge_agent.state import AgentStatus, StateDirectory
from shared import cli
from shared.errors import UsageError
from shared.manifest import MANIFEST_NAME

ENTER, LEAVE = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"
"""The terminal's second screen without a cursor, and back."""
HOME, END_OF_LINE, END_OF_SCREEN = "\x1b[H", "\x1b[K", "\x1b[J"
FRAME = (100, 40)
"""Columns and lines where there is no terminal."""
ALONE = Path(".sanderling")


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments."""
    parser.add_argument("where", type=Path, nargs="?", metavar="WHERE", help="state directory, configuration or model")
    parser.add_argument("--once", action="store_true", help="print one frame and stop")
    parser.add_argument("--seconds", type=float, default=1.0, help="between two frames (default: 1)")
    cli.add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Find the status file; draw it again and again."""
    if not 0.05 <= args.seconds <= 3600:
        raise UsageError(f"--seconds must be 0.05 to 3600, got {args.seconds:g}")
    state = StateDirectory(directory_of(args.where))
    if args.json:
        status = state.read(state.status, AgentStatus)
        cli.print_json({"state": str(state.root), "running": state.running(), "agent": msgspec.to_builtins(status)})
        return cli.DONE if status is not None else cli.FAILED
    colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    if args.once or not sys.stdout.isatty():
        lines = _frame(state, shutil.get_terminal_size(FRAME), colour=colour)
        while lines and not lines[-1]:
            lines.pop()
        print("\n".join(lines))
        return cli.DONE
    _live(state, args.seconds, colour=colour)
    return cli.DONE


def directory_of(where: Path | None) -> Path:
    """The state directory that ``where`` means.

    Raises:
        UsageError: there is no such thing.
        ConfigError: it is a configuration file with a mistake.
    """
    if where is None:
        return _here()
    if where.suffix.lower() in BARE_FILES or (where / MANIFEST_NAME).is_file():
        found = ALONE / model_name(where)
        if not found.is_dir():
            raise UsageError(f"{where}: no agent has run with it in this directory (no {found})")
        return found
    if where.is_file():
        return Path(load_config(where).state)
    if not where.is_dir():
        raise UsageError(f"{where}: no such file or directory")
    return where


def _here() -> Path:
    """What runs in this directory: its own state, ``state``, or the latest of ``.sanderling``."""
    alone = sorted(ALONE.iterdir()) if ALONE.is_dir() else []
    places = [place for place in (Path(), Path("state"), *alone) if (place / "status.json").is_file()]
    if not places:
        raise UsageError("no agent has run in this directory; say which: edge-agent top WHERE")
    return max(places, key=lambda place: (place / "status.json").stat().st_mtime)


def _frame(state: StateDirectory, size: tuple[int, int], *, colour: bool) -> list[str]:
    status = state.read(state.status, AgentStatus)
    return render(status, *size, now=time.time(), running=state.running(), colour=colour)


def _live(state: StateDirectory, seconds: float, *, colour: bool) -> None:
    wake, stop = threading.Event(), threading.Event()

    def told(signum: int, _frame: object) -> None:
        if signum != signal.SIGWINCH:
            stop.set()
        wake.set()

    with _signals(told), _second_screen():
        while not stop.is_set():
            wake.clear()
            lines = _frame(state, shutil.get_terminal_size(FRAME), colour=colour)
            sys.stdout.write(HOME + "\r\n".join(line + END_OF_LINE for line in lines) + END_OF_SCREEN)
            sys.stdout.flush()
            wake.wait(seconds)


@contextmanager
def _signals(handler: object) -> Iterator[None]:
    """Ctrl-C, a hang-up and termination end the loop in order; another size of the window wakes it."""
    names = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGWINCH)
    before = {name: signal.signal(name, handler) for name in names}  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name, old in before.items():
            signal.signal(name, old)


@contextmanager
def _second_screen() -> Iterator[None]:
    sys.stdout.write(ENTER)
    try:
        yield
    finally:
        sys.stdout.write(LEAVE)
        sys.stdout.flush()
