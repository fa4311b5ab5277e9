"""The choice among the options, in words.

1. A desktop's CPU that has trained within the hour is good enough: nothing to rent, nothing to install. Else any CPU
   that has, the cheapest; else the cheapest class that is done in time.
2. Answers are given by the cheapest class that is in time, over the years asked for.
3. What cannot do it stays in the tables, with the reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from msgspec import Struct

from cloud_trainer.advise import inference, language, training
from cloud_trainer.advise.options import InferenceOption, TrainingOption
from cloud_trainer.advise.units import in_dollars, in_joules, in_time, scaled, short
from cloud_trainer.advise.workload import Language, Workload
from cloud_trainer.config import AdviseConfig
from cloud_trainer.hardware import HOURS_A_YEAR, device

SOON_SECONDS = 3600.0


class BreakEven(Struct, frozen=True):
    """After how many answers inference has cost more than training once: by the energy of computing alone, by energy
    with the devices' idle hours, and by money; with the years that this takes. ``None``: never, it costs nothing."""

    computing_answers: float | None
    computing_years: float | None
    energy_answers: float | None
    energy_years: float | None
    money_answers: float | None
    money_years: float | None
    lines: tuple[str, ...]


class Advice(Struct, frozen=True):
    """``train`` and ``infer`` are ``None`` where no class can do it; the options say why."""

    title: str
    verdict: tuple[str, ...]
    train: TrainingOption | None
    infer: InferenceOption | None
    training: tuple[TrainingOption, ...]
    inference: tuple[InferenceOption, ...]
    break_even: BreakEven | None
    known: dict[str, str]  # what goes into the arithmetic, and how it is known
    notes: tuple[str, ...]


def advise(work: Workload | Language, demand: AdviseConfig) -> Advice:
    """Which hardware to train on and to infer on.

    >>> from cloud_trainer.advise.examples import example
    >>> advice = advise(*example("daily-sales"))
    >>> advice.train.word, advice.infer.word
    ('CPU', 'CPU')
    """
    if isinstance(work, Language):
        trained, answered = language.training_options(work, demand), language.inference_options(work, demand)
    else:
        trained, answered = training.training_options(work, demand), inference.inference_options(work, demand)
    train, infer = choose_training(trained), choose_inference(answered)
    break_even = even(train, infer, demand) if train is not None and infer is not None else None
    return Advice(
        title=work.title,
        verdict=tuple(_verdict(train, infer, trained, answered, demand, break_even)),
        train=train,
        infer=infer,
        training=tuple(trained),
        inference=tuple(answered),
        break_even=break_even,
        known=_known(work, demand),
        notes=tuple(_notes(work)),
    )


def choose_training(options: Sequence[TrainingOption]) -> TrainingOption | None:
    """By rule 1 above."""
    can = [one for one in options if not one.why_not]
    soon = [one for one in can if one.word == "CPU" and one.seconds <= SOON_SECONDS]
    own = [one for one in soon if device(one.device).where == "desk"]
    return min(own or soon or can, key=lambda one: (one.dollars, one.seconds), default=None)


def choose_inference(options: Sequence[InferenceOption]) -> InferenceOption | None:
    """By rule 2 above."""
    can = [one for one in options if not one.why_not]
    return min(can, key=lambda one: (one.dollars, one.latency_ms), default=None)


def even(train: TrainingOption, infer: InferenceOption, demand: AdviseConfig) -> BreakEven:
    """Training's energy and cost over those of one answer."""
    a_year = demand.requests_per_second * 3600 * HOURS_A_YEAR
    answers = a_year * demand.years
    found: dict[str, float | None] = {}
    lines = []
    for name, what, cost, an_answer, shown in (
        ("computing", "energy of computing alone", train.joules, infer.joules_an_answer, in_joules),
        ("energy", "energy with idle hours", train.joules, infer.joules / answers, in_joules),
        ("money", "money", train.dollars, infer.dollars / answers, in_dollars),
    ):
        count = cost / an_answer if an_answer else None
        found |= {f"{name}_answers": count, f"{name}_years": None if count is None else count / a_year}
        if count is None:
            continue
        lines.append(
            f"{what}: {shown(cost)} of training / {shown(an_answer)} an answer = {short(count)} answers,"
            f" after {_after(count / a_year)} at {short(demand.requests_per_second)} a second"
        )
    return BreakEven(**found, lines=tuple(lines))


