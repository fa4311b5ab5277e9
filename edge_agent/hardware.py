"""What this device is and how it feels: all read from the kernel, nothing needs a tool or root."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import platform
import shutil
import struct
import sys
from pathlib import Path

from msgspec import Struct

from edge_agent.backends import available

SYNCHRONIZED = Path("/run/systemd/timesync/synchronized")
THERMAL = Path("/sys/class/thermal")
THROTTLED = (
    Path("/sys/devices/platform/soc/soc:firmware/get_throttled"),
    Path("/sys/class/hwmon/hwmon0/get_throttled"),
)
"""Where Raspberry Pi kernels show the firmware's throttling bits."""

STA_UNSYNC = 0x40  # linux/timex.h
TIME_ERROR = 5


class Hardware(Struct, frozen=True):
    """A device, as ``doctor`` shows it and ``up/info`` reports it."""

    machine: str  # "x86_64", "aarch64", "armv7l"
    bits: int  # of a pointer: a 32-bit system on a 64-bit kernel still calls itself aarch64
    system: str
    cpu: str
    cpus: int  # that this process may use
    memory_mib: int
    python: str
    backends: dict[str, str]
    clock: str  # "synchronized" | "unsynchronized" | "unknown"


def inspect() -> Hardware:
    """Look at this device."""
    return Hardware(
        machine=platform.machine(),
        bits=struct.calcsize("P") * 8,
        system=_system(),
        cpu=_cpu(),
        cpus=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        memory_mib=_memory_mib(),
        python=platform.python_version(),
        backends=available(),
        clock=clock_state(),
    )


def fingerprint(hardware: Hardware | None = None) -> str:
    """16 hex digits that change when measurements made here are no longer true: processor, cores, memory, Python,
    versions of the backends."""
    h = hardware or inspect()
    facts = (h.machine, h.bits, h.cpu, h.cpus, h.memory_mib, h.python, sorted(h.backends.items()))
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]


def temperature_c(thermal: Path = THERMAL) -> float | None:
    """The hottest thermal zone in °C; ``None`` where the kernel shows none."""
    found = []
    for zone in sorted(thermal.glob("thermal_zone*/temp")):
        try:
            found.append(int(zone.read_text(encoding="ascii")) / 1000)
        except (OSError, ValueError):  # a zone that is switched off gives EAGAIN or EINVAL
            continue
    return max(found) if found else None


def throttled(files: tuple[Path, ...] = THROTTLED) -> bool | None:
    """Whether a Raspberry Pi slows down now (under-voltage, frequency cap, throttling, temperature limit: bits 0–3)."""
    for file in files:
        try:
            return bool(int(file.read_text(encoding="ascii").strip(), 16) & 0xF)
        except (OSError, ValueError):
            continue
    return None


def clock_state(marker: Path = SYNCHRONIZED) -> str:
    """``synchronized``, ``unsynchronized`` or ``unknown``: systemd-timesyncd's marker, else the kernel's own flag."""
    if marker.exists():
        return "synchronized"
    return _adjtimex()


def _adjtimex() -> str:
    """Ask the kernel (adjtimex(2) with no modes set, which needs no rights)."""
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        timex = ctypes.create_string_buffer(512)  # struct timex is 208 bytes at most
        state = libc.adjtimex(timex)
    except (OSError, AttributeError):
        return "unknown"
    if state < 0:
        return "unknown"
    offset = 40 if struct.calcsize("l") == 8 else 20  # modes, offset, freq, maxerror, esterror, then status
    (status,) = struct.unpack_from("i", timex, offset)
    return "unsynchronized" if state == TIME_ERROR or status & STA_UNSYNC else "synchronized"


def free_disk_mib(path: Path) -> int:
    """Free space for this user where ``path`` is, or would be."""
    while not path.exists():
        path = path.parent
    return int(shutil.disk_usage(path).free >> 20)


def _system() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", platform.platform())
    except OSError:
        return platform.platform()


def _cpu() -> str:
    """The processor's name: ``model name`` on x86, else the board's own name."""
    board = Path("/proc/device-tree/model")
    try:
        if board.exists():
            return board.read_text(encoding="utf-8").strip("\0 \n")
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            key, _, value = line.partition(":")
            if key.strip() in {"model name", "Model", "Hardware"}:
                return value.strip()
    except OSError:
        pass
    return platform.processor() or sys.platform


def _memory_mib() -> int:
    """Memory that this process may use: the machine's, or its control group's limit if that is lower."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with contextlib.suppress(OSError, ValueError):  # no control group, or "max"
        total = min(total, int(Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii")))
    return total >> 20
