"""Truths and rejects against held-out data: the promise by simulation, how soon, and what is kept."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest

from shared.drift.encode import Encoder
from shared.drift.performance import HeldOut, KeptTruths, Truths
from shared.drift.profile import ReferenceProfile
from shared.drift.rejects import KeptRejects, Rejects
from shared.drift.worsening import STEPS, Kept, Worsening
from shared.errors import ProfileError


def upper(alarms, runs):
    """A share that is above the true one in about 999 of 1,000 cases."""
    share = (alarms + 1) / (runs + 2)
    return share + 3.1 * np.sqrt(share * (1 - share) / runs)


def lower(alarms, runs):
    share = (alarms + 1) / (runs + 2)
    return share - 3.1 * np.sqrt(share * (1 - share) / runs)


@pytest.mark.parametrize("n", [50, 100, 500, 2000])
@pytest.mark.parametrize("wrong", [0.01, 0.1, 0.5])
def test_truths_like_the_references_keep_the_promise(n, wrong):
    rng = np.random.default_rng(n)
    every, within, runs, alarms = 1000, 250, 400, 0
    for _ in range(runs):
        test = Worsening.of_share(int(rng.binomial(n, wrong)), n, every)
        alarms += test.feed(rng.random(within) < wrong)
    assert lower(alarms, runs) <= within / every


@pytest.mark.parametrize("n", [50, 120])
@pytest.mark.parametrize("wrong", [0.002, 0.05, 0.2, 0.5])
def test_no_bets_mean_over_references_is_above_one(n, wrong):
    mean = np.zeros(len(STEPS))
    for bad in range(n):
        chance = math.comb(n, bad) * wrong**bad * (1 - wrong) ** (n - bad)
        mean += chance * (1 + np.expm1(STEPS) * wrong) / Worsening.of_share(bad, n, 1000)._usual
    assert (mean <= 1).all()
    assert (mean > 0.7).all()


@pytest.mark.parametrize("n", [50, 500])
def test_errors_like_the_references_keep_the_promise(n):
    rng = np.random.default_rng(n)
    every, within, runs, alarms = 1000, 250, 400, 0
    for _ in range(runs):
        profile = ReferenceProfile.fit(rng.exponential(size=n), ["error"])
        test = Worsening.of_values(profile.columns[0], every)
        alarms += test.feed(Encoder(profile).codes(rng.exponential(size=(within, 1)), rng)[0])
    assert lower(alarms, runs) <= within / every


def test_becoming_better_is_no_news_and_falling_back_to_the_usual_neither():
    rng = np.random.default_rng(0)
    for _ in range(50):
        test = Worsening.of_share(100, 1000, 1000)
        assert not test.feed(rng.random(3000) < 0.02)
        assert test.evidence < 0.05
        test.feed(rng.random(100) < 0.1)
        assert test.evidence < 1


@pytest.mark.parametrize(
    ("before", "after", "within"), [(0.05, 0.1, 400), (0.05, 0.15, 130), (0.05, 0.3, 40), (0.2, 0.5, 60)]
)
def test_worse_answers_are_found_within_some_truths(before, after, within):
    rng = np.random.default_rng(7)
    delays = []
    for _ in range(20):
        test = Worsening.of_share(int(2000 * before), 2000, 10_000)
        test.feed(rng.random(500) < before)
        delays.append(next(k for k in range(1, 5000) if test.feed(rng.random(1) < after)))
    assert np.median(delays) <= within


def test_larger_errors_are_found_and_smaller_ones_are_none():
    rng = np.random.default_rng(8)
    held_out = HeldOut.of_numbers(rng.exponential(size=2000))
    truths = Truths(held_out, 10_000)
    assert not truths.add(rng.exponential(size=500).tolist())
    assert not truths.add((0.3 * rng.exponential(size=500)).tolist())
    assert truths.add((2 * rng.exponential(size=300)).tolist())
    assert truths.feature == "absolute_error"


def test_how_truths_are_cut_into_blocks_changes_nothing():
    rng = np.random.default_rng(9)
    events = rng.random(3000) < 0.1
    one, many = Worsening.of_share(50, 1000, 10_000), Worsening.of_share(50, 1000, 10_000)
    one.feed(events[:2500])
    for at in range(0, 2500, 7):
        many.feed(events[at : min(at + 7, 2500)])
    assert one.evidence == pytest.approx(many.evidence)
    assert one.save().seen == many.save().seen


def truths_of(wrong, n, rng):
    return (rng.random(n) >= wrong).tolist()


def test_an_alarm_needs_a_loss_that_matters_and_stays_until_it_is_acknowledged():
    rng = np.random.default_rng(10)
    held_out = HeldOut.of_classes(rng.random(5000) >= 0.01, None)
    slight = Truths(held_out, 1000)
    slight.add(truths_of(0.025, 3000, rng))
    assert slight.figures()["truth_evidence"] > 1
    assert not slight.alarm  # surely worse, by 1.5 points
    every = Truths(held_out, 1000, minimum_effect=0.0)
    every.add(truths_of(0.025, 3000, rng))
    assert every.alarm
    bad = Truths(held_out, 1000)
    assert bad.add(truths_of(0.2, 100, rng))
    assert bad.add(truths_of(0.0, 2000, rng))
    bad.acknowledge(keep=True)
    assert not bad.alarm
    assert bad.figures()["truth_evidence"] == 0


@pytest.mark.parametrize("keep", [True, False])
def test_after_an_acknowledgement_what_was_seen_is_kept_or_forgotten(keep):
    rng = np.random.default_rng(11)
    truths = Truths(HeldOut.of_classes(rng.random(500) >= 0.05, None), 1000)
    assert truths.add(truths_of(0.3, 2000, rng))
    truths.acknowledge(keep=keep)
    kept = truths.save()
    assert (sum(kept.test.seen), len(kept.recent)) == ((2000, 256) if keep else (0, 0))
    assert truths.add(truths_of(0.3, 200, rng))  # it was no false alarm


def test_figures_are_of_a_window_and_evidence_is_not():
    rng = np.random.default_rng(12)
    truths = Truths(HeldOut.of_classes(np.arange(1000) % 10 > 0, None), 1000)
    truths.add([True, True, False, True])
    figures = truths.figures()
    assert (figures["truths"], figures["accuracy"], figures["reference_accuracy"]) == (4, 0.75, 0.9)
    evidence = figures["truth_evidence"]
    truths.begin()
    figures = truths.figures()
    assert (figures["truths"], figures["accuracy"], figures["absolute_error"]) == (0, None, None)
    assert figures["truth_evidence"] == evidence > 0
    truths.add(truths_of(0.5, 100, rng))
    assert truths.figures()["truth_evidence"] > evidence


@pytest.mark.parametrize(
    "held_out",
    [
        None,
        HeldOut(),
        HeldOut.of_classes(np.ones(49, bool), None),
        HeldOut.of_classes(np.arange(200) < 5, None),
        HeldOut.of_numbers(np.ones(30)),
    ],
)
def test_without_enough_held_out_answers_there_is_a_rate_and_no_evidence(held_out):
    truths = Truths(held_out, 100)
    assert not truths.add([False] * 500)
    truths.add([0.5, 1.5])
    figures = truths.figures()
    assert (figures["truths"], figures["accuracy"], figures["absolute_error"]) == (502, 0.0, 1.0)
    assert figures["truth_evidence"] == 0


def saved(kept, type_):
    return msgspec.msgpack.decode(msgspec.msgpack.encode(kept.save()), type=type_)


@pytest.mark.parametrize(
    ("held_out", "usual", "bad"),
    [
        (HeldOut.of_classes(np.arange(500) % 20 > 0, None), [True, True, False], [False]),
        (HeldOut.of_numbers(np.linspace(0, 1, 500)), [0.2, 0.7], [3.0]),
    ],
)
def test_saved_and_loaded_it_goes_on_to_the_same_numbers(held_out, usual, bad):
    one, other = Truths(held_out, 1000), Truths(held_out, 1000)
    one.add(usual * 5)
    other.load(saved(one, KeptTruths))
    for truths in (one, other):
        truths.add(bad * 20)
    assert one.figures() == other.figures()
    assert one.alarm
    again = Truths(held_out, 1000)
    again.load(saved(one, KeptTruths))
    assert again.alarm


def test_truths_saved_with_another_reference_are_refused():
    classes, numbers = HeldOut.of_classes(np.ones(99, bool), None), HeldOut.of_numbers(np.arange(99.0))
    for one, other in ((None, classes), (classes, None), (classes, numbers)):
        truths = Truths(other, 1000)
        with pytest.raises(ProfileError, match="another reference"):
            truths.load(saved(Truths(one, 1000), KeptTruths))
    test = Worsening.of_share(1, 100, 1000)
    for damaged in (Kept([-1.0, 0.0], [None] * 10, False), Kept([0.0, 0.0], [float("nan")] * 10, False)):
        with pytest.raises(ProfileError, match="saved performance"):
            test.load(damaged)


def test_held_out_figures_survive_as_arrays_and_malformed_ones_are_refused():
    rng = np.random.default_rng(13)
    classes = HeldOut.of_classes(rng.random(500) < 0.9, rng.random(500))
    numbers = HeldOut.of_numbers(rng.exponential(size=10_000))
    assert len(numbers.errors) == 4096
    for one in (classes, numbers):
        back = HeldOut.from_arrays(one.to_arrays())
        assert (back.accuracy, back.mean_error, back.known) == (one.accuracy, one.mean_error, True)
        np.testing.assert_array_equal(back.errors, one.errors)
    assert HeldOut.from_arrays({"gaps": np.ones(3)}) is None
    arrays = classes.to_arrays()
    for name, value in (
        ("truth_answers", np.array([7, 3])),
        ("truth_answers", np.array([1])),
        ("truth_accuracy", arrays["truth_accuracy"][::-1]),
        ("truth_confidence", arrays["truth_confidence"][:-1]),
        ("truth_errors", np.array([-1.0])),
        ("truth_mean_error", np.array([np.nan])),
        ("truth_mean_error", np.array(["x"])),
    ):
        with pytest.raises(ProfileError, match="drift profile"):
            HeldOut.from_arrays({**arrays, name: value})
    for wrong in ([], [np.nan], [-1.0], [[1.0]]):
        with pytest.raises(ProfileError, match="absolute errors"):
            HeldOut.of_numbers(np.array(wrong))


def test_rejects_as_rare_as_in_the_reference_keep_the_promise():
    every, within, runs, alarms = 1000, 250, 300, 0
    rng = np.random.default_rng(14)
    for _ in range(runs):
        rejects = Rejects(int(rng.binomial(500, 0.02)), 500, every, minimum_effect=0.0)
        for _ in range(within // 25):
            block = rng.random(25) < 0.02
            rejects.add(block if block.any() else 25)
        alarms += rejects.alarm
    assert lower(alarms, runs) <= within / every


def test_a_device_that_sends_the_wrong_shape_now_and_then_is_found_and_one_bad_sample_is_none():
    rejects = Rejects(0, 2000, 1_000_000)
    once = np.zeros(1024, bool)
    once[500] = True
    assert not rejects.add(once)
    for _ in range(8):
        assert not rejects.add(1024)
    assert rejects.evidence == 0  # given up: nothing is computed until the next one
    assert not rejects.add(np.arange(1024) % 200 == 0)  # 5 of 1,024: too few to matter
    assert rejects.add(np.arange(1024) % 10 == 0)
    kept = Rejects(0, 2000, 1_000_000)
    kept.load(saved(rejects, KeptRejects))
    assert kept.alarm
    assert kept.evidence == rejects.evidence
    rejects.acknowledge(keep=True)
    assert not rejects.alarm


def test_a_stream_that_often_was_rejected_before_may_be_so_again():
    rejects = Rejects(100, 1000, 10_000)
    rng = np.random.default_rng(15)
    assert not rejects.add(rng.random(3000) < 0.1)
    assert rejects.add(rng.random(1000) < 0.3)
