"""Check a release directory, sign it, and add it to the fleet's repository.

Every file is compared with the manifest first. The version must be newer than the last one published. Publishing makes
a release available; which devices run it is said by the controller, or, with --cohort, by the signature itself.

Example:
  cloud-trainer publish out/digits --fleet fleet
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from cloud_trainer.registry import Registry
from shared.cli import DONE, add_json, print_json
from shared.errors import UsageError
from shared.manifest import load_manifest


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments."""
    parser.add_argument("release", metavar="RELEASE", type=Path, help="a release directory, with its manifest.json")
    parser.add_argument("--fleet", metavar="DIR", type=Path, required=True, help="made by: cloud-trainer fleet init")
    parser.add_argument("--cohort", metavar="A,B", default="", help="the only devices that may take it, by comma")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Publish it."""
    cohort = [name.strip() for name in args.cohort.split(",")] if args.cohort else []
    if not all(cohort):
        raise UsageError(f"--cohort {args.cohort!r} must be device names separated by commas")
    registry = Registry.open(args.fleet)
    model, version = registry.publish(args.release, now=time.time(), cohort=cohort)
    manifest = load_manifest(registry.release_path(model, version))
    variants = [variant.id for variant in manifest.variants]
    if args.json:
        print_json({"model": model, "version": version, "variants": variants, "cohort": cohort})
    else:
        print(f"published {model}/{version}: {', '.join(variants)}")
        if cohort:
            print(f"for {', '.join(cohort)} only")
    return DONE
