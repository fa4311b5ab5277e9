"""Run a model: answer what a source gives, watch for drift, hand the answers on.

WHAT is a model file (.onnx, .tflite), a release's directory, or the agent's TOML file. A model runs alone, with what
the options say:

  edge-agent run model.onnx --source camera:0
  edge-agent run releases/digits/7 --source samples.npz --rate 20 --sink answers.jsonl
  edge-agent run model.tflite --http 127.0.0.1:8000

A source is one of: stdin (JSON lines), camera:INDEX or camera:URL, picamera:INDEX, a file that edge-agent infer reads
(played at --rate), a directory (its new files), mqtt://HOST:PORT/TOPIC, command:PROGRAM, python:MODULE:FUNCTION.
A sink is one of: stdout, a file, an http(s) address, python:MODULE:FUNCTION.

A TOML file makes it an agent of a fleet that reports over MQTT and takes updates:

  state = "state"                      # where edge-agent enroll has put the enrolment
  model = "digits"

  [source]
  kind = "command"                     # or "npz", "replay", "directory", "mqtt", "camera", "python", "stdin"
  command = ["python3", "camera.py"]   # writes {"id": "...", "data": BASE64} lines

  [[sinks]]
  kind = "file"                        # or "stdout", "mqtt", "webhook", "python"
  path = "answers.jsonl"

With release = "DIRECTORY or FILE" in it, it runs that alone, without an enrolment.

A broker or repository that is away stops nothing: the agent goes on and tries again. SIGTERM and Ctrl-C end it
cleanly. What it does is logged to standard error; see also: edge-agent status, edge-agent top.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from edge_agent.config import AgentConfig, HttpConfig, SelectionConfig, SinkConfig, StdoutSink, load_config
from edge_agent.server.config import parse_address
from edge_agent.service.options import is_model, local_config, model_name, parse_sink, parse_source
from edge_agent.state import StateDirectory
from shared import cli
from shared.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

log = logging.getLogger("edge_agent.service")

LEVELS = ["debug", "info", "warning", "error"]
ALONE = ("source", "sink", "rate", "loop", "pixels", "resize", "state", "variant", "threads")
"""Options that stand for what a configuration file says."""


class Stoppable(Protocol):
    """A service."""

    def stop(self) -> None:
        """End soon."""

    def run(self) -> None:
        """Until then."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments."""
    parser.add_argument("what", type=Path, metavar="WHAT", help="a model file, a release, or the agent's TOML file")
    parser.add_argument("--source", metavar="SOURCE", help="where samples come from")
    parser.add_argument("--sink", metavar="SINK", action="append", help="where answers go, may be repeated (stdout)")
    parser.add_argument("--http", metavar="HOST:PORT", help="serve the model over HTTP (Open Inference Protocol)")
    parser.add_argument(
        "--token-file", type=Path, metavar="FILE", help="with --http: its one line is the bearer token to ask for"
    )
    parser.add_argument("--variant", metavar="ID", help="run this variant of the release")
    parser.add_argument("--state", type=Path, metavar="DIR", help="what survives a restart (./.sanderling/NAME)")
    parser.add_argument("--rate", type=float, metavar="HZ", help="of a file that is played (30), of a camera (10)")
    parser.add_argument("--loop", action="store_true", help="play a file again and again")
    parser.add_argument(
        "--pixels", type=int, choices=[1, 255], help="what white is to a model of floating point images"
    )
    parser.add_argument("--resize", action="store_true", help="fit images of files to the model's size")
    parser.add_argument("--threads", type=int, metavar="N", help="threads inside the runtime (1)")
    parser.add_argument("--log-level", choices=LEVELS, help="instead of the file's")


