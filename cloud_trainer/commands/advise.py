"""Which hardware to train on and to infer on: time, energy, cost and memory of each class of devices, with the
arithmetic.

From a task file (its data is looked at, not read; with --release the student's MACs and size are measured), from an
example, or from plain numbers. Optional keys of the task file, in [advise]: requests_per_second, latency_ms, years,
sites, where, price_per_kwh, train_hours; options here go before them.

Examples:
  cloud-trainer advise task.toml --requests-per-second 20 --latency-ms 50
  cloud-trainer advise task.toml --release out/digits
  cloud-trainer advise --example llm-agent
  cloud-trainer advise --kind tabular-regression --samples 50000 --features 30
  cloud-trainer advise --kind language-model --params 8e9 --samples 5000
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

import msgspec

from cloud_trainer.advise import (
    EXAMPLES,
    Advice,
    Facts,
    Language,
    Network,
    Workload,
    advise,
    counted,
    example,
    look,
    made_of,
    networks_of,
    of_task,
    student_of,
    train_share,
)
from cloud_trainer.advise.text import devices, shown
from cloud_trainer.config import KINDS, AdviseConfig, DataConfig, TaskConfig, load_task
from cloud_trainer.hardware import BYTES, DEVICES
from shared.cli import DONE, FAILED, add_json, print_json
from shared.errors import UsageError
from shared.manifest import load_manifest

LANGUAGE = "language-model"
DEMAND = ("requests_per_second", "latency_ms", "years", "sites", "where", "price_per_kwh", "train_hours")
SHAPES = {  # of a sample, where nothing says it
    "image-classification": (224, 224, 3),
    "image-anomaly": (224, 224, 3),
    "tabular-classification": (16,),
    "tabular-regression": (16,),
    "series-classification": (128, 3),
    "forecasting": (48, 4),
    "audio-classification": (16000,),
    "text-classification": (),
    "recommendation": (10,),
}


def positive(text: str) -> float:
    """A number above 0, also as ``7e9``."""
    value = float(text)
    if not (math.isfinite(value) and value > 0):
        raise ValueError(text)
    return value


def whole(text: str) -> int:
    """A whole number of 1 or more, also as ``2e4``."""
    value = positive(text)
    if value < 1 or value != int(value):
        raise ValueError(text)
    return int(value)


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments."""
    parser.add_argument("task", nargs="?", type=Path, help="task.toml; without it, --example or --kind")
    parser.add_argument("--example", choices=EXAMPLES, help="a workload to look at")
    parser.add_argument("--kind", choices=(*KINDS, LANGUAGE), help="of the task")
    parser.add_argument("--release", metavar="DIR", type=Path, help="take MACs and sizes from this release")
    asked = parser.add_argument_group("what is asked (or in [advise] of the task file)")
    asked.add_argument("--requests-per-second", metavar="R", type=positive, help="on average, all sites together")
    asked.add_argument("--latency-ms", metavar="L", type=positive, help="of 99 in 100 answers")
    asked.add_argument("--years", metavar="Y", type=positive, help="that answers are wanted for")
    asked.add_argument("--sites", metavar="N", type=whole, help="places that need a device of their own")
    asked.add_argument("--where", choices=("any", "edge", "cloud"), help="where answers are given")
    asked.add_argument("--price-per-kwh", metavar="USD", type=positive)
    asked.add_argument("--train-hours", metavar="H", type=positive, help="a training may take at most")
    known = parser.add_argument_group("what is known (else looked up or reckoned)")
    known.add_argument("--samples", metavar="N", type=whole, help="of the whole data set")
    known.add_argument("--features", metavar="N", type=whole, help="numbers of a sample, where it is a table's row")
    known.add_argument("--macs", metavar="N", type=positive, help="of one answer of the model that is deployed")
    known.add_argument("--params", metavar="N", type=positive, help="of the model that is deployed")
    words = parser.add_argument_group(f"of a {LANGUAGE}")
    words.add_argument("--sample-tokens", metavar="N", type=whole, help="of one sample to train on (default: 1500)")
    words.add_argument("--epochs", metavar="N", type=positive, help="over them (default: 3)")
    words.add_argument("--prompt-tokens", metavar="N", type=whole, help="read for an answer (default: 1500)")
    words.add_argument("--answer-tokens", metavar="N", type=whole, help="written (default: 300)")
    words.add_argument("--weight-bytes", type=float, choices=(0.5, 1.0, 2.0), help="of a parameter (default: 2)")
    parser.add_argument("--devices", action="store_true", help="print the table of device classes and stop")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Advise; exit code 1 where no class of devices will do."""
    if args.devices:
        print_json(DEVICES) if args.json else print(devices())
        return DONE
    given = [name for name in ("task", "example", "kind") if getattr(args, name) is not None]
    if len(given) != 1:
        wrong = " and ".join(given) + ": give only one of them" if given else "nothing to advise on"
        raise UsageError(f"{wrong}: a task file, --example ({', '.join(EXAMPLES)}) or --kind with --samples")
    work, demand = _work(args)
    options = {name: getattr(args, name) for name in DEMAND if getattr(args, name) is not None}
    demand = msgspec.structs.replace(demand, **options)
    advice = advise(work, demand)
    if args.json:
        print_json(_document(advice, demand))
    else:
        print(shown(advice, demand.years))
    return DONE if advice.train is not None and advice.infer is not None else FAILED


def _document(advice: Advice, demand: AdviseConfig) -> dict[str, Any]:
    return {"asked": demand, **msgspec.to_builtins(advice)}


def _work(args: argparse.Namespace) -> tuple[Workload | Language, AdviseConfig]:
    work: Workload | Language
    if args.example is not None:
        work, demand = example(args.example)
        return _with_options(work, args), demand
    if args.kind == LANGUAGE:
        if args.params is None:
            raise UsageError(f"--kind {LANGUAGE} needs --params: how many parameters the model has, e.g. 8e9")
        work = Language(LANGUAGE, args.params, "given", 1, "")
        return _with_options(work, args, samples=10_000), AdviseConfig(latency_ms=30_000, where="cloud")
    if args.task is not None:
        task = load_task(args.task)
    else:
        name = "nobody"
        task = TaskConfig(name=name, kind=args.kind, data=DataConfig(format="python", factory=name))
        if args.samples is None:
            raise UsageError(f"--kind {args.kind} needs --samples: how many the data set has")
    return _with_options(_of(task, args), args), task.advise


def _of(task: TaskConfig, args: argparse.Namespace) -> Workload:
    """From the task's data, or from what is given instead of it."""
    if args.samples is not None and (args.task is None or task.data.format == "python"):
        shape = (args.features,) if args.features is not None and len(SHAPES[task.kind]) == 1 else SHAPES[task.kind]
        facts = Facts(args.samples, shape, 10, 4.0 * math.prod(shape), "given")
    else:
        facts = look(task)
        if args.samples is not None:
            facts = msgspec.structs.replace(facts, samples=args.samples, normal=0, how="given")
        if args.features is not None and len(facts.shape) == 1:
            facts = msgspec.structs.replace(facts, shape=(args.features,))
    made = made_of(task, facts.normal or facts.samples, facts.shape)
    trained_on = made or max(1, round(facts.samples * train_share(task)))
    teacher = counted(task, facts.shape, facts.outputs, trained_on)
    student = student_of(teacher, task.model, task.kind)
    if args.release is not None:
        student = _released(args.release)
        teacher = _teacher_for(student, task)
    work = of_task(task, facts.samples, facts.how, facts.sample_bytes, teacher, student, made)
    return work if args.task is not None else msgspec.structs.replace(work, title=task.kind)


