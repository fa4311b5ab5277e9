"""The evidence of one stream, with a promise about its false alarms.

Invariants:

1. While the stream is exchangeable with the reference (or, with a tolerance, stays in its band given its past), the
   mean number of samples to an alarm is at least ``false_alarm_every`` = A, and P(alarm within T samples) <= T / A
   (plug-in tracks: + η, see :mod:`shared.drift.evidence`).
2. Evidence moves in whole windows of ``window`` samples; how rows are cut into calls of ``update`` changes nothing.
3. An alarm latches until ``acknowledge``.
4. Every row is counted once, when it arrives, also those of an unfinished window.

"Whatever the dependence" between scalars is proven for sums at fixed times and measured at stopping times.
"""

from __future__ import annotations

import math
from collections.abc import Collection

import numpy as np
from msgspec import Struct
from numpy.typing import ArrayLike, NDArray

from shared.drift.bins import Floats, same_column
from shared.drift.counts import WindowCounts
from shared.drift.encode import Encoder, window_counts
from shared.drift.evidence import log_sum
from shared.drift.profile import MISSING_SUFFIX, ReferenceProfile
from shared.drift.state import Packed, pack_array, seal, unpack_array, unseal
from shared.drift.status import DriftStatus, ratio
from shared.drift.streams import Evidence
from shared.drift.tracks import Tolerance, build_groups
from shared.errors import ProfileError

MAGIC = b"SDRD"
MAX_WINDOW = 1 << 16
BATCH_ROWS = 4096
"""Rows whose windows are evaluated together."""
RECENT = 512
"""Effects are of the last 512 to 1024 samples."""
NAMED = 3
NAMED_SHARE = 0.05


class _State(Struct):
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
    contributions: Packed
    taken: bytes
    recent: tuple[bytes, bytes]
    log_r: tuple[Packed, ...]
    urns: tuple[Packed, ...]


