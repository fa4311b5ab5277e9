"""Make a fleet: signing keys, the root of trust, and an empty repository for devices to fetch from.

The keys in DIR/keys/offline are needed again only when a model is added or another key has to be replaced. Whoever
holds two of the root keys owns the fleet: move them to media that are not connected to anything, in different places.
Set SANDERLING_KEY_PASSPHRASE to have them encrypted.

Example:
  cloud-trainer fleet init fleet --model digits
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from cloud_trainer.registry import Registry
from cloud_trainer.registry.keys import PASSPHRASE_VARIABLE, passphrase_from_environment
from shared.cli import DONE, add_json, print_json


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments."""
    parser.add_argument("fleet", metavar="DIR", type=Path, help="directory to make; it must be new or empty")
    parser.add_argument(
        "--model", metavar="NAME", nargs="+", action="extend", required=True, help="a model that the fleet will run"
    )
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Make it and say what to do next."""
    registry = Registry.create(args.fleet, args.model, now=time.time())
    offline = args.fleet / "keys" / "offline"
    encrypted = bool(passphrase_from_environment())
    if args.json:
        print_json(
            {
                "fleet": str(args.fleet),
                "models": registry.models,
                "repository": str(registry.repository),
                "offline_keys": str(offline),
                "offline_keys_encrypted": encrypted,
            }
        )
        return DONE
    print(f"fleet      {args.fleet} for {', '.join(registry.models)}")
    print(f"repository {registry.repository} (serve it over HTTP; cloud-trainer serve does)")
    print(f"now        move {offline} away from this machine: publishing does not need it")
    if not encrypted:
        print(f"           these keys are not encrypted; {PASSPHRASE_VARIABLE} would have done that")
    return DONE
