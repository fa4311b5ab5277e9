"""Rows of ``scripts/bench/runtime`` that other scripts of this directory measure, and how the table is written."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import re
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PACKAGES = ("numpy", "onnxruntime", "ai-edge-litert", "msgspec", "paho-mqtt", "httptools")


class NotMeasuredError(Exception):
    """Something that a part needs is not here, or failed."""


@dataclass(frozen=True)
class Setting:
    """Where scratch files go, whether rounds are short, and the user's ResNet8."""

    directory: Path
    quick: bool
    resnet8: Path | None


@dataclass(frozen=True)
class Row:
    """One measure: the rounds' figures, the target, and what raw calls took in the same run."""

    name: str
    values: tuple[float, ...] = ()
    unit: str = ""
    target: float | None = None
    at_least: bool = False
    raw: str = ""
    why: str = ""

    @property
    def median(self) -> float:
        """Of the rounds."""
        return statistics.median(self.values)

    @property
    def met(self) -> bool | None:
        """Nothing, where nothing was measured or asked."""
        if not self.values or self.target is None:
            return None
        return self.median >= self.target if self.at_least else self.median <= self.target

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        found: dict[str, Any] = {"measure": self.name, "unit": self.unit, "target": self.target, "met": self.met}
        found |= {"rounds": list(self.values), "raw": self.raw, "at_least": self.at_least, "note": self.why}
        return found | ({"median": self.median} if self.values else {})


def table(rows: Sequence[Row]) -> str:
    """Markdown."""
    lines = ["| measure | target | here, median (rounds) | raw calls, same run | |", "|---|---|---|---|---|"]
    for row in rows:
        sign = "≥" if row.at_least else "≤"
        target = "" if row.target is None else f"{sign} {row.target:.4g} {row.unit}".strip()
        here = row.why
        if row.values:
            spread = f"{row.median:.4g} {row.unit}".strip() + f" ({min(row.values):.4g}–{max(row.values):.4g})"
            here = f"{spread}; {row.why}" if row.why else spread
        verdict = {None: "", True: "met", False: "missed"}[row.met]
        lines.append(f"| {row.name} | {target} | {here} | {row.raw} | {verdict} |")
    return "\n".join(lines)


def versions() -> str:
    """Machine and packages."""
    found = []
    for package in PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            found.append(f"{package} {version(package)}")
    return f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, {', '.join(found)}"


def environment() -> dict[str, str]:
    """Of a command that imports this checkout's packages."""
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def run(command: Sequence[str | Path], seconds: float = 300) -> str:
    """What a command printed."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, env=environment(), check=False)
    except subprocess.TimeoutExpired as error:
        raise NotMeasuredError(f"{Path(command[1]).name} took more than {seconds:g} s") from error
    if done.returncode:
        last = done.stderr.strip().splitlines() or ["no message"]
        raise NotMeasuredError(f"{Path(command[1]).name} ended with exit code {done.returncode}: {last[-1]}")
    return done.stdout


def script(name: str, *options: str) -> str:
    """What a script of this directory printed."""
    return run([sys.executable, HERE / name, *options])


def engine(setting: Setting) -> list[Row]:
    """One sample at a time."""
    found = json.loads(script("engine", "--json", "--calls", "4000" if setting.quick else "20000"))
    rows = []
    for variant, calls in found["mlp"].items():
        onnx = "session.run" in calls
        raw = calls["session.run" if onnx else "LiteRT"]["p50_us"]
        one = calls["Engine.infer"]
        name = f"Engine.infer, MLP, monitor on, {'ONNX Runtime' if onnx else 'LiteRT'} ({variant}), p50"
        values = (one["lowest_us"], one["p50_us"], one["highest_us"])
        rows.append(Row(name, values, "µs", 10.0 if onnx else 8.0, raw=f"{raw:.2f} µs"))
    for variant, calls in found["cnn"].items():
        if "session.run" in calls:
            raw, one = calls["session.run"]["p50_us"], calls["Engine.infer"]
            values = tuple(one[key] / raw for key in ("lowest_us", "p50_us", "highest_us"))
            name = f"Engine.infer over session.run, 12 MFLOP CNN ({variant})"
            rows.append(Row(name, values, "", 1.10, raw=f"{raw:.1f} µs"))
    return rows


def monitor(setting: Setting) -> list[Row]:
    """Amortised cost of sixteen watched scalars."""
    text = script("monitor", *(("--samples", "20000", "--repeats", "3") if setting.quick else ()))
    found = re.search(r"16 columns\s+([\d.]+) us a sample \(([\d.]+) to ([\d.]+)", text)
    if found is None:
        raise NotMeasuredError(f"scripts/bench/monitor printed {text!r}")
    middle, least, largest = (float(value) for value in found.groups())
    return [Row("monitor, 16 scalars, a sample", (least, middle, largest), "µs", 2.0)]


def http(setting: Setting) -> list[Row]:
    """Beside a bare asyncio server. Its text has medians only, so each round is a run of its own."""
    rounds: dict[str, list[float]] = {}
    bare: dict[str, list[float]] = {}
    for _ in range(1 if setting.quick else 3):
        seconds = "1" if setting.quick else "2"
        text = script("http", "--seconds", seconds, "--rounds", "1", "--servers", "sanderling", "bare")
        for line in text.splitlines():
            cells = [cell.strip().replace(",", "") for cell in line.split("|")[1:-1]]
            # the first cell of a measure has a comma of its own
            if len(cells) == 3 and re.fullmatch(r"[\d.]+", cells[1]):
                rounds.setdefault(cells[0], []).append(float(cells[1]))
                if cells[2]:
                    bare.setdefault(cells[0], []).append(float(cells[2]))
    rows = []
    for form, target in (("binary", 0.12), ("JSON", 0.15)):
        key = f"mlp {form} one client: p50 ms"
        raw = f"bare server {statistics.median(bare[key]):.3f} ms" if key in bare else ""
        rows.append(Row(f"HTTP, one client, MLP {form}, p50", tuple(rounds[key]), "ms", target, raw=raw))
    for model, target in (("mlp", 0.4), ("cnn", 0.8)):
        key = f"{model} binary 8 clients: req/s"
        shares = tuple(mine / other for mine, other in zip(rounds[key], bare[key], strict=True))
        raw = f"bare server {statistics.median(bare[key]):,.0f} req/s"
        name = f"HTTP, 8 clients, {model.upper()} binary, share of a bare server"
        rows.append(Row(name, shares, "", target, at_least=True, raw=raw))
    return rows


def scheduler(setting: Setting) -> list[Row]:
    """Real-time p99 beside a batch job, as a share of what is allowed."""
    found: dict[str, list[dict[str, float]]] = {}
    for _ in range(1 if setting.quick else 3):
        report = json.loads(script("scheduler", "--json", "--seconds", "1" if setting.quick else "1.5"))
        for name, result in report.items():
            found.setdefault(name, []).append(result["bulk"])
    rows = []
    for name, rounds in found.items():
        shares = tuple(one["busy_p99_ms"] / one["limit_ms"] for one in rounds)
        busy, idle, limit = (
            statistics.median(one[key] for one in rounds) for key in ("busy_p99_ms", "idle_p99_ms", "limit_ms")
        )
        why = f"p99 {busy:.2f} ms, allowed {limit:.2f} ms"
        title = f"real-time p99 beside a batch job, {name.upper()}, over 2 × idle p99 + one chunk"
        rows.append(Row(title, shares, "", 1.0, raw=f"idle p99 {idle:.2f} ms", why=why))
    return rows
