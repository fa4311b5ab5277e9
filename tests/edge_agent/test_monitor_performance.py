"""What the monitor says of quality, of accuracy without labels, and of truths."""

from __future__ import annotations

import threading

import msgspec
import numpy as np
import pytest

from edge_agent import Engine
from edge_agent.learning import Learning
from edge_agent.monitor import Monitor
from shared.drift import HeldOut, ProfileSet
from shared.errors import InputError, ProfileError
from shared.manifest import load_manifest
from tests.releases import LABELS, digits, reference_answers


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def parts(release):
    return load_manifest(release), ProfileSet.load(release / "profile.npz")


@pytest.fixture
def make(parts):
    manifest, profiles = parts
    held_out = profiles.held_out_for("default", "fp32-onnx")

    def make(clock=None, held_out=held_out, **policy):
        policy = msgspec.structs.replace(manifest.drift, **{"false_alarm_every": 10_000, **policy})
        profile = profiles.profile_for("default", "fp32-onnx")
        return Monitor(
            profile, profiles.watch, policy, manifest.sample, 10, 10, held_out=held_out, clock=clock or Clock()
        )

    return make


def feed(monitor, n, *, seed, rejected=(), **camera):
    """Answers to ``n`` samples, with samples rejected before some of them; how many answers were right."""
    x, y = digits(n, seed=seed, **camera)
    answers = reference_answers(x)
    for k in range(n):
        if k in rejected:
            monitor.error()
        scores = answers["scores"][k]
        row = {"scores": scores, "embedding": answers["embedding"][k], "score": float(scores.max())}
        monitor.observe(x[k], row, 10.0)
    return int((answers["scores"].argmax(axis=1) == y).sum())


def mixed(n, share, seed):
    """Samples of which a ``share`` comes from a camera that shows little contrast, and their classes."""
    bad = int(n * share)
    x, y = digits(n - bad, seed=seed)
    hard, truth = digits(bad, seed=seed + 1, contrast=0.5, noise=60.0)
    return np.concatenate((x, hard)), np.concatenate((y, truth))


@pytest.mark.parametrize("share", [0.0, 0.2, 0.6, 1.0])
def test_accuracy_is_estimated_without_labels_when_hard_samples_become_more(make, share):
    x, y = mixed(4000, 0.2, 31)
    scores = reference_answers(x)["scores"]
    held_out = HeldOut.of_classes(scores.argmax(axis=1) == y, scores.max(axis=1))
    monitor = make(held_out=held_out)
    x, y = mixed(2000, share, 33)
    answers = reference_answers(x)
    for k in range(2000):
        row = {name: values[k] for name, values in answers.items()}
        monitor.observe(x[k], {**row, "score": float(row["scores"].max())}, 10.0)
    report = monitor.take()
    right = (answers["scores"].argmax(axis=1) == y).mean()
    assert report.estimated_accuracy == pytest.approx(right, abs=0.03)
    assert report.reference_accuracy == held_out.accuracy == pytest.approx(0.965, abs=0.01)
    assert (right < 0.92) == (share > 0.5)
    assert monitor.report().estimated_accuracy is None  # nothing in the new window yet


def test_a_release_that_does_not_know_how_good_it_was_estimates_nothing_and_gives_the_rate(make):
    monitor = make(held_out=None)
    feed(monitor, 100, seed=1)
    for _ in range(300):
        monitor.truth(False)
    report = monitor.report()
    assert (report.estimated_accuracy, report.reference_accuracy, report.truth_evidence) == (None, None, 0.0)
    assert (report.truths, report.accuracy, report.alarm) == (300, 0.0, False)


def test_truths_that_say_worse_raise_the_alarm_while_the_stream_stays_as_it_was(make):
    monitor, rng = make(), np.random.default_rng(0)
    feed(monitor, 640, seed=2)
    usual = monitor.report().reference_accuracy
    for right in rng.random(200) < usual:
        monitor.truth(bool(right))
    assert not monitor.report().alarm
    for right in rng.random(400) < usual - 0.25:
        monitor.truth(bool(right))
    report = monitor.take()
    assert report.alarm
    assert monitor.alarm
    assert report.features[0] == "accuracy"
    assert report.at is None  # the stream itself has not drifted
    assert report.evidence < 1 < report.truth_evidence == report.loudest
    assert (report.truths, report.accuracy) == (600, pytest.approx(usual - 0.17, abs=0.06))
    assert monitor.report().truths == 0
    assert monitor.report().alarm  # until it is acknowledged
    monitor.acknowledge()
    assert not monitor.report().alarm
    assert monitor.report().truth_evidence == 0


