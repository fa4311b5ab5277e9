r"""Compare a table with a reference: what moved, when, how surely, how much, and what could not be promised.

  cloud-trainer drift reference.csv new.csv                                table, and the report drift.html
  cloud-trainer drift 2023.parquet 2024.parquet --time when --false-alarm-every 90d --out report.html
  cloud-trainer drift held_out.npz live.npz --save-profile normal.npz      then: cloud-trainer drift normal.npz next.npz

Files are CSV, Parquet or NPZ: by column names, in any order, read in pieces. Texts are categories, free text is watched
by length, words and share beyond ASCII; counters, ids and times are left out and named. REFERENCE is at least 50 rows
of what is normal, best several hundred, or a profile that --save-profile wrote.

The one knob is how rarely a false alarm may come: while the data is as the reference was, --false-alarm-every rows
bring at most one on average. By default it is 20 times the rows of DATA: then at most 5 % of unchanged files raise any.

With --time rows are sorted by that column and the reference is taken as a time series, whose neighbouring rows may
depend on each other; --independent says that they don't.

Exit code: 0 done, drift or not; with --fail-on-drift 1 if there was an alarm; 2 for wrong use or a bad file.
"""

from __future__ import annotations

import argparse
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec

from cloud_trainer.drift import reference as references
from cloud_trainer.drift import words
from cloud_trainer.drift.cells import Odd
from cloud_trainer.drift.findings import Findings, find
from cloud_trainer.drift.opening import check_file, is_profile, open_table
from cloud_trainer.drift.ordered import Times, blocks, times_of
from cloud_trainer.drift.reference import Reference
from cloud_trainer.drift.report import report
from cloud_trainer.drift.scalars import Choice, Plan, check_same, plan_for_profile
from cloud_trainer.drift.tables import Table
from cloud_trainer.drift.times import NUMBERS, Axis, duration, epoch_unit
from cloud_trainer.drift.watching import watch
from cloud_trainer.progress import Lines
from shared.cli import DONE, FAILED, add_json, print_json
from shared.drift import DriftDetector
from shared.errors import ProfileError, UsageError
from shared.files import reason, write_atomic

HELP = "compare a table with a reference: what moved, when, how surely, how much"
LEAST_EVERY, TIMES_ROWS = 10_000, 20
QUIET_SECONDS = 2.0


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments."""
    parser.add_argument("reference", metavar="REFERENCE", type=Path, help="what is normal: a table or a saved profile")
    parser.add_argument("data", metavar="DATA", type=Path, help="what to judge: a table with the same columns")
    parser.add_argument("--time", metavar="COLUMN", default="", help="ISO timestamps or numbers; rows are sorted by it")
    parser.add_argument(
        "--independent", action="store_true", help="with --time: rows of the reference don't depend on their neighbours"
    )
    parser.add_argument("--columns", metavar="A,B", default="", help="watch these columns only")
    parser.add_argument("--ignore", metavar="A,B", default="", help="don't watch these columns")
    parser.add_argument("--category", metavar="A,B", default="", help="columns whose numbers only name something")
    parser.add_argument(
        "--false-alarm-every", metavar="N|90d", default="", help="rows, or with --time a duration: s, min, h, d, w"
    )
    parser.add_argument(
        "--window", metavar="ROWS", type=int, default=32, help="rows per step of evidence (default: 32)"
    )
    parser.add_argument(
        "--tolerance", metavar="SIGMAS", type=float, default=0.0, help="by which every value may move unreported"
    )
    parser.add_argument(
        "--replaced",
        metavar="SHARE",
        type=float,
        default=0.0,
        help="of categories and missing values that may be others",
    )
    parser.add_argument(
        "--all-alarms",
        action="store_true",
        help="start anew after each alarm: finds every change and the quiet between",
    )
    parser.add_argument("--no-header", action="store_true", help="the first line of a CSV file is a row, not names")
    parser.add_argument("--save-profile", metavar="FILE", type=Path, help="keep the reference, for the next time")
    parser.add_argument(
        "--out", metavar="FILE", type=Path, default=Path("drift.html"), help="report (default: drift.html)"
    )
    parser.add_argument("--no-report", action="store_true", help="print only")
    parser.add_argument("--fail-on-drift", action="store_true", help="exit code 1 if there was an alarm")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Compare, print, and write the report."""
    _check(args)
    with closing(_Patient()) as show:
        findings, page = _compare(args, show)
    if not args.no_report:
        try:
            write_atomic(args.out, page.encode())
        except OSError as error:
            raise UsageError(f"--out {args.out}: cannot be written ({reason(error)})") from error
    _print(args, findings)
    return FAILED if args.fail_on_drift and findings.alarm else DONE


def _check(args: argparse.Namespace) -> None:
    """Refuse, before any work, what cannot end well."""
    for path in (args.reference, args.data):
        check_file(path)
    for option, path in (("--out", None if args.no_report else args.out), ("--save-profile", args.save_profile)):
        if path is not None and (path.is_dir() or not path.parent.is_dir()):
            raise UsageError(f"{option} {path}: {'it is a directory' if path.is_dir() else 'no such directory'}")
    if args.independent and not args.time:
        raise UsageError("--independent says something of a series; name its time column with --time")
    if is_profile(args.reference):
        given = {"--columns": args.columns, "--ignore": args.ignore, "--category": args.category}
        for option in [name for name, value in given.items() if value]:
            raise UsageError(f"{option} has no meaning with a saved profile: {args.reference} says what is watched")
        if args.independent:
            raise UsageError(f"--independent has no meaning with a saved profile: {args.reference} has its own")


