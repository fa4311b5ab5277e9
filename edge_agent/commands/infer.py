"""Answer the samples of files and stop.

INPUT is a file or a directory of files (docs/batch.md tells more):
  .csv .tsv        a row for each sample; columns by name, or by position where the count fits; column id
  .parquet         the same, or a column of lists
  .npz .npy        array x or one array for each input (n, *shape); array ids
  .json .jsonl     nested lists of numbers, a text, or {"id": "...", "values": ...}; .jsonl has one a line
  .txt             a line of text for each sample
  .png .jpg ...    an image for each sample
  .wav             cut into windows of the sample's length
Without --out answers are printed; with it they go to a file whose suffix says how: .jsonl .csv .npz .parquet.
A job that was killed goes on where it was when the same command is given again.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edge_agent.bulk.formats import Answers, Line, lines, make_format
from edge_agent.bulk.job import Done, Range, chunk_rows, range_of, shard_of
from edge_agent.bulk.job import run as run_job
from edge_agent.bulk.journal import Identity, Journal, begun
from edge_agent.bulk.progress import Progress
from edge_agent.engine import Engine
from edge_agent.readers import Reader, ReadOptions, files_of, open_readers
from edge_agent.selection import NOT_DOWNLOADED
from shared import cli
from shared.errors import UsageError
from shared.files import reason, sha256_bytes, sha256_file
from shared.manifest import MANIFEST_NAME

NOTHING = Done(0, 0, 0.0, 0.0)


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments."""
    parser.add_argument("release", type=Path, help="release directory, or a bare .onnx or .tflite file")
    parser.add_argument("input", type=Path, nargs="+", help="files or directories of samples")
    parser.add_argument("--out", type=Path, help="write answers here: .jsonl, .csv, .npz or .parquet")
    parser.add_argument("--variant", help="run this variant instead of measuring which is best")
    parser.add_argument("--threads", type=int, default=1, help="threads of the runtime (default 1)")
    parser.add_argument(
        "--on-error", choices=["stop", "skip"], default="stop", help="what a bad row does (default stop)"
    )
    parser.add_argument("--shard", default="1/1", metavar="I/N", help="only the I-th of N contiguous parts, I from 1")
    parser.add_argument("--restart", action="store_true", help="forget what an interrupted run has done")
    parser.add_argument("--progress", action="store_true", help="show progress even if this is no terminal")
    parser.add_argument("--pixels", type=float, help="value of white where the model takes floats: 255 or 1")
    parser.add_argument("--resize", action="store_true", help="fit images to the size that the model takes")
    parser.add_argument("--rate", type=int, help="refuse sound of another rate than this, in Hz")
    cli.add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Read, infer in chunks, write."""
    shard = shard_of(args.shard)
    if args.threads < 1:
        raise UsageError("--threads must be at least 1")
    _check_paths(args.input, args.out)
    before = begun(args.out) if args.out and not args.restart else None
    variant = args.variant or (before.variant if before else None)  # not the one that is fastest today
    engine = Engine.load(args.release, variant=variant, threads=args.threads, learn=0)
    try:
        _tell_absent(engine)
        if engine.manifest.state and shard != (1, 1):
            raise UsageError("--shard: this model carries state from row to row, so its rows cannot be split")
        options = ReadOptions(args.pixels, args.resize, args.rate or _rate(engine))
        reader = open_readers(args.input, engine.signature, options)
        try:
            if args.out is None:
                return _print(args, engine, reader, shard)
            return _write(args, engine, reader, shard)
        finally:
            reader.close()
    finally:
        engine.close()


def _write(args: argparse.Namespace, engine: Engine, reader: Reader, shard: tuple[int, int]) -> int:
    """Answers into ``--out``, from where an earlier run was stopped."""
    size = chunk_rows(engine.signature)
    form = make_format(args.out, engine.manifest.version, engine.variant.id, first=shard[0] == 1)
    journal = Journal(args.out, _identity(args, engine), restart=args.restart or bool(engine.manifest.state))
    progress = None
    try:
        rows = range_of(reader, shard, size)
        total = (reader.count() if rows.stop is None else rows.stop) - rows.start if _shown(args) else None
        progress = Progress(total, shown=_shown(args))
        earlier, known = journal.rows, [journal.rows]
        if not journal.marks and form.head():
            journal.append(form.head(), 0, 0)

        def write(answers: Answers) -> None:
            journal.append(form.segment(answers), answers.rows, len(answers.bad))
            known[0] += answers.rows
            progress.at(known[0], earlier)

        rest = Range(rows.start + earlier, rows.stop)
        done = run_job(engine, reader, rest, write, size=size, skip=args.on_error == "skip", name=_name(args.input))
        try:
            journal.finish(form.build)
        except OSError as error:
            raise UsageError(f"--out {args.out}: {reason(error)}") from error
        bad = sum(mark.bad for mark in journal.marks)
    finally:
        if progress is not None:
            progress.close()
        journal.close()
    _summary(args, engine, done, earlier, bad)
    return cli.FAILED if bad else cli.DONE


def _summary(args: argparse.Namespace, engine: Engine, done: Done, earlier: int, bad: int) -> None:
    rows, share = done.rows + earlier, done.model_seconds / max(done.seconds, 1e-9)
    rate = done.rows / max(done.seconds, 1e-9)
    if args.json:
        cli.print_json(
            {
                "release": str(args.release),
                "variant": engine.variant.id,
                "out": str(args.out),
                "rows": rows,
                "bad": bad,
                "resumed": earlier,
                "seconds": round(done.seconds, 3),
                "rows_per_s": round(rate, 1),
                "model_share": round(share, 3),
            }
        )
        return
    resumed = f" ({earlier} of them from before)" if earlier else ""
    wrong = f"; {bad} bad rows" if bad else ""
    speed = f": {rate:.0f} rows/s, {share:.0%} of the time in the model" if done.rows else ""
    print(f"{rows - bad} answers of {engine.variant.id} in {args.out}{resumed}{wrong}{speed}")


def _print(args: argparse.Namespace, engine: Engine, reader: Reader, shard: tuple[int, int]) -> int:
    """Answers on standard output, when all are there."""
    size, made = chunk_rows(engine.signature), list[Line]()
    rows = range_of(reader, shard, size)

    def write(answers: Answers) -> None:
        made.extend(lines(answers, engine.manifest.version, engine.variant.id))

    done = run_job(engine, reader, rows, write, size=size, skip=args.on_error == "skip", name=_name(args.input))
    if args.json:
        cli.print_json({"release": str(args.release), "variant": engine.variant.id, "answers": made})
    else:
        print(_table(made))
    for line in made:
        if line.error:
            print(f"edge-agent infer: {line.error}", file=sys.stderr)
    return cli.FAILED if done.bad else cli.DONE


def _table(made: Sequence[Line]) -> str:
    """The columns that any answer has."""
    columns: dict[str, list[Any]] = {"id": [line.id for line in made]}
    if any(line.label for line in made) or not made:
        columns["label"] = [line.label for line in made]
    if any(line.score is not None for line in made) or not made:
        columns["score"] = ["" if line.score is None else round(line.score, 4) for line in made]
    if any(line.value is not None for line in made):
        columns["value"] = [_short(line.value) for line in made]
    return cli.table(list(zip(*columns.values(), strict=True)), list(columns))


def _short(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 4)
    text = value if isinstance(value, str) else "" if value is None else json.dumps(value, default=str)
    return text if len(text) <= 100 else text[:97] + "..."


def _check_paths(inputs: Sequence[Path], out: Path | None) -> None:
    """What would be found out too late, or not at all."""
    for path in inputs:
        if not path.exists():
            raise UsageError(f"{path}: No such file or directory")
    if out is None:
        return
    if not out.parent.is_dir():
        raise UsageError(f"--out {out}: No such file or directory: {out.parent}")
    if out.is_dir():
        raise UsageError(f"--out {out}: it is a directory, not a file")
    target = out.resolve()
    for path in inputs:
        source = path.resolve()
        if target == source or source in target.parents:
            raise UsageError(f"--out {out}: is an input itself, or lies in one; write elsewhere")


def _identity(args: argparse.Namespace, engine: Engine) -> Identity:
    model = args.release / MANIFEST_NAME if args.release.is_dir() else args.release
    seen = []
    for path in args.input:
        for file in files_of(path):
            status = file.stat()
            seen.append([str(file), status.st_size, status.st_mtime_ns])
    return Identity(
        model=sha256_file(model),
        variant=engine.variant.id,
        inputs=sha256_bytes(json.dumps(seen).encode()),
        shard=args.shard,
        options=f"{args.out.suffix.lower()} pixels={args.pixels} resize={args.resize} rate={args.rate}",
    )


def _name(inputs: Sequence[Path]) -> str:
    """What stands before a row's number."""
    return ", ".join(map(str, inputs[:3])) + (", ..." if len(inputs) > 3 else "")


def _rate(engine: Engine) -> int | None:
    """Hz of the sound that the pipeline was made for, where an operation says it; what resamples comes before that."""
    pipeline, factor = engine.manifest.pipeline, 1.0
    for operation in (*pipeline.preprocess, *pipeline.encode):
        if hasattr(operation, "up") and hasattr(operation, "down"):
            factor *= operation.down / operation.up
        rate = getattr(operation, "sample_rate", None)
        if rate:
            return int(round(rate * factor))  # noqa: RUF046  (of an unknown type)
    return None


def _shown(args: argparse.Namespace) -> bool:
    return bool(args.progress) or sys.stderr.isatty()


def _tell_absent(engine: Engine) -> None:
    absent = [row.variant for row in engine.selection if row.why == NOT_DOWNLOADED]
    if absent:
        print(f"edge-agent infer: not in {engine.release}: {', '.join(absent)}", file=sys.stderr)
