"""Configuration of the sinks: one Struct for each kind. Paths are relative to the file that names them."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from edge_agent.sources.config import Function, Seconds

Bytes = Annotated[int, Meta(ge=1 << 16)]


class FileSink(Struct, frozen=True, tag="file", tag_field="kind", forbid_unknown_fields=True):
    """Answers as JSON lines, appended; the file is rotated to ``<path>.1`` at ``max_bytes``."""

    path: str
    max_bytes: Bytes = 64 << 20


class StdoutSink(Struct, frozen=True, tag="stdout", tag_field="kind", forbid_unknown_fields=True):
    """Answers as JSON lines on standard output."""


class PredictionSink(Struct, frozen=True, tag="mqtt", tag_field="kind", forbid_unknown_fields=True):
    """Answers as ``up/prediction/<model>`` messages of up to ``batch`` answers, QoS 0, not through the outbox."""

    batch: Annotated[int, Meta(ge=1, le=1000)] = 50


class WebhookSink(Struct, frozen=True, tag="webhook", tag_field="kind", forbid_unknown_fields=True):
    """Answers POSTed to ``url`` as a JSON array of up to ``batch``. Up to ``queue`` wait for an address that is away;
    more are lost, the oldest first, and counted. ``token_file`` holds a bearer token."""

    url: Annotated[str, Meta(pattern=r"^https?://[^/\s]+")]
    batch: Annotated[int, Meta(ge=1, le=10_000)] = 100
    queue: Annotated[int, Meta(ge=1, le=1_000_000)] = 10_000
    timeout_seconds: Seconds = 10.0
    token_file: str = ""


class PythonSink(Struct, frozen=True, tag="python", tag_field="kind", forbid_unknown_fields=True):
    """A Python function ``module:function`` found from ``directory``, called with each answer."""

    function: Function
    directory: str = "."


SinkConfig = FileSink | StdoutSink | PredictionSink | WebhookSink | PythonSink
