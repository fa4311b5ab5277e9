"""The evidence of one stream, with a promise about its false alarms.

Invariants:

1. While the stream is exchangeable with the reference (or, with a tolerance, stays in its band given its past), the
   mean number of samples to an alarm is at least ``false_alarm_every`` = A, and P(alarm within T samples) <= T / A
   (plug-in tracks: + η, see :mod:`shared.drift.evidence`). Of a scalar with a memory that is said of its residuals and
   of the means of its level, as far as ``profile.level`` promises it.
2. Evidence moves in whole windows of ``window`` samples; how rows are cut into calls of ``update`` changes nothing.
3. An alarm latches until ``acknowledge``.
4. Every row is counted once, when it arrives, also those of an unfinished window.

"Whatever the dependence" between scalars is proven for sums at fixed times and measured at stopping times.
"""

from __future__ import annotations

import math
from collections.abc import Collection

import numpy as np
from numpy.typing import ArrayLike, NDArray

from shared.drift.bins import Floats, same_column
from shared.drift.counts import WindowCounts, varints
from shared.drift.detector_state import (
    State,
    carried_of,
    codes_of,
    counts_of,
    pack_log_r,
    pack_serial,
    round_down,
    seal_state,
    unpack_log_r,
    unpack_serial,
    unseal_state,
    urns_of,
)
from shared.drift.encode import Codes, Encoder, level_counts, window_counts
from shared.drift.evidence import log_sum
from shared.drift.prewhitening import Prewhitener
from shared.drift.profile import MISSING_SUFFIX, ReferenceProfile
from shared.drift.status import DriftStatus, ratio
from shared.drift.streams import Evidence
from shared.drift.tracks import Tolerance, build_groups
from shared.errors import ProfileError
from shared.uniform import Uniform

