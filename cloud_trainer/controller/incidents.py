"""What happens to a drift incident: a pure state machine.

::

    suspected → confirmed → collecting → labelling → training → gating → releasing → resolved
        └───────────┴───────────┴───────────┴───────────┴──────────┴─────────┴────→ dismissed

``open_incident`` and ``advance`` look at facts and say what comes next; who gathers the facts and carries out what a
state asks for is ``incident_desk.py``. Rules:

1. A suspicion opens on a device's own alarm or on fleet evidence of ``SUSPICION_EVIDENCE``, for the release that the
   fleet is meant to run, one at a time for each model.
2. It is confirmed by evidence (the promise about false alarms) *and* by effect size (enough to matter).
3. Every state ends: by what it waits for, by its time limit, or because the fleet moved to another release.
4. After a retraining that came to nothing, the next one waits, each time twice as long.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

State = Literal[
    "suspected",
    "confirmed",
    "collecting",
    "labelling",
    "training",
    "gating",
    "releasing",
    "resolved",
    "dismissed",
]
CLOSED: tuple[State, ...] = ("resolved", "dismissed")

SUSPICION_EVIDENCE = 0.1  # a tenth of an alarm: enough to watch, not enough to act
CONFIRMING_EVIDENCE = 1.0
MINIMUM_SAMPLES = 100  # labelled; fewer can't carry a paired test
LABELLED_SHARE = 0.95
TRAINING_ATTEMPTS = 3
FIRST_HOLD_SECONDS = 3600.0
HOLD_DOUBLINGS = 6
LARGEST_EVIDENCE, LARGEST_SHIFT = 1e6, 100.0  # that a text for people names


class Incident(Struct, frozen=True, kw_only=True):
    """One incident, as it is stored. Times are seconds since 1970 by the controller's clock, if not said otherwise."""

    id: int
    model: str
    release: int  # the one that drifted
    state: State
    opened: float
    entered: float  # when the present state began
    mark: int  # number of the last window before the suspicion: effects are counted from there
    since: float  # time of the earliest alarm, by the device's clock: samples none older than this are asked for
    devices: tuple[str, ...] = ()
    evidence: float = 0.0
    effect: float = 0.0
    feature: str = ""  # the watched scalar with the largest effect
    shift: float = 0.0  # its mean shift, in robust sigma
    attempt: int = 0  # trainings started
    version: int = 0  # of the candidate
    pid: int = 0  # of the training process
    rollout: int = 0
    reason: str = ""

    @property
    def closed(self) -> bool:
        """Nothing more will happen."""
        return self.state in CLOSED

    @property
    def retrained(self) -> bool:
        """A training was started."""
        return self.attempt > 0


class Policy(Struct, frozen=True, kw_only=True):
    """Limits; the task's ``[retrain]`` and ``[drift]`` in the machine's words."""

    minimum_effect: float = 0.2  # robust sigma
    suspicion_reports: int = 20  # of each device that reports
    suspicion_seconds: float = 86_400.0
    samples_per_device: int = 400
    collect_seconds: float = 3600.0
    label_seconds: float = 86_400.0
    train_seconds: float = 7200.0
    release_seconds: float = 3600.0  # until the rollout has begun; after that the rollout has limits of its own


class Training(Struct, frozen=True):
    """How the training of this attempt stands."""

    state: Literal["absent", "running", "passed", "failed", "lost"] = "absent"  # lost: ended by a signal
    text: str = ""


class Facts(Struct, frozen=True, kw_only=True):
    """All that a decision may depend on."""

    now: float
    current: int  # the release that the fleet is meant to run
    evidence: float = 0.0
    alarmed: tuple[str, ...] = ()  # devices with an alarm of their own
    named: tuple[str, ...] = ()  # devices that e-BH names
    reporting: tuple[str, ...] = ()  # devices that sent windows since the suspicion
    reports: int = 0  # windows since the suspicion, of all devices
    effect: float = 0.0
    feature: str = ""
    shift: float = 0.0
    samples: Mapping[str, int] = {}  # collected, per device
    finished: frozenset[str] = frozenset()  # devices that have nothing more to send
    labelled: int = 0  # of the collected samples
    training: Training = Training()
    gate: Training = Training()
    rollout: str = ""  # state of the rollout, empty: none
    rollout_reason: str = ""


