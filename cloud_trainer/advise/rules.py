"""How much a network of each kind of task computes, where nobody has measured it: sums over the layers of a plain one.

A teacher in the order of what the trainer takes by default; its student has ``model.mac_share`` of it, or less where
``model.max_macs`` says so. Right within a factor of three; measure with ``--release``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

from cloud_trainer.advise.workload import Network
from cloud_trainer.config import ModelConfig

Sizes = tuple[float, float]
"""MACs, parameters."""
VOCABULARY, TEXT_LENGTH = 8192, 64


def teacher_of(kind: str, shape: Sequence[int], outputs: int, model: ModelConfig) -> Network:
    """For samples of ``shape`` as the sensor gives them: (H, W[, C]), (columns,), (time, channels), (samples,), ().

    >>> f"{teacher_of('image-classification', (28, 28), 10, ModelConfig()).macs:,.0f}"
    '14,087,616'
    """
    name, rule = RULES[kind]
    macs, params = rule(tuple(shape), outputs, model.teacher_width)
    return Network(
        macs, params, f"rule: {name} for samples of {'x'.join(map(str, shape)) or 'text'}", separable=rule is sound
    )


def student_of(teacher: Network, model: ModelConfig) -> Network:
    """Within the task's limits.

    >>> student_of(Network(1e8, 1e6, ""), ModelConfig(max_macs=1_000_000)).macs
    1000000.0
    """
    macs, why = teacher.macs * model.mac_share, f"rule: {model.mac_share:g} of the teacher's MACs (model.mac_share)"
    if model.max_macs and model.max_macs < macs:
        macs, why = float(model.max_macs), "rule: as many as model.max_macs allows"
    student = teacher.scaled(macs / teacher.macs, why)
    if model.max_bytes and model.max_bytes < student.params:
        student = teacher.scaled(model.max_bytes / teacher.params, "rule: as large as model.max_bytes allows")
    return student


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


def autoencoder(shape: tuple[int, ...], outputs: int, width: int) -> Sizes:
    """An encoder and its mirror image."""
    macs, params = resnet(shape, outputs, width)
    return 2 * macs, 2 * params


def table(shape: tuple[int, ...], outputs: int, width: int) -> Sizes:
    """Three hidden layers of eight times ``model.teacher_width``."""
    return layers(shape[0] if shape else 16, 8 * width, 8 * width, 8 * width, outputs)


def window(shape: tuple[int, ...], outputs: int, width: int) -> Sizes:
    """Four convolutions of 5 steps over time, of twice ``model.teacher_width`` channels, the length halved by each."""
    steps, channels = (*shape, 1)[:2]
    macs = params = 0.0
    for inputs in (channels, 2 * width, 2 * width, 2 * width):
        steps = (steps + 1) // 2
        params += 5 * inputs * 2 * width
        macs += 5 * inputs * 2 * width * steps
    head = layers(2 * width, 32, outputs)
    return macs + head[0], params + head[1]


def forecast(shape: tuple[int, ...], outputs: int, width: int) -> Sizes:
    """Two hidden layers over the whole history."""
    return layers(max(1, shape[0]) * (shape[1] if len(shape) > 1 else 1), 8 * width, 8 * width, outputs)


def sound(shape: tuple[int, ...], outputs: int, width: int) -> Sizes:
    """A depthwise-separable network (Zhang et al. 2017, arXiv 1711.07128) over 49 x 40 log-mel energies or the frames
    that are there: a stem, then four blocks of six times ``model.teacher_width`` channels at half the resolution."""
    frames, bands = shape if len(shape) == 2 else (49, 40)
    positions, channels = ((frames + 1) // 2) * ((bands + 1) // 2), 6 * width
    a_position = 40 * channels + 4 * (9 * channels + channels**2)
    return float(positions * a_position + channels * outputs), float(a_position + channels * outputs)


def text(shape: tuple[int, ...], outputs: int, width: int) -> Sizes:
    """A transformer of 4 layers, four times ``model.teacher_width`` wide, over 64 tokens of a vocabulary of 8,192."""
    del shape
    wide = 4 * width
    blocks = 4 * 12 * wide**2
    attention = 4 * 2 * TEXT_LENGTH**2 * wide
    return float(TEXT_LENGTH * blocks + attention + wide * outputs), float(blocks + VOCABULARY * wide)


def items(shape: tuple[int, ...], outputs: int, width: int) -> Sizes:
    """Embeddings of the history, averaged, a hidden layer, a score for every item."""
    wide = 4 * width
    macs, params = layers(wide, wide, outputs)
    return macs + (shape[0] if shape else 10) * wide, params + outputs * wide


Rule = Callable[[tuple[int, ...], int, int], Sizes]
RULES: dict[str, tuple[str, Rule]] = {
    "image-classification": ("the trainer's small ResNet", resnet),
    "image-anomaly": ("a convolutional autoencoder", autoencoder),
    "tabular-classification": ("a network of three hidden layers", table),
    "tabular-regression": ("a network of three hidden layers", table),
    "series-classification": ("four convolutions over time", window),
    "forecasting": ("two hidden layers over the history", forecast),
    "audio-classification": ("a depthwise-separable network", sound),
    "text-classification": ("a transformer of 4 layers", text),
    "recommendation": ("averaged embeddings", items),
}
