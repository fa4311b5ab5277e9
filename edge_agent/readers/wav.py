"""WAV files, cut into windows of the sample's length."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

import numpy as np
from msgspec import Struct

from edge_agent.readers.base import Array, Chunk, Reader, ReadOptions, Samples, assemble, check_paths
from edge_agent.readers.convert import shape_text
from shared.errors import InputError
from shared.manifest import SampleSpec

PCM, FLOAT, EXTENSIBLE = 1, 3, 0xFFFE
CHANNELS_MAX = 8
FORMATS = {(PCM, 8): "u1", (PCM, 16): "<i2", (PCM, 24): "u1", (PCM, 32): "<i4", (FLOAT, 32): "<f4", (FLOAT, 64): "<f8"}


class Sound(Struct, frozen=True):
    """What a file's header says. ``offset`` is where its frames begin; a frame is one value of each channel."""

    rate: int
    channels: int
    kind: tuple[int, int]  # format, bits
    offset: int
    frames: int


def read_header(file: IO[bytes]) -> Sound:
    """Find the ``fmt`` and ``data`` chunks of a RIFF file (Microsoft, "Multiple channel audio data and WAVE files").

    Raises:
        InputError: it is no WAV file, is cut short, or is coded in a way that is not read here.
    """
    head = file.read(12)
    if head[:4] != b"RIFF" or head[8:] != b"WAVE":
        raise InputError("no WAV file")
    size = file.seek(0, 2)
    file.seek(12)
    found: tuple[int, int, int, int] | None = None
    while len(head := file.read(8)) == 8:
        name, length = struct.unpack("<4sI", head)
        at = file.tell()
        if name == b"fmt ":
            found = _format(file.read(min(length, 40)))
        elif name == b"data" and found:
            format_, channels, rate, bits = found
            frame = channels * bits // 8
            if at + length > size:
                raise InputError(f"cut short: {size - at} bytes of sound, its header says {length}")
            return Sound(rate, channels, (format_, bits), at, length // frame)
        file.seek(at + length + length % 2)
    raise InputError("has no sound in it, or was cut short")


def _format(data: bytes) -> tuple[int, int, int, int]:
    if len(data) < 16:
        raise InputError("its header is cut short")
    format_, channels, rate, _, _, bits = struct.unpack("<HHIIHH", data[:16])
    if format_ == EXTENSIBLE and len(data) >= 26:
        format_ = struct.unpack("<H", data[24:26])[0]
    if (format_, bits) not in FORMATS or not 1 <= channels <= CHANNELS_MAX:
        raise InputError(f"format {format_} with {bits} bits and {channels} channels is not read; save it as PCM")
    return format_, channels, rate, bits


class WavReader(Reader):
    """Windows of WAV files in the order given: PCM of 8, 16, 24 or 32 bits, or 32 or 64 bit floats.

    A sample (n,) is a window of n frames, channels averaged; (n, channels) or (channels, n) keeps them; n may be any:
    then a file is one sample. Floating point samples are -1 to 1; an integer sample must be of the file's own width.
    The last window of a file is filled up with silence. Row k of a file is called ``file#k``.
    """

    def __init__(
        self, paths: Sequence[Path], names: Sequence[str], signature: Sequence[SampleSpec], options: ReadOptions
    ) -> None:
        spec = signature[0]
        shape = spec.shape
        self._axis = 0 if len(shape) == 1 or (len(shape) == 2 and 0 < shape[1] <= CHANNELS_MAX) else 1
        self._channels = None if len(shape) == 1 else shape[1 - self._axis] if len(shape) == 2 else 0
        if len(signature) > 1 or spec.dtype == "str" or self._channels == 0 or (self._channels or 1) > CHANNELS_MAX:
            wanted = f"{len(signature)} inputs" if len(signature) > 1 else f"{spec.dtype} of shape {shape_text(spec)}"
            raise InputError(f"{paths[0]}: sound, but the model takes {wanted}")
        check_paths(paths)
        self._paths, self._names = paths, names
        self._spec, self._rate = spec, options.rate
        self._window = shape[self._axis]

    def read(self, size: int, start: int = 0) -> Iterator[Chunk]:
        """Chunks; of skipped files only the headers are read."""
        rows = self._rows(start)
        at = start
        while block := list(itertools.islice(rows, size - at % size)):
            yield from assemble(at, [name for name, _ in block], [row for _, row in block])
            at += len(block)
        self.rows = at

    def count(self) -> int:
        """Windows of all files, by their headers."""
        if self.rows is None:
            self.rows = sum(self._windows(sound) for sound in map(self._header, self._paths))
        return self.rows

    def _rows(self, start: int) -> Iterator[tuple[str, Samples | str]]:
        skip = start
        for path, name in zip(self._paths, self._names, strict=True):
            sound = self._header(path)
            windows = self._windows(sound)
            if skip >= windows:
                skip -= windows
                continue
            if isinstance(sound, str):
                yield f"{name}#0", f"{path}: {sound}"
                continue
            with path.open("rb") as file:
                for k in range(skip, windows):
                    yield f"{name}#{k}", self._array(file, sound, k)
            skip = 0

    def _header(self, path: Path) -> Sound | str:
        """The header, or why the file is of no use."""
        try:
            with path.open("rb") as file:
                sound = read_header(file)
        except InputError as error:
            return str(error)
        if self._rate is not None and sound.rate != self._rate:
            return f"has {sound.rate} Hz, but the model takes {self._rate} Hz"
        if self._channels not in {None, -1, 1, sound.channels}:
            return f"has {sound.channels} channels, but the model takes {self._channels}"
        kind, bits = sound.kind
        if np.dtype(self._spec.dtype).kind != "f" and (kind, self._spec.dtype) != (PCM, _integer(bits)):
            return f"has {bits} bit {'PCM' if kind == PCM else 'floats'}, but the model takes {self._spec.dtype}"
        return sound if sound.frames else "has no sound in it"

    def _windows(self, sound: Sound | str) -> int:
        if isinstance(sound, str) or self._window < 1:
            return 1  # a file that is of no use is one bad row
        return -(-sound.frames // self._window)

    def _array(self, file: IO[bytes], sound: Sound, k: int) -> Array:
        window = self._window if self._window > 0 else sound.frames
        frame = sound.channels * sound.kind[1] // 8
        file.seek(sound.offset + k * window * frame)
        frames = min(window, sound.frames - k * window)
        values = _decoded(file.read(frames * frame), sound, np.dtype(self._spec.dtype))
        values = np.pad(values, ((0, window - frames), (0, 0)))
        if self._channels in {None, 1} and sound.channels > 1:
            values = values.mean(axis=1, keepdims=True)
        values = values[:, 0] if self._channels is None else values if self._axis == 0 else values.T
        return np.ascontiguousarray(values, dtype=self._spec.dtype)


def _integer(bits: int) -> str:
    return "uint8" if bits == 8 else f"int{bits}"


def _decoded(data: bytes, sound: Sound, dtype: np.dtype[np.generic]) -> Array:
    """Frames (n, channels): -1 to 1 for floats, else as stored."""
    kind, bits = sound.kind
    values: Array
    if bits == 24:  # three little endian bytes, put into the upper ones of four
        wide = np.zeros((len(data) // 3, 4), np.uint8)
        wide[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)
        values = wide.view("<i4")[:, 0] >> 8
    else:
        values = np.frombuffer(data, FORMATS[kind, bits])
    values = values.reshape(-1, sound.channels)
    if dtype.kind != "f" or kind == FLOAT:
        return values.astype(np.result_type(values.dtype, dtype))
    middle = 128 if bits == 8 else 0
    return (values.astype(np.float64) - middle) / (1 << (bits - 1))
