"""The run: changes, where they began, a history that is bounded and loses no count."""

import numpy as np
import pytest

from cloud_trainer.drift.history import POINTS, grouped
from cloud_trainer.drift.ordered import Block
from cloud_trainer.drift.watching import watch
from shared.drift import DriftDetector, ReferenceProfile


def nothing(fraction, text):
    pass


def run(x, profile, cut=1000, **options):
    detector = DriftDetector(profile, options.pop("every", 50_000), options.pop("window", 32))
    blocks = [Block(x[at : at + cut], None, 1.0) for at in range(0, len(x), cut)]
    return watch(blocks, detector, nothing, **options)


@pytest.fixture(scope="module")
def profile():
    return ReferenceProfile.fit(np.random.default_rng(0).normal(size=(1000, 3)), ["a", "b", "c"])


def test_the_history_is_bounded_and_its_counts_are_those_of_all_rows(profile):
    x = np.random.default_rng(1).normal(size=(30_000, 3))
    watched = run(x, profile, window=1, every=1e6)
    assert POINTS // 2 <= len(watched.points) <= POINTS
    assert watched.points[0].begin == 0
    assert [p.end for p in watched.points[:-1]] == [p.begin for p in watched.points[1:]]
    assert watched.points[-1].end == watched.rows == 30_000
    plain = DriftDetector(profile, 1e6, 1)
    plain.feed(x)
    assert watched.counts == plain.counts
    merged = grouped(watched.points, 48)
    assert len(merged) == 48
    assert sum(p.counts.samples for p in merged) == 30_000


def test_how_rows_are_cut_into_blocks_changes_nothing(profile):
    x = np.random.default_rng(1).normal(size=(3000, 3))
    x[2000:, 1] += 1
    one, two = run(x, profile, cut=3000), run(x, profile, cut=77)
    assert one.changes[0].start == two.changes[0].start
    assert one.changes[0].at == two.changes[0].at
    assert one.changes[0].counts == two.changes[0].counts
    assert [p.evidence for p in one.points] == [p.evidence for p in two.points]


def test_the_alarm_and_the_evidence_are_the_detectors_own(profile):
    x = np.random.default_rng(1).normal(size=(3000, 3))
    x[2000:, 1] += 1
    watched = run(x, profile)
    detector = DriftDetector(profile, 50_000)
    status = detector.update(x)
    assert watched.changes[0].at == status.at
    assert watched.changes[0].features == status.features
    assert np.exp(watched.points[-1].evidence) == pytest.approx(status.evidence)


@pytest.mark.parametrize(("shift", "within"), [(1.0, 40), (3.0, 16)])
@pytest.mark.parametrize("window", [1, 32])
def test_a_jump_is_placed_closely(profile, shift, within, window):
    errors = []
    for seed in range(10):
        x = np.random.default_rng(seed).normal(size=(2500, 3))
        x[1504:, 2] += shift
        errors.append(abs(run(x, profile, window=window).changes[0].start - 1504))
    assert np.median(errors) <= within


def test_a_jump_is_placed_closely_in_a_long_file(profile):
    x = np.random.default_rng(1).normal(size=(120_000, 3))
    x[80_000:, 0] += 0.7
    watched = run(x, profile, cut=4096, every=1e6)
    assert len(watched.changes) == 1
    assert abs(watched.changes[0].start - 80_000) <= 300
    assert watched.changes[0].counts.samples >= 1024


def test_what_moved_is_measured_on_rows_after_the_change(profile):
    x = np.random.default_rng(1).normal(size=(4000, 3))
    x[1000:, 0] += 2
    x[3000:, 1] += 2
    change = run(x, profile).changes[0]
    assert 1024 <= change.counts.samples < 1200
    assert change.loudest[0] > 20
    assert change.loudest[1] < 0


def test_a_file_shorter_than_a_window_has_no_evidence_but_counts(profile):
    watched = run(np.random.default_rng(1).normal(size=(20, 3)), profile)
    assert watched.rows == watched.counts.samples == 20
    assert not watched.changes


def test_false_alarms_of_many_files_without_change_keep_the_promise():
    """With A = 20 N at most 5 % of unchanged files may raise an alarm, whatever is done around the detector."""
    alarms = 0
    for seed in range(120):
        rng = np.random.default_rng(seed)
        reference = ReferenceProfile.fit(rng.normal(size=(300, 2)))
        x = rng.normal(size=(640, 2))
        alarms += len(run(x, reference, every=20 * 640, all_alarms=True).changes)
    assert alarms <= 12  # 6 expected at the very most; 12 or more of Binomial(120, 5 %) has a chance of 2 %
