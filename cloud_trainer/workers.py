"""``--workers N``: one training by N processes on this machine, which ``torchrun`` starts and watches.

    trainer = Workers(2)
    curve = trainer(model, data, validation, plan, objective=Classes(10))      # as cloud_trainer.fit.train

The caller's process goes on showing progress; it asks the workers to stop, and ends them when it is interrupted. They
end by themselves when it is killed. What the workers compute is :mod:`cloud_trainer.distributed`'s.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import msgspec
import torch
from torch import nn

from cloud_trainer.fit import Curve, Encoded, Plan
from cloud_trainer.fit.teaching import Augment, Teaching
from cloud_trainer.jobs import ERROR, JOB, PROGRESS, RESULT, STOP, Job, packed, raised, take
from cloud_trainer.objectives import Objective
from cloud_trainer.progress import Progress, silent
from shared.errors import TrainingError, UsageError

POLL_SECONDS, END_SECONDS = 0.2, 10.0
MOST = 64
LOG = "log"


class Workers:
    """Trains as :func:`cloud_trainer.fit.train`, in ``count`` processes. Each start costs some seconds: this is for
    trainings of minutes.

    Raises:
        UsageError: ``count`` is not 2 to 64.
    """

    def __init__(self, count: int) -> None:
        if not 2 <= count <= MOST:
            raise UsageError(f"--workers {count}: expected 2 to {MOST}; without it one process trains")
        self.count = count

    def __call__(
        self,
        model: nn.Module,
        data: Encoded,
        validation: Encoded,
        plan: Plan,
        *,
        objective: Objective,
        teaching: Teaching | None = None,
        augment: Augment | None = None,
        checkpoint: Path | None = None,
        name: str = "model",
        progress: Progress = silent,
        stop: Callable[[], bool] | None = None,
    ) -> Curve:
        """See :func:`cloud_trainer.fit.train`.

        Raises:
            TrainingError: as there; or a worker was killed.
        """
        job = Job(
            model,
            data,
            validation,
            plan,
            objective,
            teaching,
            augment,
            None if checkpoint is None else str(checkpoint.resolve()),
            name,
            max(1, torch.get_num_threads() // self.count),
        )
        with tempfile.TemporaryDirectory(prefix="sanderling-job-") as place:
            directory = Path(place)
            (directory / JOB).write_bytes(packed(job))
            self._run(directory, progress, stop)
            result = torch.load(directory / RESULT, weights_only=True)
        take(model, result["weights"])
        return msgspec.json.decode(result["curve"], type=Curve)

    def _run(self, directory: Path, progress: Progress, stop: Callable[[], bool] | None) -> None:
        shown = 0
        with (directory / LOG).open("wb") as log:
            # a session of its own: Ctrl-C in the terminal reaches this process, which asks the workers to stop
            process = subprocess.Popen(
                _command(self.count, directory),
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env=_environment(),
                start_new_session=True,
            )
            try:
                while _running(process):
                    shown = _show(directory, shown, progress)
                    if stop is not None and stop():
                        (directory / STOP).touch()
            finally:
                _end(process)
        _show(directory, shown, progress)
        if process.returncode or not (directory / RESULT).exists():
            raise _failure(directory)


def _command(count: int, directory: Path) -> list[str]:
    return [
        sys.executable, "-m", "torch.distributed.run", "--nnodes", "1", "--nproc-per-node", str(count),
        "--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0", "--local-addr", "127.0.0.1",
        "--rdzv-id", directory.name, "--max-restarts", "0", "-m", "cloud_trainer.jobs", str(directory),
    ]  # fmt: skip


def _environment() -> dict[str, str]:
    """This process's, with its import path: a network of one's own is found there, too."""
    path = os.pathsep.join(dict.fromkeys(entry or str(Path.cwd()) for entry in sys.path))
    return os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}


def _running(process: subprocess.Popen[bytes]) -> bool:
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(POLL_SECONDS)
    return process.returncode is None


def _end(process: subprocess.Popen[bytes]) -> None:
    """Nothing that was started here is left running."""
    if process.stdin is not None:
        process.stdin.close()  # the workers see that
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _show(directory: Path, shown: int, progress: Progress) -> int:
    """Pass on the lines after the first ``shown`` bytes; returns how many bytes are passed on now."""
    try:
        with (directory / PROGRESS).open("rb") as file:
            file.seek(shown)
            lines = file.read()
    except FileNotFoundError:
        return shown
    whole = lines[: lines.rfind(b"\n") + 1]
    for line in whole.splitlines():
        progress(*json.loads(line))
    return shown + len(whole)


def _failure(directory: Path) -> Exception:
    """What to say of workers that failed: what the first of them said, or how it ended."""
    with contextlib.suppress(FileNotFoundError):
        return raised(json.loads((directory / ERROR).read_text()))
    log = (directory / LOG).read_text(errors="replace")
    ends = re.findall(r"rank\s*: (\d+) \(local_rank: \d+\)\s*exitcode\s*: (-\d+)", log)
    killed = [(rank, -int(code)) for rank, code in ends if -int(code) != signal.SIGTERM]
    if killed:
        rank, number = killed[0]
        why = " (out of memory?)" if number == signal.SIGKILL else ""
        return TrainingError(
            f"worker {rank} was ended by {signal.Signals(number).name}{why}; the others were ended, too"
        )
    said = re.findall(r"^(?:\[rank\d+\]: )?([\w.]*(?:Error|Exception|Interrupt)\b.*)", log, re.MULTILINE)
    said = [line for line in said if not line.startswith("torch.distributed.elastic.")]  # torchrun's own summary
    if said:
        return TrainingError(f"the workers failed: {said[-1][:300]}")
    left = re.findall(r"rank\s*: (\d+) \(local_rank: \d+\)\s*exitcode\s*: (\d+)", log)
    which = f"worker {left[0][0]} ended with status {left[0][1]}" if left else "torchrun ended"
    return TrainingError(f"the workers failed: {which}, without a word")
