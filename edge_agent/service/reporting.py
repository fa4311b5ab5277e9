"""What the agent says about itself, made from what it knows. Pure functions; times come in."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

import edge_agent
from edge_agent.hardware import Hardware
from edge_agent.health import Health
from edge_agent.state import AgentStatus, Watched
from shared.enrolment import Enrolment
from shared.messages import Event, Info, Report, Reported, SelectionRow, State

if TYPE_CHECKING:
    from edge_agent.engine import Engine
    from edge_agent.link import Link
    from edge_agent.monitor import MonitorReport
    from edge_agent.outbox import Outbox
    from edge_agent.service.answering import Answering

OF_SAMPLES = ("confidence", "estimated_accuracy", "missing", "out_of_range", "rejected")
OF_TRUTHS = ("truths", "accuracy", "absolute_error")
LARGEST = 1e300
"""JSON has no infinity; evidence beyond this is as good as proof anyway."""


def finite(value: float) -> float:
    """``value`` as JSON can carry it.

    >>> finite(float("inf")), finite(float("nan")), finite(0.5)
    (1e+300, 0.0, 0.5)
    """
    if math.isnan(value):
        return 0.0
    return max(-LARGEST, min(LARGEST, float(value)))


def finite_effects(effects: Mapping[str, float]) -> dict[str, float]:
    """Every effect as JSON can carry it, rounded to what can be told apart."""
    return {name: round(finite(value), 4) for name, value in effects.items()}


def info_message(device: str, model: str, hardware: Hardware, now: float) -> Info:
    """``up/info``."""
    return Info(
        device=device,
        time=now,
        machine=hardware.machine,
        system=hardware.system,
        cpus=hardware.cpus,
        memory_mib=hardware.memory_mib,
        python=hardware.python,
        agent=edge_agent.__version__,
        backends=dict(hardware.backends),
        clock=hardware.clock,
        models=[model],
    )


def report_message(device: str, engine: Engine, window: MonitorReport, *, bad: int, now: float) -> Report:
    """``up/report/<model>``: ``window``, with ``bad`` samples that the source could not even read."""
    return Report(
        device=device,
        time=now,
        model=engine.manifest.name,
        release=engine.manifest.version,
        variant=engine.variant.id,
        baseline=engine.baseline,
        profile=window.profile,
        samples=window.samples,
        seconds=window.seconds,
        counts=window.counts.to_mapping(),
        evidence=finite(window.evidence),
        effects=finite_effects(window.effects),
        errors=window.errors + bad,
        p50_us=window.p50_us,
        p99_us=window.p99_us,
        confidence=finite(window.confidence),
        estimated_accuracy=window.estimated_accuracy,
        truths=window.truths,
        accuracy=window.accuracy,
        absolute_error=window.absolute_error,
        truth_evidence=finite(window.truth_evidence),
        missing=window.missing,
        out_of_range=window.out_of_range,
        reject_evidence=finite(window.reject_evidence),
    )


def fuller(window: MonitorReport, last: MonitorReport | None) -> MonitorReport:
    """The open ``window`` with the shares and means of the ``last`` one, which was reported, where that has more
    samples or more truths: what is told right after a report would be of nothing."""
    found = window
    if last is not None and last.samples + last.errors > window.samples + window.errors:
        found = msgspec.structs.replace(found, **{field: getattr(last, field) for field in OF_SAMPLES})
    if last is not None and last.truths > window.truths:
        found = msgspec.structs.replace(found, **{field: getattr(last, field) for field in OF_TRUTHS})
    return found


def alarm_text(name: str, window: MonitorReport) -> str:
    """What an alarm about the release ``name`` says, for people."""
    match window.features[:1]:
        case ("accuracy",):
            return f"the answers of {name} have become worse: accuracy below {window.reference_accuracy:.1%}"
        case ("absolute_error",):
            return f"the answers of {name} have become worse: mean error above {window.reference_error:.4g}"
        case ("rejected",):
            return f"more samples of {name} than usual get no answer"
        case _:
            features = ", ".join(window.features[:3]) or "several features together"
            return f"the stream of {name} has drifted: {features}"


def drift_event(device: str, engine: Engine, window: MonitorReport, now: float) -> Event:
    """``up/event/drift``: the alarm."""
    return Event(
        device=device,
        time=now,
        kind="drift",
        level="warning",
        text=alarm_text(f"{engine.manifest.name}/{engine.manifest.version}", window),
        model=engine.manifest.name,
        release=engine.manifest.version,
        variant=engine.variant.id,
        details={
            "evidence": finite(window.evidence),
            "effects": finite_effects(window.effects),
            "features": list(window.features),
            "at": window.at,
            "profile": window.profile,
            "baseline": engine.baseline,
            "truth_evidence": finite(window.truth_evidence),
            "accuracy": window.accuracy,
            "absolute_error": window.absolute_error,
            "estimated_accuracy": window.estimated_accuracy,
            "rejected": window.rejected,
            "reject_evidence": finite(window.reject_evidence),
        },
    )


def state_message(
    device: str,
    model: str,
    engine: Engine | None,
    *,
    now: float,
    rate_hz: float,
    bad: int,
    rss_mib: float,
    temperature_c: float | None,
    throttled: bool | None,
    outbox_rows: int,
    dropped: int,
    last: MonitorReport | None = None,
) -> State:
    """``up/state/<model>``: flat scalars; ``last`` is the window that was reported last."""
    health = engine.health if engine else Health()
    p50, p99 = health.percentiles()
    window = fuller(engine.monitor.report(), last) if engine and engine.monitor else None
    return State(
        device=device,
        model=model,
        time=now,
        release=engine.manifest.version if engine else 0,
        variant=engine.variant.id if engine else "",
        samples=health.samples,
        errors=health.errors + bad,
        rate_hz=round(rate_hz, 3),
        p50_us=p50,
        p99_us=p99,
        rss_mib=round(rss_mib, 1),
        temperature_c=temperature_c,
        throttled=throttled,
        outbox_rows=outbox_rows,
        dropped=dropped,
        drift_evidence=finite(window.evidence) if window else 0.0,
        drift_effect=max(map(abs, finite_effects(window.effects).values()), default=0.0) if window else 0.0,
        drift_alarm=window.alarm if window else False,
        confidence=finite(window.confidence) if window else 0.0,
        **(_performance(window) if window else {}),
        missing=window.missing if window else 0.0,
        out_of_range=window.out_of_range if window else 0.0,
        rejected=window.rejected if window else 0.0,
        reject_evidence=finite(window.reject_evidence) if window else 0.0,
    )


def _performance(window: MonitorReport) -> dict[str, Any]:
    return {
        "estimated_accuracy": window.estimated_accuracy,
        "reference_accuracy": window.reference_accuracy,
        "truths": window.truths,
        "accuracy": window.accuracy,
        "absolute_error": window.absolute_error,
        "truth_evidence": finite(window.truth_evidence),
    }


def reported_message(
    device: str, model: str, engine: Engine | None, slot: str, *, now: float, refused: int = 0, error: str = ""
) -> Reported:
    """``up/reported/<model>``: what runs, or why something else does not."""
    selection: Sequence[SelectionRow] = engine.selection if engine else []
    return Reported(
        device=device,
        model=model,
        time=now,
        release=engine.manifest.version if engine else 0,
        variant=engine.variant.id if engine else "",
        slot=slot,
        baseline=engine.baseline if engine else "default",
        selection=list(selection),
        refused=refused,
        error=error,
    )


def agent_status(
    model: str,
    engine: Engine | None,
    answering: Answering,
    *,
    now: float,
    started: float,
    rate_hz: float,
    http: str = "",
    steps_down: int = 0,
    last: MonitorReport | None = None,
) -> AgentStatus:
    """``status.json`` of an agent that runs alone; ``last`` is the window that was reported last."""
    health = engine.health if engine else Health()
    p50, p99 = health.percentiles()
    monitor = engine.monitor if engine else None
    window = fuller(monitor.report(), last) if monitor else None
    return AgentStatus(
        pid=os.getpid(),
        time=now,
        started=started,
        site="",
        device="",
        model=model,
        release=engine.manifest.version if engine else 0,
        variant=engine.variant.id if engine else "",
        baseline=engine.baseline if engine else "",
        paused=answering.paused,
        samples=health.samples,
        errors=health.errors + answering.bad,
        rate_hz=rate_hz,
        p50_us=p50,
        p99_us=p99,
        source=answering.source_text,
        dropped=answering.lost,
        drift_evidence=finite(window.evidence) if window else 0.0,
        drift_alarm=window.alarm if window else False,
        local=True,
        learned=getattr(monitor, "learned", 0),
        learning=getattr(monitor, "wanted", 0),
        learning_note=getattr(monitor, "note", ""),
        source_error=answering.source_trouble,
        sink_errors=answering.sink_troubles,
        lost=answering.lost,
        queue=answering.queue,
        http=http,
        steps_down=steps_down,
        answers=answering.recent,
        **(_performance(window) if window else {}),
        reference_error=window.reference_error if window else None,
        rejected=window.rejected if window else 0.0,
        watched=watched(window) if window else (),
    )


def with_fleet(
    status: AgentStatus,
    enrolment: Enrolment,
    link: Link,
    outbox: Outbox,
    *,
    slot: str,
    last_report: float,
    update: str,
) -> AgentStatus:
    """``status`` of an agent of a fleet."""
    return msgspec.structs.replace(
        status,
        local=False,
        site=enrolment.site,
        device=enrolment.device,
        slot=slot,
        connected=link.connected,
        connection=link.error,
        connection_since=link.since,
        outbox_rows=outbox.rows,
        outbox_bytes=outbox.bytes,
        dropped=outbox.dropped + status.lost,
        last_report=last_report,
        update=update,
    )


def watched(window: MonitorReport) -> tuple[Watched, ...]:
    """Every watched scalar, in the monitor's order; its own evidence where the monitor tells it."""
    own: Mapping[str, float] = getattr(window, "evidences", {})
    return tuple(
        Watched(name=name, effect=round(finite(effect), 4), evidence=finite(own[name]) if name in own else None)
        for name, effect in window.effects.items()
    )
