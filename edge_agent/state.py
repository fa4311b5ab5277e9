"""The agent's state directory: everything that must survive a restart, and the lock that keeps a second agent out.

::

    enrolment.json   agent.lock   outbox.db   monitor.bin   selection.json   desired.json   status.json   baseline.npz
    tuf/   models/<model>/a|b/   models/<model>/current.json          (edge_agent.updates)
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from shared.enrolment import Enrolment, load_enrolment
from shared.errors import UNREADABLE, ConfigError, StoreError
from shared.files import write_atomic

LOCK_PATIENCE_SECONDS = 0.3  # ``edge-agent status`` holds the lock for a moment

S = TypeVar("S", bound=Struct)


class SavedMonitor(Struct, frozen=True):
    """``monitor.bin``: what the monitor had seen, and of which release. ``announced``: its alarm was sent already."""

    release: int
    variant: str
    profile: str
    announced: bool
    data: bytes


class SavedDesired(Struct, frozen=True):
    """``desired.json``: the release that was asked for last. A broker may not say it again to a session it knows."""

    model: str
    release: int
    time: float


class RecentAnswer(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One of the last answers. ``value`` is a short form: a number, or text for what is longer."""

    id: str
    time: float
    label: str = ""
    score: float | None = None
    value: float | str | None = None