def test_an_alarm_by_truths_does_not_wait_for_a_report(make):
    clock = Clock()
    monitor = make(clock)
    assert not monitor.alarm
    for _ in range(20):
        monitor.truth(True)
    assert not monitor.alarm  # weighed now
    for _ in range(40):
        monitor.truth(False)
    assert not monitor.alarm  # but not again within a moment
    clock.now += 1
    assert monitor.alarm


def test_rejected_samples_have_a_share_and_evidence(make):
    monitor = make()
    feed(monitor, 640, seed=3)
    assert monitor.take().rejected == 0
    feed(monitor, 320, seed=4, rejected=set(range(0, 320, 8)))
    report = monitor.take()
    assert (report.samples, report.errors, report.counts.samples) == (320, 40, 320)
    assert report.rejected == 40 / 360
    assert report.reject_evidence > 1
    assert report.alarm
    assert report.features == ("rejected",)
    monitor.acknowledge(keep=False)
    assert not monitor.report().alarm


def test_when_every_sample_is_rejected_the_alarm_comes_without_any_answer(make):
    clock = Clock()
    monitor = make(clock)
    for _ in range(64):
        monitor.error()
    assert monitor.alarm
    assert (monitor.report().samples, monitor.report().errors) == (0, 64)


def test_what_is_missing_or_beyond_the_reference_is_told_as_a_share(make):
    monitor = make()
    feed(monitor, 320, seed=5)
    usual = monitor.take()
    assert usual.missing == 0
    assert 0 <= usual.out_of_range < 0.02
    x, _ = digits(100, seed=6)
    nothing = {"scores": np.full(10, np.nan, np.float32), "embedding": np.full(10, np.nan, np.float32), "score": 0.5}
    for sample in x:
        monitor.observe(np.full_like(sample, 255), nothing, 1.0)
    report = monitor.take()
    outputs = len(monitor._watch.output_names)
    assert report.missing == pytest.approx(outputs / (outputs + 4))
    assert report.out_of_range > 0.5


def test_restored_it_goes_on_with_truths_rejects_and_estimate(make):
    first, second = make(), make()
    feed(first, 320, seed=7, rejected={5, 6, 7})
    for right in [True, False] * 20:
        first.truth(right)
    second.restore(first.to_bytes())
    for monitor in (first, second):
        feed(monitor, 320, seed=8, rejected={1, 2})
        for right in [True, False, False] * 10:
            monitor.truth(right)
    a, b = first.take(), second.take()
    fields = ("estimated_accuracy", "truths", "accuracy", "truth_evidence", "rejected", "reject_evidence", "missing")
    for field in fields:
        assert getattr(a, field) == pytest.approx(getattr(b, field))
    assert a.truths == 70
    assert a.truth_evidence > 0 < a.reject_evidence


def test_an_alarm_by_truths_survives_a_restart(make):
    first, second = make(), make()
    for _ in range(100):
        first.truth(False)
    second.restore(first.to_bytes())
    assert second.alarm
    assert second.report().features == ("accuracy",)


def test_what_an_older_version_saved_is_still_read(make):
    first, second = make(), make()
    feed(first, 320, seed=9)
    saved = msgspec.msgpack.decode(first.to_bytes())
    for field in ("right_sum", "scored", "truths", "rejects"):
        del saved[field]
    second.restore(msgspec.msgpack.encode(saved))
    assert second.report().samples == 320
    assert second.report().evidence == first.report().evidence


def test_truths_saved_with_another_reference_are_refused_and_change_nothing(make):
    first, second = make(held_out=None), make()
    feed(second, 64, seed=1)
    with pytest.raises(ProfileError, match="another reference"):
        second.restore(first.to_bytes())
    assert second.report().samples == 64


