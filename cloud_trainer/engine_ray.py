"""``--engine ray``: trainings on a Ray cluster, by default one that is started on this machine for the duration.

    with RayEngine() as ray:
        curve = ray.train(model, data, validation, plan, objective=Classes(10))    # as cloud_trainer.fit.train
        trials = ray.map(evaluate, candidates)                                     # the search, side by side

The cluster is the one at ``address`` (or in ``RAY_ADDRESS``), whose machines need this package installed; else a local
one, without a dashboard. Ray's usage reports are switched off. Nothing is left running afterwards.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar

import msgspec
import torch
from torch import Tensor, nn

from cloud_trainer.fit import Curve, Encoded, Plan
from cloud_trainer.fit.teaching import Augment, Teaching
from cloud_trainer.jobs import Job, packed, raised, take, told, unpacked
from cloud_trainer.objectives import Objective
from cloud_trainer.progress import Progress, silent
from shared.errors import MissingExtraError, TrainingError, one_line

POLL_SECONDS, TELL_SECONDS = 0.2, 0.5
T = TypeVar("T")
R = TypeVar("R")


class RayEngine:
    """A Ray cluster while it is entered.

    ``address``: as in ``ray://host:10001`` or ``host:6379``; empty: ``RAY_ADDRESS``, else a local one of ``cpus`` (0:
    all of this process). Threads of each training: those that torch uses in this process, at most the local cluster's
    CPUs.

    Raises:
        MissingExtraError: Ray is not installed.
        TrainingError: the cluster cannot be reached.
    """

    def __init__(self, address: str = "", cpus: int = 0) -> None:
        self.address = address or os.environ.get("RAY_ADDRESS", "")
        self.cpus = cpus or len(os.sched_getaffinity(0))
        self._ray: Any = None
        self._place: tempfile.TemporaryDirectory[str] | None = None

    def __enter__(self) -> Self:
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        try:
            import ray
        except ImportError as error:
            raise MissingExtraError("--engine ray", "ray") from error
        options: dict[str, Any] = {"include_dashboard": False, "num_cpus": self.cpus} if not self.address else {}
        if not self.address:
            self._place = tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True)
            options["_temp_dir"] = self._place.name
        paths = [entry or str(Path.cwd()) for entry in sys.path] if not self.address else []
        try:
            ray.init(
                address=self.address or "local",
                configure_logging=True,
                logging_level=logging.ERROR,
                log_to_driver=False,
                runtime_env={"env_vars": {"PYTHONPATH": os.pathsep.join(dict.fromkeys(paths))}} if paths else None,
                **options,
            )
        except Exception as error:
            self._close()
            where = self.address or "a local one"
            raise TrainingError(f"Ray's cluster ({where}) cannot be used: {one_line(error)}") from error
        self._ray = ray
        return self

    def __exit__(self, *_: object) -> None:
        if self._ray is not None:
            self._ray.shutdown()
        self._close()

    def _close(self) -> None:
        if self._place is not None:
            self._place.cleanup()

    def train(
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
        """See :func:`cloud_trainer.fit.train`, which runs on a worker of the cluster; a GPU, where the cluster has one,
        is asked for. ``checkpoint`` is a path on that worker's machine: on shared storage, where there are several.

        Raises:
            TrainingError: as there; or the worker died.
        """
        ray = self._ray
        place = None if checkpoint is None else str(checkpoint.resolve())
        threads = max(1, min(torch.get_num_threads(), self.cpus))
        job = Job(model, data, validation, plan, objective, teaching, augment, place, name, threads)
        gpus = 1 if plan.device != "cpu" and ray.cluster_resources().get("GPU", 0) >= 1 else 0
        board = ray.remote(num_cpus=0)(_Board).remote()
        work = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=0)(_work).remote(
            packed(job, ray.cloudpickle.dumps), board
        )
        try:
            answer = self._wait(work, board, progress, stop)
        finally:
            ray.kill(board)
        if isinstance(answer, dict):
            raise raised(answer)
        text, weights = answer
        take(model, weights)
        return msgspec.json.decode(text, type=Curve)

    def _wait(self, work: Any, board: Any, progress: Progress, stop: Callable[[], bool] | None) -> Any:
        ray, asked = self._ray, False
        try:
            while not ray.wait([work], timeout=POLL_SECONDS)[0]:
                for line in ray.get(board.read.remote()):
                    progress(*line)
                if not asked and stop is not None and stop():
                    asked = True
                    ray.get(board.ask_to_stop.remote())
            for line in ray.get(board.read.remote()):
                progress(*line)
            return ray.get(work)
        except ray.exceptions.RayError as error:
            raise TrainingError(f"Ray's worker ended in the middle of the training: {one_line(error)}") from error
        except BaseException:
            with contextlib.suppress(Exception):
                ray.cancel(work, force=True)
            raise

    def map(self, function: Callable[[T], R], items: Sequence[T]) -> list[R]:
        """``function`` of each item, on the cluster, as many at once as it has CPUs; the results in order. What both
        need is sent along: what ``function`` refers to only once.

        Raises:
            TrainingError: a call failed; the others are ended.
        """
        ray = self._ray
        sent = ray.put(ray.cloudpickle.dumps(function))
        call = ray.remote(num_cpus=1, max_retries=0)(_call)
        waiting = [call.remote(sent, item) for item in items]
        try:
            found = ray.get(waiting)
        except ray.exceptions.RayError as error:
            raise TrainingError(f"Ray's worker ended in the middle of the search: {one_line(error)}") from error
        except BaseException:
            for one in waiting:
                with contextlib.suppress(Exception):
                    ray.cancel(one, force=True)
            raise
        for one in found:
            if isinstance(one, dict):
                raise raised(one)
        return [one[0] for one in found]


class _Board:
    """Between the caller and the worker: lines of progress one way, the wish to stop the other."""

    def __init__(self) -> None:
        self._lines: list[tuple[str, float, str]] = []
        self._stop = False

    def tell(self, lines: list[tuple[str, float, str]]) -> bool:
        self._lines += lines
        return self._stop

    def read(self) -> list[tuple[str, float, str]]:
        lines, self._lines = self._lines, []
        return lines

    def ask_to_stop(self) -> None:
        self._stop = True


class _Line:
    """The worker's end of the board; talks to it now and then, not in every batch."""

    def __init__(self, board: Any) -> None:
        import ray

        self._ray, self._board = ray, board
        self._lines: list[tuple[str, float, str]] = []
        self._stop = False
        self._told = time.monotonic()

    def progress(self, stage: str, fraction: float, text: str) -> None:
        self._lines.append((stage, fraction, text))

    def stop(self) -> bool:
        if time.monotonic() - self._told >= TELL_SECONDS:
            self.flush()
        return self._stop

    def flush(self) -> None:
        self._told = time.monotonic()
        self._stop = self._ray.get(self._board.tell.remote(self._lines))
        self._lines = []


def _work(data: bytes, board: Any) -> tuple[str, dict[str, Tensor]] | dict[str, str]:
    """On the cluster: train; the curve and the weights, or what went wrong."""
    line = _Line(board)
    try:
        curve, weights = unpacked(data).run(line.progress, line.stop)
    except Exception as error:
        line.flush()
        return told(error)
    line.flush()
    return msgspec.json.encode(curve).decode(), {name: values.cpu() for name, values in weights.items()}


def _call(function: bytes, item: Any) -> tuple[Any] | dict[str, str]:
    import ray

    try:
        return (ray.cloudpickle.loads(function)(item),)
    except Exception as error:
        return told(error)
