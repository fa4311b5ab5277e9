r"""Write the enrolment file of one device: root of trust, version floors, broker and repository.

Bring the file to the device on a way that you trust, and run there: edge-agent enroll FILE. It may hold the broker's
password, so only its owner can read it. A file that exists is replaced with --force only.

Example:
  cloud-trainer fleet enroll cam-1 --fleet fleet --site plant-7 --broker broker.local:1883 \
      --repository http://trainer.local:8700/repository --out cam-1.json
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from cloud_trainer.registry import Registry
from shared.cli import DONE, add_json, print_json
from shared.enrolment import BrokerAddress, load_enrolment, save_enrolment
from shared.errors import ConfigError, UsageError


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments."""
    parser.add_argument("device", metavar="DEVICE", help="name of the device: a-z 0-9 _ -")
    parser.add_argument("--fleet", metavar="DIR", type=Path, required=True, help="made by: cloud-trainer fleet init")
    parser.add_argument("--site", metavar="NAME", required=True, help="where the device stands: a-z 0-9 _ -")
    parser.add_argument("--broker", metavar="HOST:PORT", required=True, help="the MQTT broker")
    parser.add_argument("--repository", metavar="URL", required=True, help="where fleet/repository is served")
    parser.add_argument("--out", metavar="FILE", type=Path, required=True, help="the enrolment file to write")
    parser.add_argument("--force", action="store_true", help="replace the file, if it exists")
    parser.add_argument(
        "--model", metavar="NAME", nargs="+", action="extend", default=[], help="what it may run (default: everything)"
    )
    parser.add_argument("--tls", action="store_true", help="speak TLS to the broker")
    parser.add_argument("--ca", metavar="FILE", type=Path, help="PEM certificates to trust instead of the system's")
    parser.add_argument("--username", default="", help="for the broker")
    parser.add_argument("--password", default="", help="for the broker")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Write the file."""
    broker = broker_address(args)
    if args.out.exists() and not args.force:
        raise UsageError(f"--out {args.out} exists already{_whose(args)}; name another file or remove it")
    registry = Registry.open(args.fleet)
    enrolment = registry.enrol(
        args.device, site=args.site, broker=broker, url=args.repository, models=args.model, now=time.time()
    )
    try:
        save_enrolment(enrolment, args.out)
    except OSError as error:
        raise UsageError(f"--out {args.out} cannot be written: {error.strerror}") from error
    if args.json:
        print_json({"device": enrolment.device, "models": enrolment.models, "file": str(args.out)})
    else:
        print(f"enrolment file of {enrolment.device} for {', '.join(enrolment.models)}: {args.out}")
        print(f"on the device: edge-agent enroll {args.out.name}")
    return DONE


def _whose(args: argparse.Namespace) -> str:
    """Of which device the file is, if it is an enrolment file."""
    try:
        found = load_enrolment(args.out)
    except ConfigError:
        return ""
    whose = "this very device" if found.device == args.device else found.device
    return f" and enrols {whose} (made {found.created})"


def broker_address(args: argparse.Namespace) -> BrokerAddress:
    """The broker's options, checked.

    Raises:
        UsageError: one is wrong; the message names it.
    """
    host, colon, port = args.broker.rpartition(":")
    if not colon or not host.strip("[]") or not port.isdecimal() or not 1 <= int(port) <= 65_535:
        raise UsageError(f"--broker {args.broker!r} must be HOST:PORT, like broker.local:1883")
    if args.ca and not args.tls:
        raise UsageError("--ca is for TLS; add --tls")
    if args.password and not args.username:
        raise UsageError("--password needs --username")
    ca = ""
    if args.ca:
        try:
            ca = args.ca.read_text(encoding="ascii")
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"--ca {args.ca} cannot be read as PEM: {error}") from error
        if "-----BEGIN CERTIFICATE-----" not in ca:
            raise UsageError(f"--ca {args.ca} holds no PEM certificate")
    return BrokerAddress(host.strip("[]"), int(port), args.tls, ca, args.username, args.password)
