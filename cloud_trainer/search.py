"""Which architecture: successive halving (Jamieson & Talwalkar 2016, arXiv 1502.07943) within a budget.

1. Many candidates are trained for few epochs; the best third goes on for three times as many, and so on. Scores are
   compared only between candidates that were trained for as long.
2. The choice is the smallest candidate whose score is within ``tolerance`` of the best.
3. What to do next depends on the journal alone, so that a search that was killed goes on where it was.

The decisions are functions of what was tried; :func:`search` does the work around them. Training is the caller's:
``evaluate(architecture, epochs, state)`` trains until the network has had ``epochs`` in all and answers with a
:class:`Trial`; ``state`` is what the candidate's last trial left (anything ``torch.save`` writes), ``None`` at first.
"""

from __future__ import annotations

import io
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import msgspec
import torch
from msgspec import Struct

from cloud_trainer.models import AnyArchitecture, Architecture, Limits, bytes_of, fit_to, macs_of
from cloud_trainer.progress import Progress, silent
from shared.errors import TrainingError
from shared.files import write_atomic

ETA = 3  # one in so many goes on, for so many times the epochs
TOLERANCE = 0.005  # of the score: half a point
JOURNAL = "search.json"


class Trial(Struct, frozen=True, eq=False):
    """One training: the score on the validation split, seconds it took, and what the next one goes on from."""

    score: float
    macs: int
    bytes: int
    state: Any = None
    seconds: float = 0.0


class Job(Struct, frozen=True, eq=False):
    """The arguments of one ``evaluate``."""

    architecture: Architecture
    epochs: int
    state: Any = None


Evaluate = Callable[[Architecture, int, Any], Trial]
EvaluateMany = Callable[[Sequence[Job]], Iterable[Trial | TrainingError]]
"""All jobs of a round, at once or one by one; results in the jobs' order, as they come. A training that failed is the
error that it raised: the candidate is out, the search goes on."""


class Round(Struct, frozen=True):
    """Score of a candidate after ``epochs`` in all. ``seconds``: of this round alone."""

    epochs: int
    score: float
    seconds: float


class Candidate(Struct, frozen=True):
    """What was tried, and how it went, round by round; ``failed`` says why it could not be trained."""

    architecture: AnyArchitecture
    macs: int
    bytes: int
    rounds: tuple[Round, ...] = ()
    failed: str = ""

    @property
    def score(self) -> float:
        """Of the last round; minus infinity before the first."""
        return self.rounds[-1].score if self.rounds else -math.inf


class SearchResult(Struct, frozen=True):
    """For the report. ``chosen``, and ``front``, the places in ``candidates`` of those that no other beats in both
    score and MACs, fewest MACs first. ``stopped`` says what ended it early."""

    candidates: tuple[Candidate, ...]
    chosen: int
    front: tuple[int, ...]
    tolerance: float
    stopped: str = ""

    @property
    def architecture(self) -> Architecture:
        """The choice."""
        return self.candidates[self.chosen].architecture

    @property
    def epochs(self) -> int:
        """For which the choice was trained in the search."""
        return max((one.epochs for one in self.candidates[self.chosen].rounds), default=0)


class Budget(Struct, frozen=True):
    """``epochs``: of the first round. ``seconds``: of wall clock, over all runs of the search; 0: no limit."""

    trials: int = 9
    epochs: int = 2
    seconds: float = 0.0


class _Journal(Struct, frozen=True):
    rungs: tuple[tuple[int, int], ...]
    candidates: tuple[Candidate, ...]


