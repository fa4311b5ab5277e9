"""Counting in blocks, alarms, saving and restoring."""

import threading

import msgspec
import numpy as np
import pytest

from edge_agent import Engine
from edge_agent.monitor import Monitor
from shared.drift import ProfileSet, WatchSpec, WindowCounts
from shared.errors import ProfileError
from shared.manifest import DriftPolicy, load_manifest
from tests.releases import digits, reference_answers

BAD_CAMERA = {"contrast": 0.5, "noise": 45.0}


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def parts(release):
    manifest = load_manifest(release)
    profiles = ProfileSet.load(release / "profile.npz")
    return manifest, profiles.profile_for("default", "fp32-onnx"), profiles.watch


@pytest.fixture
def make(parts):
    manifest, profile, watch = parts

    def make(clock=None, **policy):
        policy = msgspec.structs.replace(manifest.drift, **policy)
        return Monitor(profile, watch, policy, manifest.sample, 10, 10, clock=clock or Clock())

    return make


def row(scores, embedding, score=None):
    return {"scores": scores, "embedding": embedding, "score": float(scores.max()) if score is None else score}


def feed(monitor, n, *, seed, **camera):
    x, _ = digits(n, seed=seed, **camera)
    answers = reference_answers(x)
    for sample, scores, embedding in zip(x, answers["scores"], answers["embedding"], strict=True):
        monitor.observe(sample, row(scores, embedding), 10.0)


def test_nothing_seen_is_a_report_too(make):
    report = make().report()
    assert (report.samples, report.errors, report.evidence, report.alarm, report.at) == (0, 0, 0.0, False, None)
    assert report.counts.samples == 0


def test_every_sample_is_counted_when_it_is_asked_for_and_none_twice(make):
    monitor = make(window=32)
    feed(monitor, 100, seed=1)
    assert monitor.report().samples == 100
    feed(monitor, 31, seed=2)
    report = monitor.take()
    assert report.samples == report.counts.samples == 131
    assert monitor.report().samples == 0
    feed(monitor, 7, seed=3)
    restored = make(window=32)
    restored.restore(monitor.to_bytes())
    assert restored.report().samples == 7


def test_samples_that_come_fast_are_counted_in_large_blocks_and_slow_ones_at_once(make, monkeypatch):
    clock = Clock()
    monitor = make(clock, window=32)
    counted = []
    feed_detector = monitor._detector.feed
    monkeypatch.setattr(monitor._detector, "feed", lambda rows: (counted.append(len(rows)), feed_detector(rows))[1])
    feed(monitor, 32 + 1024 + 31, seed=1)
    assert counted == [32, 1024]
    clock.now += 1
    feed(monitor, 1, seed=2)
    assert counted == [32, 1024, 32]


def test_how_samples_fall_into_blocks_changes_no_number(make):
    one, many = make(window=32), make(window=32)
    for part in range(40):
        feed(one, 13, seed=part, noise=35)
        feed(many, 13, seed=part, noise=35)
        many.report()
    a, b = one.take(), many.take()
    assert a.counts == b.counts
    assert a.evidence == pytest.approx(b.evidence)


def test_large_samples_do_not_fill_the_memory(parts):
    manifest, profile, watch = parts
    wide = msgspec.structs.replace(manifest.sample, shape=(1024, 1024))
    large = WatchSpec([msgspec.structs.replace(watch.parts[0], shape=wide.shape)], watch.answers)
    monitor = Monitor(profile, large, manifest.drift, wide, 10, 10, clock=Clock())
    sample, scores, embedding = np.zeros((1024, 1024), np.uint8), np.full(10, 0.1, np.float32), np.zeros(10, np.float32)
    for _ in range(9):
        monitor.observe(sample, row(scores, embedding), 1.0)
        assert len(monitor._kept) * sample.nbytes <= 4 << 20
    assert monitor.report().samples == 9


def test_a_model_of_another_size_than_the_profile_is_refused_at_once(parts):
    manifest, profile, watch = parts
    for classes, embedding in ((9, 10), (10, 12)):
        with pytest.raises(
            ProfileError, match=f"but the model has .* {classes} classes and an embedding of {embedding}"
        ):
            Monitor(profile, watch, manifest.drift, manifest.sample, classes, embedding)


def test_counts_of_short_windows_add_up_to_the_long_one(make, parts):
    one, many = make(window=16), make(window=16)
    total = WindowCounts.zero(parts[1])
    for part in range(5):
        feed(one, 48, seed=part)
        feed(many, 48, seed=part)
        total += many.take().counts
    assert total == one.take().counts


def test_a_window_has_its_own_time_latency_and_confidence(make):
    clock = Clock()
    monitor = make(clock)
    clock.now += 7
    x, _ = digits(32, seed=3)
    answers = reference_answers(x)
    for i in range(32):
        monitor.observe(x[i], row(answers["scores"][i], answers["embedding"][i], 0.25), float(i))
    report = monitor.take()
    assert (report.seconds, report.p50_us, report.confidence) == (7.0, 15.5, 0.25)
    clock.now += 2
    assert (monitor.report().seconds, monitor.report().p50_us) == (2.0, 0.0)


