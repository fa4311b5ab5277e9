"""Joules of a piece of work: measured by the processor's own counters where they can be read, else estimated.

The counters (RAPL) are of whole processor packages: what else runs on the machine and what an idle package takes is in
a measured figure; memory, disks, fans and GPUs are not. An estimate goes by CPU time and the watts of the class of
device that this machine is most like (:mod:`cloud_trainer.hardware`); it is marked as one and may be off by a factor of
two or three.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from msgspec import Struct

from cloud_trainer.hardware import Device, device
from edge_agent.energy import EnergyMeter
from shared.errors import one_line

READ_EVERY = 20.0  # seconds: a counter starts again at its end, after some minutes of a big machine's full load
JOULES_PER_KWH = 3.6e6


class Joules(Struct, frozen=True):
    """``value`` joules; ``how`` it is known, and ``detail`` in words for a report. ``seconds`` by the wall clock,
    ``cpu_seconds`` of this process and of its children that have ended."""

    value: float
    how: Literal["measured", "estimate"]
    detail: str
    seconds: float = 0.0
    cpu_seconds: float = 0.0

    @property
    def kwh(self) -> float:
        """Kilowatt-hours."""
        return self.value / JOULES_PER_KWH


class Energy:
    """What :func:`measured` hands out; ``joules`` is set when its block ends."""

    joules: Joules | None = None


@contextmanager
def measured(root: Path | None = None, *, gpus: int = 0, gpu_watts: float = 0.0) -> Iterator[Energy]:
    """Count what the block consumes; its ``joules`` are there afterwards, also where the block raised.

    ``root``: of the counters; ``None``: the kernel's. ``gpus`` that the block keeps busy are added as an estimate of
    ``gpu_watts`` each for its whole time, which makes the sum an estimate.

    >>> with measured() as energy:
    ...     _ = sum(range(1000))
    >>> energy.joules.how in ("measured", "estimate")
    True
    """
    energy, failure = Energy(), ""
    meter: EnergyMeter | None = None
    try:
        meter = EnergyMeter(root)
    except OSError as error:
        failure = one_line(error)
    done = threading.Event()
    reader = threading.Thread(target=_keep_reading, args=(meter, done), name="energy", daemon=True) if meter else None
    if reader is not None:
        reader.start()
    begin, cpu = time.monotonic(), _cpu_seconds()
    try:
        yield energy
    finally:
        seconds, used = time.monotonic() - begin, _cpu_seconds() - cpu
        done.set()
        if reader is not None:
            reader.join()
        microjoules: int | None = None
        if meter is not None:
            try:
                microjoules = meter.consumed_uj()
            except OSError as error:
                failure = one_line(error)
        energy.joules = decide(microjoules, failure, seconds, used, here(), gpus * gpu_watts)


def decide(
    microjoules: int | None, failure: str, seconds: float, cpu_seconds: float, like: Device, gpu_watts: float = 0.0
) -> Joules:
    """The figure and its story. ``microjoules`` by the counters, or ``None`` and the ``failure`` that hid them.

    An estimate is CPU time times the watts of one busy core, idle share included.

    >>> from cloud_trainer.hardware import device
    >>> decide(None, "no energy counters", 10.0, 20.0, device("cloud-cpu-small")).value
    120.0
    """
    on_gpu = gpu_watts * seconds
    beside = f"; GPUs estimated at {gpu_watts:,.0f} W" if gpu_watts else ""
    if microjoules is not None:
        how: Literal["measured", "estimate"] = "estimate" if gpu_watts else "measured"
        return Joules(
            microjoules / 1e6 + on_gpu, how, f"RAPL counters of the processor packages{beside}", seconds, cpu_seconds
        )
    watts = like.load_w / like.cores
    detail = f"{cpu_seconds:,.1f} s of CPU time at {watts:.1f} W a core, as a {like.name}{beside} ({failure})"
    return Joules(cpu_seconds * watts + on_gpu, "estimate", detail, seconds, cpu_seconds)


def here() -> Device:
    """The class that this machine is most like, by what the kernel says."""
    try:
        cpu = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
        board = Path("/proc/device-tree/model")
        model = board.read_text(encoding="utf-8", errors="replace") if board.exists() else ""
    except OSError:
        cpu = model = ""
    return like(model, cpu)


def like(board: str, cpuinfo: str) -> Device:
    """The class for a board's name and the text of ``/proc/cpuinfo``.

    >>> like("Raspberry Pi 5 Model B Rev 1.0", "").name
    'raspberry-pi-5'
    >>> like("", "flags : fpu hypervisor avx2").name
    'cloud-cpu-small'
    """
    for words, name in (
        ("Raspberry Pi Zero 2", "raspberry-pi-zero-2w"),
        ("Raspberry Pi 5", "raspberry-pi-5"),
        ("Raspberry Pi", "raspberry-pi-4"),
        ("Orin", "jetson-orin-nano"),
    ):
        if words in board:
            return device(name)
    if "N100" in cpuinfo or "Atom" in cpuinfo:
        return device("x86-edge")
    return device("cloud-cpu-small" if "hypervisor" in cpuinfo else "desktop-cpu")


def _keep_reading(meter: EnergyMeter, done: threading.Event) -> None:
    while not done.wait(READ_EVERY):
        try:
            meter.consumed_uj()
        except OSError:  # told by the last reading
            return


def _cpu_seconds() -> float:
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system
