"""What comes out: one option a class of devices, with the arithmetic that led to it."""

from __future__ import annotations

from msgspec import Struct

from cloud_trainer.hardware import Device


class TrainingOption(Struct, frozen=True):
    """One way to train. ``why_not`` is empty where it can be done. ``lines``: the arithmetic."""

    device: str
    text: str
    word: str  # "CPU" | "GPU"
    count: int
    seconds: float
    joules: float
    dollars: float
    memory_bytes: float
    why_not: str
    lines: tuple[str, ...]


class InferenceOption(Struct, frozen=True):
    """One way to answer. ``latency_ms`` is the 99th percentile; ``joules_an_answer`` what one more answer takes;
    ``joules`` and ``dollars`` of all devices over all years, idle hours included; ``busy`` their share of time at
    work."""

    device: str
    text: str
    word: str
    count: int
    latency_ms: float
    joules_an_answer: float
    joules: float
    dollars: float
    memory_bytes: float
    busy: float
    why_not: str
    lines: tuple[str, ...]

    def joules_a_year(self, years: float) -> float:
        """On average."""
        return self.joules / years


def called(device: Device, count: int) -> str:
    """Class and number.

    >>> from cloud_trainer.hardware import device as named
    >>> called(named("h100"), 8), called(named("l4"), 1)
    ('8 x h100', 'l4')
    """
    return f"{count:,} x {device.name}" if count > 1 else device.name
