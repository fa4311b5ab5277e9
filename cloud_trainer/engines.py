"""Where trainings run: here, by several workers beside this process, or on a Ray cluster; one interface for all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

from msgspec import Struct

from cloud_trainer.fit import train
from cloud_trainer.jobs import Trainer
from shared.errors import UsageError

Map = Callable[[Callable[[Any], Any], Sequence[Any]], list[Any]]
"""(function, items) -> its results, in order."""


class Engine(Struct, frozen=True):
    """``train`` as :func:`cloud_trainer.fit.train`; ``map`` for what can run side by side: a search's trials."""

    train: Trainer
    map: Map


def in_order(function: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
    """One after the other, here."""
    return [function(item) for item in items]


@contextmanager
def engine_of(name: Literal["local", "ray"] = "local", workers: int = 1, address: str = "") -> Iterator[Engine]:
    """The engine of ``--engine``, ``--workers`` and ``--ray-address``, for the duration.

    Raises:
        UsageError: options that do not go together, or a number of workers that makes no sense.
        MissingExtraError: Ray is not installed.
        TrainingError: Ray's cluster cannot be reached.
    """
    if name == "ray":
        if workers != 1:
            raise UsageError("--workers is for --engine local: on Ray each training has one worker")
        from cloud_trainer.engine_ray import RayEngine

        with RayEngine(address) as ray:
            yield Engine(ray.train, ray.map)
        return
    if address:
        raise UsageError("--ray-address needs --engine ray")
    if workers == 1:
        yield Engine(train, in_order)
        return
    from cloud_trainer.workers import Workers

    yield Engine(Workers(workers), in_order)  # trials of a search are short: the workers' start would take longer
