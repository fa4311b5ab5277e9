"""The evidence of a fleet, from the counts that its devices send.

U = ½ Σ_d R_d / D + ½ R_pool: the average finds one sick device, the pool a shift too thin for any one. Invariants:

1. While every device stays as its reference, the mean time to an alarm is at least A, in the unit of ``time``.
2. Silence is owed: a device's next window is entered with all the time since its last one, so that being away wins
   nothing.
3. D is the number of devices ever seen; one that joins starts at R = 0.
4. Devices on the same baseline share one urn of all their past counts (an urn each, on a shared reference, would be no
   martingale for who sees them all). The average needs no independence of devices; the pool needs them independent
   given their references: a cause common to all must fit into the tolerance.
5. An alarm latches until ``acknowledge``.

The devices affected are named by e-BH (Wang and Ramdas 2022, arXiv 2009.02824): the k largest with R_(k) >= A D / k,
of the plug-in bets alone, which compare a device with its reference whatever others send; in the shared urn a healthy
device stands out once most are sick.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import numpy as np
from msgspec import Struct

from shared.drift.bins import Floats
from shared.drift.counts import WindowCounts
from shared.drift.evidence import accumulate, log_sum, urn_log_e_each
from shared.drift.profile import ReferenceProfile
from shared.drift.state import Packed, pack_array, seal, unpack_array, unseal
from shared.drift.status import ratio
from shared.drift.tracks import Tolerance, build_groups
from shared.errors import ProfileError

MAGIC = b"SDRF"


class FleetStatus(Struct, frozen=True):
    """What the fleet's counts say.

    ``evidence``: U / A, 1.0 is the alarm, which latches. ``pool``: R_pool / A. ``devices``: named by e-BH, as of the
    last update that named any since the last acknowledgement. ``by_device``: R_d / A.
    """

    alarm: bool
    evidence: float
    pool: float
    devices: tuple[str, ...]
    by_device: dict[str, float]


class _Baseline:
    """A reference, and the urn of everything that devices on it have sent."""

    def __init__(self, profile: ReferenceProfile, tolerance: Tolerance, like: ReferenceProfile) -> None:
        self.profile = profile
        self.groups = build_groups(profile, tolerance, like)
        self.reset()

    def reset(self) -> None:
        self.urns = [group.gaps.copy() for group in self.groups]


class _Device(Struct):
    baseline: str
    log_r: list[Floats]
    owed: float = 0.0


class _DeviceState(Struct, frozen=True):
    baseline: str
    log_r: tuple[Packed, ...]
    owed: float


class _State(Struct, frozen=True):
    false_alarm_every: float
    unit: str
    delta: float
    replaced: float
    alarm: bool
    named: tuple[str, ...]
    pool: tuple[Packed, ...]
    pool_owed: float
    urns: dict[str, tuple[Packed, ...]]
    devices: dict[str, _DeviceState]


class FleetDetector:
    """Watches all devices of one model.

    Args:
        profile: the reference of every device that has none of its own.
        false_alarm_every: A, in the unit of ``time``.
        unit: what that is, for people: "reports" when every update is one round of reports.
        tolerance, replaced: as in :class:`~shared.drift.detector.DriftDetector`.
        profiles: device -> its own reference, with the same scalars.

    Raises:
        ProfileError: an argument is out of range, or a device's reference has other scalars.
    """

    def __init__(
        self,
        profile: ReferenceProfile,
        false_alarm_every: float = 10_000,
        *,
        unit: str = "reports",
        tolerance: float = 0.0,
        replaced: float = 0.0,
        profiles: Mapping[str, ReferenceProfile] | None = None,
    ) -> None:
        if not 1 < false_alarm_every < math.inf:
            raise ProfileError(f"false_alarm_every must be a number of {unit} above 1, got {false_alarm_every}")
        self.profile = profile
        self.false_alarm_every = float(false_alarm_every)
        self.unit = unit
        self.tolerance = Tolerance(float(tolerance), float(replaced)).check()
        self.profiles = dict(profiles or {})
        self._baselines = {profile.digest: _Baseline(profile, self.tolerance, profile)}
        self._default = self._baselines[profile.digest]
        for device, own in self.profiles.items():
            if own.digest not in self._baselines:
                self._baselines[own.digest] = self._own(device, own)
        self._devices: dict[str, _Device] = {}
        self._pool = [np.full(group.slow_weights.shape, -np.inf) for group in self._default.groups]
        self._pool_owed = 0.0
        self._alarm = False
        self._named: tuple[str, ...] = ()

    def _own(self, device: str, own: ReferenceProfile) -> _Baseline:
        if (own.names, own.kinds, own.families) != (self.profile.names, self.profile.kinds, self.profile.families):
            raise ProfileError(f"reference of device {device!r}: scalars, kinds or families differ from the fleet's")
        if own.layout.names != self.profile.layout.names:
            raise ProfileError(
                f"reference of device {device!r} has levels of {_levels(own)}, the fleet's of {_levels(self.profile)}"
            )
        return _Baseline(own, self.tolerance, self.profile)

    def profile_for(self, device: str) -> ReferenceProfile:
        """The reference that ``device`` counts against."""
        return self.profiles.get(device, self.profile)

    def update(self, counts: Mapping[str, WindowCounts], time: float = 1.0) -> FleetStatus:
        """Take in one round: device -> what it counted since its last report. Devices without news are left out, or
        send no samples.

        Args:
            counts: windows of any size.
            time: since the last update, in ``unit``; chosen without looking at the counts.

        Raises:
            ProfileError: counts of another profile, or ``time`` not positive; nothing was taken in.
        """
        if not 0 < time < math.inf:
            raise ProfileError(f"time must be a positive number of {self.unit}, got {time}")
        for device in sorted(counts):
            wanted = self.profile_for(device).digest
            if not isinstance(counts[device], WindowCounts):
                raise ProfileError(
                    f"counts of device {device!r} must be WindowCounts, got {type(counts[device]).__name__}"
                )
            counts[device].check()
            if counts[device].profile != wanted:
                raise ProfileError(
                    f"counts of device {device!r} belong to profile {counts[device].profile}, not to {wanted}"
                )
        for device in sorted(counts):
            if device not in self._devices:
                self._devices[device] = self._join(device)
        for member in self._devices.values():
            member.owed += time
        self._pool_owed += time
        news = {d: counts[d].table[:, None].astype(np.float64) for d in sorted(counts) if counts[d].samples}
        if news:
            for g in range(len(self._default.groups)):
                self._advance(g, news)
            for device in news:
                self._devices[device].owed = 0.0
            self._pool_owed = 0.0
        return self._judge()

    def _join(self, device: str) -> _Device:
        digest = self.profile_for(device).digest
        return _Device(
            digest, [np.full(group.detector_weights().shape, -np.inf) for group in self._baselines[digest].groups]
        )

    def _advance(self, g: int, news: Mapping[str, Floats]) -> None:
        """Take one group's tracks of all devices with news, their counts (tracks, 1, bins)."""
        pooled = np.zeros_like(self._pool[g])[:, None]
        for digest, devices in self._by_baseline(news).items():
            baseline = self._baselines[digest]
            group, urn = baseline.groups[g], baseline.urns[g]
            windows = group.windows(np.concatenate([news[device] for device in devices], axis=1))
            log_e = plug = group.log_e_plug(windows)
            if group.urn:
                total = group.total + (urn - group.gaps).sum(1)
                log_e = np.concatenate(
                    (urn_log_e_each(group.urn_bets, group.urn_exp, urn, total, windows), plug), axis=2
                )
                together = windows.sum(1, keepdims=True)
                pooled += group.pooled(urn, together, plug.sum(1, keepdims=True))
                baseline.urns[g] = urn + together[:, 0]
            else:
                pooled += plug.sum(1, keepdims=True)
            members = [self._devices[device] for device in devices]
            owed = np.log([member.owed for member in members])[:, None, None]
            log_r = np.logaddexp(np.stack([member.log_r[g] for member in members]), owed) + log_e.transpose(1, 0, 2)
            for member, one in zip(members, log_r, strict=True):
                member.log_r[g] = one
        self._pool[g] = accumulate(self._pool[g], pooled, math.log(self._pool_owed))[:, -1]

    def _by_baseline(self, devices: Iterable[str]) -> dict[str, list[str]]:
        """Digest -> those of ``devices`` that are on that baseline."""
        found: dict[str, list[str]] = {}
        for device in devices:
            found.setdefault(self._devices[device].baseline, []).append(device)
        return found

    def _judge(self) -> FleetStatus:
        names = list(self._devices)
        log_a = math.log(self.false_alarm_every)
        by_device, fixed = self._device_log_r()
        pool = _total(zip(self._pool, (g.slow_weights for g in self._default.groups), strict=True))
        average = float(log_sum(by_device, axis=0)) - math.log(len(names)) if names else -math.inf
        evidence = float(np.logaddexp(average, pool)) - math.log(2) - log_a
        if evidence >= 0:
            self._alarm = True
        order = np.argsort(-fixed, kind="stable")
        enough = fixed[order] >= log_a + np.log(len(names) / np.arange(1, len(names) + 1))
        if enough.any():
            self._named = tuple(sorted(names[k] for k in order[: int(np.flatnonzero(enough)[-1]) + 1]))
        return FleetStatus(
            alarm=self._alarm,
            evidence=ratio(evidence),
            pool=ratio(pool - log_a),
            devices=self._named,
            by_device={name: ratio(float(r) - log_a) for name, r in zip(names, by_device, strict=True)},
        )

    def _device_log_r(self) -> tuple[Floats, Floats]:
        """Log R (devices,) of all bets of each device, and of those against the fixed reference alone."""
        found: dict[str, Floats] = {}
        for digest, devices in self._by_baseline(self._devices).items():
            both, fixed = [], []
            for g, group in enumerate(self._baselines[digest].groups):
                log_r = np.stack([self._devices[device].log_r[g] for device in devices])
                both.append(log_sum(log_r + group.detector_weights(), axis=(1, 2)))
                slow = log_r[:, :, -group.slow_weights.shape[1] :]
                fixed.append(log_sum(slow + group.slow_weights, axis=(1, 2)))
            sums = np.stack((log_sum(np.array(both), axis=0), log_sum(np.array(fixed), axis=0)), axis=1)
            found.update(zip(devices, sums, strict=True))
        ordered = np.array([found[device] for device in self._devices]).reshape(-1, 2)
        return ordered[:, 0], ordered[:, 1]

    @property
    def status(self) -> FleetStatus:
        """What is known after the last update."""
        return self._judge()

    def acknowledge(self, keep: bool = True) -> None:
        """End an alarm: all evidence starts at zero. ``keep`` keeps the urns (it was false, or is being dealt with);
        otherwise they start anew from the references. Devices stay known."""
        self._alarm = False
        self._named = ()
        for member in self._devices.values():
            member.log_r = [np.full_like(log_r, -np.inf) for log_r in member.log_r]
        self._pool = [np.full_like(log_r, -np.inf) for log_r in self._pool]
        if not keep:
            for baseline in self._baselines.values():
                baseline.reset()

    def to_bytes(self) -> bytes:
        """The whole state; a detector restored from it goes on exactly as this one would."""
        state = _State(
            false_alarm_every=self.false_alarm_every,
            unit=self.unit,
            delta=self.tolerance.delta,
            replaced=self.tolerance.replaced,
            alarm=self._alarm,
            named=self._named,
            pool=tuple(map(pack_array, self._pool)),
            pool_owed=self._pool_owed,
            urns={digest: tuple(map(pack_array, baseline.urns)) for digest, baseline in self._baselines.items()},
            devices={
                name: _DeviceState(member.baseline, tuple(map(pack_array, member.log_r)), member.owed)
                for name, member in self._devices.items()
            },
        )
        return seal(MAGIC, self.profile.digest, state)

    @classmethod
    def from_bytes(
        cls, profile: ReferenceProfile, data: bytes, profiles: Mapping[str, ReferenceProfile] | None = None
    ) -> FleetDetector:
        """The detector that wrote ``data``; ``profiles`` as then.

        Raises:
            ProfileError: truncated, damaged, of another version, or of other profiles.
        """
        state = unseal(MAGIC, profile.digest, data, _State)
        fleet = cls(
            profile,
            state.false_alarm_every,
            unit=state.unit,
            tolerance=state.delta,
            replaced=state.replaced,
            profiles=profiles,
        )
        if set(state.urns) != set(fleet._baselines):
            raise ProfileError("fleet state: was kept for devices with other references of their own")
        for digest, urns in state.urns.items():
            baseline = fleet._baselines[digest]
            baseline.urns = [unpack_array(urn, like) for urn, like in zip(urns, baseline.urns, strict=True)]
        fleet._pool = [unpack_array(log_r, like) for log_r, like in zip(state.pool, fleet._pool, strict=True)]
        fleet._pool_owed, fleet._alarm, fleet._named = state.pool_owed, state.alarm, state.named
        for name, kept in state.devices.items():
            member = fleet._join(name)
            if member.baseline != kept.baseline:
                raise ProfileError(
                    f"fleet state: device {name!r} was on profile {kept.baseline}, not on {member.baseline}"
                )
            member.log_r = [unpack_array(log_r, like) for log_r, like in zip(kept.log_r, member.log_r, strict=True)]
            member.owed = kept.owed
            fleet._devices[name] = member
        return fleet


def _levels(profile: ReferenceProfile) -> str:
    return ", ".join(profile.names[k] for k in profile.levels) or "none"


def _total(parts: Iterable[tuple[Floats, Floats]]) -> float:
    """Log of the weighted sum over groups, tracks and bets."""
    return float(log_sum(np.array([log_sum(log_r + weights, axis=(0, 1)) for log_r, weights in parts]), axis=0))
