from __future__ import annotations

import math
import re

import numpy as np

from edge_agent.server.metrics import BUCKETS, Exposition, ServerMetrics
from tests.edge_agent.server.client import Client, infer_json

SAMPLE = re.compile(r'^([a-zA-Z_:][a-zA-Z0-9_:]*)(\{(?:[a-z_]+="(?:[^"\\\n]|\\["\\n])*",?)*\})? (\S+)$')


def parsed(text: str) -> dict[str, float]:
    """Sample to value; the format is checked on the way."""
    found, typed = {}, set()
    assert text.endswith("\n")
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            name = line.split()[2]
            assert name not in typed
            typed.add(name)
        elif not line.startswith("# HELP "):
            match = SAMPLE.match(line)
            assert match, line
            assert match[1] in typed or re.sub(r"_(bucket|sum|count)$", "", match[1]) in typed
            assert match[1] + (match[2] or "") not in found
            found[match[1] + (match[2] or "")] = float(match[3])
    return found


def test_what_was_served_is_counted(serve):
    with Client(serve(metrics=lambda: {"outbox rows": 3.0, "sent_total": 7, "nan": math.nan}).port) as client:
        for count in (1, 1, 3):
            client.ask("POST", "/v2/models/compass/infer", infer_json(np.ones((count, 16))))
        client.ask("POST", "/v2/models/compass/infer", b"{}")
        reply = client.ask("GET", "/metrics")
    assert reply.headers["content-type"].startswith("text/plain; version=0.0.4")
    found = parsed(reply.body.decode())
    assert found['sanderling_http_requests_total{route="infer",status="200"}'] == 3
    assert found['sanderling_http_requests_total{route="infer",status="400"}'] == 1
    assert found['sanderling_samples_total{model="compass"}'] == 5
    assert found["sanderling_http_infer_seconds_count"] == 3
    assert found['sanderling_http_infer_seconds_bucket{le="+Inf"}'] == 3
    assert found['sanderling_inference_seconds{model="compass",quantile="0.5"}'] == 5e-6
    assert found["sanderling_outbox_rows"] == 3
    assert found["sanderling_sent_total"] == 7
    assert math.isnan(found["sanderling_nan"])
    assert found["sanderling_resident_memory_bytes"] > 1 << 20


def test_metrics_of_the_agent_that_fail_do_not_take_the_others_along(serve):
    with Client(serve(metrics=lambda: 1 / 0).port) as client:
        assert "sanderling_model_ready 1" in client.ask("GET", "/metrics").body.decode()


def test_histogram_is_cumulated_with_limits_included():
    own, out = ServerMetrics(), Exposition()
    for seconds in (BUCKETS[0], BUCKETS[0] * 1.01, 99.0):
        own.inferred(seconds)
    out.histogram("t", "h", own.buckets, own.seconds)
    found = parsed(out.text())
    assert found['sanderling_t_bucket{le="0.0001"}'] == 1
    assert found['sanderling_t_bucket{le="0.00025"}'] == 2
    assert found['sanderling_t_bucket{le="+Inf"}'] == found["sanderling_t_count"] == 3


def test_label_values_are_escaped():
    out = Exposition()
    out.add("m", "gauge", "a\\b\nc", 1, {"l": 'q"b\\n\n'})
    assert out.text().splitlines()[0] == "# HELP sanderling_m a\\\\b\\nc"
    assert out.text().splitlines()[2] == 'sanderling_m{l="q\\"b\\\\n\\n"} 1'
