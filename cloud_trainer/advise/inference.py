"""How many devices of each class answer in time, and what that takes: pure arithmetic."""

from __future__ import annotations

import math
from collections.abc import Iterable

from cloud_trainer.advise.options import InferenceOption, called
from cloud_trainer.advise.training import MACS_AN_ACTIVATION
from cloud_trainer.advise.units import in_bytes, in_dollars, in_joules, in_time, of, scaled, short
from cloud_trainer.advise.workload import Workload
from cloud_trainer.config import AdviseConfig
from cloud_trainer.hardware import (
    BYTES,
    DEVICES,
    HOURS_A_YEAR,
    LIFE_YEARS,
    P99_OVER_MEDIAN,
    Device,
    Precision,
    answers_a_second,
    latency_ms,
    rate,
)

BUSY_AT_MOST = 0.6
"""Share of time at work: at 60 % a single queue's mean wait is one and a half services, and it grows without bound
towards 100 % (M/M/1: rho / (1 - rho))."""
AGENT_BYTES = 1.2e8  # an agent with its runtime: docs/benchmarks/runtime.md measures 62 to 90 MiB
ON_DEMAND_SECONDS = 60.0  # a cloud machine that is started for one answer is paid for a minute


def fits(device: Device, where: str) -> bool:
    """Whether a device of this class stands where answers are wanted; a desktop stands nowhere for ever."""
    return device.where != "desk" and where in ("any", device.where)


def inference_options(
    work: Workload, demand: AdviseConfig, devices: Iterable[Device] = DEVICES
) -> list[InferenceOption]:
    """One for each class that may answer."""
    return [_option(work, demand, device) for device in devices if fits(device, demand.where)]


def hours_on(device: Device, demand: AdviseConfig, busy: float) -> float:
    """Hours a year that each device is paid for and draws power: all, but for a cloud machine that is asked less than
    once in five minutes and is started for each answer.

    >>> from cloud_trainer.hardware import device as named
    >>> hours_on(named("cloud-cpu"), AdviseConfig(requests_per_second=1 / 86400), 0.0)
    6.0875
    """
    apart = demand.sites / demand.requests_per_second
    if device.where != "cloud" or apart <= 5 * ON_DEMAND_SECONDS:
        return float(HOURS_A_YEAR)
    return HOURS_A_YEAR * min(1.0, max(ON_DEMAND_SECONDS / apart, busy))


def devices_needed(requests: float, capacity: float, sites: int = 1) -> int:
    """Enough that none is busy for more than 60 % of the time, and one for each site.

    >>> devices_needed(100, 50), devices_needed(0.001, 50), devices_needed(1, 50, sites=12)
    (4, 1, 12)
    """
    return max(sites, math.ceil(round(requests / (capacity * BUSY_AT_MOST), 9)))


def _option(work: Workload, demand: AdviseConfig, device: Device) -> InferenceOption:
    precision: Precision = "fp16" if device.gpu else work.precision
    macs, weights = work.student.work_on(device), work.student.params * BYTES[precision]
    slower = f" / {device.separable:g} (depthwise layers)" if work.student.separable and device.separable != 1 else ""
    threads = 1
    latency = P99_OVER_MEDIAN * latency_ms(macs, weights, device, precision)
    if latency > demand.latency_ms and not device.gpu and device.cores > 1:
        threads = device.cores
        latency = P99_OVER_MEDIAN * latency_ms(macs, weights, device, precision, threads)
    alone = 1e3 / latency_ms(macs, weights, device, precision, threads)
    capacity = answers_a_second(macs, weights, device, precision) if threads == 1 else alone
    count = devices_needed(demand.requests_per_second, capacity, demand.sites)
    busy = demand.requests_per_second / (capacity * count)
    need = weights + 4.0 * work.student.macs / MACS_AN_ACTIVATION + AGENT_BYTES
    have = device.memory_gb * 1e9
    why_not = ""
    if need > have:
        why_not = f"needs {in_bytes(need)} of memory, has {in_bytes(have)}"
    elif latency > demand.latency_ms:
        why_not = f"p99 {in_time(latency / 1e3)}, wanted {in_time(demand.latency_ms / 1e3)}"

    answers = demand.requests_per_second * 3600 * HOURS_A_YEAR * demand.years
    an_answer = (device.load_w - device.idle_w) * device.overhead_of_site / capacity
    hours = hours_on(device, demand, busy) * demand.years
    idle = count * hours * 3600 * device.idle_w * device.overhead_of_site
    joules = idle + answers * an_answer
    watts = device.idle_w + busy * (device.load_w - device.idle_w)
    if device.hourly:
        dollars = count * hours * device.hourly
        paid = f"{called(device, count)} x {short(hours)} h x {in_dollars(device.hourly)} an hour"
    else:
        bought = count * device.price * max(1, math.ceil(demand.years / LIFE_YEARS))
        dollars = bought + joules / 3.6e6 * demand.price_per_kwh
        paid = f"{in_dollars(bought)} to buy + {in_joules(joules)} x {in_dollars(demand.price_per_kwh)} a kWh"
    cores = f"{threads} thread{'s' * (threads > 1)}"
    lines = (
        (
            f"latency on {device.name}: {short(P99_OVER_MEDIAN)} (p99 over median) x ({short(device.overhead_ms)} ms +"
            f" {scaled(work.student.macs, 'MAC')}{slower} / {scaled(rate(device, precision, threads), 'MAC/s')}"
            f" {precision}, {'GPU' if device.gpu else cores}) = {in_time(latency / 1e3)}"
        ),
        (
            f"devices: {short(demand.requests_per_second)} answers/s / ({short(capacity)} answers/s x"
            f" {BUSY_AT_MOST:.0%} at most busy), at least {of(demand.sites, 'site')} = {count:,}, busy {busy:.2%}"
        ),
        f"one more answer: ({short(device.load_w)} - {short(device.idle_w)}) W"
        + (f" x {device.overhead_of_site:g} (data centre)" if device.where == "cloud" else "")
        + f" / {short(capacity)} answers/s = {in_joules(an_answer)}",
        (
            f"energy in {short(demand.years)} years: {short(count)} x {short(hours)} h x {short(device.idle_w)} W idle"
            f" + {short(answers)} answers x {in_joules(an_answer)} = {in_joules(joules)},"
            f" on average {short(watts)} W each while on"
        ),
        f"cost in {short(demand.years)} years: {paid} = {in_dollars(dollars)}",
        (
            f"memory: {scaled(work.student.params, 'parameters')} x {BYTES[precision]:g} B + activations +"
            f" {in_bytes(AGENT_BYTES)} for the agent = {in_bytes(need)}"
        ),
    )
    return InferenceOption(
        device.name, device.text, device.word, count, latency, an_answer, joules, dollars, need, busy, why_not, lines
    )
