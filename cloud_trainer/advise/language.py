"""Transformers too big for one device: training by 6 N D, answers token by token from memory.

Training takes 6 N FLOPs a token (2 forward, 4 backward; Kaplan et al. 2020, arXiv 2001.08361), an answer 2 N for each
token of prompt and answer. Reading the prompt is bound by computing, writing the answer by reading all weights once for
each token, which the answers in flight share (Pope et al. 2022, arXiv 2211.05102).
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from cloud_trainer.advise.inference import BUSY_AT_MOST, fits
from cloud_trainer.advise.options import InferenceOption, TrainingOption, called
from cloud_trainer.advise.training import BYTES_A_PARAMETER
from cloud_trainer.advise.units import in_bytes, in_dollars, in_joules, in_time, scaled, short
from cloud_trainer.advise.workload import Language
from cloud_trainer.config import AdviseConfig
from cloud_trainer.hardware import DEVICES, HOURS_A_YEAR, TRAINING_SHARE, Device, hourly_cost, rate, speedup

LINKED_SHARE = 0.85  # what each further GPU adds, when they hold one model together: estimate
MEMORY_SHARE = 0.9  # of a device that weights and caches may fill; the rest is for buffers
TOGETHER_AT_MOST = 256  # answers in flight on one replica
IN_A_SERVER = 8  # GPUs that share a fast link: a replica that answers has no more
MICRO_BATCH_TOKENS = 8192


def together(count: int) -> float:
    """How much faster ``count`` linked GPUs are than one."""
    return 1 + LINKED_SHARE * (count - 1)


def training_flops(language: Language) -> float:
    """6 N D.

    >>> training_flops(Language("", 70e9, "", 1000, "", sample_tokens=1000, epochs=1))
    4.2e+17
    """
    return 6 * language.params * language.tokens


def training_memory(language: Language) -> float:
    """Bytes over all devices: 16 for each parameter, and activations with recomputation, 2 bytes x layers x width for
    each token of a micro-batch (Korthikanti et al. 2022, arXiv 2205.05198).

    >>> f"{training_memory(Language('', 70e9, '', 1, '')):.4g}"
    '1.131e+12'
    """
    activations = 2.0 * language.layers * language.width * MICRO_BATCH_TOKENS
    return BYTES_A_PARAMETER * language.params + activations


def training_options(
    language: Language, demand: AdviseConfig, devices: Iterable[Device] = DEVICES
) -> list[TrainingOption]:
    """One for each class that trains, with as many devices as memory and ``train_hours`` ask for."""
    return [_train(language, demand, device) for device in devices if device.trains]


def train_speed(device: Device, count: int) -> float:
    """FLOP/s: two for each MAC."""
    if device.gpu:
        return 2 * rate(device, "fp16", large=True) * together(count)
    return 2 * rate(device, "fp32", device.cores) * TRAINING_SHARE


def counts(most: int) -> list[int]:
    """Of GPUs that hold one model: powers of two within a server, then whole servers.

    >>> counts(1), counts(32)
    ([1], [1, 2, 4, 8, 16, 24, 32])
    """
    return [1 << k for k in range(min(most, IN_A_SERVER).bit_length())] + list(
        range(2 * IN_A_SERVER, most + 1, IN_A_SERVER)
    )


def _train(language: Language, demand: AdviseConfig, device: Device) -> TrainingOption:
    flops, need = training_flops(language), training_memory(language)
    limit = demand.train_hours * 3600
    fitting = [n for n in counts(device.linked) if n * device.memory_gb * 1e9 * MEMORY_SHARE >= need]
    in_time_too = [n for n in fitting if flops / train_speed(device, n) <= limit]
    count = (in_time_too or fitting[-1:] or [device.linked])[0]
    seconds = flops / train_speed(device, count)
    joules = seconds * count * device.load_w * device.overhead_of_site
    an_hour = hourly_cost(device, device.load_w, demand.price_per_kwh)
    dollars = seconds / 3600 * count * an_hour
    why_not = ""
    if not fitting:
        most = f"{device.linked} together have" if device.linked > 1 else "has"
        why_not = f"needs {in_bytes(need)} of memory, {most} {in_bytes(device.linked * device.memory_gb * 1e9)}"
    elif not in_time_too:
        why_not = f"takes {in_time(seconds)}, more than {in_time(limit)}"
    lines = (
        (
            f"tokens: {language.samples:,} samples x {language.sample_tokens:,} tokens x"
            f" {short(language.epochs)} epochs = {scaled(language.tokens, 'tokens')}"
        ),
        (
            f"computing: 6 x {scaled(language.params, 'parameters')} x {scaled(language.tokens, 'tokens')}"
            f" = {scaled(flops, 'FLOP')}"
        ),
        (
            f"memory: {scaled(language.params, 'parameters')} x 16 B (weights, gradients, Adam) + activations"
            f" = {in_bytes(need)}; {called(device, count)} {'have' if count > 1 else 'has'}"
            f" {in_bytes(count * device.memory_gb * 1e9)}"
        ),
        (
            f"time: {scaled(flops, 'FLOP')} / {scaled(train_speed(device, count), 'FLOP/s')} sustained by"
            f" {called(device, count)} = {in_time(seconds)}"
        ),
        (
            f"energy: {in_time(seconds)} x {count:,} x {short(device.load_w)} W x {device.overhead_of_site:g}"
            f" (data centre) = {in_joules(joules)}"
        ),
        f"cost: {short(seconds / 3600)} h x {count:,} x {in_dollars(an_hour)} an hour = {in_dollars(dollars)}",
    )
    return TrainingOption(
        device.name, device.text, device.word, count, seconds, joules, dollars, need, why_not, lines
    )  # fmt: skip


def weights_bytes(language: Language) -> float:
    """Of a replica."""
    return language.params * language.weight_bytes


def most_in_flight(language: Language, device: Device, count: int) -> int:
    """Answers whose keys and values fit beside the weights; negative where the weights alone do not fit."""
    room = count * device.memory_gb * 1e9 * MEMORY_SHARE - weights_bytes(language)
    return min(TOGETHER_AT_MOST, math.floor(room / (language.cache_bytes * language.context)))


def answer_seconds(language: Language, device: Device, count: int, in_flight: int) -> float:
    """Seconds that each of ``in_flight`` answers takes on one replica of ``count`` devices.

    The prompts of all are read one after the other; then each written token takes the longer of reading weights and
    caches, and of computing.
    """
    if device.gpu:
        macs_a_second = rate(device, "fp16", large=True) * together(count)
        bytes_a_second = device.bandwidth_gbs * 1e9 * together(count)
    else:
        macs_a_second = rate(device, "fp32", device.cores)
        bytes_a_second = device.bandwidth_gbs * 1e9
    prompt = language.params * language.prompt / macs_a_second
    cache = language.cache_bytes * (language.prompt + language.answer / 2)
    reading = (weights_bytes(language) + in_flight * cache) / bytes_a_second
    token = max(reading, in_flight * language.params / macs_a_second) + device.overhead_ms * 1e-3
    return in_flight * prompt + language.answer * token


def best_in_flight(language: Language, device: Device, count: int, limit_s: float) -> int:
    """The most answers at once that still come within ``limit_s``; 0: not even one."""
    low, high = 0, max(0, most_in_flight(language, device, count))
    while low < high:
        middle = (low + high + 1) // 2
        in_time = answer_seconds(language, device, count, middle) <= limit_s
        low, high = (middle, high) if in_time else (low, middle - 1)
    return low


def inference_options(
    language: Language, demand: AdviseConfig, devices: Iterable[Device] = DEVICES
) -> list[InferenceOption]:
    """One for each class that may answer."""
    return [_answer(language, demand, device) for device in devices if fits(device, demand.where)]


def _answer(language: Language, demand: AdviseConfig, device: Device) -> InferenceOption:
    limit = demand.latency_ms / 1e3
    sizes = counts(min(device.linked, IN_A_SERVER))
    plans = []
    for size in sizes:
        in_flight = best_in_flight(language, device, size, limit)
        if in_flight:
            capacity = in_flight / answer_seconds(language, device, size, in_flight)
            replicas = max(demand.sites, math.ceil(round(demand.requests_per_second / (capacity * BUSY_AT_MOST), 9)))
            plans.append((size * replicas, size, in_flight, capacity, replicas))
    fitting = [size for size in sizes if most_in_flight(language, device, size) >= 1]
    why_not = ""
    if plans:
        devices, size, in_flight, capacity, replicas = min(plans)
    else:
        size = (fitting or sizes)[-1]
        in_flight, replicas, devices = 1, 1, size
        capacity = 1 / answer_seconds(language, device, size, 1)
        have = in_bytes(size * device.memory_gb * 1e9)
        why_not = (
            f"an answer takes {in_time(1 / capacity)}, wanted {in_time(limit)}"
            if fitting
            else f"needs {in_bytes(weights_bytes(language))} for the weights alone,"
            f" {called(device, size)} {'have' if size > 1 else 'has'} {have}"
        )
    alone = answer_seconds(language, device, size, 1)
    asked = demand.requests_per_second / replicas
    seconds = answer_seconds(language, device, size, in_flight) if plans else alone
    busy = min(1.0, asked / capacity)
    answers = demand.requests_per_second * 3600 * HOURS_A_YEAR * demand.years
    an_answer = size * (device.load_w - device.idle_w) * device.overhead_of_site / capacity
    hours = HOURS_A_YEAR * demand.years
    joules = devices * hours * 3600 * device.idle_w * device.overhead_of_site + answers * an_answer
    an_hour = hourly_cost(device, device.idle_w + busy * (device.load_w - device.idle_w), demand.price_per_kwh)
    dollars = devices * hours * an_hour
    cache = in_flight * language.cache_bytes * language.context
    need = weights_bytes(language) + cache
    cores = "" if device.gpu else f" ({speedup(device.cores):.3g} cores' worth)"
    lines = (
        (
            f"memory of a replica: {scaled(language.params, 'parameters')} x {language.weight_bytes:g} B"
            f" + {in_flight} answers in flight x {language.context:,} tokens x {in_bytes(language.cache_bytes)} of"
            f" keys and values = {in_bytes(need)}; {called(device, size)} {'have' if size > 1 else 'has'}"
            f" {in_bytes(size * device.memory_gb * 1e9)}{cores}"
        ),
        (
            f"prompt: 2 x {scaled(language.params, 'parameters')} x {language.prompt:,} tokens"
            f" = {scaled(2 * language.params * language.prompt, 'FLOP')}; a written token reads"
            f" {in_bytes(weights_bytes(language))} of weights at"
            f" {scaled(device.bandwidth_gbs * 1e9 * together(size), 'B/s')}:"
            f" {in_time(weights_bytes(language) / (device.bandwidth_gbs * 1e9 * together(size)))} or more"
        ),
        (
            f"latency: {in_time(alone)} with one answer in flight, {in_time(seconds)} with {in_flight}"
            f" (wanted: {in_time(limit)}); that is {short(capacity)} answers/s of a replica"
        ),
        (
            f"replicas: {short(demand.requests_per_second)} answers/s / ({short(capacity)} answers/s x"
            f" {BUSY_AT_MOST:.0%} at most busy) = {replicas:,} of {called(device, size)},"
            f" so {called(device, devices)}; busy {busy:.2%}"
        ),
        (
            f"one more answer: {size} x ({short(device.load_w)} - {short(device.idle_w)}) W x"
            f" {device.overhead_of_site:g} (data centre) / {short(capacity)} answers/s = {in_joules(an_answer)}"
        ),
        (
            f"energy in {short(demand.years)} years: {devices:,} x {short(hours)} h x {short(device.idle_w)} W idle x"
            f" {device.overhead_of_site:g} + {short(answers)} answers x {in_joules(an_answer)} = {in_joules(joules)}"
        ),
        (
            f"cost in {short(demand.years)} years: {devices:,} x {short(hours)} h x {in_dollars(an_hour)} an hour"
            f" = {in_dollars(dollars)}"
        ),
    )
    return InferenceOption(
        device.name, device.text, device.word, devices, 1e3 * seconds, an_answer, joules, dollars, need, busy, why_not,
        lines,
    )  # fmt: skip
