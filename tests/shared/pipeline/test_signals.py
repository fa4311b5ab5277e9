"""Signals, spectra and series against scipy and plain loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.pipeline.preprocess import Detrend, Difference, Lags, LogMel, Mfcc, Resample, Rolling, Window

signal = pytest.importorskip("scipy.signal")
fft = pytest.importorskip("scipy.fft")


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).normal(size=shape)


@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 70))
def test_resample_is_scipys_resample_poly(up: int, down: int, time: int) -> None:
    x = noise(2, time)
    np.testing.assert_allclose(Resample(up, down)(x), signal.resample_poly(x, up, down, axis=1), atol=2e-6)


@pytest.mark.parametrize(("up", "down"), [(160, 441), (441, 160), (1, 30), (2, 1)])
def test_resample_between_usual_rates(up: int, down: int) -> None:
    x = noise(1, 900, 2)
    np.testing.assert_allclose(Resample(up, down)(x), signal.resample_poly(x, up, down, axis=1), atol=2e-6)


@pytest.mark.parametrize("kind", ["linear", "constant"])
def test_detrend_is_scipys(kind: str) -> None:
    x = noise(3, 50, 2) + np.arange(50)[:, None] * 3 + 100
    np.testing.assert_allclose(Detrend(kind)(x), signal.detrend(x, axis=1, type=kind), atol=1e-4)
    assert Detrend(kind)(np.ones((1, 1), np.float32)).tolist() == [[0.0]]


@pytest.mark.parametrize("taper", ["none", "hann", "hamming", "blackman"])
def test_window_cuts_and_tapers_like_scipys_windows(taper: str) -> None:
    x = noise(2, 40)
    weights = np.ones(16) if taper == "none" else signal.get_window(taper, 16)
    found = Window(16, 5, taper)(x)
    assert found.shape == (2, 5, 16)
    for i in range(5):
        np.testing.assert_allclose(found[:, i], x[:, 5 * i : 5 * i + 16] * weights, atol=1e-6)


def mel_reference(rate: int, size: int, bands: int, low: float, high: float, scale: str, normalize: bool) -> np.ndarray:
    """Triangles on the mel scale, hertz by hertz: written from the formulas, without arrays."""

    def to_mel(f: float) -> float:
        if scale == "htk":
            return 2595 * math.log10(1 + f / 700)
        return 3 * f / 200 if f < 1000 else 15 + 27 * math.log(f / 1000) / math.log(6.4)

    def to_hertz(m: float) -> float:
        if scale == "htk":
            return 700 * (10 ** (m / 2595) - 1)
        return 200 * m / 3 if m < 15 else 1000 * 6.4 ** ((m - 15) / 27)

    first, last = to_mel(low), to_mel(high)
    corners = [to_hertz(first + (last - first) * k / (bands + 1)) for k in range(bands + 2)]
    out = np.zeros((size // 2 + 1, bands))
    for b in range(bands):
        left, centre, right = corners[b : b + 3]
        for k in range(size // 2 + 1):
            f = k * rate / size
            if left < f <= centre:
                out[k, b] = (f - left) / (centre - left)
            elif centre < f < right:
                out[k, b] = (right - f) / (right - centre)
        if normalize:
            out[:, b] *= 2 / (right - left)
    return out


@pytest.mark.parametrize(("scale", "normalize"), [("slaney", True), ("htk", False), ("slaney", False)])
def test_log_mel_is_scipys_stft_through_the_triangles(scale: str, normalize: bool) -> None:
    rate, size, step, bands = 8000, 256, 128, 20
    x = noise(3, 2000)
    operation = LogMel(rate, size, step, bands=bands, low_hz=50, high_hz=3500, scale=scale, normalize=normalize)
    _, _, spectrum = signal.stft(x, rate, "hann", size, size - step, boundary=None, padded=False, scaling="spectrum")
    spectrum *= signal.get_window("hann", size).sum()  # scipy divides by it
    power = np.moveaxis(np.abs(spectrum) ** 2, 1, 2) @ mel_reference(rate, size, bands, 50, 3500, scale, normalize)
    np.testing.assert_allclose(operation(x), np.log(np.maximum(power, 1e-10)), atol=1e-5)


def test_log_mel_with_padding_and_decibels() -> None:
    x = noise(2, 400)
    frames = np.stack([x[:, s : s + 100] for s in (0, 100, 200, 300)], axis=1) * signal.get_window("hamming", 100)
    padded = np.concatenate([frames, np.zeros((2, 4, 28))], axis=2)
    power = np.abs(np.fft.fft(padded)[..., :65]) ** 2 @ mel_reference(1000, 128, 6, 0, 500, "htk", normalize=True)
    operation = LogMel(1000, 100, 100, bands=6, fft=128, scale="htk", taper="hamming", decibel=True)
    np.testing.assert_allclose(operation(x), 10 * np.log10(power), atol=1e-5)


def test_log_mel_of_silence_is_its_floor() -> None:
    found = LogMel(1000, 64, 32, bands=4, floor=1e-6)(np.zeros((1, 64)))
    np.testing.assert_allclose(found, np.log(1e-6))


@pytest.mark.parametrize("text", [{"fft": 32}, {"low_hz": 600.0}, {"high_hz": 501.0}])
def test_log_mel_refuses_what_cannot_be(text: dict) -> None:
    with pytest.raises(ValueError, match="log_mel"):
        LogMel(1000, 64, 32, **text)


@pytest.mark.parametrize(("bands", "coefficients"), [(20, 13), (5, 5), (64, 1)])
def test_mfcc_is_scipys_orthonormal_dct(bands: int, coefficients: int) -> None:
    x = noise(2, 7, bands)
    expected = fft.dct(x, type=2, norm="ortho", axis=-1)[..., :coefficients]
    np.testing.assert_allclose(Mfcc(coefficients)(x), expected, atol=1e-6)


@given(st.integers(4, 12), st.integers(1, 3), st.lists(st.integers(1, 3), min_size=1, max_size=3))
def test_lags_by_hand(time: int, channels: int, steps: list[int]) -> None:
    x = noise(2, time, channels)
    found = Lags(tuple(steps))(x)
    first = max(steps)
    assert found.shape == (2, time - first, channels * (1 + len(steps)))
    for t in range(time - first):
        expected = [x[0, t + first - lag, c] for lag in (0, *steps) for c in range(channels)]
        np.testing.assert_allclose(found[0, t], expected, rtol=1e-6)


def test_difference_of_bytes_may_be_negative() -> None:
    x = np.array([[250, 3, 7]], np.uint8)
    assert Difference()(x).tolist() == [[-247.0, 4.0]]
    y = noise(2, 9, 3)
    np.testing.assert_allclose(Difference(lag=4)(y), y[:, 4:] - y[:, :-4], rtol=1e-5, atol=1e-6)


@given(st.integers(1, 6), st.integers(6, 14))
def test_rolling_by_hand(size: int, time: int) -> None:
    x = noise(2, time)
    found = Rolling(size, ("mean", "std", "min", "max"))(x)
    assert found.shape == (2, time - size + 1, 4)
    for row in range(2):
        for t in range(time - size + 1):
            w = x[row, t : t + size]
            np.testing.assert_allclose(found[row, t], [w.mean(), w.std(), w.min(), w.max()], rtol=1e-5, atol=1e-6)
