"""Statistics against independent computations, and on real pictures, sounds and texts."""

from __future__ import annotations

import colorsys
import itertools
import math

import numpy as np
import pytest

from shared.drift import WatchSpec
from shared.drift.statistics import image_statistics, signal_statistics, window_statistics
from shared.drift.watch_inputs import tokens_of, unknown_share, watch_input
from shared.manifest import SampleSpec
from shared.pipeline.encode import Cast
from shared.pipeline.spec import Pipeline
from shared.pipeline.text import CleanText, Tokens

BRIGHTNESS, CONTRAST, SHARPNESS, NOISE, SATURATION = range(5)


def photographs():
    """Two photographs (n, 100, 150, 3) cut into pieces."""
    pytest.importorskip("PIL")
    datasets = pytest.importorskip("sklearn.datasets")
    found = [datasets.load_sample_image(name)[:400, :600] for name in ("china.jpg", "flower.jpg")]
    return np.concatenate([np.concatenate(np.split(np.stack(np.split(x, 4, 0)), 4, 2)) for x in found])


def test_statistics_of_photographs_are_scipys():
    ndimage = pytest.importorskip("scipy.ndimage")
    x = photographs()
    found = image_statistics(x)
    laplace = np.array([[0, 1, 0], [1, -4, 1], [0, 1, 0]])
    immerkaer = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]])
    for picture, row in zip(x, found, strict=True):
        grey = picture.astype(float).mean(axis=2)
        sharp, noise = (ndimage.convolve(grey, kernel)[1:-1, 1:-1] for kernel in (laplace, immerkaer))
        size = (grey.shape[0] - 2) * (grey.shape[1] - 2)
        expected = [
            grey.mean(),
            grey.std(),
            np.abs(sharp).mean(),
            math.sqrt(math.pi / 2) * np.abs(noise).sum() / 6 / size,
        ]
        np.testing.assert_allclose(row[:4], expected, rtol=1e-9)
    few = x[:2, ::10, ::10]
    saturation = [np.mean([colorsys.rgb_to_hsv(*pixel)[1] for pixel in one.reshape(-1, 3) / 255]) for one in few]
    np.testing.assert_allclose(image_statistics(few)[:, SATURATION], saturation, rtol=1e-9)


def test_what_a_camera_does_to_photographs_moves_its_own_statistic():
    x = photographs().astype(np.float64)
    before, rng = image_statistics(x), np.random.default_rng(0)
    noisy = image_statistics(x + rng.normal(0, 12, (*x.shape[:3], 1)))
    smooth = before[:, NOISE] < 3  # where the picture's own texture is not taken for noise
    assert smooth.sum() >= 5
    np.testing.assert_allclose(np.hypot(12, before[smooth, NOISE]), noisy[smooth, NOISE], rtol=0.1)
    blurred = (x[:, :-1, :-1] + x[:, 1:, :-1] + x[:, :-1, 1:] + x[:, 1:, 1:]) / 4
    assert (image_statistics(blurred)[:, SHARPNESS] < 0.6 * before[:, SHARPNESS]).all()
    dark = image_statistics(0.5 * x)
    np.testing.assert_allclose(dark[:, [BRIGHTNESS, CONTRAST]], 0.5 * before[:, [BRIGHTNESS, CONTRAST]])
    np.testing.assert_allclose(dark[:, SATURATION], before[:, SATURATION])
    pale = image_statistics(x * 0.5 + x.mean(axis=3, keepdims=True) * 0.5)
    np.testing.assert_allclose(pale[:, BRIGHTNESS], before[:, BRIGHTNESS])
    assert (pale[:, SATURATION] < 0.8 * before[:, SATURATION]).all()


