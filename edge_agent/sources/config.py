"""Configuration of the sources: one Struct for each kind. Paths are relative to the file that names them."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

Seconds = Annotated[float, Meta(gt=0, le=86_400)]
Rate = Annotated[float, Meta(gt=0, le=1_000_000)]
Port = Annotated[int, Meta(ge=1, le=65_535)]
White = Literal[1, 255]
FUNCTION_PATTERN = r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$"
Function = Annotated[str, Meta(pattern=FUNCTION_PATTERN)]


class CommandSource(Struct, frozen=True, tag="command", tag_field="kind", forbid_unknown_fields=True):
    """A program that writes samples as JSON lines: ``{"id": "...", "data": BASE64}`` with raw little-endian values of
    the release's sample dtype and shape, or ``{"id": "...", "values": [...]}``. It runs in ``directory``."""

    command: Annotated[tuple[str, ...], Meta(min_length=1)]
    directory: str = "."
    restart_seconds: Seconds = 1.0


class StdinSource(Struct, frozen=True, tag="stdin", tag_field="kind", forbid_unknown_fields=True):
    """The JSON lines of :class:`CommandSource`, from standard input."""


class NpzSource(Struct, frozen=True, tag="npz", tag_field="kind", forbid_unknown_fields=True):
    """Samples of an ``.npz`` file (array ``x``, optional ``ids``), played at ``rate_hz``; again and again with
    ``loop``. Where there are no ids, the engine makes some."""

    path: str
    rate_hz: Rate = 30.0
    loop: bool = False


class ReplaySource(Struct, frozen=True, tag="replay", tag_field="kind", forbid_unknown_fields=True):
    """Samples of any file or folder that ``edge-agent infer`` reads, played at ``rate_hz``. ``pixels`` is the value of
    a white pixel where the model takes floating point images; ``resize`` fits images to the sample."""

    path: str
    rate_hz: Rate = 30.0
    loop: bool = False
    pixels: White | None = None
    resize: bool = False


class DirectorySource(Struct, frozen=True, tag="directory", tag_field="kind", forbid_unknown_fields=True):
    """Files that are put into a folder. One is read when it is complete: renamed into place, or unchanged for
    ``settle_seconds``. Then it is remembered, or moved into the folder ``done`` when that is named."""

    path: str
    pattern: str = "*"
    every_seconds: Seconds = 0.5
    settle_seconds: Seconds = 1.0
    done: str = ""
    pixels: White | None = None
    resize: bool = False


class MqttSource(Struct, frozen=True, tag="mqtt", tag_field="kind", forbid_unknown_fields=True):
    """Messages of ``topic`` (wildcards allowed) on a broker of the user's: ``json`` values or lines as of
    :class:`CommandSource`, or ``raw`` little-endian values. At most ``queue`` wait; then the oldest is dropped."""

    topic: Annotated[str, Meta(min_length=1, max_length=65_535)]
    host: str = "127.0.0.1"
    port: Port = 1883
    encoding: Literal["json", "raw"] = "json"
    username: str = ""
    password_file: str = ""
    tls: bool = False
    qos: Annotated[int, Meta(ge=0, le=1)] = 0
    queue: Annotated[int, Meta(ge=1, le=100_000)] = 256


class CameraSource(Struct, frozen=True, tag="camera", tag_field="kind", forbid_unknown_fields=True):
    """Frames of a camera through ``opencv`` or ``picamera2``; the newest wins. ``device`` is an index, a device file or
    a URL. Without ``width`` and ``height`` the release's sample says the size where it has one, else the camera."""

    backend: Literal["opencv", "picamera2"] = "opencv"
    device: str = "0"
    width: Annotated[int, Meta(ge=1, le=16_384)] | None = None
    height: Annotated[int, Meta(ge=1, le=16_384)] | None = None
    rate_hz: Annotated[float, Meta(gt=0, le=1000)] = 10.0
    pixels: White | None = None


class PythonSource(Struct, frozen=True, tag="python", tag_field="kind", forbid_unknown_fields=True):
    """A Python function ``module:function`` found from ``directory``: a generator of samples, or of (id, sample)."""

    function: Function
    directory: str = "."


SourceConfig = (
    CommandSource | StdinSource | NpzSource | ReplaySource | DirectorySource | MqttSource | CameraSource | PythonSource
)
