"""How much teachers may compute and how many samples they learn: what trainer and adviser both go by, without torch.

Teachers of images compute as much as there is time for, and no less than is of use.
"""

from __future__ import annotations

from cloud_trainer.config import TaskConfig

TEACHER_WORK, TEACHER_WORK_BF16 = 2.4e13, 4.5e13
"""MACs of all trainings of image teachers together, forward and back: some six to eight minutes on two cores, without
and with instructions for bf16."""
TEACHER_LEAST, PIXEL_WORK = 8_000_000, 75_000
"""MACs of an answer of all of them: at least, however long it takes then, and for each value of an image at most."""

ANOMALY_MACS = SOUND_MACS = 20_000_000
"""Of a teacher that looks for anomalies, which is as wide as the task says, or as wide as this allows; of all teachers
of sounds together, where they are of the usual width."""
BUCKETS = 4096
"""Of hashed text."""
ANOMALY_COPIES, LEAST_ANOMALY_SAMPLES, MOST_ANOMALY_SAMPLES = 16, 4000, 16_000
"""Made-up anomalies for each normal image, within bounds for all samples: what the network sees only once or twice
teaches it more than what it sees often."""
ANOMALY_BYTES = 1 << 29
"""Of all encoded samples, at most."""


def anomaly_samples(normal: int, values: int) -> int:
    """How many samples, half of them normal, are made of ``normal`` images of ``values`` numbers each.

    >>> anomaly_samples(10, 784), anomaly_samples(300, 784), anomaly_samples(5000, 784), anomaly_samples(5000, 150_528)
    (4000, 9600, 16000, 890)
    """
    wanted = min(max(2 * ANOMALY_COPIES * normal, LEAST_ANOMALY_SAMPLES), MOST_ANOMALY_SAMPLES)
    return 2 * max(1, min(wanted, ANOMALY_BYTES // (4 * max(1, values))) // 2)


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
