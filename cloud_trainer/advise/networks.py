"""How much the trainer's own networks compute, counted in their layers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import msgspec

from cloud_trainer.advise.rules import encoded, members_of, not_called, ranks_items, teachers_of
from cloud_trainer.advise.workload import Network
from cloud_trainer.config import TaskConfig
from shared.manifest import SampleSpec
from shared.pipeline.spec import Pipeline


def counted(task: TaskConfig, shape: Sequence[int], outputs: int, samples: int) -> Network:
    """As :func:`~cloud_trainer.advise.rules.teachers_of`, but MACs and parameters are counted in the teachers that the
    trainer would take, of whatever family; by the rule where torch is not installed.

    Raises:
        UsageError: there is no such family, or no trees for such samples.
        TrainingError: the family reads no samples of this shape.
    """
    try:
        import torch

        from cloud_trainer.kinds import kind_of
        from cloud_trainer.kinds.base import Prepared
        from cloud_trainer.models import macs_of
        from cloud_trainer.sizing import check_trees, zoo_teachers
    except ModuleNotFoundError:
        return teachers_of(task, shape, outputs, samples)
    if task.model.teacher_factory:  # then nobody looks at a family
        task = msgspec.structs.replace(task, model=msgspec.structs.replace(task.model, teacher="auto"))
    answer = "scores" if task.kind == "recommendation" and ranks_items(task) else "logits"
    prepared = Prepared(SampleSpec("float32", ()), Pipeline(), outputs, answer)
    size, kind = encoded(task, tuple(shape)), kind_of(task.kind)
    if task.kind != "series-classification":  # whether these become numbers, a training tries
        check_trees(task, kind, prepared, size)
    teachers = zoo_teachers(task, kind, prepared, size, samples)
    if task.model.teacher_factory:
        teachers = teachers[: members_of(task)]
    with torch.device("meta"):
        params = sum(one.numel() for teacher in teachers for one in teacher.network().parameters())
    labels = " and ".join(f"{count} {name}" for name, count in Counter(one.label for one in teachers).items())
    told = f"counted in the trainer's {labels} for {'x'.join(map(str, shape)) or 'text'}"
    if task.model.teacher == "trees":
        told += ", whose size a student's is measured by; trees teach"
    if task.kind == "forecasting":
        told += ", features reckoned as the whole history"
    macs = float(sum(map(macs_of, teachers)))
    return Network(macs, float(params), told + not_called(task), count=len(teachers))
