"""How a release reaches a fleet: a pure state machine.

::

    staged → canary → expanding → done
       └───────┴──────────┴─────→ aborted → rolled_back

Rules:

1. The canaries run the release first, on at least ``canary_samples`` samples each, and must look no worse than the
   devices that still run the parent. Latency alone is compared with the device's own past: devices differ in speed.
2. Then everyone is asked; done when every device that is online reports the release. A device that is offline finds
   the retained wish when it comes back.
3. A refusal, a fault, bad health or a time limit aborts: everyone is asked for the parent again.
4. What a device should run is a function of the rollout alone (:func:`wanted`), so a restart asks for the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

State = Literal["staged", "canary", "expanding", "done", "aborted", "rolled_back"]
CLOSED: tuple[State, ...] = ("done", "rolled_back")

ERROR_MARGIN = 0.01  # share of samples by which a canary may fail more often than the control group
CONFIDENCE_FACTOR = 0.7
SLOWER_FACTOR = 3.0  # less may be another variant, chosen for its quality, or a warmer day
P50_FLOOR_US = 1000.0  # slower, but still far faster than any camera
P50_SAMPLES = 100  # the first answers of a process pay for cold caches
P99_FLOOR_US = 25_000.0  # a few turns of a busy scheduler: two cores and ten processes wait as long now and then
P99_WINDOWS = 5
P99_SHARE = 0.75  # of the windows


class Rollout(Struct, frozen=True, kw_only=True):
    """One rollout, as it is stored. Times are seconds since 1970 by the controller's clock."""

    id: int
    model: str
    release: int
    parent: int  # 0: there was none
    state: State
    opened: float
    entered: float
    incident: int = 0  # 0: a person published the release
    affected: tuple[str, ...] = ()  # where a canary tells most
    canaries: tuple[str, ...] = ()
    mark: int = 0  # number of the last window before the canaries were asked
    reason: str = ""

    @property
    def closed(self) -> bool:
        """Nothing more will happen."""
        return self.state in CLOSED


class Policy(Struct, frozen=True, kw_only=True):
    """The task's ``[rollout]``."""

    canary_devices: int = 1
    canary_samples: int = 1000
    canary_seconds: float = 3600.0
    settle_seconds: float = 3600.0


class Window(Struct, frozen=True):
    """What health needs of one report."""

    samples: int
    errors: int
    p50_us: float
    p99_us: float
    confidence: float


class Device(Struct, frozen=True, kw_only=True):
    """One device as the rollout sees it. ``windows`` are those of the new release since the canaries were asked,
    ``before`` the device's own of the parent."""

    online: bool
    release: int  # that it reports
    refused: int = 0
    error: str = ""
    fault: str = ""  # what it told, if anything, since the rollout began
    drifted: bool = False  # an alarm of its own on the new release
    windows: tuple[Window, ...] = ()
    before: tuple[Window, ...] = ()

    @property
    def samples(self) -> int:
        """Answered with the new release."""
        return sum(window.samples for window in self.windows)


def advance(
    rollout: Rollout, devices: Mapping[str, Device], control: Sequence[Window], policy: Policy, now: float
) -> Rollout | None:
    """What the rollout becomes, or ``None`` while it waits. ``control`` are windows of the parent, of devices that did
    not move (or, where all moved, of the canaries before)."""
    match rollout.state:
        case "staged":
            return _staged(rollout, devices, policy, now)
        case "canary":
            return _canary(rollout, devices, control, policy, now)
        case "expanding":
            return _expanding(rollout, devices, control, policy, now)
        case "aborted":
            return _aborted(rollout, devices, policy, now)
        case _:
            return None


def wanted(rollout: Rollout | None, target: int, device: str) -> int:
    """The release that ``device`` should run, given the fleet's ``target`` and the rollout under way, if any.

    >>> run = Rollout(id=1, model="m", release=2, parent=1, state="canary", opened=0, entered=0, canaries=("a",))
    >>> wanted(run, 1, "a"), wanted(run, 1, "b")
    (2, 1)
    """
    if rollout is None or rollout.closed or rollout.state in {"staged", "aborted"}:
        return target
    return rollout.release if rollout.state == "expanding" or device in rollout.canaries else target


def choose_canaries(affected: Sequence[str], devices: Mapping[str, Device], count: int) -> tuple[str, ...]:
    """Devices to try first: online ones, affected ones before others, then by name."""
    online = [name for name, device in devices.items() if device.online]
    return tuple(sorted(online, key=lambda name: (name not in affected, name))[:count])


def health(device: Device, control: Sequence[Window]) -> str:
    """Why the device is worse off with the new release than the control group without it; empty: it is not."""
    if device.fault:
        return device.fault
    if device.drifted:
        return "drift alarm on the new release"
    if not device.windows or not device.samples:
        return ""
    mine, theirs = _Summary.of(device.windows), _Summary.of(control)
    if mine.errors > theirs.errors + ERROR_MARGIN:
        return f"{mine.errors:.1%} of the samples fail, {theirs.errors:.1%} in the control group"
    if control and mine.confidence < CONFIDENCE_FACTOR * theirs.confidence:
        return f"mean confidence is {mine.confidence:.2f}, {theirs.confidence:.2f} in the control group"
    if device.before:
        return slower(device.windows, device.before, "before")
    return slower(device.windows, control, "in the control group")