def _released(path: Path) -> Network:
    """What the variants of a release need: the float one's, else the first one's."""
    manifest = load_manifest(path)
    variant = min(manifest.variants, key=lambda one: (one.precision != "fp32", one.id))
    params = variant.file.bytes / BYTES.get(variant.precision, 1.0)
    return Network(
        float(max(1, variant.macs)), params, f"measured: {variant.id} of release {manifest.name}/{manifest.version}"
    )


def _teacher_for(student: Network, task: TaskConfig) -> Network:
    found = student.scaled(1 / task.model.mac_share, f"rule: the student's over {task.model.mac_share:g}")
    return msgspec.structs.replace(found, count=networks_of(task))


def _with_options(work: Any, args: argparse.Namespace, samples: int | None = None) -> Any:
    """``work`` with what the command line says of it.

    Raises:
        UsageError: an option that means nothing for it.
    """
    change: dict[str, Any] = {}
    if isinstance(work, Language):
        names = {"sample_tokens": "sample_tokens", "epochs": "epochs", "prompt_tokens": "prompt",
                 "answer_tokens": "answer", "weight_bytes": "weight_bytes", "params": "params"}  # fmt: skip
        change = {field: getattr(args, name) for name, field in names.items() if getattr(args, name) is not None}
        _refuse(args, ("macs", "features", "release"), "a language model")
        if args.params is not None:
            change["params_how"] = "given"
        count, how = (args.samples, "given") if args.samples is not None else (samples, "assumed: give --samples")
        if count is not None:
            change |= {"samples": count, "samples_how": how}
        return msgspec.structs.replace(work, **change)
    _refuse(args, ("sample_tokens", "epochs", "prompt_tokens", "answer_tokens", "weight_bytes"), "this kind of task")
    student = work.student
    if args.macs is not None or args.params is not None:
        macs = args.macs if args.macs is not None else student.macs * args.params / student.params
        params = args.params if args.params is not None else student.params * args.macs / student.macs
        how = "given" if args.macs is not None and args.params is not None else "given, the other in proportion"
        share = work.teacher.macs / student.macs
        change["student"] = Network(macs, params, how)
        how = f"rule: {share:.3g} times the student"
        change["teacher"] = Network(macs * share, params * share, how, count=work.teacher.count)
    if args.samples is not None:
        change |= {"samples": args.samples, "samples_how": "given"}
    return msgspec.structs.replace(work, **change)


def _refuse(args: argparse.Namespace, names: tuple[str, ...], what: str) -> None:
    for name in names:
        if getattr(args, name) is not None:
            raise UsageError(f"--{name.replace('_', '-')} means nothing for {what}")