def _after(years: float) -> str:
    return in_time(years * HOURS_A_YEAR * 3600)


Option = TypeVar("Option", TrainingOption, InferenceOption)


def _hardware(option: TrainingOption | InferenceOption) -> str:
    if option.count == 1:
        return f"one {option.word}: {option.device} ({option.text})"
    return f"{option.count:,} {option.word}s: {option.count:,} x {option.device} ({option.text})"


def _nearest(options: Sequence[Option]) -> str:
    """What comes closest, where nothing will do."""
    if not options:
        return "no class of device stands there"
    one = min(options, key=lambda one: one.seconds if isinstance(one, TrainingOption) else one.latency_ms)
    return f"the nearest is {one.count:,} x {one.device}: {one.why_not}"


def _verdict(
    train: TrainingOption | None,
    infer: InferenceOption | None,
    trained: Sequence[TrainingOption],
    answered: Sequence[InferenceOption],
    demand: AdviseConfig,
    break_even: BreakEven | None,
) -> list[str]:
    lines = []
    if train is None:
        lines.append(f"Train on: nothing in the table will do; {_nearest(trained)}.")
    else:
        lines.append(
            f"Train on {_hardware(train)}, in {in_time(train.seconds)},"
            f" with {in_joules(train.joules)} and {in_dollars(train.dollars)}."
        )
    if infer is None:
        lines.append(f"Infer on: nothing in the table will do; {_nearest(answered)}.")
    else:
        lines.append(
            f"Infer on {_hardware(infer)}: 99 in 100 answers within {in_time(infer.latency_ms / 1e3)},"
            f" {in_joules(infer.joules_an_answer)} for one more answer,"
            f" {in_joules(infer.joules_a_year(demand.years))} a year with idle hours,"
            f" {in_dollars(infer.dollars)} in {short(demand.years)} years."
        )
    if break_even is not None and break_even.computing_answers is not None and break_even.computing_years is not None:
        idle = f"; with idle hours, after {_after(break_even.energy_years)}" if break_even.energy_years else ""
        lines.append(
            f"Inference has taken more energy than training after {short(break_even.computing_answers)} answers"
            f" ({_after(break_even.computing_years)}) by computing alone{idle}."
        )
    return lines


def _known(work: Workload | Language, demand: AdviseConfig) -> dict[str, str]:
    found = {"samples": f"{work.samples:,} ({work.samples_how})"}
    if isinstance(work, Language):
        found["parameters"] = f"{short(work.params)} ({work.params_how})"
        found["shape"] = (
            f"{work.layers} layers of width {work.width:,}, keys and values for at most 8 heads"
            " (rule: N = 12 L d², d = 128 L)"
        )
    else:
        for name, network in (("teacher", work.teacher), ("student", work.student)):
            together = f" in {network.count} networks" if network.count > 1 else ""
            found[name] = f"{short(network.macs)} MACs, {short(network.params)} parameters{together} ({network.how})"
    found["asked for"] = (
        f"{short(demand.requests_per_second)} answers/s, p99 within {short(demand.latency_ms)} ms,"
        f" for {short(demand.years)} years, at {demand.sites} site{'s' * (demand.sites > 1)}"
        f" ({demand.where}); {short(demand.price_per_kwh)} USD a kWh"
    )
    return found


def _notes(work: Workload | Language) -> list[str]:
    notes = [
        (
            "Every rate, watt and price of the table is a typical figure or an estimate (--devices shows the source of"
            " each class): right within a factor of two, if the network is. Time to train is that of the training loop:"
            " reading the data, export and evaluation come on top."
        )
    ]
    if isinstance(work, Language):
        scratch = 20 * work.params
        notes += [
            (
                "This is fine-tuning of all weights. From scratch it takes about 20 tokens a parameter (Hoffmann et al."
                f" 2022, arXiv 2203.15556): {scaled(scratch, 'tokens')}, {scaled(6 * work.params * scratch, 'FLOP')}."
            ),
            (
                "Training low-rank adapters instead (Hu et al. 2021, arXiv 2106.09685) needs the weights once,"
                f" {short(2 * work.params / 1e9)} GB, and little more; 4-bit weights need a quarter of that."
            ),
        ]
    elif not work.student.how.startswith(("measured", "given")):
        notes.append("Train once, then ask again with --release DIR: MACs and sizes are then measured ones.")
    return notes
