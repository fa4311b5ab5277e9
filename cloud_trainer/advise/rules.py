"""How much a network of each kind of task computes, where no release says it.

The teacher is the trainer's usual one: counted in its layers where torch is installed, else by a sum over the layers of
a plain network of its size (exact for images, else within a factor of two). The student has ``model.mac_share`` of it,
or less where ``model.max_macs`` says so.
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
    macs, params = rule(tuple(shape), outputs, model.width)
    return Network(macs, params, f"rule: {name} for samples of {'x'.join(map(str, shape)) or 'text'}")


def counted(kind: str, shape: Sequence[int], outputs: int, model: ModelConfig) -> Network:
    """As :func:`teacher_of`, but MACs and parameters are counted in the trainer's usual teacher; by the rule where the
    kind has none of its own in the zoo, or torch is not installed."""
    try:
        import torch

        from cloud_trainer.models import Architecture, Cnn1d, Mlp, NextItem, ResNet, Transformer, macs_of
    except ModuleNotFoundError:
        return teacher_of(kind, shape, outputs, model)
    width, size = model.width, tuple(shape)
    usual: Architecture
    if kind.startswith("image-"):
        usual = ResNet(input=((*size, 1)[2], *size[:2]), outputs=outputs, width=width)
    elif kind == "audio-classification":
        usual = ResNet(input=spectrum(size), outputs=outputs, width=width)
    elif kind.startswith("tabular-"):
        usual = Mlp(input=size or (16,), outputs=outputs, width=8 * width, depth=3)
    elif kind == "series-classification":
        usual = Cnn1d(input=size, outputs=outputs, width=width, depth=2)
    elif kind == "text-classification":
        usual = Transformer(input=(TEXT_LENGTH,), outputs=outputs, vocabulary=VOCABULARY, width=2 * width, heads=4)
    elif kind == "recommendation":
        usual = NextItem(
            input=size or (10,), outputs=outputs, vocabulary=outputs + 1, width=2 * width, mix="transformer"
        )
    else:
        return teacher_of(kind, shape, outputs, model)
    with torch.device("meta"):
        params = sum(one.numel() for one in usual.network().parameters())
    told = "x".join(map(str, size)) or "text"
    return Network(float(macs_of(usual)), float(params), f"counted in {usual.label}, the trainer's usual, for {told}")


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
    """Three hidden layers of eight times ``model.teacher_width``."""
    return layers(shape[0] if shape else 16, 8 * width, 8 * width, 8 * width, outputs)


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
    """A transformer of 2 layers, twice ``model.teacher_width`` wide, over 64 tokens of a vocabulary of 8,192."""
    del shape
    wide = 2 * width
    blocks = 2 * 12 * wide**2
    attention = 2 * 2 * TEXT_LENGTH**2 * wide
    return float(TEXT_LENGTH * blocks + attention + wide * outputs), float(blocks + VOCABULARY * wide)


def items(shape: tuple[int, ...], outputs: int, width: int) -> Sizes:
    """Embeddings of the history, a layer of a transformer over them, a score for every item."""
    wide, block = 2 * width, 9 * (2 * width) ** 2
    return float((shape[0] if shape else 10) * block + wide * outputs), float(block + 2 * outputs * wide)


Rule = Callable[[tuple[int, ...], int, int], Sizes]
RULES: dict[str, tuple[str, Rule]] = {
    "image-classification": ("the trainer's small ResNet", resnet),
    "image-anomaly": ("the trainer's small ResNet", resnet),
    "tabular-classification": ("a network of three hidden layers", table),
    "tabular-regression": ("a network of three hidden layers", table),
    "series-classification": ("four convolutions over time", window),
    "forecasting": ("two hidden layers over the history", forecast),
    "audio-classification": ("the trainer's small ResNet over a spectrum", sound),
    "text-classification": ("a transformer of 2 layers", text),
    "recommendation": ("a layer of a transformer over the history", items),
}
