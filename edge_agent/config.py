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
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct

from edge_agent.scheduler.config import SchedulerConfig
from edge_agent.server.config import HttpConfig
from edge_agent.sinks.config import Bytes, FileSink, PredictionSink, PythonSink, SinkConfig, StdoutSink, WebhookSink
from edge_agent.sources.config import (
    CameraSource,
    CommandSource,
    DirectorySource,
    MqttSource,
    NpzSource,
    PythonSource,
    ReplaySource,
    Seconds,
    SourceConfig,
    StdinSource,
)
from edge_agent.stepping import SteppingConfig
from shared.config import load_toml
from shared.errors import ConfigError
from shared.manifest import Name

__all__ = [
    "AgentConfig",
    "CameraSource",
    "CommandSource",
    "DirectorySource",
    "DriftConfig",
    "FeedbackConfig",
    "FileSink",
    "HttpConfig",
    "MqttSource",
    "NpzSource",
    "OutboxConfig",
    "PredictionSink",
    "PythonSink",
    "PythonSource",
    "ReplaySource",
    "ReportConfig",
    "SamplesConfig",
    "SchedulerConfig",
    "SelectionConfig",
    "SinkConfig",
    "SourceConfig",
    "StdinSource",
    "StdoutSink",
    "SteppingConfig",
    "WebhookSink",
    "load_config",
]

LEARN_LEAST = 50
S = TypeVar("S", bound=Struct)


class SelectionConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """Which measured variant to run.

    ``goal = "latency"``: the fastest whose quality is within ``quality_drop`` of the best; ``"quality"`` for the
    best one (first by quality, then by latency); ``"energy"`` for the one that takes the least energy within
    ``quality_drop``, where the processor counts it. ``p99_ms`` and ``max_bytes`` exclude. ``variant`` forces one.
    """

    goal: Literal["latency", "quality", "energy"] = "latency"
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
    max_bytes: Bytes = 2 << 20


class FeedbackConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """How many of the latest answers are ``remembered``, so that a truth that comes later finds its answer."""

    remembered: Annotated[int, Meta(ge=1, le=10_000_000)] = 4096


class DriftConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """How many answers (50 to 100,000) a baseline is learned from, where the model brings none; 0 to not watch such a
    model."""

    learn: Annotated[int, Meta(ge=0, le=100_000)] = 2000


class AgentConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file. With ``release`` (a release's directory or a bare model file) the agent runs that, alone: without
    enrolment, MQTT and updates."""

    state: str
    model: Name
    release: str | None = None
    source: SourceConfig | None = None
    sinks: tuple[SinkConfig, ...] = ()
    selection: SelectionConfig = SelectionConfig()
    report: ReportConfig = ReportConfig()
    outbox: OutboxConfig = OutboxConfig()
    samples: SamplesConfig = SamplesConfig()
    feedback: FeedbackConfig = FeedbackConfig()
    drift: DriftConfig = DriftConfig()
    scheduler: SchedulerConfig | None = None
    http: HttpConfig | None = None
    stepping: SteppingConfig = SteppingConfig()
    threads: Annotated[int, Meta(ge=1, le=64)] = 1
    memory_arena: bool = False
    log_level: Literal["debug", "info", "warning", "error"] = "info"


PATHS = ("path", "directory", "done", "token_file", "password_file")
"""Keys of sources, sinks and tables that name a file or folder."""


def load_config(path: Path) -> AgentConfig:
    """Read and check ``path``; relative paths in it become absolute.

    Raises:
        ConfigError: with file, line and what was expected.
    """
    config = load_toml(path, AgentConfig)
    base = path.resolve().parent
    if config.source is None and config.http is None:
        raise ConfigError("missing table [source] (or [http]): where do samples come from?", file=str(path))
    if 0 < config.drift.learn < LEARN_LEAST:
        raise ConfigError(
            f"drift.learn: expected 0 or at least {LEARN_LEAST}, got {config.drift.learn}", file=str(path)
        )
    state = base / config.state
    if state.exists() and not state.is_dir():
        raise ConfigError(f"state {state} is a file; it must be a directory", file=str(path))
    return msgspec.structs.replace(
        config,
        state=str(state),
        release=None if config.release is None else str(base / config.release),
        source=config.source and absolute(config.source, base),
        http=config.http and absolute(config.http, base),
        sinks=tuple(absolute(sink, base) for sink in config.sinks),
    )


def absolute(config: S, base: Path) -> S:
    """``config`` with its relative paths made absolute; empty ones stay empty.

    >>> absolute(NpzSource(path="x.npz"), Path("/srv")).path
    '/srv/x.npz'
    """
    named: dict[str, Any] = {key: getattr(config, key, "") for key in PATHS}
    return msgspec.structs.replace(config, **{key: str(base / value) for key, value in named.items() if value})
