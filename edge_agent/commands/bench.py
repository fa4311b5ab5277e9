"""Measure every variant of a release on this device, and where the time of the chosen one goes.

The first table is what the agent decides by. The second splits one inference into its five steps and compares the whole
with a bare call of the runtime on a ready tensor.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import msgspec
import numpy as np

from edge_agent.config import SelectionConfig
from edge_agent.engine import Engine
from edge_agent.selection import timed
from edge_agent.selftest import golden_samples, self_test
from shared import cli
from shared.errors import UsageError


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments."""
    parser.add_argument("release", type=Path, help="release directory")
    parser.add_argument("--seconds", type=float, default=1.0, help="time for each measurement (default: 1)")
    parser.add_argument("--threads", type=int, default=1, help="threads inside the runtime (default: 1)")
    cli.add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Measure, self-test the chosen variant, print."""
    if not 0 < args.seconds <= 60:
        raise UsageError(f"--seconds must be above 0 and at most 60, got {args.seconds:g}")
    if not 1 <= args.threads <= 64:
        raise UsageError(f"--threads must be 1 to 64, got {args.threads}")
    engine = Engine.load(args.release, selection=SelectionConfig(measure_seconds=args.seconds), threads=args.threads)
    manifest, chosen, rows = engine.manifest, engine.variant, engine.selection
    engine.monitor = None  # the steps are the model's; watching for drift is none of them
    try:
        self_test(engine)
        stages = stage_times(engine, args.seconds)
    finally:
        engine.close()
    if args.json:
        cli.print_json(
            {
                "release": f"{manifest.name}/{manifest.version}",
                "variants": msgspec.to_builtins(rows),
                "chosen": chosen.id,
                "stages_us": stages,
                "ratio_to_raw": stages["infer"] / stages["raw"],
            }
        )
        return cli.DONE
    print(f"{manifest.name}/{manifest.version} on this device, one sample at a time\n")
    print(
        cli.table(
            [
                [
                    ("* " if row.chosen else "  ") + row.variant,
                    _number(row.p50_us, "us"),
                    _number(row.p99_us, "us"),
                    _number(row.rss_mib, "MiB"),
                    f"{row.bytes / 1024:.0f} KiB",
                    "?" if row.quality is None else f"{row.quality:.3f}",
                    row.why,
                ]
                for row in rows
            ],
            ["variant", "p50", "p99", "RSS", "size", "quality", "why"],
        )
    )
    print(f"\n{chosen.id}, step by step (median)")
    print(cli.table([[name, round(value, 2)] for name, value in stages.items()], ["step", "us"]))
    print(f"\nself-test passed; infer takes {stages['infer'] / stages['raw']:.1f} times a bare call of the runtime")
    return cli.DONE


def stage_times(engine: Engine, seconds: float) -> dict[str, float]:
    """Median microseconds of each step, of a bare runtime call (``raw``), and of a whole ``infer``."""
    samples = golden_samples(engine)
    found: list[dict[str, float]] = []
    timed(lambda sample: found.append(engine.stages(sample)), samples, seconds / 2)
    medians = {name: float(np.median([stages[name] for stages in found])) for name in found[0]}
    return {**medians, "infer": float(np.median(timed(engine.infer, samples, seconds / 2)))}


def _number(value: float | None, unit: str) -> str:
    return "-" if value is None else f"{value:.1f} {unit}"
