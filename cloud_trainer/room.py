"""How much the teachers of images may compute: as much as there is time for, and no less than is of use."""

from __future__ import annotations

from cloud_trainer.config import TaskConfig

TEACHER_WORK, TEACHER_WORK_BF16 = 2.4e13, 4.5e13
"""MACs of all trainings of image teachers together, forward and back: some six to eight minutes on two cores, without
and with instructions for bf16."""
TEACHER_LEAST, PIXEL_WORK = 8_000_000, 75_000
"""MACs of an answer of all of them: at least, however long it takes then, and for each value of an image at most."""


def teacher_room(task: TaskConfig, samples: int, values: int, *, bf16: bool = False) -> int:
    """MACs of an answer of all teachers together, trained on ``samples`` images of ``values`` numbers each.

    >>> from cloud_trainer.config import DataConfig
    >>> task = TaskConfig(name="shirts", kind="image-classification", data=DataConfig(format="npz"))
    >>> teacher_room(task, 19_000, 784, bf16=True), teacher_room(task, 1_000_000, 784)
    (58800000, 8000000)
    """
    epochs = max(1, task.epochs(task.training.teacher_epochs, -(-samples // task.training.batch)))
    work = TEACHER_WORK_BF16 if bf16 else TEACHER_WORK
    return max(TEACHER_LEAST, int(min(work / (3 * samples * epochs), PIXEL_WORK * values)))
