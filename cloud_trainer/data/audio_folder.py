"""Sounds in folders, one folder for each class: WAV files, through the agent's own reader."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cloud_trainer.config import TaskConfig
from cloud_trainer.data.dataset import Dataset
from cloud_trainer.data.findings import Finding, some
from cloud_trainer.data.folders import complete, find_files, group_array
from cloud_trainer.data.loaded import MAX_BYTES, Loaded
from cloud_trainer.data.skipped import skipped
from edge_agent.readers.base import ReadOptions
from edge_agent.readers.wav import Sound, WavReader, read_header
from shared.errors import ConfigError, DataError, InputError
from shared.manifest import SampleSpec
from shared.pipeline.signals import Resample

SUFFIXES = frozenset({".wav", ".wave"})
SLOWEST, FASTEST = 1000, 400_000
"""Sample rates in Hz that a sound may have; others are damaged headers or mistakes."""
FINEST = 4096
"""The largest factor of :class:`Resample`; odder ratios are rounded to it (by at most 1e-7 of the rate)."""


def load_sounds(root: Path, task: TaskConfig) -> Loaded:
    """``x`` (n, samples) int16 mono, ``rate`` in Hz: of ``data.sample_rate`` and ``data.seconds``, or of what most
    files have. Channels are averaged; other rates resampled, shorter sounds filled up with silence, longer ones cut.
    Files that cannot be read are skipped, up to a tenth.

    Raises:
        ConfigError: a sample rate that no sound has.
        UsageError: there is no such directory.
        DataError: a class is empty, too many files cannot be read, or all is more than fits in memory.
    """
    config = task.data
    if config.sample_rate and not SLOWEST <= config.sample_rate <= FASTEST:
        raise ConfigError(
            f"data.sample_rate: expected {SLOWEST} to {FASTEST} Hz, or 0 for that of most files, got "
            f"{config.sample_rate}"
        )
    files = find_files(root, config, SUFFIXES, "WAV files")
    sounds: dict[int, Sound] = {}
    bad: dict[int, str] = {}
    for i, path in enumerate(files.paths):
        try:
            sounds[i] = _header(path)
        except InputError as error:
            bad[i] = str(error)
    findings = list(files.findings)
    if bad:
        skipped(str(root), "WAV file", [(str(files.paths[i]), why) for i, why in bad.items()], len(files.paths))
    rates = Counter(sound.rate for sound in sounds.values())
    rate = config.sample_rate or max(rates, key=lambda value: (rates[value], value))
    lengths = Counter(_resampled(sound, rate) for sound in sounds.values())
    samples = round(config.seconds * rate) or max(lengths, key=lambda value: (lengths[value], value))
    if (total := len(sounds) * samples * 2) > MAX_BYTES:
        raise DataError(
            f"{root}: {len(sounds)} sounds of {samples} samples are {total >> 20} MiB, more than fits in memory; "
            "set data.seconds to less"
        )
    x = np.zeros((len(sounds), samples), np.int16)
    kept: list[int] = []
    for i, sound in sounds.items():
        try:
            x[len(kept)] = _read(files.paths[i], sound, rate, samples)
            kept.append(i)
        except (InputError, OSError) as error:
            bad[i] = str(error).removeprefix(f"{files.paths[i]}: ")
    findings += skipped(str(root), "WAV file", [(str(files.paths[i]), bad[i]) for i in sorted(bad)], len(files.paths))
    index = np.array(kept, np.intp)
    y = complete(files, index, root)
    findings += _about(rates, rate, lengths, samples, str(root))
    return Loaded(
        Dataset(x[: len(kept)], y, files.labels, (), group_array(files, index), None, float(rate)), tuple(findings)
    )


def to_int16(wave: NDArray[Any]) -> NDArray[np.int16]:
    """Samples of -1 to 1 as 16 bit numbers; what is louder is clipped.

    >>> to_int16(np.array([0.0, 0.5, -1.0, 1.5])).tolist()
    [0, 16384, -32768, 32767]
    """
    return np.clip(np.rint(wave.astype(np.float64) * 32768), -32768, 32767).astype(np.int16)


def resample(wave: NDArray[Any], old: int, new: int) -> NDArray[Any]:
    """A signal (time,) of ``old`` Hz at ``new`` Hz."""
    if old == new:
        return wave
    ratio = Fraction(new, old)
    if max(ratio.numerator, ratio.denominator) > FINEST:
        ratio = ratio.limit_denominator(FINEST) if new < old else 1 / (1 / ratio).limit_denominator(FINEST)
    found: NDArray[Any] = Resample(up=ratio.numerator, down=ratio.denominator)(wave[None])[0]
    return found


def _header(path: Path) -> Sound:
    try:
        with path.open("rb") as file:
            sound = read_header(file)
    except OSError as error:
        raise InputError(error.strerror or str(error)) from error
    if not sound.frames:
        raise InputError("has no sound in it")
    if not SLOWEST <= sound.rate <= FASTEST:
        raise InputError(f"its header says {sound.rate} Hz")
    return sound


def _resampled(sound: Sound, rate: int) -> int:
    return -(-sound.frames * rate // sound.rate)


def _read(path: Path, sound: Sound, rate: int, samples: int) -> NDArray[np.int16]:
    """One sound (samples,); of a long file only what is kept is read."""
    need = min(sound.frames, -(-samples * sound.rate // rate) + 64 * max(1, sound.rate // rate))
    window = SampleSpec("float32", (need,))
    chunk = next(WavReader([path], [str(path)], (window,), ReadOptions()).read(1))
    if chunk.samples is None:
        raise InputError(chunk.bad[0].text)
    wave = resample(np.asarray(chunk.samples)[0], sound.rate, rate)[:samples]
    found = np.zeros(samples, np.int16)
    found[: len(wave)] = to_int16(wave)
    return found


def _about(rates: Counter[int], rate: int, lengths: Counter[int], samples: int, where: str) -> list[Finding]:
    findings = []
    total = rates.total()
    if other := total - rates[rate]:
        found = some([f"{value} Hz" for value in sorted(rates) if value != rate])
        text = f"{other} of {total} sounds have another sample rate ({found}): resampled to {rate} Hz"
        findings.append(Finding("sample rates", "warning", text, where))
    shorter = sum(count for length, count in lengths.items() if length < samples)
    longer = sum(count for length, count in lengths.items() if length > samples)
    if shorter or longer:
        text = (
            f"{shorter} of {total} sounds are shorter than {samples / rate:.3g} s and filled up with silence, "
            f"{longer} are longer and cut"
        )
        findings.append(Finding("lengths", "warning", text, where))
    return findings
