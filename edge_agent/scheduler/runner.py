"""What the schedulers need of an engine, and how a batch of requests becomes an outcome for each.

A batch that fails is run again one by one: a bad sample spoils nobody's answer but its own.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import msgspec
import numpy as np

from edge_agent.answers import Answer
from edge_agent.scheduler.queue import Request
from edge_agent.scheduler.times import ServiceTimes
from shared.errors import BackendError, DeadlineError

Outcome = Answer | Exception
Clock = Callable[[], float]


class Runner(Protocol):
    """The part of :class:`edge_agent.engine.Engine` that is scheduled."""

    def infer(self, sample: Any, id: str | None = None) -> Answer:  # noqa: A002  (the field's name)
        """Answer one sample."""

    def infer_batch(self, samples: Any, ids: Sequence[str] | None = None) -> list[Answer]:
        """Answer many: an array (n, ...), a list of samples, or a dict of arrays."""

    def check_one(self, sample: Any) -> Any:
        """Raise ``InputError`` if ``sample`` does not fit."""


_made = itertools.count(1)


def run_requests(engine: Runner, batch: Sequence[Request], times: ServiceTimes, clock: Clock) -> list[Outcome]:
    """One outcome for each of ``batch``, whose samples can be stacked; ``times`` learns what it cost.

    Errors become outcomes. What is none (``KeyboardInterrupt``) ends the call and is for the caller to handle.
    """
    if len(batch) > 1:
        samples = [request.sample for request in batch]
        # whatever fails here: whose fault it was, the single calls below will tell
        with contextlib.suppress(Exception):
            start = clock()
            answers = engine.infer_batch(stacked(samples), _ids(batch))
            end = clock()
            if len(answers) == len(batch):
                times.add(len(batch), end - start, end)
                return list(answers)
    outcomes: list[Outcome] = []
    for request in batch:
        start = clock()
        try:
            outcomes.append(engine.infer(request.sample, request.id))
        except Exception as error:
            outcomes.append(error)
        else:
            end = clock()
            times.add(1, end - start, end)
    return outcomes


def stacked(samples: Sequence[Any]) -> Any:
    """Samples of one form (``form_of``) as one batch: (n, *shape), or a dict of those."""
    if isinstance(samples[0], Mapping):
        return {name: np.stack([sample[name] for sample in samples]) for name in samples[0]}
    return np.stack(samples)


def shared_outcome(outcome: Outcome, request: Request) -> Outcome:
    """``outcome`` of an identical sample, for ``request``: its own id, its own arrays."""
    if isinstance(outcome, Exception) or not isinstance(outcome, Answer):
        return outcome
    scores, outputs, value = copy.deepcopy((outcome.scores, outcome.outputs, outcome.value))
    named = request.id if request.id is not None else outcome.id
    return msgspec.structs.replace(outcome, id=named, scores=scores, outputs=outputs, value=value)


def in_time(outcome: Outcome, request: Request, now: float) -> Outcome:
    """``outcome``, or ``DeadlineError`` if it came too late: a late answer is no good answer."""
    if now > request.deadline and not isinstance(outcome, Exception):
        return DeadlineError(f"the answer came {(now - request.deadline) * 1000:.3g} ms after its deadline")
    return outcome


def broken_off(error: BaseException) -> BackendError:
    """For those who waited on a call that was interrupted in somebody else's thread."""
    return BackendError(f"the call that this sample was part of was broken off: {type(error).__name__}")


def key_of(sample: Any) -> bytes | None:
    """Equal for samples of the same bytes, dtype and shape; ``None`` for what is not all arrays of numbers."""
    digest = hashlib.blake2b(digest_size=16)
    parts = sorted(sample.items()) if isinstance(sample, Mapping) else [("", sample)]
    for name, values in parts:
        if not isinstance(values, np.ndarray) or values.dtype.hasobject:
            return None
        digest.update(f"{name}:{values.dtype.str}:{values.shape}:".encode())
        digest.update(np.ascontiguousarray(values).tobytes())
    return digest.digest()


def stateful(engine: Any) -> bool:
    """Whether the model carries state from call to call: then no two calls are alike, and order is everything."""
    return bool(getattr(getattr(engine, "manifest", None), "state", ()))


def _ids(batch: Sequence[Request]) -> list[str] | None:
    if all(request.id is None for request in batch):
        return None
    return [request.id if request.id is not None else f"q-{next(_made)}" for request in batch]
