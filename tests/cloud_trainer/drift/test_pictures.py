"""Pictures from profiles and counts alone."""

import xml.etree.ElementTree as ET

import numpy as np
import pytest

from cloud_trainer.drift import plots, timeline
from cloud_trainer.drift.findings import moved
from cloud_trainer.drift.ordered import Block
from cloud_trainer.drift.ticks import axis_ticks
from cloud_trainer.drift.times import DATES, Axis
from cloud_trainer.drift.watching import watch
from cloud_trainer.drift.words import size
from cloud_trainer.svg import nice_ticks
from shared.drift import DriftDetector, ReferenceProfile

RNG = np.random.default_rng(0)


def counted(profile, x):
    detector = DriftDetector(profile)
    detector.feed(x)
    return detector.counts


def texts(svg):
    found = ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")
    return [element[-1].tail if len(element) else element.text for element in found]


@pytest.mark.parametrize(
    "draw",
    [
        lambda n, s: RNG.normal(s, 1, n),
        lambda n, s: np.round(RNG.normal(s, 1, n), 1),
        lambda n, s: RNG.poisson(3 + s, n).astype(float),
        lambda n, s: RNG.integers(0, 2, n) * 1.0,
        lambda n, s: RNG.standard_cauchy(n) + s,
        lambda n, s: np.where(RNG.random(n) < 0.3, np.inf, RNG.normal(s, 1, n)),
        lambda n, s: np.full(n, 5.0) + s,
        lambda n, s: np.where(RNG.random(n) < 0.8, 0.0, RNG.exponential(1 + s, n)),
    ],
)
def test_shares_add_up_before_and_now(draw):
    reference, new = draw(700, 0), draw(900, 1)
    profile = ReferenceProfile.fit(reference, ["v"])
    counts = counted(profile, new)
    found = plots.shares(profile.columns[0], counts.table[0, : len(profile.columns[0].gaps)].astype(float))
    assert found.before.sum() + found.below[0] + found.above[0] == pytest.approx(1)
    assert found.now.sum() + found.below[1] + found.above[1] == pytest.approx(1)
    ET.fromstring(plots.histogram(profile, counts, "v"))


def test_bars_are_the_histogram_of_the_data_within_the_bins():
    reference, new = RNG.normal(0, 1, 4000), RNG.normal(0.5, 1, 4000)
    profile = ReferenceProfile.fit(reference, ["v"])
    row = counted(profile, new).table[0, : len(profile.columns[0].gaps)].astype(float)
    found = plots.shares(profile.columns[0], row)
    exact = np.histogram(reference, found.edges)[0] / 4000
    np.testing.assert_allclose(found.before, exact, atol=1e-3)
    now = np.histogram(new, found.edges)[0] / 4000
    assert np.abs(found.now - now).sum() < 0.1


def test_few_values_have_a_bar_each():
    profile = ReferenceProfile.fit(np.arange(700) % 7.0, ["day"])
    found = plots.shares(profile.columns[0], counted(profile, np.arange(70) % 2.0).table[0, :18].astype(float))
    assert found.values.tolist() == [0, 1, 2, 3, 4, 5, 6]
    np.testing.assert_allclose(found.before, 1 / 7, atol=0.01)
    np.testing.assert_allclose(found.now[:2], 0.5, atol=0.12)


def test_whole_numbers_are_not_combed():
    profile = ReferenceProfile.fit(RNG.integers(0, 100, 3000) * 1.0, ["n"])
    found = plots.shares(profile.columns[0], np.ones(18))
    assert len(set(np.diff(found.edges).round(9))) == 1
    assert np.diff(found.edges)[0] % 1 == 0
    assert found.before[1:-2].max() < 1.5 * found.before[1:-2].min()


def test_what_is_beyond_the_reference_stands_at_the_end_of_the_axis():
    profile = ReferenceProfile.fit(RNG.random(500), ["v"])
    svg = plots.histogram(profile, counted(profile, 2 + RNG.random(100)), "v")
    assert any(text.startswith(("> 0.99", "> 1")) for text in texts(svg))