class DriftDetector:
    """Watches one stream of rows of the profile's F scalars.

    Args:
        profile: the reference.
        false_alarm_every: A, in samples: the one knob.
        window: samples per step of evidence; larger is cheaper, smaller reacts within fewer samples.
        tolerance: robust sigmas by which every value may move unreported. It must cover the whole range of the harmless
            movement, not its amplitude.
        replaced: share of the answers of categories and missing flags that may be others. A ``tolerance`` gives
            categories 2 Φ(tolerance / 2) - 1 at least.
        seed: of the numbers that order ties.

    Raises:
        ProfileError: an argument is out of range.

    >>> rng = np.random.default_rng(0)
    >>> detector = DriftDetector(ReferenceProfile.fit(rng.normal(size=(500, 2))))
    >>> detector.update(rng.normal(size=(320, 2))).alarm, detector.update(rng.normal(1.0, size=(320, 2))).alarm
    (False, True)
    """

    def __init__(
        self,
        profile: ReferenceProfile,
        false_alarm_every: float = 10_000,
        window: int = 32,
        tolerance: float = 0.0,
        *,
        replaced: float = 0.0,
        seed: int = 1,
    ) -> None:
        if not 1 < false_alarm_every < math.inf:
            raise ProfileError(f"false_alarm_every must be a number of samples above 1, got {false_alarm_every}")
        if not 1 <= window <= MAX_WINDOW:
            raise ProfileError(f"window must be 1 to {MAX_WINDOW} samples, got {window}")
        self.profile = profile
        self.false_alarm_every = float(false_alarm_every)
        self.window = int(window)
        self.tolerance = Tolerance(float(tolerance), float(replaced)).check()
        self._encoder = Encoder(profile)
        self._evidence = Evidence(build_groups(profile, self.tolerance), self.window)
        self._rng = np.random.Generator(np.random.PCG64(seed))
        self._buffer = np.empty((len(profile.columns), 0), dtype=np.uint8)
        self._taken = WindowCounts.zero(profile)
        self._recent = [WindowCounts.zero(profile), WindowCounts.zero(profile)]
        self._samples = 0
        self._log_evidence = -math.inf
        self._at: int | None = None
        self._features: tuple[str, ...] = ()

    def update(self, X_block: ArrayLike) -> DriftStatus:
        """Take in rows (b, F), b >= 0; NaN is missing. Returns the status after the last whole window.

        Raises:
            InputError: not a table of numbers of the profile's width; nothing was taken in.
        """
        self.feed(X_block)
        return self.status

    def feed(self, X_block: ArrayLike) -> bool:
        """:meth:`update` that only says whether there is an alarm: cheaper.

        Raises:
            InputError: as there.
        """
        rows = self._encoder.rows(X_block)
        for at in range(0, len(rows), BATCH_ROWS):
            self._take_in(self._encoder.codes(rows[at : at + BATCH_ROWS], self._rng))
        return self._at is not None

    def _take_in(self, codes: NDArray[np.uint8]) -> None:
        width, new, begun = self._encoder.width, codes.shape[1], self._buffer.shape[1]
        before = self._samples - begun  # samples evaluated so far
        self._samples += new
        table = -window_counts(self._buffer, begun, width)[:, 0] if begun else 0
        if begun:
            codes = np.concatenate((self._buffer, codes), axis=1)
        whole = codes.shape[1] // self.window * self.window
        if whole:
            counts = window_counts(codes[:, :whole], self.window, width)
            table = table + counts.sum(1)
            self._evaluate(counts.astype(np.float64), before)
        self._buffer = codes[:, whole:].copy()
        if rest := codes.shape[1] - whole:
            table = table + window_counts(self._buffer, rest, width)[:, 0]
        self._count(WindowCounts(self._taken.layout, new, np.asarray(table)))

    def _count(self, block: WindowCounts) -> None:
        self._taken += block
        older, newer = self._recent
        if newer.samples >= RECENT:
            older, newer = newer, WindowCounts.zero(self.profile)
        self._recent = [older, newer + block]

    def _evaluate(self, counts: Floats, before: int) -> None:
        """Windows (T, W, K), the first of which starts after ``before`` samples."""
        for log_sums, log_r_after in self._evidence.advance(counts):
            log_u = log_sums - math.log(self.false_alarm_every)
            self._log_evidence = float(log_u[-1])
            if self._at is None and (log_u >= 0).any():
                first = int(np.argmax(log_u >= 0))
                self._at = before + (first + 1) * self.window
                self._features = self._leading(self._evidence.by_track(log_r_after(first)))
            before += len(log_u) * self.window

    def _leading(self, contributions: Floats) -> tuple[str, ...]:
        """Up to three tracks that carry a twentieth of the evidence or more."""
        floor = float(log_sum(contributions, axis=0)) + math.log(NAMED_SHARE)
        order = np.argsort(-contributions, kind="stable")[:NAMED]
        names = self.profile.layout.names
        return tuple(names[t] for t in order if np.isfinite(contributions[t]) and contributions[t] >= floor)

    @property
    def status(self) -> DriftStatus:
        """What is known after the last whole window."""
        alarm = self._at is not None
        contributions = self._evidence.by_track()
        return DriftStatus(
            alarm=alarm,
            evidence=ratio(self._log_evidence),
            at=self._at,
            features=self._features if alarm else self._leading(contributions),
            samples=self._samples,
            profile=self.profile,
            recent=self._recent[0] + self._recent[1],
            contributions=contributions - math.log(self.false_alarm_every),
        )

    @property
    def counts(self) -> WindowCounts:
        """Everything counted since :meth:`take_counts` was last called."""
        return self._taken

    def take_counts(self) -> WindowCounts:
        """:attr:`counts`, and start anew. Evidence is not touched."""
        taken, self._taken = self._taken, WindowCounts.zero(self.profile)
        return taken

    def acknowledge(self, keep: bool = True) -> None:
        """End an alarm. ``keep``: it was false, or is being dealt with: evidence starts at zero and what was seen
        stays in the urn, which keeps the promise exact. Otherwise start as on the first day, with the same
        reference."""
        self._at = None
        self._features = ()
        self._log_evidence = -math.inf
        self._evidence.forget(urns=not keep)
        if not keep:
            self._buffer = self._buffer[:, :0]
            self._recent = [WindowCounts.zero(self.profile), WindowCounts.zero(self.profile)]

    def carry(self, other: DriftDetector, names: Collection[str]) -> None:
        """Go on, for the scalars ``names``, with what ``other`` has gathered and seen: the same stream goes on, but not
        all of its scalars, as when a device changes to another variant of a model. Only scalars of the very same
        reference in both are taken over; the rows of the unfinished window are not. To be called before the first
        row."""
        tracks = {}
        mine, its = self.profile, other.profile
        for k, name in enumerate(mine.names):
            if name in names and name in its.names and same_column(mine.columns[k], its.columns[its.names.index(name)]):
                for track in (name, name + MISSING_SUFFIX):
                    tracks[mine.layout.names.index(track)] = its.layout.names.index(track)
        self._evidence.carry(other._evidence, tracks)
        self._log_evidence = float(log_sum(self._evidence.by_track(), axis=0)) - math.log(self.false_alarm_every)

    def to_bytes(self) -> bytes:
        """The whole state; a detector restored from it goes on exactly as this one would."""
        generator = self._rng.bit_generator.state
        numbers = generator["state"]
        groups = self._evidence.state()
        state = _State(
            false_alarm_every=self.false_alarm_every,
            window=self.window,
            delta=self.tolerance.delta,
            replaced=self.tolerance.replaced,
            samples=self._samples,
            at=self._at,
            features=self._features,
            generator=(
                numbers["state"].to_bytes(16, "little"),
                numbers["inc"].to_bytes(16, "little"),
                int(generator["has_uint32"]),
                int(generator["uinteger"]),
            ),
            buffer=pack_array(np.concatenate((self._buffer, self._buffer == self._encoder.width)).T),
            log_evidence=self._log_evidence if math.isfinite(self._log_evidence) else None,
            contributions=pack_array(self._evidence.by_track()),
            taken=self._taken.to_bytes(),
            recent=(self._recent[0].to_bytes(), self._recent[1].to_bytes()),
            log_r=tuple(pack_array(log_r) for log_r, _ in groups),
            urns=tuple(pack_array(urn) for _, urn in groups),
        )
        return seal(MAGIC, self.profile.digest, state)

    @classmethod
    def from_bytes(cls, profile: ReferenceProfile, data: bytes) -> DriftDetector:
        """The detector that wrote ``data``.

        Raises:
            ProfileError: truncated, damaged, of another version, or of another profile.
        """
        state = unseal(MAGIC, profile.digest, data, _State)
        detector = cls(profile, state.false_alarm_every, state.window, state.delta, replaced=state.replaced)
        groups = detector._evidence.state()
        if not len(state.log_r) == len(state.urns) == len(groups):
            raise ProfileError("drift state: another number of track groups than the profile has")
        numbers, increment, has_half, half = state.generator
        detector._rng.bit_generator.state = {
            "bit_generator": "PCG64",
            "state": {"state": int.from_bytes(numbers, "little"), "inc": int.from_bytes(increment, "little")},
            "has_uint32": has_half,
            "uinteger": half,
        }
        width, tracks = detector._encoder.width, detector._encoder.tracks
        buffer = unpack_array(state.buffer, dtype=np.uint8)
        if buffer.ndim != 2 or buffer.shape[1] != tracks or len(buffer) >= state.window or (buffer > width).any():
            raise ProfileError("drift state: the unfinished window doesn't fit the profile")
        detector._buffer = np.ascontiguousarray(buffer[:, : len(profile.columns)].T)
        detector._samples, detector._at, detector._features = state.samples, state.at, state.features
        detector._log_evidence = -math.inf if state.log_evidence is None else state.log_evidence
        detector._taken = WindowCounts.from_bytes(profile, state.taken)
        detector._recent = [WindowCounts.from_bytes(profile, part) for part in state.recent]
        pairs = zip(state.log_r, state.urns, groups, strict=True)
        if not detector._evidence.load(
            [(unpack_array(r, log_r), unpack_array(u, urn)) for r, u, (log_r, urn) in pairs]
        ):
            raise ProfileError("drift state: an urn doesn't hold the reference and whole counts")
        return detector
