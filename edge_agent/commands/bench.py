"""Measure every variant of a release, or a bare model file, on this device, and where the time of the chosen one goes.

The first table is what the agent decides by. The second splits one inference into its five steps and compares the whole
with a bare call of the runtime on a ready tensor.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from edge_agent.config import SelectionConfig
from edge_agent.engine import BARE_FILES, Engine
from edge_agent.health import rss_mib
from edge_agent.selection import SAMPLES_PER_MEASUREMENT, timed
from edge_agent.selftest import golden_samples, rows_of, self_test
from shared import cli
from shared.errors import InputError, UsageError
from shared.messages import SelectionRow


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments."""
    parser.add_argument("release", type=Path, help="release directory, or a bare .onnx or .tflite file")
    parser.add_argument("--seconds", type=float, default=1.0, help="time for each measurement (default: 1)")
    parser.add_argument("--threads", type=int, default=1, help="threads inside the runtime (default: 1)")
    parser.add_argument(
        "--samples",
        type=Path,
        metavar="FILE",
        help="samples to measure with: .npz, .csv, .wav, a folder of images … (default: golden or random ones)",
    )
    parser.add_argument("--pixels", type=float, help="value of white in --samples of a model of floats: 255 or 1")
    parser.add_argument("--resize", action="store_true", help="fit images of --samples to the model's size")
    cli.add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Measure, self-test the chosen variant, print."""
    if not 0 < args.seconds <= 60:
        raise UsageError(f"--seconds must be above 0 and at most 60, got {args.seconds:g}")
    if not 1 <= args.threads <= 64:
        raise UsageError(f"--threads must be 1 to 64, got {args.threads}")
    if not args.release.exists():
        raise UsageError(f"{args.release}: no such release directory or model file")
    bare = args.release.suffix.lower() in BARE_FILES and not args.release.is_dir()
    before = rss_mib()
    config = SelectionConfig(measure_seconds=args.seconds)
    engine = Engine.load(args.release, selection=config, threads=args.threads, learn=0)
    manifest, chosen, rows = engine.manifest, engine.variant, engine.selection
    engine.monitor = None  # the steps are the model's; watching for drift is none of them
    try:
        if args.samples is None:
            samples = golden_samples(engine)
        else:
            samples = read_samples(args.samples, engine, pixels=args.pixels, resize=args.resize)
        if args.samples is None:
            self_test(engine)
        if bare:
            rows = [measured_here(row, engine, samples, args.seconds, before) for row in rows]
        stages = stage_times(engine, samples, args.seconds)
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
    title = str(args.release) if bare else f"{manifest.name}/{manifest.version}"
    print(f"{title} on this device, one sample at a time{_threads(args.threads)}\n")
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
    ratio = f"infer takes {stages['infer'] / stages['raw']:.1f} times a bare call of the runtime"
    if args.samples is not None:
        tested = ""
    else:
        tested = "random samples gave numbers; " if manifest.golden is None else "self-test passed; "
    print(f"\n{tested}{ratio}")
    return cli.DONE


def read_samples(path: Path, engine: Engine, *, pixels: float | None = None, resize: bool = False) -> Any:
    """The first samples of a file, one by one.

    Raises:
        UsageError, InputError: it cannot be read, is empty, or its samples do not fit.
    """
    from edge_agent.readers import ReadOptions, open_reader

    reader = open_reader(path, engine.signature, ReadOptions(pixels=pixels, resize=resize))
    try:
        for _, samples in reader.chunks(SAMPLES_PER_MEASUREMENT):
            rows = rows_of(samples) if isinstance(samples, dict) else list(samples)
            if rows:
                return rows
    finally:
        reader.close()
    raise InputError(f"{path}: no samples in it")


def measured_here(row: SelectionRow, engine: Engine, samples: Any, seconds: float, before: float) -> SelectionRow:
    """The row of a bare file with its figures; ``before`` was the process's RSS before the model was loaded."""
    p50, p99 = np.percentile(timed(engine.infer, samples, seconds), (50, 99))
    grown = max(rss_mib() - before, 0.0)
    return msgspec.structs.replace(row, p50_us=float(p50), p99_us=float(p99), rss_mib=grown)


def stage_times(engine: Engine, samples: Any, seconds: float) -> dict[str, float]:
    """Median microseconds of each step, of a bare runtime call (``raw``), and of a whole ``infer``."""
    found: list[dict[str, float]] = []
    timed(lambda sample: found.append(engine.stages(sample)), samples, seconds / 2)
    medians = {name: float(np.median([stages[name] for stages in found])) for name in found[0]}
    return {**medians, "infer": float(np.median(timed(engine.infer, samples, seconds / 2)))}


def _threads(count: int) -> str:
    return "" if count == 1 else f", {count} threads"


def _number(value: float | None, unit: str) -> str:
    return "-" if value is None else f"{value:.1f} {unit}"
