"""Run the agent: read samples, answer them, watch for drift, report over MQTT, take updates.

CONFIG is the agent's TOML file, e.g.

  state = "state"                      # where edge-agent enroll has put the enrolment
  model = "digits"

  [source]
  kind = "command"                     # or "npz", "stdin"
  command = ["python3", "camera.py"]   # writes {"id": "...", "data": BASE64} lines

  [[sinks]]
  kind = "file"                        # or "stdout", "mqtt"
  path = "answers.jsonl"

A broker or repository that is away stops nothing: the agent goes on and tries again. SIGTERM and Ctrl-C end it
cleanly. What it does is logged to standard error; see also: edge-agent status CONFIG.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from pathlib import Path
from types import FrameType

from edge_agent.config import load_config
from edge_agent.state import StateDirectory
from shared import cli
from shared.errors import ConfigError, UsageError

log = logging.getLogger("edge_agent.service")


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments."""
    parser.add_argument("config", type=Path, metavar="CONFIG", help="the agent's TOML file")
    parser.add_argument("--log-level", choices=["debug", "info", "warning", "error"], help="instead of the file's")


def run(args: argparse.Namespace) -> int:
    """Until a signal, or the end of standard input when that is the source."""
    if args.config.suffix in {".onnx", ".tflite"} or args.config.is_dir():
        raise UsageError(
            f"{args.config}: expected the agent's configuration, a .toml file; to try a release: edge-agent infer"
        )
    config = load_config(args.config)
    start_logging(args.log_level or config.log_level)
    state = StateDirectory(Path(config.state))
    enrolment = state.enrolment()
    if config.model not in enrolment.models:
        raise ConfigError(
            f"model {config.model!r} is not this device's; it is enrolled for {', '.join(enrolment.models)}",
            file=str(args.config),
        )
    with state.lock():
        from edge_agent.service.loop import Service
        from edge_agent.updates import Updater

        service = Service(config, enrolment, state, Updater(enrolment, state.root, config.model))

        def stop(number: int, _frame: FrameType | None) -> None:
            log.info("stopping (%s)", signal.Signals(number).name)
            service.stop()

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, stop)
        log.info("device %s/%s, model %s, state %s", enrolment.site, enrolment.device, config.model, state.root)
        service.run()
    log.info("stopped")
    if service.left_behind:
        # the interpreter would end that thread inside the runtime's C++ code, which answers with abort()
        logging.shutdown()
        os._exit(cli.DONE)
    return cli.DONE


def start_logging(level: str) -> None:
    """One line an event on standard error."""
    logging.basicConfig(
        level=level.upper(), stream=sys.stderr, format="%(asctime)s %(levelname)-7s %(message)s", datefmt="%H:%M:%S"
    )
    for foreign in ("urllib3", "tuf", "securesystemslib"):  # theirs is told in our words
        logging.getLogger(foreign).setLevel(logging.ERROR)