def run(args: argparse.Namespace) -> int:
    """Until a signal, or the end of standard input when that is the source."""
    if args.token_file and not args.http:
        raise UsageError("--token-file is for --http HOST:PORT; a TOML file has token_file in its table [http]")
    if is_model(args.what):
        config = alone(args)
    else:
        given = [name for name in ALONE if getattr(args, name)]
        if given:
            raise UsageError(f"--{given[0]} is for running a model file or release; {args.what} says it itself")
        if args.what.suffix != ".toml" and not args.what.exists():
            raise UsageError(f"{args.what}: no such file")
        config = load_config(args.what)
        if args.http:
            config = msgspec.structs.replace(config, http=_http(args, config.http))
    start_logging(args.log_level or config.log_level)
    state = StateDirectory(Path(config.state))
    return run_alone(config, state) if config.release else run_in_fleet(config, state, args.what)


def alone(args: argparse.Namespace) -> AgentConfig:
    """The configuration that the options make.

    Raises:
        UsageError: there is neither a source nor HTTP, or an option names nothing.
    """
    what: Path = args.what
    if not what.exists():
        raise UsageError(f"{what}: no such file")
    name = model_name(what)
    text = args.source or ("stdin" if not args.http and not sys.stdin.isatty() else None)
    if text is None and not args.http:
        raise UsageError("nothing to answer: say --source SOURCE or --http HOST:PORT")
    if args.rate is not None and not args.rate > 0:
        raise UsageError(f"--rate: expected a number above 0, got {args.rate:g}")
    if args.threads is not None and not 1 <= args.threads <= 64:
        raise UsageError(f"--threads: expected 1 to 64, got {args.threads}")
    source = text and parse_source(text, rate=args.rate, loop=args.loop, pixels=args.pixels, resize=args.resize)
    sinks: Sequence[SinkConfig] = [parse_sink(one) for one in args.sink or []] or ([StdoutSink()] if source else [])
    config = AgentConfig(
        state=str((args.state or Path(".sanderling") / name).resolve()),
        model=name,
        release=str(what.resolve()),
        source=source or None,
        sinks=tuple(sinks),
        selection=SelectionConfig(variant=args.variant),
        http=_http(args, None) if args.http else None,
        threads=args.threads or 1,
        log_level="info" if sys.stderr.isatty() else "warning",
    )
    return local_config(config, Path.cwd())


def _http(args: argparse.Namespace, base: HttpConfig | None) -> HttpConfig:
    host, port = parse_address(args.http)
    config = msgspec.structs.replace(base or HttpConfig(), host=host, port=port)
    return msgspec.structs.replace(config, token_file=str(args.token_file.resolve())) if args.token_file else config


def run_alone(config: AgentConfig, state: StateDirectory) -> int:
    """A model by itself."""
    state.root.mkdir(parents=True, exist_ok=True)
    with state.lock():
        from edge_agent.service.local import LocalService

        _until_told(LocalService(config, state))
    return cli.DONE


def run_in_fleet(config: AgentConfig, state: StateDirectory, file: Path) -> int:
    """A device of a fleet."""
    enrolment = state.enrolment()
    if config.model not in enrolment.models:
        raise ConfigError(
            f"model {config.model!r} is not this device's; it is enrolled for {', '.join(enrolment.models)}",
            file=str(file),
        )
    with state.lock():
        from edge_agent.service.loop import Service
        from edge_agent.updates import Updater

        service = Service(config, enrolment, state, Updater(enrolment, state.root, config.model))
        log.info("device %s/%s, model %s, state %s", enrolment.site, enrolment.device, config.model, state.root)
        _until_told(service)
    if service.left_behind:
        # the interpreter would end that thread inside the runtime's C++ code, which answers with abort()
        logging.shutdown()
        os._exit(cli.DONE)
    return cli.DONE


def _until_told(service: Stoppable) -> None:
    def stop(number: int, _frame: FrameType | None) -> None:
        log.info("stopping (%s)", signal.Signals(number).name)
        service.stop()

    before: dict[int, Any] = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        service.run()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    log.info("stopped")


def start_logging(level: str) -> None:
    """One line an event on standard error."""
    logging.basicConfig(
        level=level.upper(), stream=sys.stderr, format="%(asctime)s %(levelname)-7s %(message)s", datefmt="%H:%M:%S"
    )
    for foreign in ("urllib3", "tuf", "securesystemslib"):  # theirs is told in our words
        logging.getLogger(foreign).setLevel(logging.ERROR)