def slower(windows: Sequence[Window], reference: Sequence[Window], where: str) -> str:
    """Why the release is slower than its parent in the windows of ``reference``; empty: it is not, or nobody knows.

    The typical answer decides: the median over windows of their p50, which neither a stalled second nor a busy machine
    moves far. A p99 mostly tells what else the machine was doing: a window of 150 answers has it from its two slowest.
    So it counts only where the release stalls again and again: beyond ``P99_FLOOR_US`` in ``P99_SHARE`` of at least
    ``P99_WINDOWS`` windows. (A canary that is done after fewer is judged by its p50 alone.)

    >>> usual = Window(150, 0, p50_us=120, p99_us=395, confidence=0.9)
    >>> busy = Window(150, 0, p50_us=170, p99_us=3849, confidence=0.9)
    >>> slower([busy] * 3, [usual] * 60, "before")
    ''
    >>> slower([Window(150, 0, p50_us=2400, p99_us=2600, confidence=0.9)] * 3, [usual] * 60, "before")
    'p50 is 2400 us, 120 us before'
    """
    mine = [window for window in windows if window.samples]
    theirs = [window for window in reference if window.samples]
    if not mine or not theirs:
        return ""
    p50, usual = (median(window.p50_us for window in found) for found in (mine, theirs))
    samples = sum(window.samples for window in mine)
    if samples >= P50_SAMPLES and p50 > max(SLOWER_FACTOR * usual, P50_FLOOR_US):
        return f"p50 is {p50:.0f} us, {usual:.0f} us {where}"
    usual = median(window.p99_us for window in theirs)
    limit = max(SLOWER_FACTOR * usual, P99_FLOOR_US)
    over = [window.p99_us for window in mine if window.p99_us > limit]
    if len(mine) >= P99_WINDOWS and len(over) >= P99_SHARE * len(mine):
        return f"p99 is {median(over):.0f} us in {len(over)} of {len(mine)} windows, {usual:.0f} us {where}"
    return ""


class _Summary(Struct, frozen=True):
    errors: float
    confidence: float

    @classmethod
    def of(cls, windows: Sequence[Window]) -> _Summary:
        samples = sum(window.samples for window in windows)
        if not samples:
            return cls(0.0, 0.0)
        return cls(
            sum(window.errors for window in windows) / samples,
            sum(window.confidence * window.samples for window in windows) / samples,
        )


def _enter(rollout: Rollout, now: float, state: State, reason: str) -> Rollout:
    return replace(rollout, state=state, entered=now, reason=reason)


def _staged(rollout: Rollout, devices: Mapping[str, Device], policy: Policy, now: float) -> Rollout | None:
    canaries = choose_canaries(rollout.affected, devices, policy.canary_devices)
    if canaries:
        return replace(_enter(rollout, now, "canary", f"{', '.join(canaries)} tries it first"), canaries=canaries)
    if now - rollout.entered >= policy.canary_seconds:
        return _enter(rollout, now, "aborted", f"no device was online in {policy.canary_seconds:.0f} s")
    return None


def _trouble(rollout: Rollout, devices: Mapping[str, Device], control: Sequence[Window]) -> str:
    for name, device in sorted(devices.items()):
        if device.refused == rollout.release and device.release != rollout.release:
            return f"{name} refused it: {device.error or 'no reason given'}"
        trouble = health(device, control)
        if trouble:
            return f"{name}: {trouble}"
    return ""


def _canary(
    rollout: Rollout, devices: Mapping[str, Device], control: Sequence[Window], policy: Policy, now: float
) -> Rollout | None:
    tried = {name: devices[name] for name in rollout.canaries if name in devices}
    trouble = _trouble(rollout, tried, control)
    if trouble:
        return _enter(rollout, now, "aborted", trouble)
    if len(tried) == len(rollout.canaries) and all(
        device.release == rollout.release and device.samples >= policy.canary_samples for device in tried.values()
    ):
        total = sum(device.samples for device in tried.values())
        return _enter(rollout, now, "expanding", f"{', '.join(tried)} is well after {total} samples")
    if now - rollout.entered < policy.canary_seconds:
        return None
    behind = ", ".join(
        f"{name} runs release {device.release} and answered {device.samples} samples with the new one"
        for name, device in tried.items()
        if device.release != rollout.release or device.samples < policy.canary_samples
    )
    return _enter(rollout, now, "aborted", f"after {policy.canary_seconds:.0f} s {behind or 'the canary is gone'}")


def _expanding(
    rollout: Rollout, devices: Mapping[str, Device], control: Sequence[Window], policy: Policy, now: float
) -> Rollout | None:
    trouble = _trouble(rollout, devices, control)
    if trouble:
        return _enter(rollout, now, "aborted", trouble)
    online = {name: device for name, device in devices.items() if device.online}
    behind = sorted(name for name, device in online.items() if device.release != rollout.release)
    if online and not behind:
        away = len(devices) - len(online)
        later = f"; {away} offline will follow" if away else ""
        return _enter(rollout, now, "done", f"{len(online)} devices run it{later}")
    if now - rollout.entered < policy.settle_seconds:
        return None
    reason = f"{', '.join(behind)} did not take it" if behind else "no device is online"
    return _enter(rollout, now, "aborted", f"after {policy.settle_seconds:.0f} s {reason}")


def _aborted(rollout: Rollout, devices: Mapping[str, Device], policy: Policy, now: float) -> Rollout | None:
    still = sorted(name for name, device in devices.items() if device.release == rollout.release)
    online = [name for name in still if devices[name].online]
    if online and now - rollout.entered < policy.settle_seconds:
        return None
    later = f" (not yet back: {', '.join(still)})" if still else ""
    return _enter(rollout, now, "rolled_back", rollout.reason + later)
