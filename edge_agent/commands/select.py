"""Measure what this device can run of a release, and say which variant it would choose, and why.

What was measured is kept in the user's cache, for this release, device and number of threads; --again measures anew.
The agent itself keeps its measurements in its state directory.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import msgspec

from edge_agent.config import SelectionConfig
from edge_agent.engine import BARE_FILES
from edge_agent.selection import NOT_DOWNLOADED, select
from shared import cli
from shared.errors import NoVariantError, UsageError
from shared.files import sha256_bytes
from shared.manifest import Manifest, encode_manifest, load_manifest
from shared.messages import SelectionRow


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments."""
    parser.add_argument("release", type=Path, help="release directory, or a bare .onnx or .tflite file")
    parser.add_argument(
        "--goal",
        choices=("latency", "quality", "energy"),
        default="latency",
        help="what the best one is best in (default: latency)",
    )
    parser.add_argument("--p99-ms", type=float, metavar="MS", help="refuse variants with a larger p99")
    parser.add_argument(
        "--quality-drop",
        type=float,
        default=SelectionConfig().quality_drop,
        metavar="SHARE",
        help="how far below the best quality is good enough (default: 0.01, one point)",
    )
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="threads inside the runtime (default: 1)")
    parser.add_argument("--again", action="store_true", help="measure anew")
    cli.add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Measure or remember, choose, print."""
    if args.p99_ms is not None and not 0 < args.p99_ms < float("inf"):
        raise UsageError(f"--p99-ms must be above 0, got {args.p99_ms:g}")
    if not 0 <= args.quality_drop <= 1:
        raise UsageError(f"--quality-drop must be 0 to 1, got {args.quality_drop:g}")
    if not 1 <= args.threads <= 64:
        raise UsageError(f"--threads must be 1 to 64, got {args.threads}")
    manifest, directory = opened(args.release)
    config = SelectionConfig(goal=args.goal, p99_ms=args.p99_ms, quality_drop=args.quality_drop)
    cache = cache_file(manifest)
    if args.again and cache is not None:
        cache.unlink(missing_ok=True)
    try:
        chosen, rows = select(manifest, directory, config, threads=args.threads, cache=cache, progress=_tell)
    finally:
        _tell("")
    name = f"{manifest.name}/{manifest.version}"
    if args.json:
        cli.print_json(
            {
                "release": name,
                "threads": args.threads,
                "chosen": chosen.id,
                "variants": msgspec.to_builtins(rows),
            }
        )
        return cli.DONE
    print(f"{name} on this device, one sample at a time\n")
    print(table(rows))
    return cli.DONE


def table(rows: list[SelectionRow]) -> str:
    """The measured table for people; the chosen row has a star."""
    cells = [
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
    ]
    return cli.table(cells, ["variant", "p50", "p99", "RSS", "size", "quality", "why"])


def opened(path: Path) -> tuple[Manifest, Path]:
    """The manifest of a release or bare file, and the directory of its files.

    Raises:
        UsageError: there is nothing of that name.
        NoVariantError: nothing of the release was downloaded.
        SanderlingError: it cannot be read.
    """
    if not path.exists():
        raise UsageError(f"{path}: no such release directory or model file")
    if path.suffix.lower() in BARE_FILES and not path.is_dir():
        from edge_agent.bare import describe

        return describe(path), path.parent
    manifest = load_manifest(path)
    if not any((path / variant.file.path).exists() for variant in manifest.variants):
        raise NoVariantError(f"{path}: none of its {len(manifest.variants)} variants is here ({NOT_DOWNLOADED})")
    return manifest, path


def cache_file(manifest: Manifest) -> Path | None:
    """Where measurements of this release are kept; ``None`` for a user without a home."""
    try:
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:
        return None
    digest = sha256_bytes(encode_manifest(manifest))[:16]
    return home / "sanderling" / f"selection-{manifest.name}-{digest}.json"


def _tell(text: str) -> None:
    """What is done now: one line that is written over, on a terminal; else a line each, and nothing for nothing."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)
    elif text:
        print(text, file=sys.stderr)


def _number(value: float | None, unit: str) -> str:
    return "-" if value is None else f"{value:.1f} {unit}"
