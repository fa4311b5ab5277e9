"""Train a release: teacher, distilled student, int8 variants, drift reference, card and report.

  cloud-trainer train task.toml --out releases/digits/1
  cloud-trainer train task.toml --out releases/digits/2 --version 2 --parent releases/digits/1 --labelled collected/

With --parent the candidate must pass two gates: no worse on the old hold-out and, with --labelled, better on the
held-out share of the new samples. The result is in gates.json beside the release; exit code 1 when it did not pass.

--labelled is a directory with one <device>.npz (arrays x, y and optionally ids) for each device.
A training that was ended, by Ctrl-C, kill -9 or a power cut, goes on where it was when the same command is given
again; --fresh starts it over. --workers N trains in N processes; --engine ray on a Ray cluster, which also tries the
architectures of a search side by side.

Progress goes to standard error: lines for people, or with --json one {"stage", "fraction", "text"} a line. What you
should know before you use the release has the stage "warning" and stands in its card and report, too.
"""

from __future__ import annotations

import argparse
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import msgspec

from cloud_trainer.config import load_task
from cloud_trainer.data.labelled import read_labelled
from cloud_trainer.progress import JsonLines, Lines
from cloud_trainer.work import forget
from shared.cli import add_json, print_json, table
from shared.errors import GateError, MissingExtraError, UsageError
from shared.manifest import MANIFEST_NAME, load_manifest

if TYPE_CHECKING:
    from cloud_trainer.training import TrainedRelease

HELP = "data to release: teacher, student, variants, profile"


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments."""
    parser.add_argument("task", type=Path, help="task.toml: what to train on what")
    parser.add_argument(
        "--out", type=Path, required=True, help="the release directory to make; it must be new or empty"
    )
    parser.add_argument("--version", type=int, help="the release's number (default: parent's plus one, or 1)")
    parser.add_argument("--parent", type=Path, help="the release that runs now; gates compare with it")
    parser.add_argument("--labelled", type=Path, help="directory with <device>.npz of labelled samples")
    parser.add_argument("--fresh", action="store_true", help="don't go on with a training that was ended early")
    parser.add_argument("--strict", action="store_true", help="stop where the data checks find something")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="processes that train together (default 1)")
    parser.add_argument("--engine", choices=("local", "ray"), default="local", help="where to train (default local)")
    parser.add_argument(
        "--ray-address", default="", metavar="ADDRESS", help="of a Ray cluster (default: RAY_ADDRESS, else a local one)"
    )
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Train; the table of variants goes to standard output."""
    task = load_task(args.task)
    if args.labelled is not None and args.parent is None:
        raise UsageError("--labelled needs --parent: the release that those samples were collected with")
    if args.parent is not None and not (args.parent / MANIFEST_NAME).is_file():
        raise UsageError(f"--parent {args.parent}: not a release directory; it has no {MANIFEST_NAME}")
    parent = load_manifest(args.parent) if args.parent is not None else None
    version = args.version if args.version is not None else (parent.version + 1 if parent else 1)
    if version < 1:
        raise UsageError(f"--version {version}: must be at least 1")
    labelled = read_labelled(args.labelled) if args.labelled is not None else ()
    try:
        from cloud_trainer.engines import engine_of
        from cloud_trainer.training import train_release
    except ModuleNotFoundError as error:
        if re.match(r"(torch|onnx|onnxruntime|sklearn)\b", error.name or ""):
            raise MissingExtraError("training", "trainer") from error
        raise
    if args.strict:
        task = msgspec.structs.replace(task, data=msgspec.structs.replace(task.data, strict=True))
    if args.fresh:
        forget(args.out)
    with closing(JsonLines() if args.json else Lines()) as show, ending() as stop, ExitStack() as stack:
        engine = stack.enter_context(engine_of(args.engine, args.workers, args.ray_address))
        trained = train_release(
            task,
            args.out,
            version=version,
            parent=args.parent,
            labelled=labelled,
            progress=show,
            stop=stop,
            engine=engine,
        )
    if trained.gates is not None and not trained.gates.passed:
        raise GateError(f"release {task.name}/{version} did not pass: {trained.gates.text}")
    _show(trained, as_json=args.json)
    return 0


@contextmanager
def ending() -> Iterator[Callable[[], bool]]:
    """Ask what it gives whether to end: the first Ctrl-C or SIGTERM asks politely, the second one does not."""
    asked = threading.Event()
    before: dict[signal.Signals, Any] = {}

    def ask(number: int, frame: FrameType | None) -> None:
        asked.set()
        print("ending after this batch; once more ends at once", file=sys.stderr)
        for one, handler in before.items():
            signal.signal(one, handler)
        del number, frame

    if threading.current_thread() is threading.main_thread():
        for one in (signal.SIGINT, signal.SIGTERM):
            before[one] = signal.signal(one, ask)
    try:
        yield asked.is_set
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


def _show(trained: TrainedRelease, *, as_json: bool) -> None:
    manifest = trained.manifest
    if as_json:
        print_json(
            {
                "path": str(trained.path),
                "name": manifest.name,
                "version": manifest.version,
                "variants": [
                    {"id": v.id, "bytes": v.file.bytes, "macs": v.macs, "quality": v.quality} for v in manifest.variants
                ],
                "scores": trained.scores,
                "macs": trained.macs,
                "left_out": trained.left_out,
                "warnings": trained.warnings,
                "gates": trained.gates,
                "seconds": trained.seconds,
            }
        )
        return
    score = next(iter(manifest.variants[0].quality), "score")
    rows = [
        [v.id, round(v.file.bytes / 1024, 1), v.macs, f"{v.quality.get(score, float('nan')):.4f}", v.temperature]
        for v in manifest.variants
    ]
    print(table(rows, ["variant", "KiB", "MACs", score, "temperature"]))
    for name, value in trained.scores.items():
        print(f"{name}: {value:.4f}")
    for name, reason in trained.left_out.items():
        print(f"{name} was left out: {reason}")
    if trained.gates is not None:
        print(f"gates passed: {trained.gates.text}")
    print(f"{trained.path}: release {manifest.name}/{manifest.version} in {trained.seconds:.1f} s")
