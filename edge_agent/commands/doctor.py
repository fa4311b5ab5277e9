"""Check this device: Python, runtimes, disk, clock, memory. Says what is missing and how to get it.

Exit code 0 if an engine can run here, 1 if not.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import msgspec
from msgspec import Struct

from edge_agent import hardware
from edge_agent.backends import EXTRA, load_runtime
from edge_agent.hardware import Hardware
from edge_agent.health import rss_mib
from shared import cli
from shared.errors import SanderlingError, one_line

LEAST_DISK_MIB = 200
LEAST_MEMORY_MIB = 256


class Check(Struct, frozen=True):
    """One line of the diagnosis. ``level``: ``ok``, ``note`` or ``missing``; ``help`` says what to do."""

    name: str
    level: str
    text: str
    help: str = ""


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments."""
    parser.add_argument("--state", type=Path, default=Path(), help="directory to check for free disk (default: here)")
    cli.add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Look, print, and say by the exit code whether an engine can run."""
    device = hardware.inspect()
    broken = {runtime: error for runtime in device.backends if (error := import_error(runtime))}
    checks = diagnose(device, broken, hardware.free_disk_mib(args.state.resolve()), hardware.temperature_c())
    runnable = set(device.backends) - set(broken)
    if args.json:
        cli.print_json(
            {
                "ok": bool(runnable),
                "hardware": msgspec.to_builtins(device),
                "fingerprint": hardware.fingerprint(device),
                "rss_mib": round(rss_mib(), 1),
                "temperature_c": hardware.temperature_c(),
                "throttled": hardware.throttled(),
                "checks": msgspec.to_builtins(checks),
            }
        )
    else:
        print(cli.table([[c.name, c.level, c.text] for c in checks], ["what", "", "found"]))
        for check in checks:
            if check.help:
                print(f"\n{check.name}: {check.help}")
        print("\nan engine can run here" if runnable else "\nno engine can run here: install a backend")
    return cli.DONE if runnable else cli.FAILED


def diagnose(device: Hardware, broken: dict[str, str], disk_mib: int, temperature: float | None) -> list[Check]:
    """What is well, what is worth a note, what is missing."""
    checks = [
        Check("python", "ok", f"{device.python}, {device.bits}-bit"),
        Check("machine", "ok", f"{device.machine}, {device.cpus} cores, {device.cpu}"),
        Check("system", "ok", device.system),
    ]
    checks += [_backend(runtime, device, broken) for runtime in EXTRA]
    enough = device.memory_mib >= LEAST_MEMORY_MIB
    checks.append(
        Check(
            "memory",
            "ok" if enough else "note",
            f"{device.memory_mib} MiB",
            "" if enough else f"an agent with one backend needs about 100 MiB; {LEAST_MEMORY_MIB} MiB leave room",
        )
    )
    enough = disk_mib >= LEAST_DISK_MIB
    checks.append(
        Check(
            "disk",
            "ok" if enough else "note",
            f"{disk_mib} MiB free",
            "" if enough else f"two releases and the outbox want {LEAST_DISK_MIB} MiB; free some or move --state",
        )
    )
    checks.append(
        Check(
            "clock",
            "ok" if device.clock == "synchronized" else "note",
            device.clock,
            ""
            if device.clock == "synchronized"
            else "signatures expire by date and reports carry times: enable one, e.g. sudo timedatectl set-ntp true",
        )
    )
    if temperature is not None:
        checks.append(Check("temperature", "ok" if temperature < 80 else "note", f"{temperature:.0f} °C"))
    if sys.version_info < (3, 11):  # noqa: UP036  (somebody may have forced the installation)
        checks.append(Check("python", "missing", device.python, "Python 3.11 or later is needed"))
    return checks


def _backend(runtime: str, device: Hardware, broken: dict[str, str]) -> Check:
    if runtime in broken:
        return Check(runtime, "missing", f"installed, but: {broken[runtime]}", _install(runtime, device))
    if runtime in device.backends:
        return Check(runtime, "ok", device.backends[runtime])
    level = "note" if set(device.backends) - set(broken) else "missing"
    return Check(runtime, level, "not installed", _install(runtime, device))


def _install(runtime: str, device: Hardware) -> str:
    """How to get a backend. It goes by pointer size: a 32-bit system on a 64-bit kernel calls itself aarch64."""
    if device.bits == 32 and runtime == "onnxruntime":
        return "has no wheels for 32-bit systems; use tflite on this device"
    if device.bits == 32 and device.machine == "aarch64":
        return "this is a 32-bit system on a 64-bit kernel: pip install 'tflite-runtime>=2.14' 'numpy<2'"
    return f"pip install 'sanderling[{EXTRA[runtime]}]'"


def import_error(runtime: str) -> str:
    """Why an installed runtime can't be used; empty if it can. It is loaded the way an engine loads it."""
    try:
        load_runtime(runtime, "doctor")
    except SanderlingError as error:
        return one_line(error.__cause__ or error)
    return ""
