"""Multiply-accumulate operations of a network for one sample, counted while it runs."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor, nn

from cloud_trainer.models.resnet import MAX_WIDTH, Shape, SmallResNet
from shared.errors import TrainingError


def count_macs(model: nn.Module, sample: Tensor) -> int:
    """MACs of convolutions and dense layers for ``sample`` (1, *input); what else there is costs next to nothing.

    A convolution costs output elements x kernel elements x input channels / groups; a dense layer inputs x outputs
    for each row.
    """
    total = 0

    def convolution(layer: nn.Module, _: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal total
        assert isinstance(layer, nn.Conv2d)
        total += output.numel() * layer.weight[0].numel()

    def dense(layer: nn.Module, _: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal total
        assert isinstance(layer, nn.Linear)
        total += output.numel() * layer.in_features

    hooks: dict[type[nn.Module], Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]] = {
        nn.Conv2d: convolution,
        nn.Linear: dense,
    }
    handles = [m.register_forward_hook(hooks[type(m)]) for m in model.modules() if type(m) in hooks]
    was_training = model.training
    try:
        model.eval()
        with torch.no_grad():
            model(sample)
    finally:
        model.train(was_training)
        for handle in handles:
            handle.remove()
    return total


@lru_cache(maxsize=512)
def macs_of(shape: Shape) -> int:
    """MACs of the network of this shape, counted without memory for its weights."""
    with torch.device("meta"):
        return count_macs(SmallResNet(shape), torch.empty(1, *shape.input))


def widest_within(shape: Shape, limit: float) -> Shape:
    """``shape`` with the largest width whose MACs are at most ``limit``.

    Raises:
        TrainingError: even a width of 1 costs more.
    """
    low, high = 0, min(shape.width, MAX_WIDTH)
    while low < high:  # invariant: low fits (or is 0), everything above high does not
        middle = (low + high + 1) // 2
        low, high = (middle, high) if macs_of(shape.with_width(middle)) <= limit else (low, middle - 1)
    if not low:
        raise TrainingError(
            f"no student fits into {limit:.0f} MACs: width 1 needs {macs_of(shape.with_width(1))}; "
            "raise model.mac_share or model.teacher_width"
        )
    return shape.with_width(low)
