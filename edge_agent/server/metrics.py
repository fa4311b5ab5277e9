"""Counters of the server, and the text that Prometheus reads (exposition format 0.0.4).

https://prometheus.io/docs/instrumenting/exposition_formats/
"""

from __future__ import annotations

import math
import re
from bisect import bisect_left
from collections.abc import Iterable, Mapping

BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
"""Seconds: from a sensor node's network to a large one on a small board."""
PREFIX = "sanderling_"

Labels = Mapping[str, str]


class ServerMetrics:
    """What the server did. One thread writes; another may read."""

    def __init__(self) -> None:
        self.requests: dict[tuple[str, int], int] = {}
        self.buckets = [0] * (len(BUCKETS) + 1)
        self.seconds = 0.0
        self.received_bytes = 0
        self.sent_bytes = 0
        self.connections = 0

    def count(self, route: str, status: int) -> None:
        """One response."""
        key = (route, status)
        self.requests[key] = self.requests.get(key, 0) + 1

    def inferred(self, seconds: float) -> None:
        """One inference request was answered, from its last byte to its response."""
        self.buckets[bisect_left(BUCKETS, seconds)] += 1
        self.seconds += seconds


class Exposition:
    r"""Builds the text: each metric's HELP and TYPE once, its samples behind them.

    >>> text = Exposition()
    >>> text.add("drift_evidence", "gauge", "Evidence; 1 is the alarm.", 0.25, {"model": 'a"b'})
    >>> print(text.text(), end="")
    # HELP sanderling_drift_evidence Evidence; 1 is the alarm.
    # TYPE sanderling_drift_evidence gauge
    sanderling_drift_evidence{model="a\"b"} 0.25
    """

    def __init__(self) -> None:
        self._families: dict[str, list[str]] = {}

    def family(self, name: str, kind: str, help_: str) -> list[str]:
        """The lines of ``name`` (without the prefix), begun if need be."""
        name = PREFIX + name
        lines = self._families.get(name)
        if lines is None:
            help_ = help_.replace("\\", "\\\\").replace("\n", "\\n")
            lines = self._families[name] = [f"# HELP {name} {help_}", f"# TYPE {name} {kind}"]
        return lines

    def add(self, name: str, kind: str, help_: str, value: float, labels: Labels | None = None) -> None:
        """One sample of a counter or gauge."""
        self.family(name, kind, help_).append(f"{PREFIX}{name}{_labels(labels)} {_number(value)}")

    def histogram(self, name: str, help_: str, counts: Iterable[int], total: float) -> None:
        """A histogram with the limits :data:`BUCKETS`; ``counts`` are not cumulated, the last is beyond all limits."""
        lines = self.family(name, "histogram", help_)
        cumulated = 0
        for limit, count in zip((*BUCKETS, math.inf), counts, strict=True):
            cumulated += count
            lines.append(f'{PREFIX}{name}_bucket{{le="{_number(limit)}"}} {cumulated}')
        lines += [f"{PREFIX}{name}_sum {_number(total)}", f"{PREFIX}{name}_count {cumulated}"]

    def scalars(self, values: Mapping[str, float]) -> None:
        """Scalars by name from elsewhere: counters where the name ends in ``_total``, else gauges. Characters that no
        name may have become ``_``; a name that is there already is left out."""
        taken = set(self._families)
        for key, value in values.items():
            name = re.sub(r"[^a-zA-Z0-9_:]", "_", key).removeprefix(PREFIX)
            if name and PREFIX + name not in taken:
                taken.add(PREFIX + name)
                self.add(name, "counter" if name.endswith("_total") else "gauge", f"The agent's {key}.", value)

    def text(self) -> str:
        """All of it."""
        return "".join(f"{line}\n" for lines in self._families.values() for line in lines)


def _labels(labels: Labels | None) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items()) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def _number(value: float) -> str:
    value = float(value)
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return repr(int(value)) if value.is_integer() and abs(value) < 1 << 53 else repr(value)
