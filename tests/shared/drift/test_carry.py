"""A stream that goes on with some of its scalars."""

from __future__ import annotations

import numpy as np
import pytest

from shared.drift import DriftDetector, ReferenceProfile

RNG = np.random.default_rng(0)
INPUTS = ReferenceProfile.fit(RNG.normal(size=(500, 3)), ["a", "b", "c"])
CONFIDENCE = ("confidence", "class")
KINDS = ("value", "category")


def outputs(classes, seed):
    rng = np.random.default_rng(seed)
    rows = np.stack((rng.random(300), rng.integers(0, classes, 300)), axis=1)
    return ReferenceProfile.fit(rows, CONFIDENCE, families=("confidence", "classes"), kinds=KINDS)


def stream(n, seed, shift=0.0, missing=0.0):
    rng = np.random.default_rng(seed)
    rows = np.column_stack((rng.normal(shift, 1, (n, 3)), rng.random(n), rng.integers(0, 3, n)))
    rows[rng.random(rows.shape) < missing] = np.nan
    return rows


def gathered(detector, names):
    evidences = detector.status.evidences
    return {name: evidences[name] for name in (*names, *(f"{name}.missing" for name in names))}


@pytest.mark.parametrize("tolerance", [0.0, 0.3])
@pytest.mark.parametrize("missing", [0.0, 0.05])
def test_inputs_go_on_and_outputs_begin_anew(tolerance, missing):
    one = DriftDetector(ReferenceProfile.join(INPUTS, outputs(3, 1)), 10_000, tolerance=tolerance)
    other = DriftDetector(ReferenceProfile.join(INPUTS, outputs(5, 2)), 10_000, tolerance=tolerance)
    one.update(stream(960, 5, 0.1, missing))
    other.carry(one, INPUTS.names)
    assert gathered(other, INPUTS.names) == pytest.approx(gathered(one, INPUTS.names))
    assert set(gathered(other, CONFIDENCE).values()) == {0.0}
    assert 0 < other.status.evidence == pytest.approx(sum(gathered(one, INPUTS.names).values()))
    assert other.counts.samples == 0
    whole = DriftDetector(ReferenceProfile.join(INPUTS, outputs(3, 1)), 10_000, tolerance=tolerance)
    whole.update(np.concatenate((stream(960, 5, 0.1, missing), stream(320, 6, 0.1, missing))))
    other.update(stream(320, 6, 0.1, missing))
    assert gathered(other, INPUTS.names) == pytest.approx(gathered(whole, INPUTS.names))


def test_what_was_taken_over_survives_a_restart():
    one = DriftDetector(ReferenceProfile.join(INPUTS, outputs(3, 1)), 10_000)
    profile = ReferenceProfile.join(INPUTS, outputs(3, 2))
    other = DriftDetector(profile, 10_000)
    one.update(stream(960, 5, 0.1, 0.05))
    other.carry(one, INPUTS.names)
    again = DriftDetector.from_bytes(profile, other.to_bytes())
    for detector in (other, again):
        detector.update(stream(640, 7, 0.1, 0.05))
    assert again.status.evidences == pytest.approx(other.status.evidences)


def test_what_was_taken_over_twice_survives_a_restart_and_is_forgotten_when_asked():
    profiles = [ReferenceProfile.join(INPUTS, outputs(3, seed)) for seed in (1, 2, 3)]
    one, two, three = (DriftDetector(profile, 10_000) for profile in profiles)
    one.update(stream(960, 5, 0.1, 0.05))
    two.carry(one, INPUTS.names)
    two.update(stream(320, 6, 0.1, 0.05))
    three.carry(DriftDetector.from_bytes(profiles[1], two.to_bytes()), INPUTS.names)
    whole = DriftDetector(profiles[0], 10_000)
    whole.update(np.concatenate((stream(960, 5, 0.1, 0.05), stream(320, 6, 0.1, 0.05))))
    again = DriftDetector.from_bytes(profiles[2], three.to_bytes())
    for detector in (whole, three, again):
        detector.update(stream(320, 7, 0.1, 0.05))
    expected = pytest.approx(gathered(whole, INPUTS.names), rel=1e-4)
    assert gathered(three, INPUTS.names) == expected
    assert gathered(again, INPUTS.names) == expected
    again.acknowledge(keep=False)
    assert DriftDetector.from_bytes(profiles[2], again.to_bytes()).status.evidence == 0


def test_scalars_with_a_memory_begin_anew():
    series = np.cumsum(RNG.normal(size=(3000, 2)), axis=0) * 0.02 + RNG.normal(size=(3000, 2))
    profile = ReferenceProfile.fit(series, ["a", "b"], time_ordered=True)
    one, other = DriftDetector(profile, 10_000), DriftDetector(profile, 10_000)
    one.update(series[:640] + 3)
    other.carry(one, ("a", "b"))
    assert other.status.evidence == 0


def test_scalars_of_another_reference_begin_anew():
    one = DriftDetector(ReferenceProfile.fit(RNG.normal(size=(500, 3)), ["a", "b", "c"]), 10_000)
    one.update(RNG.normal(1, 1, (320, 3)))
    other = DriftDetector(INPUTS, 10_000)
    other.carry(one, INPUTS.names)
    assert other.status.evidence == 0


def test_drift_before_and_after_the_change_adds_up_to_the_alarm():
    one = DriftDetector(ReferenceProfile.join(INPUTS, outputs(3, 1)), 10_000)
    one.update(stream(64, 8, 0.4))
    assert not one.status.alarm
    cold, warm = (DriftDetector(ReferenceProfile.join(INPUTS, outputs(3, 2)), 10_000) for _ in range(2))
    warm.carry(one, INPUTS.names)
    for detector in (cold, warm):
        detector.update(stream(64, 9, 0.4))
    assert warm.status.evidence > 10 * cold.status.evidence
    assert cold.status.at is None
    assert warm.status.alarm


def test_categories_with_other_bets_begin_anew_also_after_a_restart():
    """Inputs with a category of their own: outputs of three and of five classes have other numbers of bets."""
    rng = np.random.default_rng(3)
    inputs = ReferenceProfile.fit(
        np.column_stack((rng.normal(size=500), rng.integers(0, 2, 500))), ["a", "c"], kinds=["value", "category"]
    )
    one = DriftDetector(ReferenceProfile.join(inputs, outputs(3, 1)))
    profile = ReferenceProfile.join(inputs, outputs(5, 2))
    other = DriftDetector(profile)
    often = rng.random(640) < 0.6
    one.update(np.column_stack((rng.normal(size=640), often, rng.random(640), rng.integers(0, 3, 640))))
    other.carry(one, inputs.names)
    again = DriftDetector.from_bytes(profile, other.to_bytes())
    often = rng.random(320) < 0.6
    rows = np.column_stack((rng.normal(size=320), often, rng.random(320), rng.integers(0, 5, 320)))
    for detector in (other, again):
        detector.update(rows)
    assert 0 < other.status.evidences["c"] < 1
    assert again.status.evidences == pytest.approx(other.status.evidences)


def test_what_another_tolerance_let_pass_is_not_taken_over():
    one, other = DriftDetector(INPUTS, tolerance=0.2), DriftDetector(INPUTS, tolerance=2.0)
    one.update(RNG.normal(1.0, 1, (320, 3)))
    assert one.status.alarm
    other.carry(one, INPUTS.names)
    assert other.status.evidence == 0
