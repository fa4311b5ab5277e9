"""Run the whole loop on this machine, with real processes and a real broker: under two minutes on two free cores.

Trains a digit classifier, distils and quantizes it, signs and publishes it, and starts an MQTT broker, the controller
and three agents with a camera each. Then two cameras go bad. The agents notice, the controller confirms, collects
samples, has them labelled, retrains, tries the new release on one device and rolls it out to all.

Says how it ended, prints a table and writes a report with pictures. Exit code 0 only if the loop closed. Ctrl-C stops
everything.

Example:
  cloud-trainer demo --out demo-report
"""

from __future__ import annotations

import argparse
import importlib.util
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

import msgspec

from shared.cli import DONE, FAILED, add_json, print_json, table
from shared.errors import MissingExtraError, UsageError

NEEDED = ("iotcore", "torch", "onnx", "sklearn", "matplotlib", "sqlalchemy", "uvicorn", "onnxruntime")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("--out", metavar="DIR", type=Path, default=Path("demo-report"), help="where the report goes")
    parser.add_argument("--workspace", metavar="DIR", type=Path, help="work here and keep it (default: temporary)")
    parser.add_argument("--seed", metavar="N", type=int, default=0, help="of the data, the cameras and the training")
    parser.add_argument("--keep", action="store_true", help="keep the temporary workspace")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Run it, print the table, say where the report is."""
    for needed in NEEDED:
        if importlib.util.find_spec(needed) is None:
            raise MissingExtraError(f"the demo ({needed} is missing)", "demo")
    from cloud_trainer.demo import page, story
    from cloud_trainer.demo.progress import Progress

    if not 0 <= args.seed < 1 << 31:
        raise UsageError(f"--seed {args.seed} must be from 0 to 2147483647")
    root = _workspace(args.workspace)
    _check_out(args.out)
    progress = Progress()
    keep = True
    # SIGINT too: whoever is started in a shell's background inherits that it is ignored
    handlers = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: _terminated, signal.SIGHUP: _terminated}
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        told = story.run(root, args.seed, args.out, progress)
        keep = args.keep or args.workspace is not None or not told.result.closed
    except KeyboardInterrupt:
        progress.end("✗")
        keep = args.keep or args.workspace is not None  # whoever stops it by hand needs no logs
        raise
    except BaseException:
        progress.end("✗")
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if keep:
            print(f"workspace, with the logs: {root}", file=sys.stderr)
        else:
            shutil.rmtree(root, ignore_errors=True)
    result = told.result
    if args.json:
        print_json(msgspec.to_builtins(result) | {"closed": result.closed, "report": str(args.out / "index.html")})
    else:
        _print(result, args.out, page)
    return DONE if result.closed else FAILED


def _workspace(wanted: Path | None) -> Path:
    if wanted is None:
        return Path(tempfile.mkdtemp(prefix="sanderling-demo-"))
    try:
        wanted.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--workspace {wanted} cannot be made: {error.strerror}") from error
    if any(wanted.iterdir()):
        raise UsageError(f"--workspace {wanted} must be a new or empty directory")
    return wanted.resolve()


def _check_out(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--out {out} cannot be made: {error.strerror}") from error


def _terminated(number: int, _frame: Any) -> None:
    raise SystemExit(128 + number)


def _print(result: Any, out: Path, page: Any) -> None:
    print(f"{result.headline}\n")
    rows = []
    for device in result.devices:
        shares = [
            f"{page.percent(part.accuracy)} of {part.samples:,}{'' if device.whole(name) else ' (unfinished)'}"
            for name, part in device.phases.items()
        ]
        alarm = page.seconds(device.alarm_seconds) if device.alarms else "none"
        camera = "bad" if device.bad else "good"
        rows.append([device.device, camera, *shares, alarm, device.release, device.variant, device.why])
    header = ["device", "camera", "before", "during", "after", "alarm after", "release", "variant", "why"]
    print(table(rows, header))
    legs = result.times
    print(
        f"\ndrift to alarm {page.seconds(legs.drift_to_alarm)}, "
        f"alarm to release {page.seconds(legs.alarm_to_release)}, "
        f"release to fleet {page.seconds(legs.release_to_fleet)}; {result.seconds:.0f} s in all"
    )
    for failure in result.failures:
        print(f"not as it should be: {failure}")
    print(f"report: {out / 'index.html'}")
