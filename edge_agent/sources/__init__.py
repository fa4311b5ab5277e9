"""Where samples come from. One protocol, one file for each kind; ``tests/edge_agent/sources`` holds them to it.

1. ``poll`` never waits longer than it was told to, so that the agent stays responsive. What has to wait for a device or
   the network does so in a thread of its own.
2. A bad sample is counted and reported (``bad``, ``last_error``); the source lives on.
3. A source that fails as a whole (a camera unplugged, a broker away) says so in ``trouble`` and tries again, later each
   time (:mod:`edge_agent.retry`).
4. ``stop`` ends everything that the source started and may be called twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from numpy.typing import NDArray

from shared.errors import ConfigError

if TYPE_CHECKING:
    from edge_agent.sources.config import SourceConfig
    from shared.manifest import SampleSpec


class Sample(NamedTuple):
    """One sample as the sensor gave it; ``id`` is None when the source has no name for it. A dict by input name for
    models with several inputs."""

    id: str | None
    data: NDArray[Any] | dict[str, NDArray[Any]]


class Source(Protocol):
    """A stream of samples."""

    bad: int
    """Samples that could not be read so far."""
    last_error: str
    """What was wrong with the last bad one, or why the source stands still; empty when all is well."""
    trouble: str
    """Why nothing comes at the moment, while the source tries again; empty while it runs."""

    @property
    def ended(self) -> bool:
        """Nothing will come any more."""
        ...

    def poll(self, seconds: float) -> list[Sample]:
        """The samples that are there, waiting up to ``seconds`` for the first; possibly none."""
        ...

    def stop(self) -> None:
        """End what was started."""
        ...


def check_source(config: SourceConfig) -> None:
    """What can be known before there is a model: that files are there, that libraries are installed.

    Raises:
        ConfigError: a file or folder is missing or is another thing than it should be.
        MissingExtraError: the camera's library is not installed.
    """
    from edge_agent.sources import config as kinds

    match config:
        case kinds.NpzSource():
            _exists(config.path, file=True)
        case kinds.ReplaySource():
            _exists(config.path)
        case kinds.DirectorySource():
            _exists(config.path, file=False)
        case kinds.CameraSource():
            from edge_agent.sources.camera import check_library

            check_library(config)
        case kinds.MqttSource():
            from edge_agent.sources.mqtt import check_topic

            check_topic(config.topic)
        case kinds.PythonSource():
            from edge_agent.sources.function import load_function

            load_function(config.function, config.directory)
        case _:
            return


def _exists(name: str, *, file: bool | None = None) -> None:
    path = Path(name)
    what = ""
    if not path.exists():
        what = "no such file" if file is not False else "no such directory"
    elif file and path.is_dir():
        what = "is a directory, not a file"
    elif file is False and not path.is_dir():
        what = "is a file; expected a directory"
    if what:
        raise ConfigError(f"source: {what}", file=name)


def open_source(config: SourceConfig, signature: Sequence[SampleSpec], memory: Path | None = None) -> Source:
    """The source that ``config`` describes, for samples of ``signature``.

    ``memory`` is a folder for what a source must remember across restarts.

    Raises:
        ConfigError: a file is missing or unusable.
        MissingExtraError: a library is not installed.
    """
    from edge_agent.sources import config as kinds

    match config:
        case kinds.CommandSource():
            from edge_agent.sources.command import Command

            return Command(config, signature)
        case kinds.NpzSource():
            from edge_agent.sources.npz import Npz

            return Npz(config)
        case kinds.ReplaySource():
            from edge_agent.sources.replay import Replay

            return Replay(config, signature)
        case kinds.DirectorySource():
            from edge_agent.sources.directory import Directory

            return Directory(config, signature, memory)
        case kinds.MqttSource():
            from edge_agent.sources.mqtt import Mqtt

            return Mqtt(config, signature)
        case kinds.CameraSource():
            from edge_agent.sources.camera import Camera

            return Camera(config, signature)
        case kinds.PythonSource():
            from edge_agent.sources.function import Function

            return Function(config, signature)
        case _:
            from edge_agent.sources.stdin import Stdin

            return Stdin(signature)
