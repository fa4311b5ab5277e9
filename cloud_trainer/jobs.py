"""A training as something that can be sent away: to several workers on this machine, or to a Ray cluster.

A job is a directory that one process writes and others read: what :func:`cloud_trainer.fit.train` is called with goes
in, progress and the trained weights come out, and a file ``stop`` asks for the end. Its files are pickles, made by this
process for its own children in a directory that only this user can write to; nothing that came from elsewhere is read.

    python -m cloud_trainer.jobs DIRECTORY       # one worker, started by torchrun
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import pickle
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn, Protocol

import msgspec
import torch
from msgspec import Struct
from torch import Tensor, nn

from cloud_trainer.distributed import LOST, World, session
from cloud_trainer.fit import Curve, Encoded, Plan, train
from cloud_trainer.fit.teaching import Augment, Teaching
from cloud_trainer.objectives import Objective
from cloud_trainer.progress import Progress, silent
from shared import errors
from shared.errors import SanderlingError, TrainingError, one_line

JOB, RESULT, PROGRESS, STOP, ERROR = "job", "result", "progress", "stop", "error"


class Trainer(Protocol):
    """Whatever trains as :func:`cloud_trainer.fit.train` does, wherever it does it."""

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
        """See :func:`cloud_trainer.fit.train`."""


class Job(Struct, eq=False):
    """The arguments of a training."""

    model: nn.Module
    data: Encoded
    validation: Encoded
    plan: Plan
    objective: Any
    teaching: Teaching | None
    augment: Augment | None
    checkpoint: str | None
    name: str
    threads: int = 1

    def run(self, progress: Progress, stop: Callable[[], bool]) -> tuple[Curve, dict[str, Tensor]]:
        """Train here; the curve, and the weights."""
        torch.set_num_threads(self.threads)
        curve = train(
            self.model,
            self.data,
            self.validation,
            self.plan,
            objective=self.objective,
            teaching=self.teaching,
            augment=self.augment,
            checkpoint=None if self.checkpoint is None else Path(self.checkpoint),
            name=self.name,
            progress=progress,
            stop=stop,
        )
        return curve, self.model.state_dict()


def packed(job: Job, dumps: Callable[[Any], bytes] = pickle.dumps) -> bytes:
    """The job as bytes.

    Raises:
        TrainingError: a part of it exists in this process alone: a network or augmentation made by a local function.
    """
    fields = [getattr(job, field) for field in job.__struct_fields__]
    try:
        return dumps(fields)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise TrainingError(
            f"{job.name} cannot be sent to another process: {one_line(error)}; define it at the top of a module"
        ) from error


def unpacked(data: bytes) -> Job:
    """What :func:`packed` was given."""
    return Job(*pickle.loads(data))  # noqa: S301  # this process wrote it a moment ago


def told(error: BaseException) -> dict[str, str]:
    """An error as data, to be raised again elsewhere."""
    name, text = type(error).__name__, one_line(error)
    if isinstance(error, SanderlingError):
        text = str(error)
    elif text != name:
        text = f"{name}: {text}"
    return {"type": name, "text": text}


def raised(document: dict[str, str]) -> SanderlingError:
    """What :func:`told` was given; what is no error of ours becomes a :class:`TrainingError`."""
    found = getattr(errors, document["type"], None)
    known = isinstance(found, type) and issubclass(found, SanderlingError) and found is not errors.MissingExtraError
    made: SanderlingError = found(document["text"]) if known and found is not None else TrainingError(document["text"])
    return made


def take(model: nn.Module, weights: dict[str, Tensor]) -> None:
    """Give ``model`` what was trained elsewhere."""
    model.load_state_dict(weights)
    model.eval()


def _work(directory: Path, world: World) -> None:
    def progress(stage: str, fraction: float, text: str) -> None:
        with (directory / PROGRESS).open("a") as file:
            file.write(json.dumps([stage, fraction, text]) + "\n")

    job = unpacked((directory / JOB).read_bytes())
    curve, weights = job.run(progress, (directory / STOP).exists)
    if world.first:
        whole = io.BytesIO()  # torch's own writer says nothing of a full disk
        torch.save({"curve": msgspec.json.encode(curve).decode(), "weights": weights}, whole)
        (directory / RESULT).write_bytes(whole.getbuffer())


def _tell(directory: Path, error: BaseException) -> None:
    """To who started this; the first worker to say something is heard."""
    traceback.print_exception(error)
    with contextlib.suppress(OSError):  # a full disk: what was printed may have found a place
        aside, there = directory / f".{ERROR}.{os.getpid()}", directory / ERROR
        aside.write_text(json.dumps(told(error)))
        if not there.exists():
            aside.rename(there)


def _end_with_parent() -> None:
    """Who started this process holds the other end of its standard input; when that closes, nobody waits any more."""

    def wait() -> None:
        while os.read(0, 1024):
            pass
        os._exit(LOST)

    threading.Thread(target=wait, daemon=True).start()


def main(arguments: Sequence[str]) -> int:
    """One worker; its exit status."""
    _end_with_parent()
    directory = Path(arguments[0])
    try:
        with session() as world:
            _work(directory, world)
    except SanderlingError as error:
        _tell(directory, error)
        return error.exit_code
    except SystemExit as ended:
        if ended.code != LOST:  # else another worker failed, and says it
            _tell(directory, TrainingError(f"a worker ended itself: sys.exit({ended.code!r})"))
        return LOST
    except BaseException as error:  # whatever ends a worker is told by it
        _tell(directory, error)
        return 1
    return 0


def end(status: int) -> NoReturn:
    """End this process now, without the interpreter's own clean-up.

    While that goes on, a thread of ``gloo`` may let go of a tensor, which ends the process with SIGABRT: a few in a
    hundred trainings where the machine has much to do (torch's pull request 179291). All files are closed by now.
    """
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(status)


if __name__ == "__main__":
    end(main(sys.argv[1:]))