def test_another_variant_goes_on_with_the_inputs_and_begins_the_outputs_anew(release):
    one, other = (Engine.load(release, variant=variant) for variant in ("fp32-onnx", "int8-onnx"))
    x, y = digits(700, seed=11, contrast=0.85)
    for sample, truth in zip(x, y, strict=True):
        answer = one.infer(sample)
        one.feedback(answer.id, LABELS[truth])
    for _ in range(30):
        with pytest.raises(InputError):
            one.infer(np.zeros(3))
    before = one.monitor.report()
    other.monitor.carry(one.monitor)
    after = other.monitor.report()
    inputs = other.monitor._watch.input_names
    assert {name: after.evidences[name] for name in inputs} == {name: before.evidences[name] for name in inputs}
    assert sum(before.evidences[name] for name in inputs) > 0
    assert all(after.evidences[name] == 0 for name in other.monitor._watch.output_names)
    assert before.reject_evidence == after.reject_evidence > 0
    assert before.truth_evidence > 0 == after.truth_evidence
    assert (after.samples, after.truths, after.counts.samples) == (0, 0, 0)


@pytest.mark.parametrize(("camera", "stands"), [({"contrast": 0.4, "noise": 50.0}, True), ({}, False)])
def test_an_alarm_about_the_inputs_stands_when_the_variant_changes_and_one_about_truths_does_not(
    release, camera, stands
):
    one, other = (Engine.load(release, variant=variant) for variant in ("fp32-onnx", "int8-onnx"))
    for sample in digits(1500, seed=12, **camera)[0]:
        answer = one.infer(sample)
        if not camera:
            one.feedback(answer.id, LABELS[(LABELS.index(answer.label) + 1) % 10])
    assert one.monitor.report().alarm
    assert other.monitor.carry(one.monitor) is stands
    assert other.monitor.report().alarm is stands


def test_a_latched_alarm_stands_when_the_variant_changes_though_the_evidence_has_fallen(release):
    one, other = (Engine.load(release, variant=variant) for variant in ("fp32-onnx", "int8-onnx"))
    for sample in digits(600, seed=12, contrast=0.4, noise=50.0)[0]:
        one.infer(sample)
    assert one.monitor.report().alarm
    one.monitor._detector.acknowledge()  # what was gathered is gone, as after a long quiet time
    assert one.monitor.report().evidence < 1
    assert other.monitor.carry(one.monitor)
    assert other.monitor.report().alarm
    other.monitor.acknowledge()
    assert not other.monitor.alarm


def test_feedback_reaches_the_monitor(release):
    engine = Engine.load(release, variant="fp32-onnx")
    x, y = digits(50, seed=13)
    for answer, truth in zip(engine.infer_batch(x), y, strict=True):
        engine.feedback(answer.id, LABELS[truth])
    engine.feedback("unknown", LABELS[0])
    report = engine.monitor.report()
    assert (report.truths, report.accuracy) == (50, engine.health.accuracy)


def test_many_threads_lose_no_truth_and_no_reject(make):
    monitor = make()

    def work(seed):
        feed(monitor, 100, seed=seed, rejected=set(range(0, 100, 10)))
        for _ in range(100):
            monitor.truth(True)
            assert monitor.alarm in {True, False}

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    taken = [monitor.take() for _ in range(20)]
    for thread in threads:
        thread.join()
    taken.append(monitor.take())
    assert sum(report.truths for report in taken) == 600
    assert sum(report.errors for report in taken) == 60
    assert sum(report.samples for report in taken) == 600


def test_while_learning_and_after_it_truths_have_a_rate_and_rejects_their_usual_share(parts):
    manifest = msgspec.structs.replace(parts[0], profile=None)
    learning = Learning(manifest, manifest.variants[0], learn=200, clock=lambda: 5.0)
    feed(learning, 100, seed=14, rejected=set(range(0, 100, 10)))
    learning.truth(True)
    learning.truth(False)
    report = learning.report()
    assert (report.truths, report.accuracy, report.errors) == (2, 0.5, 10)
    resumed = Learning(manifest, manifest.variants[0], learn=200, clock=lambda: 5.0)
    resumed.restore(learning.to_bytes())
    for monitor in (learning, resumed):
        feed(monitor, 100, seed=15, rejected=set(range(0, 100, 10)))
        assert monitor.ready
        feed(monitor, 700, seed=16, rejected=set(range(0, 700, 10)))
        assert monitor.report().reject_evidence < 1  # as many as while it learned
        assert not monitor.report().alarm
        feed(monitor, 300, seed=17, rejected=set(range(0, 300, 2)))
        monitor.truth(False)
        assert monitor.report().features == ("rejected",)
        assert monitor.report().truth_evidence == 0
    assert learning.report().truths == 3
