"""How much the trainer's usual teachers compute, where torch is not there to count it.

The same sums over the same layers as :mod:`cloud_trainer.advise.networks` makes with torch; what they cannot know is
which other family a task names. The student has ``model.mac_share`` of the teachers' MACs, or less where
``model.max_macs`` says so.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

from cloud_trainer.advise.workload import Network
from cloud_trainer.config import MEMBERS, ModelConfig, TaskConfig
from cloud_trainer.room import ANOMALY_MACS, BUCKETS, SOUND_MACS, teacher_room

Sizes = tuple[float, float]
"""MACs, parameters."""
WIDEST = 1024
EMBEDDING = 32


def teachers_of(task: TaskConfig, shape: Sequence[int], outputs: int, samples: int) -> Network:
    """Trained on ``samples`` of ``shape`` as the sensor gives them: (H, W[, C]), (columns,), (time, channels),
    (samples,), ().

    >>> from cloud_trainer.config import DataConfig
    >>> task = TaskConfig(name="a", kind="tabular-regression", data=DataConfig(format="csv"))
    >>> found = teachers_of(task, (10,), 1, 5000)
    >>> f"{found.macs:,.0f} in {found.count} networks"
    '1,091,648 in 2 networks'
    """
    name, rule = RULES[task.kind]
    if task.kind == "recommendation" and not ranks_items(task):
        name, rule = RULES["tabular-regression"]
    macs, params = rule(task, encoded(task, tuple(shape)), outputs, samples)
    members = members_of(task)
    told = f"rule: {name} for samples of {'x'.join(map(str, shape)) or 'text'}"
    if task.model.teacher not in {"auto", "trees"} and not task.model.teacher_factory:
        told += f"; model.teacher = {task.model.teacher!r} can only be counted where torch is installed"
    return Network(macs * members, params * members, told + not_called(task), count=networks_of(task))


def members_of(task: TaskConfig) -> int:
    """Teachers, or pairs of them for items, whose answers are averaged."""
    if task.model.teacher_factory:
        return task.members
    rows = task.kind.startswith("tabular-") or (task.kind == "recommendation" and not ranks_items(task))
    return task.model.ensemble or (MEMBERS["tabular-regression"] if rows else task.members)


def networks_of(task: TaskConfig) -> int:
    """Networks that teach."""
    pairs = task.kind == "recommendation" and ranks_items(task) and not task.model.teacher_factory
    return members_of(task) * (2 if pairs and task.model.teacher in {"auto", "trees"} else 1)


def not_called(task: TaskConfig) -> str:
    """What is said of a network of one's own."""
    return "; model.teacher_factory is not called, see --macs" if task.model.teacher_factory else ""


def ranks_items(task: TaskConfig) -> bool:
    """Whether a recommendation is the next item of a history, rather than a number for each candidate of a query."""
    return bool(task.data.item or not task.data.group)


def encoded(task: TaskConfig, shape: tuple[int, ...]) -> tuple[int, ...]:
    """What a network reads of a sample: images as (1, H, W) or (H, W, C), sounds as a spectrum, texts in buckets; of
    forecasts the numbers of the whole history, which features are made of and chosen from."""
    kind = task.kind
    if kind.startswith("image-"):
        return shape if len(shape) == 3 else (1, *shape)
    if kind == "audio-classification":
        return (shape[0], shape[1]) if len(shape) == 2 else (49, 40)
    if kind == "text-classification":
        return (task.features.buckets or BUCKETS,)
    if kind == "forecasting":
        return (max(1, math.prod(shape)),)
    return shape or ((10,) if kind == "recommendation" else (16,))


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


def resnet(shape: tuple[int, ...], outputs: int, width: int, *, embedding: int = EMBEDDING, pooled: int = 1) -> Sizes:
    """``cloud_trainer.models.resnet`` over (1, H, W), (H, W, C) or (frames, bands); ``pooled``: numbers a map."""
    channels, h, w = (1, *shape[-2:]) if len(shape) == 2 or shape[0] == 1 else (shape[2], *shape[:2])
    h, w = (h + 1) // 2, (w + 1) // 2
    macs, params = 0.0, 0.0

    def convolution(inputs: int, out: int) -> None:
        nonlocal macs, params
        macs += 9 * inputs * out * h * w
        params += 9 * inputs * out + 2 * out

    for inputs in (channels, width, width):
        convolution(inputs, width)
    while min(h, w) > 4:
        h, w = (h + 1) // 2, (w + 1) // 2
        for inputs in (width, 2 * width, 2 * width):
            convolution(inputs, 2 * width)
        width *= 2
    head = layers(pooled * width, embedding, outputs)
    return macs + head[0], params + head[1]


