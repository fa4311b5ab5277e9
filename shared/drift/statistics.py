"""Statistics of one sample that stand for all of its values where these are too many to watch one by one.

Each takes a batch ``x`` (n, ...) of any numeric dtype and gives (n, names) float64. NaN in a sample makes its
statistics NaN, which is counted as missing.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from shared.drift.bins import Floats

IMAGE = ("brightness", "contrast", "sharpness", "noise")
SUMMARY = ("mean", "std", "min", "max")
WINDOW = ("mean", "level", "crest", "crossings")
BANDS = ("lows", "low_mids", "high_mids", "highs")
SIGNAL = (*WINDOW, *BANDS)
LEAST_TIMES = 16
"""Samples in time that a window needs for its bands."""
WIDE_TIMES = 128
"""From here on each band is four times as wide as the one below it, else twice."""
TEXT = ("length", "words", "non_ascii")


def image_statistics(x: NDArray[np.generic]) -> Floats:
    """Brightness, contrast, sharpness, noise and, with at least three channels, saturation (n, 4 or 5) of images
    ``x`` (n, H, W) or (n, H, W, C), H and W >= 3, in the units of ``x``; saturation is (max - min) / max of the first
    three channels, averaged."""
    pixels = x.astype(np.float64)
    grey = pixels if pixels.ndim == 3 else pixels.mean(axis=3)
    across = grey[:, :, :-2] - 2 * grey[:, :, 1:-1] + grey[:, :, 2:]
    down = grey[:, :-2] - 2 * grey[:, 1:-1] + grey[:, 2:]
    laplacian = across[:, 1:-1] + down[:, :, 1:-1]
    both = across[:, :-2] - 2 * across[:, 1:-1] + across[:, 2:]  # [1 -2 1]ᵀ[1 -2 1], blind to edges and gradients
    columns = [
        grey.mean((1, 2)),
        grey.std((1, 2)),
        np.abs(laplacian).mean((1, 2)),
        math.sqrt(math.pi / 2) / 6 * np.abs(both).mean((1, 2)),
    ]
    if pixels.ndim == 4 and pixels.shape[3] >= 3:
        most, least = pixels[..., :3].max(-1), pixels[..., :3].min(-1)
        share = np.divide(most - least, most, out=np.zeros_like(most), where=most > 0)
        columns.append(share.mean((1, 2)))
    return np.stack(columns, axis=1)


def summary(x: NDArray[np.generic]) -> Floats:
    """Mean, standard deviation, least and largest value (n, 4); all NaN for samples without values."""
    flat = x.reshape(len(x), math.prod(x.shape[1:])).astype(np.float64)
    if not flat.shape[1]:
        return np.full((len(x), len(SUMMARY)), np.nan)
    return np.stack((flat.mean(1), flat.std(1), flat.min(1), flat.max(1)), axis=1)


def window_statistics(x: NDArray[np.generic]) -> Floats:
    """Of each channel of a signal ``x`` (n, T) or (n, T, C), T >= 2, in the order of the channels (n, C * 4): its
    mean; its level, the root mean square around the mean; its crest factor, the largest distance from the mean over
    the level (0 where it is constant); and the share of neighbours between which it crosses its mean: with pure
    noise a half, with a tone of frequency f at the rate r 2 f / r."""
    return _in_time(x)[0].reshape(len(x), -1)


def signal_statistics(x: NDArray[np.generic]) -> Floats:
    """Mean, level, crest, crossings (:func:`window_statistics`) and the shares of the power in four bands (n, 8 C) of
    signals ``x`` (n, T, ...), T >= 16, channel by channel.

    The rate is not known, so bands are fractions of half of it: from 128 samples on up to 1/64, 1/16, 1/4 and all of
    it (at 16 kHz: 125, 500, 2,000 and 8,000 Hz), for shorter windows up to 1/8, 1/4, 1/2 and all. The spectrum is
    that of one Hann window over the whole sample, without the mean; a constant has no power, and shares of 0."""
    stack, signal = _in_time(x)
    taper, starts = _bands(x.shape[1])
    signal *= taper[:, None]
    spectrum = np.fft.rfft(signal, axis=1)[:, 1:]
    power = np.add.reduceat(spectrum.real**2 + spectrum.imag**2, starts, axis=1)
    total = power.sum(1, keepdims=True)
    shares = np.divide(power, total, out=np.where(np.isnan(power), np.nan, 0.0), where=total > 0)
    found: Floats = np.concatenate((stack, shares.transpose(0, 2, 1)), axis=2)
    return found.reshape(len(x), -1)


def _in_time(x: NDArray[np.generic]) -> tuple[Floats, Floats]:
    """What ``WINDOW`` names (n, C, 4), and the signals less their mean (n, T, C)."""
    signal = x.reshape(*x.shape[:2], -1).astype(np.float64)
    mean = signal.mean(1)
    signal -= mean[:, None]
    level = np.sqrt(np.square(signal).mean(1))
    peak = np.abs(signal).max(1)
    crest = np.divide(peak, level, out=np.where(np.isnan(level), np.nan, 0.0), where=level > 0)
    above = signal > 0
    crossings = np.where(np.isnan(level), np.nan, (above[:, 1:] != above[:, :-1]).mean(1))
    return np.stack((mean, level, crest, crossings), axis=2), signal


@lru_cache(maxsize=8)
def _bands(times: int) -> tuple[Floats, NDArray[np.intp]]:
    """The taper (T,), and where the bands begin in a spectrum without its first line."""
    half, factor = times // 2, 4 if times >= WIDE_TIMES else 2
    edges = [half // factor ** (len(BANDS) - band) for band in range(1, len(BANDS))]
    return np.hanning(times + 1)[:-1], np.array([0, *edges], dtype=np.intp)


def text_statistics(text: str) -> tuple[float, float, float]:
    """Characters, words (as blanks part them), and the share of bytes in UTF-8 that ASCII would not have needed.

    >>> text_statistics("zwei Wörter")
    (11.0, 2.0, 0.08333333333333333)
    """
    size = len(text.encode(errors="surrogatepass"))
    return float(len(text)), float(len(text.split())), (size - len(text)) / max(size, 1)
