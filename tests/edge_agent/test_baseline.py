"""References learned from a live stream, whose answers resemble the one before."""

import logging

import numpy as np
import pytest

from edge_agent.baseline import Baseline, restless_scalars
from edge_agent.monitor import Monitor
from shared.drift import DriftDetector, WatchSpec
from shared.manifest import DriftPolicy, SampleSpec

SAMPLE = SampleSpec("float32", (2,), kind="row", columns=("a", "b"))
ROW = {"scores": np.array([0.1, 0.2, 0.7]), "score": 0.7}


@pytest.fixture(scope="module")
def watch():
    return WatchSpec.choose((SAMPLE,), ROW, "classification")


def stream(watch, n, seed, *, rho=0.8, repeat=1):
    """Two series of memory ``rho``, confidences that come and go, classes in runs of ``repeat``."""
    random = np.random.default_rng(seed)
    rows = random.normal(size=(n + 200, len(watch.names))) * np.sqrt(1 - rho**2)
    for t in range(1, len(rows)):
        rows[t] += rho * rows[t - 1]
    rows = rows[200:]
    rows[:, watch.names.index("class")] = np.repeat(random.integers(0, 3, n // repeat + 1), repeat)[:n]
    return rows


def test_a_stream_with_inertia_is_no_drift(watch):
    alarms = 0
    for seed in range(20):
        rows = stream(watch, 6000, seed)
        baseline = Baseline.fit("x", watch, rows[:2000])
        assert baseline.watch.names == watch.names
        alarms += DriftDetector(baseline.profile, 20_000).update(rows[2000:]).alarm
    assert alarms <= 8  # of 20 with probability 4000 / 20000 at most; as exchangeable rows they all alarm


def test_a_change_of_level_is_found_all_the_same(watch):
    rows = stream(watch, 5000, 3)
    rows[3000:, 0] += 1.5
    baseline = Baseline.fit("x", watch, rows[:2000])
    status = DriftDetector(baseline.profile, 20_000).update(rows[2000:])
    assert status.alarm
    assert 1000 < status.at < 1600
    assert status.features[0].startswith("a")


def test_classes_in_long_runs_are_not_watched_and_that_is_said(watch, caplog):
    rows = stream(watch, 2000, 4, repeat=50)
    with caplog.at_level(logging.WARNING):
        baseline = Baseline.fit("x", watch, rows)
    assert set(watch.names) - set(baseline.watch.names) == {"class"}
    assert "not watched, since the answers learned from were too few to know them: class" in caplog.text
    assert restless_scalars(baseline.profile) == []


def test_a_model_that_has_nothing_but_classes_in_runs_keeps_them(watch):
    only = watch.without([name for name in watch.names if name != "class"])
    rows = stream(watch, 2000, 5, repeat=50)[:, [watch.names.index("class")]]
    baseline = Baseline.fit("x", only, rows)
    assert baseline.watch.names == ("class",)
    assert "not promised" in baseline.profile.level["class"]


@pytest.mark.parametrize(("shift", "matters"), [(0.15, False), (1.2, True)])
def test_a_level_that_moves_a_little_is_sure_and_no_alarm(watch, shift, matters):
    rows = stream(watch, 42_000, 6)
    rows[2000:, 0] += shift
    baseline = Baseline.fit("x", watch, rows[:2000])
    monitor = Monitor(baseline.profile, baseline.watch, DriftPolicy(false_alarm_every=1000), SAMPLE, 3)
    looks = []
    for block in np.split(rows[2000:], 40):
        monitor._detector.feed(block)
        looks.append(monitor._matters(monitor._detector.status))
    assert monitor._detector.status.alarm
    assert any(looks) is matters
