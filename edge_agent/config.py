"""The agent's configuration: one TOML file, checked before anything starts. Relative paths are relative to the file.

::

    state = "state"                      # everything that must survive a restart lives here
    model = "digits"

    [source]
    kind = "command"
    command = ["python3", "camera.py"]

    [[sinks]]
    kind = "file"
    path = "answers.jsonl"

    [selection]
    goal = "latency"
    quality_drop = 0.01
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from shared.config import load_toml
from shared.errors import ConfigError
from shared.manifest import Name

Seconds = Annotated[float, Meta(gt=0, le=86_400)]
Bytes = Annotated[int, Meta(ge=1 << 16)]


class CommandSource(Struct, frozen=True, tag="command", tag_field="kind", forbid_unknown_fields=True):
    """A program that writes samples as JSON lines: ``{"id": "...", "data": BASE64}`` with raw little-endian values of
    the release's sample dtype and shape, or ``{"id": "...", "values": [...]}``. It runs in ``directory``."""

    command: Annotated[tuple[str, ...], Meta(min_length=1)]
    directory: str = "."
    restart_seconds: Seconds = 1.0


class NpzSource(Struct, frozen=True, tag="npz", tag_field="kind", forbid_unknown_fields=True):
    """Samples of an ``.npz`` file (array ``x``, optional ``ids``), played at ``rate_hz``, once. Where there are no
    ids, the engine makes some."""

    path: str
    rate_hz: Annotated[float, Meta(gt=0)] = 30.0


class StdinSource(Struct, frozen=True, tag="stdin", tag_field="kind", forbid_unknown_fields=True):
    """The JSON lines of :class:`CommandSource`, from standard input."""


class FileSink(Struct, frozen=True, tag="file", tag_field="kind", forbid_unknown_fields=True):
    """Answers as JSON lines, appended; the file is rotated to ``<path>.1`` at ``max_bytes``."""

    path: str
    max_bytes: Bytes = 64 << 20


class StdoutSink(Struct, frozen=True, tag="stdout", tag_field="kind", forbid_unknown_fields=True):
    """Answers as JSON lines on standard output."""


class PredictionSink(Struct, frozen=True, tag="mqtt", tag_field="kind", forbid_unknown_fields=True):
    """Answers as ``up/prediction/<model>`` messages of up to ``batch`` answers, QoS 0, not through the outbox."""

    batch: Annotated[int, Meta(ge=1, le=1000)] = 50


class SelectionConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """Which measured variant to run.

    ``goal = "latency"``: the fastest whose quality is within ``quality_drop`` of the best; ``"quality"`` for the
    best one (first by quality, then by latency). ``p99_ms`` and ``max_bytes`` exclude. ``variant`` forces one.
    """

    goal: Literal["latency", "quality"] = "latency"
    quality_drop: Annotated[float, Meta(ge=0, le=1)] = 0.01
    p99_ms: Annotated[float, Meta(gt=0)] | None = None
    max_bytes: Annotated[int, Meta(ge=1)] | None = None
    variant: str | None = None
    measure_seconds: Annotated[float, Meta(gt=0, le=60)] = 0.3


class ReportConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """How often drift windows and the state are sent."""

    every_seconds: Seconds = 30.0


class OutboxConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """Bounds of the durable queue of messages."""

    max_bytes: Bytes = 16 << 20
    group_rows: Annotated[int, Meta(ge=1, le=1000)] = 50
    group_seconds: Seconds = 30.0


class SamplesConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """Bounds of the store of samples worth labelling. A device sends samples only when ``share`` is true."""

    share: bool = True
    max_bytes: Bytes = 8 << 20


class AgentConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file."""

    state: str
    model: Name
    source: CommandSource | NpzSource | StdinSource
    sinks: tuple[FileSink | StdoutSink | PredictionSink, ...] = ()
    selection: SelectionConfig = SelectionConfig()
    report: ReportConfig = ReportConfig()
    outbox: OutboxConfig = OutboxConfig()
    samples: SamplesConfig = SamplesConfig()
    threads: Annotated[int, Meta(ge=1, le=64)] = 1
    log_level: Literal["debug", "info", "warning", "error"] = "info"


def load_config(path: Path) -> AgentConfig:
    """Read and check ``path``; relative paths in it become absolute.

    Raises:
        ConfigError: with file, line and what was expected.
    """
    config = load_toml(path, AgentConfig)
    base = path.resolve().parent
    source = config.source
    if isinstance(source, NpzSource):
        source = msgspec.structs.replace(source, path=str(base / source.path))
    elif isinstance(source, CommandSource):
        source = msgspec.structs.replace(source, directory=str(base / source.directory))
    sinks = tuple(
        msgspec.structs.replace(sink, path=str(base / sink.path)) if isinstance(sink, FileSink) else sink
        for sink in config.sinks
    )
    state = base / config.state
    if state.exists() and not state.is_dir():
        raise ConfigError(f"state {state} is a file; it must be a directory", file=str(path))
    return msgspec.structs.replace(config, state=str(state), source=source, sinks=sinks)
