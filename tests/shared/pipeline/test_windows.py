"""Windows of sensors in other words, against scipy and plain loops: Rates, Magnitude, Summary, BandPower, ..."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.pipeline.bind import run_arrays
from shared.pipeline.encode import HashedNgrams
from shared.pipeline.preprocess import (
    BandPower,
    Concatenate,
    Correlations,
    Difference,
    Envelope,
    Magnitude,
    Rates,
    Scale,
    Standardize,
    Summary,
)
from shared.pipeline.spec import Pipeline
from shared.pipeline.summary import Statistic

signal = pytest.importorskip("scipy.signal")
stats = pytest.importorskip("scipy.stats")


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).normal(size=shape)


def of(statistic: str, x: np.ndarray) -> np.ndarray:
    return Summary((statistic,))(x)


@given(st.integers(2, 40), st.integers(1, 3))
def test_summary_is_numpys_and_scipys(time: int, channels: int) -> None:
    x = noise(3, time, channels)
    step = np.diff(x, axis=1)
    expected = {
        "mean": x.mean(axis=1),
        "std": x.std(axis=1),
        "min": x.min(axis=1),
        "max": x.max(axis=1),
        "range": np.ptp(x, axis=1),
        **{f"q{q}": np.percentile(x, q, axis=1) for q in (10, 25, 75, 90)},
        "median": np.median(x, axis=1),
        "rms": np.sqrt((x**2).mean(axis=1)),
        "skewness": stats.skew(x, axis=1),
        "kurtosis": stats.kurtosis(x, axis=1, fisher=False),
        "rate": np.abs(step).mean(axis=1),
        "rate_std": step.std(axis=1),
        "slope": np.stack([np.polyfit(np.arange(time), row, 1)[0] for row in x]),
        "crossings": (np.diff(x > x.mean(axis=1, keepdims=True), axis=1) != 0).mean(axis=1),
    }
    assert set(expected) == set(get_args(Statistic))
    for statistic, values in expected.items():
        np.testing.assert_allclose(of(statistic, x), values, rtol=1e-4, atol=1e-5, err_msg=statistic)


def test_rolling_statistics_are_the_summaries_of_the_parts() -> None:
    x = noise(2, 20, 3)
    names = ("std", "max")
    found = Summary(names, size=8, step=6)(x)
    assert found.shape == (2, 3, 6)
    for frame, start in enumerate((0, 6, 12)):
        np.testing.assert_array_equal(found[:, frame], Summary(names)(x[:, start : start + 8]))
    assert Summary(names, size=10)(x).shape == (2, 2, 6)


@pytest.mark.parametrize("level", [0.0, 63.0, 0.1, -1e6])
def test_a_sensor_that_stands_still_has_no_spread_and_no_correlation(level: float) -> None:
    still = np.full((1, 50, 2), level, np.float32)
    for statistic in ("std", "range", "skewness", "kurtosis", "rate", "rate_std", "crossings"):
        np.testing.assert_array_equal(of(statistic, still), 0, err_msg=statistic)
    assert Correlations()(still).tolist() == [[0.0]]


def test_correlations_are_numpys() -> None:
    x = noise(2, 30, 4)
    expected = [np.corrcoef(row, rowvar=False)[np.triu_indices(4, 1)] for row in x]
    np.testing.assert_allclose(Correlations()(x), expected, atol=1e-6)


@pytest.mark.parametrize("time", [64, 65])
def test_band_power_is_the_mean_of_scipys_periodogram(time: int) -> None:
    x = noise(2, time, 3) + 5
    edges = (0.0, 3.0, 7.5, 16.0)
    frequency, density = signal.periodogram(x, 32.0, "hann", detrend="constant", axis=1)
    expected = []
    for low, high in ((0, 3), (3, 7.5), (7.5, 17)):
        expected.append(np.log(density[:, (frequency >= low) & (frequency < high)].mean(axis=1)))
    found = BandPower(32.0, edges)(x).reshape(2, 3, 3)  # channel, band
    np.testing.assert_allclose(found, np.stack(expected, axis=2), atol=1e-5)


def test_band_power_of_parts_is_that_of_each_part() -> None:
    x = noise(2, 40, 2)
    found = BandPower(1.0, (0.05, 0.2, 0.5), size=20, step=10)(x)
    for frame in range(3):
        alone = BandPower(1.0, (0.05, 0.2, 0.5))(x[:, 10 * frame : 10 * frame + 20])
        np.testing.assert_allclose(found[:, frame], alone, atol=1e-6)


def test_silence_is_the_floor_of_band_power() -> None:
    found = BandPower(8.0, (0.5, 4.0), floor=1e-4)(np.full((1, 32), 7.0))
    np.testing.assert_allclose(found, np.log(1e-4), rtol=1e-6)


@given(st.integers(4, 300), st.integers(1, 40), st.floats(0.01, 1e5))
def test_fitted_bands_hold_a_frequency_each_and_reach_half_the_rate(time: int, bands: int, rate: float) -> None:
    fitted = BandPower.fit(noise(3, time, 2), rate, bands=bands)
    assert 1 <= len(fitted.edges) - 1 <= bands
    assert fitted.edges[-1] == rate / 2
    assert np.isfinite(fitted(noise(1, time, 2))).all()
    assert len(fitted.names(("x", "y"))) == fitted(noise(1, time, 2)).shape[1]


@pytest.mark.parametrize("edges", [(0.0, 5.0, 5.0), (3.0, 1.0), (0.0, 20.0)])
def test_bands_that_cannot_be_are_refused(edges: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="band_power"):
        BandPower(32.0, edges)


def test_a_window_too_short_for_its_bands_is_refused() -> None:
    with pytest.raises(ValueError, match="long enough"):
        BandPower(32.0, (0.5, 1.0, 16.0))(noise(1, 8))


@pytest.mark.parametrize("time", [30, 31])
def test_envelope_is_scipys_hilbert(time: int) -> None:
    x = noise(2, time, 2)
    np.testing.assert_allclose(Envelope(100.0)(x), np.abs(signal.hilbert(x, axis=1)), atol=1e-6)


def test_the_envelope_of_a_band_is_of_what_sounds_there() -> None:
    t = np.arange(400) / 400
    swelling = 1 + 0.5 * np.cos(2 * np.pi * 5 * t)
    x = swelling * np.cos(2 * np.pi * 100 * t) + 3 * np.cos(2 * np.pi * 10 * t)
    np.testing.assert_allclose(Envelope(400.0, low_hz=50.0, high_hz=150.0)(x[None])[0], swelling, atol=1e-5)
    with pytest.raises(ValueError, match="envelope"):
        Envelope(400.0, low_hz=200.0)


def test_rates_by_hand() -> None:
    x = noise(2, 9, 2)
    found = Rates((1, 3))(x)
    assert found.shape == (2, 9, 6)
    np.testing.assert_allclose(found[:, :, :2], x, rtol=1e-6)
    np.testing.assert_allclose(found[:, 1:, 2:4], x[:, 1:] - x[:, :-1], rtol=1e-5)
    np.testing.assert_allclose(found[:, 3:, 4:], x[:, 3:] - x[:, :-3], rtol=1e-5)
    assert not found[:, 0, 2:].any()
    assert not found[:, :3, 4:].any()


def test_the_magnitude_of_an_acceleration_does_not_depend_on_how_the_sensor_is_turned() -> None:
    x = noise(2, 9, 3)
    turn = np.linalg.qr(noise(3, 3))[0]
    np.testing.assert_allclose(Magnitude(keep=False)(x), Magnitude(keep=False)(x @ turn), rtol=1e-6)
    np.testing.assert_allclose(Magnitude((0, 1))(x)[..., 3], np.hypot(x[..., 0], x[..., 1]), rtol=1e-6)


def test_branches_stand_side_by_side_in_their_order() -> None:
    x = noise(2, 12, 2)
    flat = Concatenate(((Difference(),), (), (Summary(("max",)), Scale(2.0))))(x)
    expected = [np.diff(x, axis=1).reshape(2, 22), x.reshape(2, 24), 2 * x.max(axis=1)]
    np.testing.assert_allclose(flat, np.concatenate(expected, axis=1), rtol=1e-5, atol=1e-6)
    kept = Concatenate(((), (Scale(2.0),)), flat=False)(x)
    np.testing.assert_allclose(kept, np.concatenate([x, 2 * x], axis=2), rtol=1e-6)


def test_words_and_characters_are_counted_side_by_side() -> None:
    text = np.array(["stop the pump", "go"])
    words, characters = HashedNgrams(16), HashedNgrams(32, 2, 4, "characters")
    pipeline = Pipeline(encode=(Concatenate(((words,), (characters,))), Standardize((0.0,), (2.0,))))
    expected = np.concatenate([words(text), characters(text)], axis=1) / 2
    np.testing.assert_array_equal(run_arrays(pipeline, text), expected)


def test_branches_of_different_lengths_cannot_be_joined_along_the_last_axis() -> None:
    with pytest.raises(ValueError, match=r"concatenate: branches give \(1, 9, 2\), \(1, 8, 2\)"):
        Concatenate(((), (Difference(),)), flat=False)(noise(1, 9, 2))