def _compare(args: argparse.Namespace, show: _Patient) -> tuple[Findings, str]:
    odd: dict[str, Odd] = {}
    table = open_table(args.data, header=not args.no_header)
    reference, plan, notes = _reference(args, table, odd, show)
    if args.save_profile is not None:
        references.save(reference, args.save_profile)
    times = times_of(table, args.time, show.of("sort")) if args.time else None
    axis = Axis(args.time, times.kind) if times else Axis()
    rows = len(times.values) if times else table.about()
    every = _every(args.false_alarm_every, rows, times, args.time)
    if times is not None and times.twins:
        notes.append(f"{times.twins:,} rows have the time of the row before them; these stay in the file's order")
    if times is not None and times.order is not None:
        notes.append(f"The rows of {args.data} were not in the order of {args.time}; they were sorted")
    try:
        detector = DriftDetector(reference.profile, every, args.window, args.tolerance, replaced=args.replaced, seed=1)
    except ProfileError as error:
        raise UsageError(str(error)) from error
    watched = watch(
        blocks(table, plan, times, odd),
        detector,
        show.of("watch"),
        shown=reference.shown,
        all_alarms=args.all_alarms,
        total=rows if times else table.rows or 0,
    )
    if not watched.rows:
        raise UsageError(f"{args.data}: no rows; expected a line of column names and rows below it")
    asked = args.false_alarm_every if duration(args.false_alarm_every) else ""
    findings = find(reference, detector, watched, axis, data=str(args.data), asked=asked, odd=odd, notes=tuple(notes))
    return findings, "" if args.no_report else report(findings, reference, watched, axis)


def _reference(
    args: argparse.Namespace, table: Table, odd: dict[str, Odd], show: _Patient
) -> tuple[Reference, Plan, list[str]]:
    """The reference, how to read the data, and what there is to say about it."""
    if is_profile(args.reference):
        found = references.load(args.reference)
        plan = plan_for_profile(table, found.profile.names, found.profile.kinds, str(args.reference))
        if args.time and args.time not in table.names:
            Choice(time=args.time).check(table)
        return found, plan, []
    choice = Choice(_names(args.columns), _names(args.ignore), _names(args.category), args.time)
    source = open_table(args.reference, header=not args.no_header)
    if source.names and not set(source.names) & set(table.names):
        raise UsageError(f"{args.reference} and {args.data} have no column in common")
    found, plan = references.fit(
        source, choice, odd, show.of("reference"), ordered=bool(args.time) and not args.independent
    )
    more = check_same(table, plan, args.time, str(args.reference))
    notes = [f"{name} is not watched: {why}" for name, why in plan.left_out.items()]
    new = [name for name in more if name not in source.names]
    if new:
        notes.append(f"Only the data has {', '.join(new[:6])}{' ...' if len(new) > 6 else ''}: not watched")
    return found, plan, notes


def _names(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))


def _every(asked: str, rows: int, times: Times | None, column: str) -> float:
    """A in rows."""
    if not asked:
        return float(max(LEAST_EVERY, TIMES_ROWS * rows))
    seconds = duration(asked)
    if seconds is None:
        try:
            return float(asked.replace("_", ""))
        except ValueError:
            raise UsageError(
                f"--false-alarm-every {asked!r}: expected a number of rows, or a duration like 90d, 12h or 30min"
            ) from None
    if times is None:
        raise UsageError(f"--false-alarm-every {asked}: a duration needs the time of rows; name its column with --time")
    unit: float | None = 1.0
    if times.kind == NUMBERS:
        unit = epoch_unit(times.values)
    if unit is None:
        raise UsageError(
            f"--false-alarm-every {asked}: column {column!r} has plain numbers, not timestamps; give a number of rows"
        )
    span = float(times.values.max() - times.values.min()) * unit
    if span <= 0 or len(times.values) < 2:
        raise UsageError(f"--false-alarm-every {asked}: all rows have the same time; give a number of rows")
    return seconds * (len(times.values) - 1) / span


def _print(args: argparse.Namespace, findings: Findings) -> None:
    if args.json:
        written = None if args.no_report else str(args.out)
        found: dict[str, Any] = {"headline": words.headline(findings), **msgspec.to_builtins(findings)}
        print_json({**found, "report": written})
        return
    print(words.headline(findings))
    for change in findings.changes if args.all_alarms else ():
        most = ", ".join(f"{one.name} ({words.size(one)})" for one in words.leading(change))
        print(f"  from about {words.place(change.start, about=True)} to {words.place(change.last)}: {most}")
    print()
    print(words.columns_table(findings.columns))
    print()
    for line in words.promise(findings.promise, findings)[: 1 + any(not one.promised for one in findings.columns)]:
        print(line)
    for line in (*findings.limits, *findings.notes):
        print(f"note: {line}.", file=sys.stderr)
    if not args.no_report:
        print(f"report: {args.out}")


class _Patient:
    """Progress on standard error, of work that takes longer than two seconds."""

    def __init__(self) -> None:
        self._begin = time.monotonic()
        self._lines, self._shown = Lines(), False

    def of(self, stage: str) -> Any:
        """What one stage calls with its fraction and a text."""

        def show(fraction: float, text: str) -> None:
            if self._shown or time.monotonic() - self._begin > QUIET_SECONDS:
                self._shown = True
                self._lines(stage, fraction, text)

        return show

    def close(self) -> None:
        """End the line."""
        if self._shown:
            self._lines.close()
