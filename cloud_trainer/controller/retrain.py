"""One training as a process of its own: started, followed through its log, ended with everything that it started."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import msgspec

from cloud_trainer.controller.incidents import Training
from shared.errors import SanderlingError, TrainingError
from shared.manifest import load_manifest

TRAIN_COMMAND = (sys.executable, "-m", "cloud_trainer.cli", "train")
END_SECONDS = 1.0
GATES_NAME = "gates.json"

logger = logging.getLogger(__name__)


class Progress(msgspec.Struct, frozen=True):
    """One line of the trainer's standard error with ``--json``."""

    stage: str
    fraction: float = 0.0
    text: str = ""


class TrainingRun:
    """A running training. It writes to ``train.log`` in ``directory`` and the candidate to ``directory/candidate``.

    Raises:
        TrainingError: the command cannot be started.
    """

    def __init__(
        self, command: Sequence[str], task: Path, directory: Path, *, version: int, parent: Path, labelled: Path
    ) -> None:
        self.candidate = directory / "candidate"
        self._log_path = directory / "train.log"
        self._read = 0
        self._rest = b""
        self._stage = ""
        self._last = ""
        arguments = [
            *command,
            str(task),
            "--out",
            str(self.candidate),
            "--version",
            str(version),
            "--parent",
            str(parent),
            "--labelled",
            str(labelled),
            "--json",
        ]
        try:
            with self._log_path.open("wb") as log:
                # a session of its own: whatever the trainer starts is ended with it
                self._process = subprocess.Popen(
                    arguments, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
                )
        except OSError as error:
            raise TrainingError(f"training cannot be started: {command[0]}: {error.strerror}") from error

    @property
    def pid(self) -> int:
        """The process, which is also the number of its group."""
        return self._process.pid

    def poll(self) -> Training:
        """How it stands; log lines that appeared since the last call are passed on."""
        code = self._process.poll()
        self._follow()
        if code is None:
            return Training("running")
        if code == 0:
            return Training("passed")
        if code < 0:
            return Training("lost", f"training was ended by {signal.Signals(-code).name}")
        return Training("failed", self._last or f"training failed with exit code {code}; see {self._log_path}")

    def stop(self) -> None:
        """End the process group: politely, then not."""
        _end_group(self._process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(END_SECONDS)
        _end_group(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def _follow(self) -> None:
        with self._log_path.open("rb") as file:
            file.seek(self._read)
            new = file.read(1 << 20)
        self._read += len(new)
        *lines, self._rest = (self._rest + new).split(b"\n")
        for line in lines:
            text = line.decode("utf-8", "replace").strip()
            try:
                progress = msgspec.json.decode(line, type=Progress)
            except msgspec.MsgspecError:
                self._last = text or self._last  # the last line that is no progress says what went wrong
                continue
            if progress.stage != self._stage:
                self._stage = progress.stage
                logger.info("training: %s%s", progress.stage, f" ({progress.text})" if progress.text else "")


def _end_group(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):  # nobody of the group is left
        os.killpg(pid, number)


def end_leftover(directory: Path) -> int:
    """End the training that a killed controller left behind in ``directory``, which its command line names, so that no
    stranger is ended. Returns its process, 0: there is none."""
    wanted = (b"--out", str(directory / "candidate").encode())
    pid = next((pid for pid, words in _command_lines() if wanted in pairwise(words)), 0)
    if not pid:
        return 0
    _end_group(pid, signal.SIGTERM)
    deadline = time.monotonic() + END_SECONDS
    while time.monotonic() < deadline and Path(f"/proc/{pid}").exists():
        time.sleep(0.02)
    _end_group(pid, signal.SIGKILL)
    return pid


def _command_lines() -> Iterator[tuple[int, list[bytes]]]:
    """Of every process; of none on a system without /proc, where one that is left writes what nobody reads any more."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            yield int(path.parent.name), path.read_bytes().split(b"\0")


class Gates(msgspec.Struct, frozen=True):
    """What the controller reads of ``gates.json``."""

    passed: bool
    text: str = ""


def check_candidate(candidate: Path, *, model: str, version: int, parent: int) -> Training:
    """Whether a finished candidate may be released: it is whole, what was asked for, and passed its gates."""
    try:
        manifest = load_manifest(candidate)
        for file in manifest.files():
            file.verify(candidate)
    except SanderlingError as error:
        return Training("failed", f"the candidate is not a release: {error}")
    found = (manifest.name, manifest.version, manifest.lineage.parent)
    if found != (model, version, parent):
        return Training(
            "failed",
            f"the candidate is {found[0]}/{found[1]} from {found[2]}; asked for was {model}/{version} from {parent}",
        )
    for path in (candidate / GATES_NAME, candidate.parent / GATES_NAME):
        try:
            gates = msgspec.json.decode(path.read_bytes(), type=Gates)
        except FileNotFoundError:
            continue
        except (OSError, msgspec.MsgspecError) as error:
            return Training("failed", f"{path} cannot be read: {error}")
        if gates.passed:
            return Training("passed", gates.text or "the gates are passed")
        return Training("failed", gates.text or "the candidate did not pass its gates")
    return Training("failed", f"{candidate.parent} has no {GATES_NAME}: nobody checked the candidate")
