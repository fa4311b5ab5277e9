"""How much networks of each kind of task compute, where no release says it.

The teachers are the trainer's usual ones, all of them together: counted in their layers where torch is installed
(:mod:`cloud_trainer.advise.networks`), else by a sum over the layers of plain networks of their size: within a factor
of two for small samples, far off for large images of teachers whose width is said. The student has
``model.mac_share`` of that, or less where ``model.max_macs`` says so.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

from cloud_trainer.advise.workload import Network
from cloud_trainer.config import ModelConfig, TaskConfig
from cloud_trainer.room import teacher_room

Sizes = tuple[float, float]
"""MACs, parameters."""
BUCKETS = 4096
ANOMALY_MACS = SOUND_MACS = 20e6


def teachers_of(task: TaskConfig, shape: Sequence[int], outputs: int, samples: int) -> Network:
    """Trained on ``samples`` of ``shape`` as the sensor gives them: (H, W[, C]), (columns,), (time, channels),
    (samples,), ().

    >>> from cloud_trainer.config import DataConfig
    >>> task = TaskConfig(name="a", kind="tabular-regression", data=DataConfig(format="csv"))
    >>> f"{teachers_of(task, (10,), 1, 5000).macs:,.0f}"
    '1,059,840'
    """
    name, rule = RULES[task.kind]
    macs, params = rule(tuple(shape), outputs, task.model.width)
    count = task.members
    share = 1.0
    if task.kind == "image-classification" and not task.model.teacher_width:
        share = teacher_room(task, samples, math.prod(shape)) / count / macs
    elif task.kind == "image-anomaly":
        share = min(1.0, ANOMALY_MACS / macs)
    elif task.kind == "audio-classification":
        share = SOUND_MACS * (task.model.width / 32) ** 2 / count / macs
    told = "x".join(map(str, shape)) or "text"
    return Network(macs * count * share, params * count * share, f"rule: {name} for samples of {told}")


def student_of(teacher: Network, model: ModelConfig, kind: str = "") -> Network:
    """Within the task's limits; of depthwise layers where the kind's usual student is.

    >>> student_of(Network(1e8, 1e6, ""), ModelConfig(max_macs=1_000_000)).macs
    1000000.0
    """
    macs, why = teacher.macs * model.mac_share, f"rule: {model.mac_share:g} of the teacher's MACs (model.mac_share)"
    if model.max_macs and model.max_macs < macs:
        macs, why = float(model.max_macs), "rule: as many as model.max_macs allows"
    student = teacher.scaled(macs / teacher.macs, why)
    if model.max_bytes and model.max_bytes < student.params:
        student = teacher.scaled(model.max_bytes / teacher.params, "rule: as large as model.max_bytes allows")
    return Network(student.macs, student.params, student.how, separable=kind == "audio-classification")


def layers(*sizes: int) -> Sizes:
    """Dense layers: MACs are weights.

    >>> layers(10, 20, 3)
    (260.0, 283.0)
    """
    macs = sum(a * b for a, b in pairwise(sizes))
    return float(macs), float(macs + sum(sizes[1:]))


def resnet(shape: tuple[int, ...], outputs: int, width: int) -> Sizes:
    """The sum over the layers of ``cloud_trainer.models.resnet``, exactly."""
    h, w, c = (*shape, 1)[:3] if len(shape) < 3 else shape[:3]
    h, w = (h + 1) // 2, (w + 1) // 2
    macs, params = 0.0, 0.0

    def convolution(inputs: int, out: int) -> None:
        nonlocal macs, params
        macs += 9 * inputs * out * h * w
        params += 9 * inputs * out + 2 * out

    for inputs, out in ((c, width), (width, width), (width, width)):
        convolution(inputs, out)
    while min(h, w) > 4:
        h, w = (h + 1) // 2, (w + 1) // 2
        for inputs, out in ((width, 2 * width), (2 * width, 2 * width), (2 * width, 2 * width)):
            convolution(inputs, out)
        width *= 2
    head = layers(width, 32, outputs)
    return macs + head[0], params + head[1]


def table(shape: tuple[int, ...], outputs: int, width: int) -> Sizes:
    """Three hidden layers of sixteen times ``model.teacher_width``."""
    return layers(shape[0] if shape else 16, 16 * width, 16 * width, 16 * width, outputs)


def window(shape: tuple[int, ...], outputs: int, width: int) -> Sizes:
    """Four convolutions of 5 steps over time, of four times ``model.teacher_width`` channels, each halves it."""
    steps, channels = (*shape, 1)[:2]
    macs, params, width = 0.0, 0.0, 4 * width
    for inputs in (channels, width, width, width):
        steps = (steps + 1) // 2
        params += 5 * inputs * width
        macs += 5 * inputs * width * steps
    head = layers(width, 32, outputs)
    return macs + head[0], params + head[1]


def forecast(shape: tuple[int, ...], outputs: int, width: int) -> Sizes:
    """Two hidden layers over the whole history."""
    return layers(max(1, shape[0]) * (shape[1] if len(shape) > 1 else 1), 8 * width, 8 * width, outputs)


def sound(shape: tuple[int, ...], outputs: int, width: int) -> Sizes:
    """The ResNet over log-mel energies."""
    return resnet(spectrum(shape), outputs, width)


def spectrum(shape: tuple[int, ...]) -> tuple[int, int]:
    """Frames and bands: those that are there, or 49 x 40 of a second of sound."""
    return (shape[0], shape[1]) if len(shape) == 2 else (49, 40)


def text(shape: tuple[int, ...], outputs: int, width: int) -> Sizes:
    """A hidden layer of eight times ``model.teacher_width`` over hashed runs of letters and words."""
    del shape
    return layers(BUCKETS, 8 * width, outputs)


def items(shape: tuple[int, ...], outputs: int, width: int) -> Sizes:
    """Embeddings of the history and their mean, four times ``model.teacher_width`` wide; and twice as wide with a layer
    of a transformer over them; each with a score for every item."""
    history, mean, seeing = shape[0] if shape else 10, 4 * width, 2 * width
    macs = history * (mean + 9 * seeing**2) + (mean + seeing) * outputs
    return float(macs), float(9 * seeing**2 + 2 * outputs * (mean + seeing))


Rule = Callable[[tuple[int, ...], int, int], Sizes]
RULES: dict[str, tuple[str, Rule]] = {
    "image-classification": ("the trainer's small ResNet", resnet),
    "image-anomaly": ("the trainer's small ResNet", resnet),
    "tabular-classification": ("a network of three hidden layers", table),
    "tabular-regression": ("a network of three hidden layers", table),
    "series-classification": ("four convolutions over time", window),
    "forecasting": ("two hidden layers over the history", forecast),
    "audio-classification": ("the trainer's small ResNet over a spectrum", sound),
    "text-classification": ("a hidden layer over hashed text", text),
    "recommendation": ("embeddings of the history", items),
}