def widest(sizes: Callable[[int], Sizes], limit: float, most: int) -> Sizes | None:
    """Of the largest width up to ``most`` whose MACs are within ``limit``; ``None``: not even a width of 1 is.

    >>> widest(lambda width: layers(width, width), 100, 1024)
    (100.0, 110.0)
    """
    if sizes(1)[0] > limit:
        return None
    low, high = 1, most
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if sizes(middle)[0] <= limit else (low, middle - 1)
    return sizes(low)


def _image(task: TaskConfig, shape: tuple[int, ...], outputs: int, samples: int) -> Sizes:
    def sizes(width: int) -> Sizes:
        return resnet(shape, outputs, width, embedding=task.model.embedding)

    if task.model.teacher_width:
        return sizes(task.model.width)
    room = teacher_room(task, samples, math.prod(shape)) // task.members
    return widest(sizes, room, WIDEST) or sizes(task.model.width)


def _anomaly(task: TaskConfig, shape: tuple[int, ...], outputs: int, samples: int) -> Sizes:
    del samples

    def sizes(width: int) -> Sizes:
        return resnet(shape, outputs, width, embedding=min(max(64, task.model.embedding), 128), pooled=2)

    return widest(sizes, ANOMALY_MACS, task.model.width) or sizes(1)


def _sound(task: TaskConfig, shape: tuple[int, ...], outputs: int, samples: int) -> Sizes:
    del samples
    width = task.model.width
    limit = SOUND_MACS * (width / 32) ** 2 / task.members
    return widest(lambda width: resnet(shape, outputs, width), limit, 2 * width) or resnet(shape, outputs, width)


def _table(task: TaskConfig, shape: tuple[int, ...], outputs: int, samples: int) -> Sizes:
    del samples
    width = min(16 * task.model.width, WIDEST)
    return layers(math.prod(shape), width, width, width, EMBEDDING, outputs)


def _window(task: TaskConfig, shape: tuple[int, ...], outputs: int, samples: int) -> Sizes:
    """``cloud_trainer.models.temporal.Cnn1d``, two convolutions a stage."""
    del samples
    if len(shape) != 2:
        width = 16 * task.model.width
        return layers(math.prod(shape), width, width, width, EMBEDDING, outputs)
    steps, channels = (shape[0] + 1) // 2, shape[1]
    width = task.model.width
    macs, params = 5.0 * channels * width * steps, 5.0 * channels * width + 2 * width
    for stage in range(4):
        if stage and steps <= 8:
            break
        inputs = width
        if stage:
            width, steps = 2 * width, (steps + 1) // 2
        for before in (inputs, width):
            macs += 5 * before * width * steps
            params += 5 * before * width + 2 * width
    head = layers(width, EMBEDDING, outputs)
    return macs + head[0], params + head[1]


def _forecast(task: TaskConfig, shape: tuple[int, ...], outputs: int, samples: int) -> Sizes:
    del samples
    width = min(8 * task.model.width, WIDEST)
    return layers(math.prod(shape), width, width, EMBEDDING, outputs)


def _text(task: TaskConfig, shape: tuple[int, ...], outputs: int, samples: int) -> Sizes:
    del samples
    return layers(math.prod(shape), 8 * task.model.width, EMBEDDING, outputs)


def _items(task: TaskConfig, shape: tuple[int, ...], outputs: int, samples: int) -> Sizes:
    """Two of ``cloud_trainer.models.next_item``: the mean of the history, and a block of a transformer over it."""
    del samples
    history = shape[0]
    macs = params = 0.0
    for width, blocks in ((4 * task.model.width, 0), (2 * task.model.width, 1)):
        macs += 8 * width**2 + width * outputs
        params += 8 * width**2 + 3 * width + (2 * outputs + 1) * width + outputs + history
        macs += blocks * history * (8 * width**2 + 2 * history * width)
        params += blocks * (8 * width**2 + (7 + 4 + 2 + history) * width)
    return macs, params


Rule = Callable[[TaskConfig, tuple[int, ...], int, int], Sizes]
RULES: dict[str, tuple[str, Rule]] = {
    "image-classification": ("the trainer's small ResNet", _image),
    "image-anomaly": ("the trainer's small ResNet", _anomaly),
    "tabular-classification": ("a network of three hidden layers", _table),
    "tabular-regression": ("a network of three hidden layers", _table),
    "series-classification": ("the trainer's convolutions over time", _window),
    "forecasting": ("two hidden layers over the history", _forecast),
    "audio-classification": ("the trainer's small ResNet over a spectrum", _sound),
    "text-classification": ("a hidden layer over hashed text", _text),
    "recommendation": ("embeddings of the history", _items),
}
