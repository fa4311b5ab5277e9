"""Sources and sinks as words of a command line, and the agent they make. Pure but for looking at what a path is."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

import msgspec

from edge_agent.config import (
    AgentConfig,
    CameraSource,
    CommandSource,
    DirectorySource,
    FileSink,
    MqttSource,
    PythonSink,
    PythonSource,
    ReplaySource,
    SinkConfig,
    SourceConfig,
    StdinSource,
    StdoutSink,
    WebhookSink,
)
from shared.errors import UsageError
from shared.manifest import MANIFEST_NAME

S = TypeVar("S", bound=msgspec.Struct)

SOURCES = "stdin, camera:0, FILE, DIRECTORY/, mqtt://HOST:PORT/TOPIC, command:PROGRAM ..., python:MODULE:FUNCTION"
SINKS = "stdout, FILE, https://HOST/PATH, python:MODULE:FUNCTION"
MODELS = (".onnx", ".tflite")


def is_model(path: Path) -> bool:
    """Whether ``path`` is something that can be run without a configuration: a model file or a release's directory."""
    return path.suffix.lower() in MODELS or path.is_dir()


def model_name(path: Path) -> str:
    """A name for what runs: the release's own, or the file's, in the letters that names may have.

    >>> model_name(Path("models/Face Detector.v2.onnx"))
    'face_detector_v2'
    """
    if path.is_dir() and (path / MANIFEST_NAME).is_file():
        from shared.manifest import load_manifest

        return load_manifest(path).name
    return re.sub(r"[^a-z0-9_-]+", "_", path.resolve().stem.lower())[:64].strip("_") or "model"


def parse_source(
    text: str, *, rate: float | None = None, loop: bool = False, pixels: int | None = None, resize: bool = False
) -> SourceConfig:
    """The source that ``text`` names; ``rate`` is for files and cameras, ``resize`` for files and directories.

    Raises:
        UsageError: it names none, or a value is out of range.

    >>> parse_source("camera:1", rate=5.0)
    CameraSource(backend='opencv', device='1', width=None, height=None, rate_hz=5.0, pixels=None)
    >>> parse_source("mqtt://broker:1884/plant/+/x").topic
    'plant/+/x'
    """
    kind, _, rest = text.partition(":")
    paced = {"rate_hz": rate} if rate is not None else {}
    white = {"pixels": pixels} if pixels is not None else {}
    fitted = {**white, "resize": True} if resize else white
    if text in {"stdin", "-"}:
        return StdinSource()
    if kind in {"camera", "picamera"}:
        backend = "opencv" if kind == "camera" else "picamera2"
        return _checked(CameraSource, {"backend": backend, "device": rest or "0", **paced, **white}, text)
    if kind == "command" and rest.strip():
        try:
            words = shlex.split(rest)
        except ValueError as error:
            raise UsageError(f"source {text}: {error}; expected a command as for a shell") from error
        return _checked(CommandSource, {"command": words}, text)
    if kind == "python" and rest:
        return _checked(PythonSource, {"function": rest}, text)
    if text.startswith(("mqtt://", "mqtts://")):
        return _mqtt(text)
    path = Path(text)
    if path.is_dir() and not loop and rate is None:
        return _checked(DirectorySource, {"path": str(path), **fitted}, text)
    if path.exists():
        return _checked(ReplaySource, {"path": str(path), "loop": loop, **paced, **fitted}, text)
    raise UsageError(f"source {text}: no such file or directory, and none of {SOURCES}")


def parse_sink(text: str) -> SinkConfig:
    """The sink that ``text`` names.

    Raises:
        UsageError: it names none.

    >>> parse_sink("http://127.0.0.1:9000/answers").url, parse_sink("out/answers.jsonl").path
    ('http://127.0.0.1:9000/answers', 'out/answers.jsonl')
    """
    kind, _, rest = text.partition(":")
    if text in {"stdout", "-"}:
        return StdoutSink()
    if text.startswith(("http://", "https://")):
        return _checked(WebhookSink, {"url": text}, text)
    if kind == "python" and rest:
        return _checked(PythonSink, {"function": rest}, text)
    path = Path(rest if kind == "file" and rest else text)
    if path.is_dir() or not path.name:
        raise UsageError(f"sink {text}: a directory; expected a file, or one of {SINKS}")
    return FileSink(path=str(path))


def local_config(config: AgentConfig, base: Path) -> AgentConfig:
    """``config`` with the paths of its words made absolute from ``base``."""
    from edge_agent.config import absolute

    return msgspec.structs.replace(
        config,
        source=config.source and absolute(config.source, base),
        sinks=tuple(absolute(sink, base) for sink in config.sinks),
    )


def _mqtt(text: str) -> MqttSource:
    try:
        url = urlsplit(text, allow_fragments=False)
        tls = url.scheme == "mqtts"
        port = url.port or (8883 if tls else 1883)
    except ValueError as error:
        raise UsageError(f"source {text}: {error}") from error
    topic = text.partition("//")[2].partition("/")[2]  # as it was written: '#', '+' and '?' are the topic's own
    if not topic or not url.hostname or url.username:
        raise UsageError(
            f"source {text}: expected mqtt://HOST[:PORT]/TOPIC; a password belongs into a configuration file"
        )
    return _checked(MqttSource, {"topic": topic, "host": url.hostname, "port": port, "tls": tls}, text)


def _checked(kind: type[S], values: dict[str, object], text: str) -> S:
    try:
        return msgspec.convert({"kind": kind.__struct_config__.tag, **values}, kind)
    except msgspec.ValidationError as error:
        from shared.explain import explain

        raise UsageError(f"{text}: {explain(error, kind)[0]}") from error