MAX_WINDOW = 1 << 16
BATCH_ROWS = 4096
"""Rows whose windows are evaluated together."""
RECENT = 512
"""Effects are of the last 512 to 1024 samples."""
NAMED = 3
NAMED_SHARE = 0.05


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
        seed: of the numbers that order ties; by default the system's, since detectors that draw the same numbers are
            not independent: a fleet's would alarm together.

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
        seed: int | None = None,
    ) -> None:
        if not isinstance(false_alarm_every, int | float | np.number) or not 1 < false_alarm_every < math.inf:
            raise ProfileError(f"false_alarm_every must be a number of samples above 1, got {false_alarm_every!r}")
        if not isinstance(window, int | np.integer) or not 1 <= window <= MAX_WINDOW:
            raise ProfileError(f"window must be a whole number from 1 to {MAX_WINDOW} samples, got {window!r}")
        self.profile = profile
        self.false_alarm_every = float(false_alarm_every)
        self.window = int(window)
        self.tolerance = Tolerance(float(tolerance), float(replaced)).check()
        self._encoder = Encoder(profile)
        self._groups = build_groups(profile, self.tolerance)
        self._evidence = Evidence(self._groups, self.window)
        self._rng = Uniform.fresh() if seed is None else Uniform(seed)
        self._past = _prewhitener(profile, self._rng.seed + 1)
        self._buffer = np.empty((len(profile.columns) + len(profile.levels), 0), dtype=np.uint8)
        self._seen = WindowCounts.zero(profile)
        self._carried: dict[int, NDArray[np.int64]] = {}  # track -> what another detector had seen of it
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
            self._take_in(self._codes(rows[at : at + BATCH_ROWS]))
        return self._at is not None

    def _codes(self, rows: Floats) -> Codes:
        """Codes (F + V, b) of rows (b, F): bins of values or residuals, and of the levels whose means are finished."""
        if self._past.idle:
            return self._encoder.codes(rows, self._rng)
        watched, levels = self._past.advance(np.ascontiguousarray(rows.T))
        return np.concatenate((self._encoder.codes(watched.T, self._rng), levels))

    def _counted(self, codes: Codes, window: int) -> NDArray[np.int64]:
        """Counts (T, W, K) in windows of ``window`` rows."""
        width, scalars = self._encoder.width, len(self.profile.columns)
        counts = window_counts(codes[:scalars], window, width)
        if len(codes) == scalars:
            return counts
        return np.concatenate((counts, level_counts(codes[scalars:], window, width)))

    def _take_in(self, codes: Codes) -> None:
        new, begun = codes.shape[1], self._buffer.shape[1]
        before = self._samples - begun  # samples evaluated so far
        self._samples += new
        table = -self._counted(self._buffer, begun)[:, 0] if begun else 0
        if begun:
            codes = np.concatenate((self._buffer, codes), axis=1)
        whole = codes.shape[1] // self.window * self.window
        if whole:
            counts = self._counted(codes[:, :whole], self.window)
            summed = counts.sum(1)
            table = table + summed
            self._seen += WindowCounts(self._seen.layout, whole, summed)
            self._evaluate(counts.astype(np.float64), before)
        self._buffer = codes[:, whole:].copy()
        if rest := codes.shape[1] - whole:
            table = table + self._counted(self._buffer, rest)[:, 0]
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
            self._past.forget()
            self._seen, self._carried = WindowCounts.zero(self.profile), {}
            self._recent = [WindowCounts.zero(self.profile), WindowCounts.zero(self.profile)]

    def carry(self, other: DriftDetector, names: Collection[str]) -> None:
        """Go on, for the scalars ``names``, with what ``other`` has gathered and seen: the same stream goes on, but not
        all of its scalars, as when a device changes to another variant of a model. Only scalars of the very same
        reference in both and without a memory are taken over, and only where both have the same tolerance; the rows of
        the unfinished window are not. To be called before the first row."""
        tracks: dict[int, int] = {}
        mine, its = self.profile, other.profile
        for k, name in enumerate(mine.names):
            if name not in names or name not in its.names:
                continue
            its_k = its.names.index(name)
            no_memory = mine.memories[k] is None and its.memories[its_k] is None
            if no_memory and same_column(mine.columns[k], its.columns[its_k]):
                for of in (name, name + MISSING_SUFFIX):
                    tracks[mine.layout.names.index(of)] = its.layout.names.index(of)
        for track in self._evidence.carry(other._evidence, tracks) if self.tolerance == other.tolerance else ():
            its_track = tracks[track]
            seen = other._seen.table[its_track, : mine.layout.sizes[track]]
            self._carried[track] = seen + other._carried.get(its_track, 0)
        self._log_evidence = float(log_sum(self._evidence.by_track(), axis=0)) - math.log(self.false_alarm_every)

    def to_bytes(self) -> bytes:
        """The whole state; a detector restored from it goes on exactly as this one will. What was gathered is rounded
        down to 32-bit logarithms, in the bytes and here alike, by less than a millionth."""
        self._evidence.replace_log_r(round_down)
        state = State(
            false_alarm_every=self.false_alarm_every,
            window=self.window,
            delta=self.tolerance.delta,
            replaced=self.tolerance.replaced,
            samples=self._samples,
            at=self._at,
            features=self._features,
            ties=(self._rng.seed, self._rng.drawn),
            begun=self._buffer.shape[1],
            codes=self._buffer.tobytes(),
            log_evidence=self._log_evidence if math.isfinite(self._log_evidence) else None,
            taken=self._taken.to_varints(),
            recent=(self._recent[0].to_varints(), self._recent[1].to_varints()),
            seen=self._seen.to_varints(),
            log_r=tuple(pack_log_r(log_r) for log_r, _ in self._evidence.state()),
            serial=None if self._past.idle else pack_serial(self._past.state(), self._past.ties),
            carried=tuple(self._carried),
            before=varints(count for counts in self._carried.values() for count in counts.tolist()),
        )
        return seal_state(self.profile.digest, state)

    @classmethod
    def from_bytes(cls, profile: ReferenceProfile, data: bytes) -> DriftDetector:
        """The detector that wrote ``data``.

        Raises:
            ProfileError: truncated, damaged, of another version, or of another profile.
        """
        state, gathered = unseal_state(profile, data)
        detector = cls(profile, state.false_alarm_every, state.window, state.delta, replaced=state.replaced)
        detector._rng = Uniform(*state.ties)
        detector._buffer = codes_of(state, len(profile.columns), len(profile.levels), detector._encoder.width)
        detector._samples, detector._at, detector._features = state.samples, state.at, state.features
        detector._log_evidence = -math.inf if state.log_evidence is None else state.log_evidence
        layout = profile.layout
        detector._taken = WindowCounts.from_varints(layout, state.taken)
        detector._recent = [WindowCounts.from_varints(layout, part) for part in state.recent]
        groups = detector._evidence.state()
        if gathered is None:
            detector._seen = WindowCounts.from_varints(layout, state.seen)
            detector._carried = carried_of(state, layout)
            table = detector._seen.table.copy()
            for track, counts_before in detector._carried.items():
                table[track, : len(counts_before)] += counts_before
            urns = urns_of(detector._groups, table)
            if len(state.log_r) != len(groups):
                raise ProfileError("drift state: another number of track groups than the profile has")
            pairs = zip(state.log_r, groups, urns, strict=True)
            gathered = [(unpack_log_r(log_r, like.shape), urn) for log_r, (like, _), urn in pairs]
        elif [(r.shape, u.shape) for r, u in gathered] != [(r.shape, u.shape) for r, u in groups]:
            raise ProfileError("drift state: evidence of other tracks than the profile has")
        else:
            detector._seen = counts_of(detector._groups, layout, gathered)
        if not detector._evidence.load(gathered):
            raise ProfileError("drift state: an urn doesn't hold the reference and whole counts")
        past, serial = detector._past, state.serial
        if not past.idle and (serial is None or not past.load(unpack_serial(serial), Uniform(*serial.ties))):
            raise ProfileError("drift state: what is remembered doesn't fit the profile")
        return detector


def _prewhitener(profile: ReferenceProfile, seed: int) -> Prewhitener:
    serials = [None if memory is None else memory.serial for memory in profile.memories]
    return Prewhitener(serials, [profile.levels.get(k) for k in range(len(serials))], seed)
