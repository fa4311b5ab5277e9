"""Run the controller of one site, and serve the fleet's repository over HTTP.

It takes in what devices report over MQTT, weighs the evidence for drift, asks for samples, waits for labels, trains,
publishes, and rolls out: one device first, then everyone. All state is in the workspace: stop it and start it again
as you like. Every decision is a line on standard error and in WORKSPACE/timeline.jsonl.
"""

from __future__ import annotations

import argparse
import signal
import threading
from pathlib import Path
from typing import Any

from cloud_trainer.config import load_controller
from shared.errors import MissingExtraError

HELP = "run the controller and serve the repository"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("config", type=Path, metavar="CONTROLLER.TOML", help="its settings: docs/configuration.md")
    parser.add_argument(
        "--ready-file",
        "--once-ready-file",
        type=Path,
        metavar="PATH",
        help='write {"url", "pid"} here once HTTP is up and the broker is connected',
    )


def run(args: argparse.Namespace) -> int:
    """Serve until SIGTERM or SIGINT."""
    config = load_controller(args.config)
    try:
        from cloud_trainer.controller.service import Service, set_up_logging
    except ModuleNotFoundError as error:
        raise MissingExtraError("cloud-trainer serve", "trainer") from error
    set_up_logging(config.log_level)
    stop = threading.Event()

    def end(_number: int, _frame: Any) -> None:
        stop.set()

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        Service(config).run(stop, ready_file=args.ready_file)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return 0