def open_incident(model: str, facts: Facts, *, mark: int, since: float, hold: float = 0.0) -> Incident | None:
    """A suspicion, if there is reason for one and no hold (a time, see :func:`hold_until`) forbids it.

    >>> open_incident("digits", Facts(now=1.0, current=1, alarmed=("cam-1",)), mark=0, since=0.5).state
    'suspected'
    """
    if facts.current == 0 or facts.now < hold or not (facts.alarmed or facts.evidence >= SUSPICION_EVIDENCE):
        return None
    return Incident(
        id=0,
        model=model,
        release=facts.current,
        state="suspected",
        opened=facts.now,
        entered=facts.now,
        mark=mark,
        since=since,
        devices=affected(facts),
        evidence=facts.evidence,
        reason=f"{', '.join(facts.alarmed)} raised an alarm" if facts.alarmed else "the fleet's evidence rises",
    )


def affected(facts: Facts) -> tuple[str, ...]:
    """The devices that an incident is about; everyone who reports if the evidence is in the pool alone (a shift too
    small to be seen in any one device)."""
    devices = set(facts.alarmed) | set(facts.named)
    if not devices and facts.evidence >= CONFIRMING_EVIDENCE:
        devices = set(facts.reporting)
    return tuple(sorted(devices))


def hold_until(past: Sequence[Incident], release: int) -> float:
    """No new incident of ``release`` before this time: each retraining that came to nothing doubles the wait.

    ``past`` are closed incidents of one model; ``entered`` of a closed incident is when it closed.
    """
    failed = [i for i in past if i.release == release and i.state == "dismissed" and i.retrained]
    if not failed:
        return 0.0
    return max(i.entered for i in failed) + FIRST_HOLD_SECONDS * 2.0 ** min(len(failed) - 1, HOLD_DOUBLINGS)


def advance(incident: Incident, facts: Facts, policy: Policy) -> Incident | None:
    """What the incident becomes, or ``None`` while it waits. The result is in another state, or in the same one where
    devices join (``collecting``) or a training has to be started again (``training``)."""
    if incident.closed:
        return None
    if incident.state != "releasing" and facts.current != incident.release:
        return dismiss(incident, facts.now, f"the fleet went on to release {facts.current}")
    return _STEPS[incident.state](incident, facts, policy)


def dismiss(incident: Incident, now: float, reason: str) -> Incident:
    """The incident, given up."""
    return replace(incident, state="dismissed", entered=now, reason=reason)


def _enter(incident: Incident, now: float, state: State, reason: str) -> Incident:
    return replace(incident, state=state, entered=now, reason=reason)


def _suspected(incident: Incident, facts: Facts, policy: Policy) -> Incident | None:
    if facts.evidence >= CONFIRMING_EVIDENCE and facts.effect >= policy.minimum_effect:
        return replace(
            _enter(incident, facts.now, "confirmed", confirmed_text(affected(facts), facts)),
            devices=affected(facts),
            evidence=facts.evidence,
            effect=facts.effect,
            feature=facts.feature,
            shift=facts.shift,
        )
    reports = policy.suspicion_reports * max(1, len(facts.reporting))
    waited = facts.now - incident.entered
    if facts.reports < reports and waited < policy.suspicion_seconds:
        return None
    if facts.evidence >= CONFIRMING_EVIDENCE:
        reason = f"the change is real but small: {facts.effect:.2f} of {policy.minimum_effect:.2f} sigma that matter"
    else:
        reason = f"not confirmed by {facts.reports} reports in {waited:.0f} s: {_evidence_text(facts.evidence)}"
    return replace(dismiss(incident, facts.now, reason), devices=tuple(sorted({*incident.devices, *affected(facts)})))


def confirmed_text(devices: Sequence[str], facts: Facts) -> str:
    """One line for people.

    >>> confirmed_text(["cam-1"], Facts(now=0, current=1, evidence=35.2, feature="brightness", shift=2.31, effect=2.4))
    'cam-1 drifted: evidence is 35 times the alarm threshold; brightness moved most (+2.3 robust sigma)'
    """
    shift = max(-LARGEST_SHIFT, min(facts.shift, LARGEST_SHIFT))
    more = "beyond " if abs(facts.shift) > LARGEST_SHIFT else ""
    what = f"{facts.feature} moved most ({more}{shift:+.1f} robust sigma)" if facts.feature else ""
    return f"{', '.join(devices)} drifted: {'; '.join(filter(None, (_evidence_text(facts.evidence), what)))}"