@pytest.mark.parametrize("times", [16, 17, 64, 127, 128, 1000, 4001])
def test_bands_are_scipys_periodogram_in_parts(times):
    signal = pytest.importorskip("scipy.signal")
    x = np.random.default_rng(times).normal(3, 2, (4, times, 2))
    found = signal_statistics(x).reshape(4, 2, 8)
    np.testing.assert_allclose(found[:, :, :4].reshape(4, 8), window_statistics(x))
    frequency, power = signal.periodogram(x, fs=2.0, window="hann", detrend="constant", axis=1)
    power[:, frequency == 1] *= 2  # a one-sided spectrum has its last line once
    half, factor = times // 2, 4 if times >= 128 else 2
    edges = [1, *(half // factor**k + 1 for k in (3, 2, 1)), half + 1]
    parts = np.stack([power[:, low:high].sum(axis=1) for low, high in itertools.pairwise(edges)], axis=2)
    np.testing.assert_allclose(found[:, :, 4:], parts / parts.sum(axis=2, keepdims=True), atol=1e-12)


@pytest.mark.parametrize(("frequency", "band"), [(60, 0), (300, 1), (1500, 2), (5000, 3)])
def test_a_tone_is_in_its_band_whatever_its_level(frequency, band):
    t = np.arange(8000) / 16000
    tone = np.stack([level * np.sin(2 * np.pi * frequency * t + 1) + 5 for level in (0.01, 1, 300)])
    shares = signal_statistics(tone)[:, 4:]
    np.testing.assert_allclose(shares[:, band], 1, atol=1e-3)
    np.testing.assert_allclose(shares.sum(axis=1), 1)


def test_silence_has_no_bands_and_what_is_missing_is_missing():
    found = signal_statistics(np.stack((np.full(200, 7.0), np.where(np.arange(200) == 9, np.nan, 1.0))))
    assert found[0].tolist() == [7, 0, 0, 0, 0, 0, 0, 0]
    assert np.isnan(found[1]).all()


def test_a_worn_bearing_is_seen_in_the_bands_and_not_in_the_level():
    rng = np.random.default_rng(0)
    spec = SampleSpec("float32", (1024,), kind="window")
    watch = WatchSpec.fit(spec, 2, None)
    assert watch.input_names == ("mean", "level", "crest", "crossings", "lows", "low_mids", "high_mids", "highs")
    slow = np.cumsum(rng.normal(size=(2, 100, 1024)), axis=2)
    healthy, worn = slow - slow.mean(axis=2, keepdims=True)
    healthy, worn = (x / x.std(axis=1, keepdims=True) for x in (healthy, worn))
    worn = math.sqrt(0.96) * worn + 0.2 * rng.normal(size=worn.shape)
    before, after = (watch.inputs(x.astype(np.float32)) for x in (healthy, worn))
    assert abs(after[:, 1].mean() / before[:, 1].mean() - 1) < 0.01
    assert (after[:, 7] > np.quantile(before[:, 7], 0.98)).mean() > 0.95


def test_signals_of_many_channels_or_few_samples_have_no_bands():
    assert watch_input(SampleSpec("float32", (128, 3), kind="window")).statistics == "signal"
    assert len(watch_input(SampleSpec("float32", (128, 4), kind="window")).names) == 32
    assert watch_input(SampleSpec("float32", (128, 5), kind="window")).statistics == "window"
    assert watch_input(SampleSpec("float32", (15, 5), kind="window")).statistics == "window"
    again = WatchSpec.from_arrays(WatchSpec.fit(SampleSpec("int16", (128, 2), kind="window"), 3, None).to_arrays())
    assert again.inputs(np.ones((2, 128, 2), np.int16)).shape == (2, 16)


TOKENS = Tokens(vocabulary=("the", "door", "is", "open"), max_length=6)


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("The door is OPEN", 0),
        ("the window is open", 0.25),
        ("xyzzy", 1),
        ("", 0),
        ("the door is open " * 2 + "ajar", 0),
    ],
)
def test_words_that_the_vocabulary_lacks_are_counted_as_the_model_sees_them(text, share):
    assert unknown_share(text, (CleanText(), TOKENS)) == share


def test_the_frame_around_a_text_is_no_part_of_it():
    framed = Tokens(vocabulary=("the", "door"), max_length=8, begin=8, end=9)
    assert unknown_share("the door ajar", (framed,)) == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("preprocess", "encode", "watched"),
    [
        ((CleanText(),), (TOKENS,), True),
        ((), (TOKENS, Cast("int32")), True),
        ((CleanText(),), (), False),
        ((), (Tokens(vocabulary=("a",), max_length=3, unknown=0),), False),
        ((Cast("int32"),), (TOKENS,), False),
    ],
)
def test_unknown_words_are_watched_where_the_release_has_a_vocabulary(preprocess, encode, watched):
    pipeline = Pipeline(preprocess=preprocess, encode=encode, decode=(), postprocess=())
    assert bool(tokens_of(pipeline)) is watched
    text = SampleSpec("str", (), kind="text")
    watch = WatchSpec.choose([text], {"value": 1.0}, pipeline=pipeline)
    assert ("unknown" in watch.input_names) is watched
    again = WatchSpec.from_arrays(watch.to_arrays())
    row = again.inputs(np.array(["the cat is open"], object))
    assert row.shape == (1, 3 + watched)
    if watched:
        assert row[0, 3] == 0.25
