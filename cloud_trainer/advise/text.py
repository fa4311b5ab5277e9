"""Advice for people: the verdict, two tables, the arithmetic of what was chosen."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from cloud_trainer.advise.decide import Advice
from cloud_trainer.advise.units import in_bytes, in_dollars, in_joules, in_time, short
from cloud_trainer.hardware import DEVICES, Device
from shared.cli import table

FOUND = "✓"


def shown(advice: Advice, years: float) -> str:
    """The whole text."""
    return "\n".join(_lines(advice, years))


def _lines(advice: Advice, years: float) -> Iterator[str]:
    yield advice.title
    yield ""
    yield from advice.verdict
    yield ""
    yield "Training"
    rows = [
        [
            FOUND if one == advice.train else "", f"{one.count:,} x {one.device}", one.word,
            *_unless(one.why_not, in_time(one.seconds), in_joules(one.joules), in_dollars(one.dollars)),
            in_bytes(one.memory_bytes), one.why_not,
        ]
        for one in advice.training
    ]  # fmt: skip
    yield table(rows, ["", "device", "", "time", "energy", "cost", "memory", "why not"])
    yield ""
    yield "Inference"
    rows = [
        [
            FOUND if one == advice.infer else "", f"{one.count:,} x {one.device}", one.word,
            *_unless(
                one.why_not, in_time(one.latency_ms / 1e3), in_joules(one.joules_an_answer),
                in_joules(one.joules_a_year(years)), in_dollars(one.dollars), f"{one.busy:.2%}",
            ),
            in_bytes(one.memory_bytes), one.why_not,
        ]
        for one in advice.inference
    ]  # fmt: skip
    header = ["", "device", "", "p99", "one more answer", "a year", f"cost, {short(years)} years", "busy", "memory"]
    yield table(rows, [*header, "why not"])
    yield ""
    yield "What this goes by"
    yield from (f"  {name}: {text}" for name, text in advice.known.items())
    if advice.train is not None:
        yield "Arithmetic of training"
        yield from (f"  {line}" for line in advice.train.lines)
    if advice.infer is not None:
        yield "Arithmetic of inference"
        yield from (f"  {line}" for line in advice.infer.lines)
    if advice.break_even is not None:
        yield "When inference has cost more than training"
        yield from (f"  {line}" for line in advice.break_even.lines)
    yield from (f"Note: {note}" for note in advice.notes)


def _unless(why_not: str, *figures: str) -> list[str]:
    """Dashes where the model does not even fit: figures would be of something that cannot be."""
    return ["–"] * len(figures) if why_not.startswith("needs") else list(figures)


def devices(found: Iterable[Device] = DEVICES) -> str:
    """The table of classes."""
    rows = [
        [
            one.name, one.text, one.cores, short(one.memory_gb), short(one.bandwidth_gbs), short(one.fp32),
            short(one.fp16), short(one.int8), "GPU" if one.gpu else "core", f"{one.idle_w:g}-{one.load_w:g}",
            f"{one.hourly:g} an hour" if one.hourly else f"{one.price:g}", one.source,
        ]
        for one in found
    ]  # fmt: skip
    header = ["class", "", "cores", "GB", "GB/s", "fp32", "fp16", "int8 GMAC/s", "of a", "W", "USD", "source"]
    return table(rows, header)