def _evidence_text(evidence: float) -> str:
    """Evidence multiplies from window to window: bounded, for beyond a million the number means nothing more."""
    if evidence > LARGEST_EVIDENCE:
        return f"evidence is over {LARGEST_EVIDENCE:,.0f} times the alarm threshold"
    digits = 0 if evidence >= 10 else 2
    return f"evidence is {evidence:,.{digits}f} times the alarm threshold"


def _confirmed(incident: Incident, facts: Facts, policy: Policy) -> Incident | None:
    each = " each" if len(incident.devices) > 1 else ""
    text = f"asked {', '.join(incident.devices)} for {policy.samples_per_device} samples{each}"
    return _enter(incident, facts.now, "collecting", text)


def _collecting(incident: Incident, facts: Facts, policy: Policy) -> Incident | None:
    later = {*facts.alarmed, *facts.named}.difference(incident.devices)
    if later:  # not everyone sees the same change at the same time; their samples belong to it
        devices = tuple(sorted({*incident.devices, *later}))
        return replace(incident, devices=devices, reason=f"{', '.join(sorted(later))} drifted, too")
    total = sum(facts.samples.values())
    complete = all(
        facts.samples.get(device, 0) >= policy.samples_per_device or device in facts.finished
        for device in incident.devices
    )
    timeout = facts.now - incident.entered >= policy.collect_seconds
    if not (complete or timeout):
        return None
    if total < MINIMUM_SAMPLES:
        return dismiss(incident, facts.now, f"{total} samples were sent; at least {MINIMUM_SAMPLES} are needed")
    return _enter(incident, facts.now, "labelling", f"{total} samples from {len(facts.samples)} devices")


def _labelling(incident: Incident, facts: Facts, policy: Policy) -> Incident | None:
    total = sum(facts.samples.values())
    timeout = facts.now - incident.entered >= policy.label_seconds
    if facts.labelled >= max(MINIMUM_SAMPLES, LABELLED_SHARE * total) or (
        timeout and facts.labelled >= MINIMUM_SAMPLES
    ):
        return _enter(incident, facts.now, "training", f"{facts.labelled} of {total} samples are labelled")
    if timeout:
        reason = f"{facts.labelled} of {total} samples got a label; at least {MINIMUM_SAMPLES} are needed"
        return dismiss(incident, facts.now, reason)
    return None


def _training(incident: Incident, facts: Facts, policy: Policy) -> Incident | None:
    match facts.training.state:
        case "passed":
            return _enter(incident, facts.now, "gating", f"candidate {incident.version} is trained")
        case "failed":
            return dismiss(incident, facts.now, facts.training.text)
        case "lost" if incident.attempt >= TRAINING_ATTEMPTS:
            return dismiss(incident, facts.now, f"{incident.attempt} trainings ended early: {facts.training.text}")
        case "lost":
            return _enter(incident, facts.now, "training", f"started again: {facts.training.text}")
        case _ if facts.now - incident.entered >= policy.train_seconds:
            return dismiss(incident, facts.now, f"training was stopped after {policy.train_seconds:.0f} s")
        case _:
            return None


def _gating(incident: Incident, facts: Facts, policy: Policy) -> Incident | None:
    if facts.gate.state == "passed":
        return _enter(incident, facts.now, "releasing", facts.gate.text)
    if facts.gate.state == "failed" or facts.now - incident.entered >= policy.train_seconds:
        return dismiss(incident, facts.now, facts.gate.text or "the candidate could not be checked")
    return None


def _releasing(incident: Incident, facts: Facts, policy: Policy) -> Incident | None:
    if facts.rollout == "done":
        return _enter(incident, facts.now, "resolved", f"release {incident.version} runs everywhere")
    if facts.rollout == "rolled_back":
        return dismiss(incident, facts.now, f"release {incident.version} was rolled back: {facts.rollout_reason}")
    if not facts.rollout and facts.now - incident.entered >= policy.release_seconds:
        reason = facts.rollout_reason or "it could not be published"
        return dismiss(incident, facts.now, f"release {incident.version}: {reason}")
    return None


_STEPS = {
    "suspected": _suspected,
    "confirmed": _confirmed,
    "collecting": _collecting,
    "labelling": _labelling,
    "training": _training,
    "gating": _gating,
    "releasing": _releasing,
}
