"""The search for an architecture: what is tried, what goes on, what is chosen, and that a killed one goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap

import msgspec
import pytest

from cloud_trainer.models import Limits, ResNet, architecture, bytes_of, macs_of
from cloud_trainer.search import (
    JOURNAL,
    Budget,
    Candidate,
    Job,
    Round,
    SearchResult,
    Trial,
    choose,
    front,
    next_jobs,
    propose,
    rungs,
    search,
)
from shared.errors import TrainingError

NETS = [architecture("mlp", input=(4,), outputs=2, width=w) for w in (4, 8, 12, 16, 20, 24, 28, 32, 36)]


def quality(net, epochs):
    """Wider is better and learns on; the fifth learns late."""
    return net.width / 100 + (0.3 if net.width == 20 and epochs > 2 else 0.0) - 0.1 / epochs


def evaluate(net, epochs, state):
    seen = (state or ()) + (epochs,)
    return Trial(quality(net, epochs), macs_of(net), bytes_of(net), seen, 1.0)


def tried(macs, *scores, epochs=(2, 6, 18), failed=""):
    rounds = tuple(Round(e, s, 1.0) for e, s in zip(epochs, scores, strict=False))
    return Candidate(NETS[0], macs, macs, rounds, failed)


def test_best_third_goes_on_for_three_times_as_long_from_where_it_was():
    jobs = []

    def watched(net, epochs, state):
        jobs.append((net.width, epochs, state))
        return evaluate(net, epochs, state)

    result = search(NETS, watched, budget=Budget(trials=9, epochs=2))
    assert [job[:2] for job in jobs] == [(n.width, 2) for n in NETS] + [(28, 6), (32, 6), (36, 6), (36, 18)]
    assert jobs[-1][2] == (2, 6)
    assert result.architecture.width == 36
    assert [len(one.rounds) for one in result.candidates] == [1] * 6 + [2, 2, 3]


def test_equally_good_the_smaller_goes_on():
    found = next_jobs([tried(300, 0.5), tried(100, 0.5), tried(200, 0.5)], rungs(3, 2))
    assert found == (6, (1,))


def test_a_round_waits_for_the_one_before():
    assert next_jobs([tried(1, 0.9), tried(2), tried(3, 0.1)], rungs(3, 2)) == (2, (1,))
    assert next_jobs([tried(1, 0.9, 0.9), tried(2, 0.1), tried(3, 0.1)], rungs(3, 2)) is None


def test_smallest_within_the_tolerance_is_chosen():
    candidates = [tried(100, 0.60, 0.70), tried(200, 0.80, 0.896), tried(300, 0.80, 0.90, 0.95), tried(50, 0.899)]
    assert choose(candidates, 0.005) == 1  # compared after 6 epochs; the fourth was only seen after 2
    assert choose(candidates, 0.001) == 2
    assert choose(candidates, 0.25) == 0


def test_front_has_what_no_other_beats_in_both():
    candidates = [tried(100, 0.5), tried(200, 0.4), tried(300, 0.9), tried(300, 0.8), tried(50), tried(400, 0.9)]
    assert front(candidates) == (0, 2)


def test_training_that_fails_is_out_and_said_so():
    def fragile(net, epochs, state):
        if net.width == 36:
            raise TrainingError("the loss is not a number in batch 3")
        score = float("nan") if net.width == 32 else 0.5
        return msgspec.structs.replace(evaluate(net, epochs, state), score=score)

    result = search(NETS, fragile)
    assert [one.failed for one in result.candidates[-2:]] == ["its score is nan", "the loss is not a number in batch 3"]
    assert result.architecture.width == 4
    with pytest.raises(TrainingError, match="nothing that could be trained: the loss"):
        search(NETS[-1:], fragile)


def test_wall_clock_ends_it_and_what_is_known_is_chosen_from():
    now = iter(range(0, 1000, 10))
    result = search(NETS, evaluate, budget=Budget(seconds=35), clock=lambda: next(now))
    assert result.stopped == "after 40 s of 35 s"
    assert [len(one.rounds) for one in result.candidates] == [1, 1, 1] + [0] * 6
    assert result.architecture.width == 12


def test_an_executor_gets_a_round_at_once():
    rounds = []

    def many(jobs: list[Job]):
        rounds.append(len(jobs))
        return [evaluate(job.architecture, job.epochs, job.state) for job in jobs]

    result = search(NETS, evaluate, evaluate_many=many)
    assert rounds == [9, 3, 1]
    assert result == search(NETS, evaluate)


def test_result_survives_json():
    result = search(NETS, evaluate)
    assert msgspec.json.decode(msgspec.json.encode(result), type=SearchResult) == result


SCRIPT = """
    import os, signal, sys
    from pathlib import Path
    from tests.cloud_trainer import test_search as here
    from cloud_trainer.search import search

    def evaluate(net, epochs, state):
        done = Path(sys.argv[1]) / "done"
        with done.open("a") as file:
            file.write("x")
        if done.stat().st_size == 11:
            os.kill(os.getpid(), signal.SIGKILL)
        return here.evaluate(net, epochs, state)

    search(here.NETS, evaluate, journal=Path(sys.argv[1]))
"""


def test_search_that_was_killed_goes_on_with_what_it_had(tmp_path):
    ended = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(SCRIPT), str(tmp_path)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
    )
    assert ended.returncode == -signal.SIGKILL
    jobs = []

    def watched(net, epochs, state):
        jobs.append((net.width, epochs, state))
        return evaluate(net, epochs, state)

    assert search(NETS, watched, journal=tmp_path) == search(NETS, evaluate)
    assert jobs == [(32, 6, (2,)), (36, 6, (2,)), (36, 18, (2, 6))]


@pytest.mark.parametrize("what", ["other candidates", "damaged journal", "lost state"])
def test_journal_of_another_search_or_a_damaged_one_is_begun_anew(tmp_path, what):
    search(NETS[:3], evaluate, journal=tmp_path)
    if what == "damaged journal":
        (tmp_path / JOURNAL).write_bytes(b"{")
    elif what == "lost state":
        (tmp_path / "candidate-2.pt").unlink()
    nets = NETS[3:6] if what == "other candidates" else NETS[:3]
    count = []
    search(nets, lambda *job: count.append(1) or evaluate(*job), journal=tmp_path)
    assert len(count) == 4


def test_proposals_keep_to_the_limits_and_differ():
    templates = [architecture(f, input=(1, 16, 16), outputs=4) for f in ("resnet", "ds-cnn", "mobilenet")]
    limits = Limits(macs=400_000, bytes=20_000)
    found = propose(templates, limits, 12)
    assert len(set(found)) == 12
    assert all(limits.fits(one) for one in found)
    assert {one.family for one in found[:3]} == {"resnet", "ds-cnn", "mobilenet"}
    assert {one.depth for one in found if isinstance(one, ResNet)} == {1, 2}
    assert all(one.width % 4 == 0 for one in found if one.width > 8)


def test_nothing_that_fits_says_what_the_smallest_needs():
    with pytest.raises(TrainingError, match=r"no network fits into 10 MACs .* resnet-w1, has \d+ and \d+"):
        propose([architecture("resnet", input=(1, 16, 16), outputs=4)], Limits(macs=10), 3)