def test_errors_count_and_are_taken(make):
    monitor = make()
    monitor.error()
    monitor.error()
    assert monitor.take().errors == 2
    assert monitor.report().errors == 0


def test_a_camera_gone_bad_raises_an_alarm_that_stays(make):
    monitor = make()
    feed(monitor, 1024, seed=10)
    assert not monitor.report().alarm
    feed(monitor, 512, seed=11, **BAD_CAMERA)
    report = monitor.take()
    assert report.alarm
    assert monitor.alarm
    assert report.evidence > 1
    assert 1024 < report.at <= 1536
    assert report.features
    assert abs(report.effects["noise"]) > 0.3 or abs(report.effects["contrast"]) > 0.3
    feed(monitor, 2048, seed=12)
    assert monitor.report().alarm  # healthy again, but nobody has acknowledged


@pytest.mark.parametrize("keep", [True, False])
def test_acknowledge_ends_the_alarm_and_the_watch_goes_on(make, keep):
    monitor = make()
    feed(monitor, 640, seed=11, **BAD_CAMERA)
    assert monitor.report().alarm
    monitor.acknowledge(keep=keep)
    assert not monitor.report().alarm
    assert monitor.report().evidence == 0
    if not keep:
        feed(monitor, 640, seed=12, **BAD_CAMERA)
        assert monitor.report().alarm


def test_a_change_too_small_to_matter_raises_none_whatever_the_evidence(make):
    monitor = make(minimum_effect=1e9)
    feed(monitor, 640, seed=11, **BAD_CAMERA)
    assert monitor.status.alarm
    assert not monitor.report().alarm


def test_restored_it_goes_on_to_the_same_numbers(make):
    first, second = make(), make()
    feed(first, 320, seed=20)
    first.error()
    second.restore(first.to_bytes())
    for monitor in (first, second):
        feed(monitor, 320, seed=21)
    a, b = first.take(), second.take()
    assert a.counts == b.counts
    assert (a.samples, a.errors, a.effects, a.seconds) == (b.samples, b.errors, b.effects, b.seconds)
    assert a.evidence == pytest.approx(b.evidence, rel=1e-12)  # blocks of other sizes round in other places


def test_an_alarm_survives_a_restart(make):
    first, second = make(), make()
    feed(first, 640, seed=11, **BAD_CAMERA)
    second.restore(first.to_bytes())
    assert second.report().alarm
    assert second.report().at == first.report().at


def test_time_while_switched_off_does_not_count(make):
    clock = Clock()
    first = make(clock)
    clock.now += 5
    saved = first.to_bytes()
    clock.now += 1000
    second = make(clock)
    second.restore(saved)
    clock.now += 1
    assert second.report().seconds == 6


def test_bytes_of_another_variant_are_refused_and_change_nothing(release):
    one, other = (Engine.load(release, variant=v).monitor for v in ("fp32-onnx", "int8-litert"))
    feed(one, 64, seed=1)
    with pytest.raises(ProfileError, match="expected format 1 of profile"):
        other.restore(one.to_bytes())
    assert other.report().samples == 0


def test_bytes_of_another_policy_are_refused(make):
    with pytest.raises(ProfileError, match="another drift policy"):
        make(window=64).restore(make(window=32).to_bytes())


def test_damaged_bytes_are_refused(make):
    monitor = make()
    feed(monitor, 64, seed=1)
    data = monitor.to_bytes()
    for broken in (b"", data[:10], data[:-5], b"\xff" * 100):
        with pytest.raises(ProfileError):
            monitor.restore(broken)
    assert monitor.report().samples == 64


def test_a_profile_of_other_scalars_is_refused(parts):
    manifest, profile, watch = parts
    wide = msgspec.structs.replace(manifest.sample, shape=(16, 16, 3))
    other = type(watch).fit(wide, 10, None)
    with pytest.raises(ProfileError, match=r"the profile watches brightness.*but the release"):
        Monitor(profile, other, DriftPolicy(), wide, 10, 0)


def test_nan_from_a_model_is_counted_and_stops_nothing(make):
    monitor = make(window=8)
    x, _ = digits(8, seed=1)
    nothing = np.full(10, np.nan, np.float32)
    for sample in x:
        monitor.observe(sample, row(nothing, nothing), 1.0)
    feed(monitor, 64, seed=2)
    assert monitor.report().samples == 72
    assert 0 < monitor.report().confidence < 1


def test_many_threads_lose_no_sample(make):
    monitor = make(window=8)

    def work(seed):
        feed(monitor, 200, seed=seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    taken = [monitor.take() for _ in range(20)]
    for thread in threads:
        thread.join()
    taken.append(monitor.take())
    assert sum(report.samples for report in taken) == 1600
    assert sum(report.counts.samples for report in taken) == 1600
