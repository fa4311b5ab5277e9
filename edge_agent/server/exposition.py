"""``/metrics``: the server's counters, one engine's health and drift, and what the agent adds."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from edge_agent.health import rss_mib
from edge_agent.server.metrics import Exposition, ServerMetrics

if TYPE_CHECKING:
    from edge_agent.engine import Engine
    from edge_agent.scheduler.stats import SchedulerStats

log = logging.getLogger(__name__)


def render(
    own: ServerMetrics,
    engine: Engine | None,
    scheduler: SchedulerStats | None,
    more: Callable[[], Mapping[str, float]] | None,
) -> str:
    """The text that Prometheus reads."""
    out = Exposition()
    for (route, status), count in sorted(own.requests.items()):
        out.add(
            "http_requests_total",
            "counter",
            "Responses by route and status.",
            count,
            {"route": route, "status": str(status)},
        )
    out.histogram("http_infer_seconds", "Seconds from request to response.", own.buckets, own.seconds)
    out.add("http_connections", "gauge", "Open connections.", own.connections)
    out.add("http_received_bytes_total", "counter", "Bytes of request bodies.", own.received_bytes)
    out.add("http_sent_bytes_total", "counter", "Bytes of responses.", own.sent_bytes)
    if scheduler is not None:
        out.add("queue_requests", "gauge", "Requests that wait for the engine.", scheduler.queued)
    out.add("resident_memory_bytes", "gauge", "Resident memory of the agent.", rss_mib() * 2**20)
    out.add("model_ready", "gauge", "Whether a release is loaded.", engine is not None)
    if engine is not None:
        _engine(out, engine)
    if more is not None:
        try:
            out.scalars(more())
        except Exception:
            log.exception("the agent's metrics could not be read; the server's own are served without them")
    return out.text()


def _engine(out: Exposition, engine: Engine) -> None:
    manifest, health = engine.manifest, engine.health
    model = {"model": manifest.name}
    info = {**model, "version": str(manifest.version), "variant": engine.variant.id, "runtime": engine.variant.runtime}
    out.add("model_info", "gauge", "What runs; the value is always 1.", 1, info)
    out.add("samples_total", "counter", "Samples answered since the release was loaded.", health.samples, model)
    out.add("errors_total", "counter", "Samples without an answer since then.", health.errors, model)
    for quantile, micros in zip(("0.5", "0.99"), health.percentiles(), strict=True):
        help_ = "Latency of the engine alone, of the latest 1,024 answers."
        out.add("inference_seconds", "gauge", help_, micros / 1e6, {**model, "quantile": quantile})
    if health.accuracy is not None:
        out.add("accuracy", "gauge", "Share of right answers among those whose truth is known.", health.accuracy, model)
        out.add("truths_total", "counter", "Answers whose truth is known.", health.truths, model)
    if health.mean_absolute_error is not None:
        help_ = "Of the answers whose true number is known."
        out.add("mean_absolute_error", "gauge", help_, health.mean_absolute_error, model)
    if engine.monitor is None:
        return
    report = engine.monitor.report()
    out.add("drift_evidence", "gauge", "Evidence of drift; 1 is the alarm's threshold.", report.evidence, model)
    out.add("drift_alarm", "gauge", "Whether a drift alarm stands.", report.alarm, model)
    help_ = "Evidence that answers have become worse than on held-out data; 1 is the alarm's threshold."
    out.add("truth_evidence", "gauge", help_, report.truth_evidence, model)
    help_ = "Evidence that more samples than usual get no answer; 1 is the alarm's threshold."
    out.add("reject_evidence", "gauge", help_, report.reject_evidence, model)
    if report.estimated_accuracy is not None:
        help_ = "Accuracy since the last report, estimated from confidence alone."
        out.add("estimated_accuracy", "gauge", help_, report.estimated_accuracy, model)
    for name, effect in report.effects.items():
        help_ = "Recent shift of a watched scalar's mean in robust standard deviations."
        out.add("drift_shift", "gauge", help_, effect, {**model, "scalar": name})
