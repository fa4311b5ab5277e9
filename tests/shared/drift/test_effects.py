"""Effect sizes from counts against scipy and the textbook on the raw values."""

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon
from scipy.stats import wasserstein_distance

from shared.drift import DriftDetector, ReferenceProfile
from shared.drift.effects import effects

LAWS = {
    "shifted": lambda rng, n: rng.normal(0.5, 1, n),
    "wider": lambda rng, n: rng.normal(0, 1.4, n),
    "narrower": lambda rng, n: rng.normal(0, 0.6, n),
    "skewed": lambda rng, n: rng.gamma(2.0, 0.8, n) - 1.6,
    "two humps": lambda rng, n: rng.normal(0, 0.4, n) + rng.choice([-0.9, 0.9], n),
    "the same": lambda rng, n: rng.normal(size=n),
}


@pytest.fixture(scope="module")
def reference():
    return np.random.default_rng(0).normal(size=8000)


@pytest.fixture(scope="module")
def profile(reference):
    return ReferenceProfile.fit(reference, ["x"])


def effect_of(profile, values):
    detector = DriftDetector(profile)
    detector.update(values[:, None])
    return effects(profile, detector.counts)["x"]


@pytest.mark.parametrize("law", LAWS)
def test_distances_of_values_are_scipys(profile, reference, law):
    values = LAWS[law](np.random.default_rng(1), 8000)
    found = effect_of(profile, values)
    unit = profile.columns[0].unit
    inside = np.clip(values, reference.min(), reference.max())  # what lies beyond counts as at the end
    assert found.mean_shift == pytest.approx((inside.mean() - reference.mean()) / unit, abs=0.04)
    assert found.w1 == pytest.approx(wasserstein_distance(inside, reference) / unit, abs=0.04, rel=0.08)


@pytest.mark.parametrize("law", LAWS)
def test_divergences_are_the_textbooks_on_the_same_bins(profile, reference, law):
    values = LAWS[law](np.random.default_rng(2), 8000)
    found = effect_of(profile, values)
    edges = np.concatenate(([-np.inf], profile.columns[0].edges, [np.inf]))
    p = profile.columns[0].gaps / profile.columns[0].gaps.sum()
    counts = np.histogram(values, edges)[0]
    q = (counts + len(p) / 2 * p) / (len(values) + len(p) / 2)  # half a count a bin: PSI of an empty one is infinite
    assert found.psi == pytest.approx(((q - p) * np.log(q / p)).sum(), rel=0.01)
    assert found.js == pytest.approx(jensenshannon(p, q) ** 2, rel=0.01)
    assert found.js == pytest.approx(jensenshannon(p, counts) ** 2, rel=0.05, abs=0.001)


def test_shares_of_categories_and_missing_values_are_the_difference_of_shares():
    rng = np.random.default_rng(3)
    x = rng.choice(4, 6000, p=[0.4, 0.3, 0.2, 0.1]).astype(float)
    profile = ReferenceProfile.fit(x, ["c"], kinds=["category"])
    now = rng.choice(4, 6000, p=[0.1, 0.3, 0.2, 0.4]).astype(float)
    now[rng.random(6000) < 0.25] = np.nan
    detector = DriftDetector(profile)
    detector.update(now[:, None])
    found = effects(profile, detector.counts)
    assert found["c"].w1 == pytest.approx(0.3, abs=0.02)
    assert found["c.missing"].mean_shift == pytest.approx(0.25, abs=0.02)