class Watched(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One watched scalar: how far its mean is from the reference's, in robust sigmas of the last 512 to 1,024 samples,
    and its share of the evidence (1.0 is the alarm) where the monitor says so."""

    name: str
    effect: float = 0.0
    evidence: float | None = None


class AgentStatus(Struct, frozen=True, kw_only=True):
    """``status.json``, for ``edge-agent status`` and ``edge-agent top``. Times are seconds since 1970.

    ``local``: without a broker and updates. ``learned`` of ``learning`` answers have gone into the baseline; 0 of 0
    where the model brings its own; ``learning_note`` says what that is worth. ``source_error``, ``sink_errors``: what
    is wrong now. ``queue``: requests that wait. ``steps_down``: how often a cheaper variant had to take over, less how
    often the dearer one came back. From ``estimated_accuracy`` on: as in :class:`shared.messages.State`.
    """

    pid: int
    time: float
    started: float
    site: str
    device: str
    model: str
    release: int
    variant: str = ""
    slot: str = ""
    baseline: str = ""
    paused: bool = False
    samples: int = 0
    errors: int = 0
    rate_hz: float = 0.0
    p50_us: float = 0.0
    p99_us: float = 0.0
    source: str = ""
    connected: bool = False
    connection: str = ""
    connection_since: float = 0.0
    outbox_rows: int = 0
    outbox_bytes: int = 0
    dropped: int = 0
    last_report: float = 0.0
    drift_evidence: float = 0.0
    drift_alarm: bool = False
    update: str = ""
    local: bool = False
    learned: int = 0
    learning: int = 0
    learning_note: str = ""
    source_error: str = ""
    sink_errors: tuple[str, ...] = ()
    lost: int = 0
    queue: int = 0
    http: str = ""
    steps_down: int = 0
    answers: tuple[RecentAnswer, ...] = ()
    watched: tuple[Watched, ...] = ()
    estimated_accuracy: float | None = None
    reference_accuracy: float | None = None
    reference_error: float | None = None
    truths: int = 0
    accuracy: float | None = None
    absolute_error: float | None = None
    truth_evidence: float = 0.0
    rejected: float = 0.0

    @property
    def performance(self) -> str:
        """How good the answers are, as far as it is known; empty where nothing is."""
        return performance_text(msgspec.to_builtins(self))


def performance_text(status: Mapping[str, Any]) -> str:
    """How good the answers are, from the fields of an :class:`AgentStatus`; empty where nothing is known.

    >>> performance_text({"estimated_accuracy": 0.931, "reference_accuracy": 0.952})
    'estimated 93.1 %, on held-out data 95.2 %'
    >>> performance_text({"truths": 12, "absolute_error": 0.25, "reference_error": 0.2, "truth_evidence": 0.01})
    'mean error 0.25 of 12 truths, on held-out data 0.2, evidence 0.01 of 1'
    """
    get = status.get
    parts = []
    if get("estimated_accuracy") is not None:
        parts.append(f"estimated {100 * status['estimated_accuracy']:.1f} %")
    if get("accuracy") is not None:
        parts.append(f"{100 * status['accuracy']:.1f} % of {status['truths']} truths")
    if get("absolute_error") is not None:
        parts.append(f"mean error {status['absolute_error']:.4g} of {status['truths']} truths")
    if parts and get("reference_accuracy") is not None:
        parts.append(f"on held-out data {100 * status['reference_accuracy']:.1f} %")
    if parts and get("reference_error") is not None:
        parts.append(f"on held-out data {status['reference_error']:.4g}")
    if get("truth_evidence"):
        parts.append(f"evidence {status['truth_evidence']:.3g} of 1")
    return ", ".join(parts)


class StateDirectory:
    """Paths under ``root``, and the small files in it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.enrolment_file = root / "enrolment.json"
        self.outbox = root / "outbox.db"
        self.monitor = root / "monitor.bin"
        self.selection = root / "selection.json"
        self.desired = root / "desired.json"
        self.status = root / "status.json"
        self.baseline = root / "baseline.npz"
        self.lock_file = root / "agent.lock"

    def enrolment(self) -> Enrolment:
        """The enrolment that ``edge-agent enroll`` put here.

        Raises:
            ConfigError: there is none, or it is damaged.
        """
        if not self.enrolment_file.exists():
            raise ConfigError(f"{self.root} is not enrolled; first run: edge-agent enroll FILE --state {self.root}")
        return load_enrolment(self.enrolment_file)

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other agents out while the context lasts.

        Raises:
            StoreError: another agent is in, or the directory is not writable.
        """
        try:
            descriptor = os.open(self.lock_file, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise StoreError(f"state directory {self.root} cannot be used: {error.strerror}") from error
        try:
            if not _lock(descriptor, LOCK_PATIENCE_SECONDS):
                pid = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
                raise StoreError(
                    f"another agent{f' (process {pid})' if pid else ''} runs with the state directory {self.root}; "
                    "stop it first, or give this one a directory of its own"
                )
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
            yield
        finally:
            os.close(descriptor)

    def running(self) -> bool:
        """Whether an agent runs with this directory now."""
        try:
            descriptor = os.open(self.lock_file, os.O_RDONLY)
        except OSError:
            return False
        try:
            return not _lock(descriptor, 0.0)
        finally:
            os.close(descriptor)

    def read(self, path: Path, type_: type[S]) -> S | None:
        """One of the small files, or None when it is missing or damaged."""
        try:
            data = path.read_bytes()
            if path == self.monitor:
                return msgspec.msgpack.decode(data, type=type_)
            return msgspec.json.decode(data, type=type_)
        except (OSError, *UNREADABLE):
            return None

    def write(self, path: Path, value: Struct) -> None:
        """Replace one of the small files.

        Raises:
            OSError: the disk is full or not writable; the old file is still there.
        """
        if path == self.monitor:
            write_atomic(path, msgspec.msgpack.encode(value))
        else:
            data = msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n"
            write = _write_volatile if path == self.status else write_atomic
            write(path, data)


def _write_volatile(path: Path, data: bytes) -> None:
    """Replace ``path`` so that a reader sees the old file or the new one, but without waiting for the disk: what is
    written every second need not survive a power cut, and an SD card does not survive an fsync a second."""
    aside = path.with_name(f".{path.name}.new")
    try:
        aside.write_bytes(data)
        aside.replace(path)
    except OSError as error:
        aside.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(path)) from error


def _lock(descriptor: int, patience: float) -> bool:
    end = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= end:
                return False
            time.sleep(0.05)
        else:
            return True
