"""How much the trainer's own networks compute, counted in their layers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from cloud_trainer.advise.rules import BUCKETS, spectrum, teachers_of
from cloud_trainer.advise.workload import Network
from cloud_trainer.config import TaskConfig
from shared.manifest import SampleSpec
from shared.pipeline.spec import Pipeline


def counted(task: TaskConfig, shape: Sequence[int], outputs: int, samples: int) -> Network:
    """As :func:`~cloud_trainer.advise.rules.teachers_of`, but MACs and parameters are counted in the teachers that the
    trainer would take; by the rule, which knows no families, where torch is not installed, and for forecasts, whose
    features are not known."""
    try:
        import torch

        from cloud_trainer.kinds import kind_of
        from cloud_trainer.kinds.base import Prepared
        from cloud_trainer.models import macs_of
        from cloud_trainer.sizing import zoo_teachers
    except ModuleNotFoundError:
        return teachers_of(task, shape, outputs, samples)
    size = encoded(task.kind, tuple(shape))
    if size is None:
        return teachers_of(task, shape, outputs, samples)
    answer = "scores" if task.kind == "recommendation" else "logits"
    prepared = Prepared(SampleSpec("float32", ()), Pipeline(), outputs, answer)
    teachers = zoo_teachers(task, kind_of(task.kind), prepared, size, samples)
    with torch.device("meta"):
        params = sum(one.numel() for teacher in teachers for one in teacher.network().parameters())
    labels = " and ".join(f"{count} {name}" for name, count in Counter(one.label for one in teachers).items())
    told = f"counted in the trainer's {labels} for {'x'.join(map(str, shape)) or 'text'}"
    if task.model.teacher_factory:
        told += "; model.teacher_factory is not called, see --macs"
    return Network(float(sum(map(macs_of, teachers))), float(params), told)


def encoded(kind: str, shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """The shape that a network gets; ``None``: it depends on the features."""
    if kind.startswith("image-"):
        return ((*shape, 1)[2], *shape[:2])
    if kind == "audio-classification":
        return spectrum(shape)
    if kind == "text-classification":
        return (BUCKETS,)
    if kind == "forecasting":
        return None
    return shape or ((10,) if kind == "recommendation" else (16,))
