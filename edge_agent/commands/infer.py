"""Answer the samples of a file and stop.

INPUT is one of
  .npz    array x (n, *shape), optional array ids (n,)
  .npy    array (n, *shape) or one sample (*shape)
  .json   a list of samples, each nested lists of numbers or {"id": "...", "values": [...]}
  .jsonl  one such sample a line
Answers go to standard output, one line each, or with --out to a file as JSON lines.
"""

from __future__ import annotations

import argparse
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_agent.engine import Answer, Engine
from edge_agent.selection import NOT_DOWNLOADED
from shared import cli
from shared.errors import UNREADABLE, InputError, UsageError
from shared.files import reason, write_atomic
from shared.messages import AnswerRecord

Samples = NDArray[Any] | list[Any]

CHUNK = 1024
MAX_BYTES = 4 << 30
"""Arrays of an .npz file, unpacked, at most."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments."""
    parser.add_argument("release", type=Path, help="release directory")
    parser.add_argument("input", type=Path, help="samples: .npz, .npy, .json or .jsonl")
    parser.add_argument("--out", type=Path, help="write answers here as JSON lines")
    parser.add_argument("--variant", help="run this variant instead of measuring which is best")
    cli.add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Read, infer in chunks, write."""
    samples, ids = read_samples(args.input)
    engine = Engine.load(args.release, variant=args.variant)
    try:
        if isinstance(samples, np.ndarray) and samples.shape == engine.manifest.sample.shape:
            samples = samples[None]
        _tell_absent(engine)
        try:
            records = list(_records(engine, samples, ids))
        except InputError as error:
            raise InputError(f"{args.input}: {error}") from error
    finally:
        engine.close()
    if args.out:
        lines = b"".join(msgspec.json.encode(record) + b"\n" for record in records)
        try:
            write_atomic(args.out, lines)
        except OSError as error:
            raise UsageError(f"--out {args.out}: {reason(error)}") from error
    if args.json:
        cli.print_json({"release": str(args.release), "variant": engine.variant.id, "answers": records})
    elif args.out:
        print(f"{len(records)} answers of {engine.variant.id} in {args.out}")
    else:
        print(cli.table([[r.id, r.label, round(r.score, 4)] for r in records], ["id", "label", "score"]))
    return cli.DONE


def _tell_absent(engine: Engine) -> None:
    absent = [row.variant for row in engine.selection if row.why == NOT_DOWNLOADED]
    if absent:
        print(f"edge-agent infer: not in {engine.release}: {', '.join(absent)}", file=sys.stderr)


def read_samples(path: Path) -> tuple[Samples, list[str]]:
    """Samples and their ids, counted from 0 where the file has none.

    Raises:
        UsageError: the file is missing or of another kind.
        InputError: its content is not samples.
    """
    readers: dict[str, Callable[[Path], tuple[Samples, list[str]]]] = {
        ".npz": _read_npz,
        ".npy": _read_npy,
        ".json": _read_json,
        ".jsonl": _read_json_lines,
    }
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise UsageError(f"{path}: expected a file ending in {', '.join(readers)}")
    try:
        samples, ids = reader(path)
    except OSError as error:
        raise UsageError(f"{path}: {reason(error)}") from error
    except (ValueError, EOFError, zlib.error, zipfile.BadZipFile, *UNREADABLE) as error:
        raise InputError(f"{path}: {error}") from error
    if ids and len(ids) != len(samples):
        raise InputError(f"{path}: {len(ids)} ids for {len(samples)} samples")
    return samples, ids


def _read_npz(path: Path) -> tuple[NDArray[Any], list[str]]:
    with zipfile.ZipFile(path) as archive, np.load(path, allow_pickle=False) as file:
        size = sum(info.file_size for info in archive.infolist())
        if size > MAX_BYTES:
            raise ValueError(f"{size} bytes unpacked; at most {MAX_BYTES} are allowed")
        if "x" not in file:
            raise ValueError(f"has no array x; it has {', '.join(file) or 'none'}")
        x = file["x"]
        if not x.ndim:
            raise ValueError("array x is a single number; expected (n, *shape)")
        return x, [str(id_) for id_ in file["ids"]] if "ids" in file else []


def _read_npy(path: Path) -> tuple[NDArray[Any], list[str]]:
    array: NDArray[Any] = np.load(path, allow_pickle=False, mmap_mode="r")
    if not isinstance(array, np.ndarray) or not array.ndim:
        raise ValueError("not one array of samples")
    return np.asarray(array), []


def _read_json(path: Path) -> tuple[list[Any], list[str]]:
    items = msgspec.json.decode(path.read_bytes())
    if not isinstance(items, list):
        raise ValueError(f"expected a list of samples, got {type(items).__name__}")  # noqa: TRY004  (the file's value)
    return _values(items)


def _read_json_lines(path: Path) -> tuple[list[Any], list[str]]:
    items = []
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        if line.strip():
            try:
                items.append(msgspec.json.decode(line))
            except UNREADABLE as error:
                raise ValueError(f"line {number}: {error}") from error
    return _values(items)


def _values(items: Sequence[Any]) -> tuple[list[Any], list[str]]:
    samples, ids = [], []
    for number, item in enumerate(items):
        if isinstance(item, dict):
            if "values" not in item:
                raise ValueError(f"sample {number} has no 'values'")
            samples.append(item["values"])
            ids.append(str(item.get("id", number)))
        else:
            samples.append(item)
            ids.append(str(number))
    return samples, ids


def _records(engine: Engine, samples: Samples, ids: Sequence[str]) -> Iterator[AnswerRecord]:
    for start in range(0, len(samples), CHUNK):
        chunk = samples[start : start + CHUNK]
        names = ids[start : start + CHUNK] or [str(i) for i in range(start, start + len(chunk))]
        for answer in engine.infer_batch(chunk, names):
            yield record(answer, engine)


def record(answer: Answer, engine: Engine) -> AnswerRecord:
    """``answer`` as sinks write it."""
    return AnswerRecord(
        id=answer.id,
        label=answer.label,
        score=answer.score,
        latency_us=answer.latency_us,
        release=engine.manifest.version,
        variant=engine.variant.id,
    )
