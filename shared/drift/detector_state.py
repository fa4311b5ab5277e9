"""A detector's state as bytes: small enough to send and to write often.

What was gathered is kept as 32-bit logarithms, rounded down, so that no evidence is won by saving; urns follow from
what was counted. Format 2; format 1, of detectors without a memory, is still read.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from shared.drift.bins import Floats
from shared.drift.counts import WindowCounts, read_varints
from shared.drift.prewhitening import NO_MEAN, SerialState
from shared.drift.profile import Layout, ReferenceProfile
from shared.drift.state import VERSION, Packed, pack_array, seal, unpack_array, unseal, version_of
from shared.drift.tracks import Group
from shared.errors import ProfileError
from shared.uniform import Uniform

MAGIC = b"SDRD"
VERSION_SMALL = 2

Ties = tuple[int, int]
"""Seed of the numbers that break ties, and how many were drawn."""


class Serialized(Struct, frozen=True):
    """What the scalars with a memory remember: :class:`~shared.drift.prewhitening.SerialState` and what breaks ties."""

    rows: int
    history: Packed
    gaps: tuple[int, ...]
    filled: tuple[int, ...]
    sums: tuple[int, ...]
    ties: Ties


class State(Struct, frozen=True, array_like=True):
    """Everything a detector knows. ``begun``: rows of the unfinished window and their ``codes``; ``seen``: what the
    urns hold; ``log_r``: of each group; ``before``: what another detector had seen of the tracks ``carried``. The first
    four are its settings."""

    false_alarm_every: float
    window: int
    delta: float
    replaced: float
    samples: int
    at: int | None
    features: tuple[str, ...]
    ties: Ties
    begun: int
    codes: bytes
    log_evidence: float | None
    taken: bytes
    recent: tuple[bytes, bytes]
    seen: bytes
    log_r: tuple[bytes, ...]
    serial: Serialized | None
    carried: tuple[int, ...] = ()
    before: bytes = b""


class _State1(Struct, frozen=True):
    false_alarm_every: float
    window: int
    delta: float
    replaced: float
    samples: int
    at: int | None
    features: tuple[str, ...]
    generator: tuple[bytes, bytes, int, int]
    buffer: Packed
    log_evidence: float | None
    taken: bytes
    recent: tuple[bytes, bytes]
    log_r: tuple[Packed, ...]
    urns: tuple[Packed, ...]


def round_down(log_r: Floats) -> Floats:
    """The largest 32-bit numbers that are no larger, as doubles.

    >>> bool(round_down(np.array([0.1]))[0] <= 0.1)
    True
    """
    near = log_r.astype(np.float32)
    return np.where(near > log_r, np.nextafter(near, np.float32(-np.inf)), near).astype(np.float64)


def pack_log_r(log_r: Floats) -> bytes:
    """What :func:`round_down` left."""
    return log_r.astype("<f4").tobytes()


def unpack_log_r(data: bytes, shape: tuple[int, ...]) -> Floats:
    """What :func:`pack_log_r` wrote.

    Raises:
        ProfileError: it is of another shape.
    """
    if len(data) != 4 * math.prod(shape):
        raise ProfileError(f"drift state: {len(data)} bytes of evidence where {4 * math.prod(shape)} belong")
    return np.frombuffer(data, "<f4").reshape(shape).astype(np.float64)


def pack_serial(state: SerialState, ties: Uniform) -> Serialized:
    """What scalars with a memory remember."""
    return Serialized(
        state.rows,
        pack_array(state.history),
        tuple(state.gaps.tolist()),
        tuple(state.filled.tolist()),
        tuple(state.sums.tolist()),
        (ties.seed, ties.drawn),
    )


def unpack_serial(packed: Serialized) -> SerialState:
    """What :func:`pack_serial` wrote.

    Raises:
        ProfileError: a number is beyond 64 bits, or the history no table of 32.
    """
    try:
        gaps, filled, sums = (np.array(part, dtype=np.int64) for part in (packed.gaps, packed.filled, packed.sums))
    except OverflowError as error:
        raise ProfileError("drift state: a memory holds a number beyond 64 bits") from error
    return SerialState(packed.rows, unpack_array(packed.history, dtype=np.int32), gaps, filled, sums)


def seal_state(digest: str, state: State) -> bytes:
    """As bytes."""
    return seal(MAGIC, digest, state, version=VERSION_SMALL)


def unseal_state(profile: ReferenceProfile, data: bytes) -> tuple[State, list[tuple[Floats, Floats]] | None]:
    """What :func:`seal_state` wrote; of format 1 also what each group gathered and its urn, which say it all.

    Raises:
        ProfileError: truncated, damaged, of another version, or of another profile.
    """
    if version_of(MAGIC, data) != VERSION or profile.levels or any(m is not None for m in profile.memories):
        return unseal(MAGIC, profile.digest, data, State, version=VERSION_SMALL), None
    old = unseal(MAGIC, profile.digest, data, _State1)
    buffer: NDArray[np.uint8] = unpack_array(old.buffer, dtype=np.uint8)
    if buffer.ndim != 2 or buffer.shape[1] != len(profile.layout.names):
        raise ProfileError("drift state: the unfinished window doesn't fit the profile")
    codes = np.ascontiguousarray(buffer[:, : len(profile.columns)].T)
    taken, older, newer = (WindowCounts.from_bytes(profile, p).to_varints() for p in (old.taken, *old.recent))
    groups = [(_any(r), _any(u)) for r, u in zip(old.log_r, old.urns, strict=True)]
    return (
        State(
            old.false_alarm_every,
            old.window,
            old.delta,
            old.replaced,
            old.samples,
            old.at,
            old.features,
            (1, 0),  # ties were broken by numpy's numbers; any others will do
            codes.shape[1],
            codes.tobytes(),
            old.log_evidence,
            taken,
            (older, newer),
            b"",
            (),
            None,
        ),
        groups,
    )


def _any(packed: Packed) -> Floats:
    return unpack_array(packed, dtype=np.float64)


def codes_of(state: State, scalars: int, levels: int, width: int) -> NDArray[np.uint8]:
    """Codes (F + V, begun) of the unfinished window.

    Raises:
        ProfileError: they can't be of such a profile.
    """
    wrong = not 0 <= state.begun < state.window or len(state.codes) != (scalars + levels) * state.begun
    codes = np.zeros((scalars + levels, 0), dtype=np.uint8)
    if not wrong:
        codes = np.frombuffer(state.codes, np.uint8).reshape(scalars + levels, state.begun).copy()
        means = codes[scalars:]
        wrong = bool((codes[:scalars] > width).any() or ((means >= width) & (means != NO_MEAN)).any())
    if wrong:
        raise ProfileError("drift state: the unfinished window doesn't fit the profile")
    return codes


def urns_of(groups: Sequence[Group], table: NDArray[np.int64]) -> list[Floats]:
    """Urns (R, K) of each group that have taken in counts ``table`` (T, K)."""
    counts = table[:, None].astype(np.float64)
    return [group.gaps + group.windows(counts)[:, 0] if group.urn else group.gaps for group in groups]


def carried_of(state: State, layout: Layout) -> dict[int, NDArray[np.int64]]:
    """Track -> what another detector had seen of it (bins,).

    Raises:
        ProfileError: there is no such track, or other numbers than it has bins.
    """
    if len(set(state.carried)) != len(state.carried) or not all(0 <= t < len(layout.sizes) for t in state.carried):
        raise ProfileError("drift state: went on with tracks that the profile doesn't have")
    sizes = [layout.sizes[track] for track in state.carried]
    numbers = read_varints(state.before, sum(sizes))
    ends = [sum(sizes[: k + 1]) for k in range(len(sizes))]
    return {
        track: np.array(numbers[end - size : end], dtype=np.int64)
        for track, size, end in zip(state.carried, sizes, ends, strict=True)
    }


def counts_of(groups: Sequence[Group], layout: Layout, gathered: Sequence[tuple[Floats, Floats]]) -> WindowCounts:
    """Counts that leave ``groups`` with the urns of ``gathered``; what no bet is on counts for the first such bin."""
    table = np.zeros((len(layout.names), layout.width), dtype=np.int64)
    for group, (_, urn) in zip(groups, gathered, strict=True):
        grown = np.rint(urn - group.gaps).astype(np.int64)
        if group.bins is None:
            table[group.tracks, : grown.shape[1]] = grown
            continue
        for row, (k, (hits, rest)) in enumerate(zip(group.bins, grown, strict=True)):
            track = group.tracks[row // group.rows_each]
            table[track, k] = hits
            if row % group.rows_each == group.rows_each - 1:
                own = group.bins[row - group.rows_each + 1 : row + 1]
                free = np.setdiff1d(np.arange(layout.sizes[track]), own)
                table[track, free[:1]] = hits + rest - table[track, np.unique(own)].sum()
    scalars = layout.scalars
    samples = int(table[scalars].sum()) if scalars else 0
    return WindowCounts(layout, samples, table)
