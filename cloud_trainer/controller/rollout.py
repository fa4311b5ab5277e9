"""How a release reaches a fleet: a pure state machine.

::

    staged → canary → expanding → done
       └───────┴──────────┴─────→ aborted → rolled_back

Rules:

1. The canaries run the release first, on at least ``canary_samples`` samples each, and must look no worse than the
   devices that still run the parent.
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
P99_FACTOR = 3.0
P99_NOISE_US = 2000.0  # below this a p99 tells more about the operating system's scheduler than about the release
CONFIDENCE_FACTOR = 0.7


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
    p99_us: float
    confidence: float


class Device(Struct, frozen=True, kw_only=True):
    """One device as the rollout sees it. ``windows`` are those of the new release since the canaries were asked."""

    online: bool
    release: int  # that it reports
    refused: int = 0
    error: str = ""
    fault: str = ""  # what it told, if anything, since the rollout began
    drifted: bool = False  # an alarm of its own on the new release
    windows: tuple[Window, ...] = ()

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
    if not control:
        return ""
    if mine.p99_us > max(P99_FACTOR * theirs.p99_us, P99_NOISE_US):
        return f"p99 is {mine.p99_us:.0f} us, {theirs.p99_us:.0f} us in the control group"
    if mine.confidence < CONFIDENCE_FACTOR * theirs.confidence:
        return f"mean confidence is {mine.confidence:.2f}, {theirs.confidence:.2f} in the control group"
    return ""


class _Summary(Struct, frozen=True):
    errors: float
    p99_us: float  # median over windows: one stalled second must not abort a rollout
    confidence: float

    @classmethod
    def of(cls, windows: Sequence[Window]) -> _Summary:
        samples = sum(window.samples for window in windows)
        if not samples:
            return cls(0.0, 0.0, 0.0)
        return cls(
            sum(window.errors for window in windows) / samples,
            median(window.p99_us for window in windows if window.samples),
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