def test_categories_are_written_with_their_words():
    profile = ReferenceProfile.fit(np.arange(300) % 3.0, ["k"], kinds=["category"])
    svg = plots.histogram(profile, counted(profile, np.zeros(100)), "k", {0.0: "red & blue", 1.0: "green"})
    assert {"red & blue", "green", "2", "others"} <= set(texts(svg))


@pytest.mark.parametrize("frame", [timeline.WIDE, timeline.NARROW])
def test_curves_and_maps_stay_within_their_frame(frame):
    profile = ReferenceProfile.fit(RNG.normal(size=(500, 3)), ["a", "a rather long name of a column", "c"])
    x = RNG.normal(size=(3000, 3))
    x[1500:, 0] += 3
    x[::5, 2] = np.nan
    times = 1.7e9 + 60.0 * np.arange(3000)
    watched = watch([Block(x, times, 1.0)], DriftDetector(profile, 1e5), lambda *_: None)
    axis = Axis("when", DATES)
    mark = timeline.Mark(times[1500], times[1530], times[1530], "alarm: row 1,530 (2023-11-15 23:43)", "alarm")
    curve = timeline.evidence_curve(
        watched.points, axis, first_time=times[0], marks=[mark], tracks=[("a", 0)], frame=frame
    )
    grid = timeline.heat_map(profile, watched.points, axis, ["a", "c.missing"], first_time=times[0], frame=frame)
    for svg in (curve, grid):
        root = ET.fromstring(svg)
        width = float(root.get("viewBox").split()[2])
        for element in root.iter():
            for name in ("x", "x1", "x2", "cx"):
                if element.get(name):
                    assert -0.5 <= float(element.get(name)) <= width + 0.5
    assert "alarm threshold" in texts(curve)
    assert "c missing" in texts(grid)
    filled = list(ET.fromstring(grid).iter("{http://www.w3.org/2000/svg}rect"))
    assert 25 <= len(filled) <= 130


def test_an_unchanged_stream_leaves_the_map_blank():
    profile = ReferenceProfile.fit(RNG.normal(size=(2000, 5)))
    watched = watch([Block(RNG.normal(size=(6000, 5)), None, 1.0)], DriftDetector(profile, 1e6), lambda *_: None)
    svg = timeline.heat_map(profile, watched.points, Axis(), profile.names)
    assert svg.count("<rect") <= 6  # of 300 cells


def test_ticks_are_round_few_and_inside():
    assert nice_ticks(0, 12_000, 5) == [0, 2500, 5000, 7500, 10_000]
    for span in (30.0, 4e3, 9e4, 1e6, 2e7, 5e8, 3e9):
        ticks = axis_ticks(Axis("t", DATES), 1.7e9, 1.7e9 + span, 8)
        assert 2 <= len(ticks) <= 8, span
        assert all(1.7e9 <= tick.at <= 1.7e9 + span for tick in ticks)
        assert len({tick.text for tick in ticks}) == len(ticks)


def test_the_words_say_what_moved():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(1000, 3))
    profile = ReferenceProfile.fit(
        np.column_stack((x, rng.integers(0, 3, 1000))), list("abcd"), kinds=["value"] * 3 + ["category"]
    )
    new = np.column_stack((rng.normal(size=(4000, 3)), rng.integers(0, 2, 4000)))
    new[:, 0] -= 1
    new[:, 1] *= 2
    new[::4, 2] = np.nan
    words = {one.name: size(one) for one in moved(profile, counted(profile, new), {})}
    assert words["a"].startswith("−1.0") or words["a"].startswith("−0.9")
    assert words["b"].startswith("shape moved by 0.")
    assert words["c"] == "missing 0 % → 25 %"
    assert words["d"].endswith("of values moved")