def rungs(trials: int, epochs: int) -> tuple[tuple[int, int], ...]:
    """(candidates, epochs in all) of every round.

    >>> rungs(9, 2), rungs(4, 1), rungs(1, 5)
    (((9, 2), (3, 6), (1, 18)), ((4, 1), (1, 3)), ((1, 5),))
    """
    found = [(trials, epochs)]
    while found[-1][0] > 1:
        found.append((max(1, found[-1][0] // ETA), found[-1][1] * ETA))
    return tuple(found)


def propose(templates: Sequence[Architecture], limits: Limits, trials: int) -> tuple[Architecture, ...]:
    """At most ``trials`` different architectures within ``limits``: every template as wide as fits, then with another
    depth, then at a half, a quarter, an eighth of the MACs. Widths of 8 and more are multiples of 4, which runtimes are
    faster at.

    Raises:
        TrainingError: no template fits at any width.
    """
    found: list[Architecture] = []

    def add(template: Architecture, within: Limits) -> None:
        one = fit_to(template, within) if len(found) < trials else None
        if one is None:
            return
        if one.width > 8:
            one = one.with_width(one.width - one.width % 4)
        if one not in found:
            found.append(one)

    for share in (1.0, 0.5, 0.25, 0.125):
        for step in (0, 1, -1):
            for template in templates:
                depth = template.depth + step
                if 1 <= depth <= template.max_depth:
                    most = limits.macs or macs_of(template)
                    within = limits if share == 1 else Limits(macs=max(1, int(most * share)), bytes=limits.bytes)
                    add(template.with_depth(depth), within)
    if not found:
        least = min(templates, key=lambda one: macs_of(one.with_width(1)))
        raise TrainingError(
            f"no network fits into {limits.macs or 'any'} MACs and {limits.bytes or 'any'} bytes: the smallest, "
            f"{least.with_width(1).label}, has {macs_of(least.with_width(1))} and {bytes_of(least.with_width(1))}"
        )
    return tuple(found)


def next_jobs(candidates: Sequence[Candidate], plan: Sequence[tuple[int, int]]) -> tuple[int, tuple[int, ...]] | None:
    """(epochs in all, places of the candidates that lack them), or ``None`` when all is done.

    A round begins when every candidate of the last one has had its epochs; the best go on, the smaller one of two that
    are equally good.
    """
    alive = list(range(len(candidates)))
    for keep, epochs in plan:
        alive = [place for place in alive if not candidates[place].failed]
        alive = sorted(alive, key=lambda place: (-_score_at(candidates[place], epochs // ETA), candidates[place].macs))
        alive = sorted(alive[:keep])
        missing = tuple(place for place in alive if all(one.epochs != epochs for one in candidates[place].rounds))
        if missing:
            return epochs, missing
    return None


def front(candidates: Sequence[Candidate]) -> tuple[int, ...]:
    """Places of the candidates that no other beats in score and MACs at once, fewest MACs first; scores are those of
    each one's last round."""
    best, places = -math.inf, []
    order = sorted(range(len(candidates)), key=lambda place: (candidates[place].macs, -candidates[place].score))
    for place in order:
        if candidates[place].rounds and candidates[place].score > best:
            best = candidates[place].score
            places.append(place)
    return tuple(places)


def choose(candidates: Sequence[Candidate], tolerance: float) -> int:
    """The place of the smallest candidate (fewest MACs, then bytes) within ``tolerance`` of the best.

    The best is the one of the highest score among those trained longest. Others are compared with it at the epochs that
    they had both had, if that is the last round or the one before: earlier, everything small looks good.

    Raises:
        TrainingError: every training failed.
    """
    tried = [place for place, one in enumerate(candidates) if one.rounds and not one.failed]
    if not tried:
        why = next((one.failed for one in candidates if one.failed), "there was no time for any")
        raise TrainingError(f"the search tried nothing that could be trained: {why}")
    longest = max(candidates[place].rounds[-1].epochs for place in tried)
    last = [place for place in tried if candidates[place].rounds[-1].epochs == longest]
    best = max(last, key=lambda place: (candidates[place].score, -candidates[place].macs))
    near = [
        place
        for place in tried
        if (epochs := candidates[place].rounds[-1].epochs) * ETA >= longest
        and candidates[place].score >= _score_at(candidates[best], epochs) - tolerance
    ]
    return min(near or [best], key=lambda place: (candidates[place].macs, candidates[place].bytes))


def search(
    candidates: Sequence[Architecture],
    evaluate: Evaluate,
    *,
    budget: Budget = Budget(),  # noqa: B008  (frozen)
    tolerance: float = TOLERANCE,
    journal: Path | None = None,
    evaluate_many: EvaluateMany | None = None,
    progress: Progress = silent,
    clock: Callable[[], float] = time.monotonic,
) -> SearchResult:
    """Try ``candidates`` and choose. ``journal``: a directory; a search that was killed goes on from what it finds
    there if it had the same candidates and rounds. ``evaluate_many`` runs a round's jobs side by side.

    Raises:
        TrainingError: no candidate could be trained.
    """
    if not candidates:
        raise TrainingError("the search has no candidates")
    plan = rungs(min(budget.trials, len(candidates)), budget.epochs)
    tried = _fresh(candidates[: plan[0][0]])
    states: dict[int, Any] = {}
    if journal is not None:
        tried, states = _load(journal, plan, tried)
    before = sum(one.seconds for candidate in tried for one in candidate.rounds)
    started, stopped, total = clock(), "", sum(count for count, _ in plan)
    run = evaluate_many or (lambda jobs: _one_by_one(jobs, evaluate))
    while not stopped and (job := next_jobs(tried, plan)) is not None:
        epochs, places = job
        results = iter(run([Job(tried[place].architecture, epochs, states.get(place)) for place in places]))
        for place in places:
            spent = before + clock() - started
            if budget.seconds and spent >= budget.seconds:
                stopped = f"after {spent:.0f} s of {budget.seconds:.0f} s"
                break
            result = next(results)
            tried[place] = _after(tried[place], epochs, result)
            if isinstance(result, Trial):
                states[place] = result.state
            if journal is not None:
                _save(journal, plan, tried, place, states.get(place))
            done = sum(len(one.rounds) for one in tried)
            label = tried[place].architecture.label
            text = tried[place].failed or f"score {tried[place].score:.4f} after {epochs} epochs"
            progress("search", min(1.0, done / total), f"{label}: {text}")
    found = tuple(tried)
    return SearchResult(found, choose(found, tolerance), front(found), tolerance, stopped)


def _fresh(architectures: Sequence[Architecture]) -> list[Candidate]:
    return [Candidate(cast("AnyArchitecture", one), macs_of(one), bytes_of(one)) for one in architectures]


def _score_at(candidate: Candidate, epochs: int) -> float:
    return next((one.score for one in candidate.rounds if one.epochs == epochs), -math.inf)


def _after(candidate: Candidate, epochs: int, result: Trial | TrainingError) -> Candidate:
    if isinstance(result, TrainingError):
        return msgspec.structs.replace(candidate, failed=str(result))
    if not math.isfinite(result.score):
        return msgspec.structs.replace(candidate, failed=f"its score is {result.score}")
    done = (*candidate.rounds, Round(epochs, result.score, result.seconds))
    return msgspec.structs.replace(candidate, rounds=done, macs=result.macs, bytes=result.bytes)


def _one_by_one(jobs: Sequence[Job], evaluate: Evaluate) -> Iterator[Trial | TrainingError]:
    for job in jobs:
        try:
            yield evaluate(job.architecture, job.epochs, job.state)
        except TrainingError as error:
            yield error


def _save(journal: Path, plan: Sequence[tuple[int, int]], tried: Sequence[Candidate], place: int, state: Any) -> None:
    """The state first: a journal never names a round whose state is not there."""
    journal.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    torch.save({"epochs": tried[place].rounds[-1].epochs if tried[place].rounds else 0, "state": state}, buffer)
    write_atomic(journal / f"candidate-{place}.pt", buffer.getvalue())
    write_atomic(journal / JOURNAL, msgspec.json.encode(_Journal(tuple(plan), tuple(tried))))


def _load(
    journal: Path, plan: tuple[tuple[int, int], ...], fresh: list[Candidate]
) -> tuple[list[Candidate], dict[int, Any]]:
    """What the journal knows, if it is of the same search; a state that is newer than the journal is trained again."""
    try:
        found = msgspec.json.decode((journal / JOURNAL).read_bytes(), type=_Journal)
    except (OSError, msgspec.MsgspecError):
        return fresh, {}
    same = [one.architecture for one in found.candidates] == [one.architecture for one in fresh]
    if not same or found.rungs != plan:
        return fresh, {}
    states = {}
    for place, candidate in enumerate(found.candidates):
        if not candidate.rounds:
            continue
        try:
            document = torch.load(journal / f"candidate-{place}.pt", weights_only=True)
        except (OSError, RuntimeError, EOFError):
            return fresh, {}
        if document["epochs"] == candidate.rounds[-1].epochs:
            states[place] = document["state"]
    return list(found.candidates), states
