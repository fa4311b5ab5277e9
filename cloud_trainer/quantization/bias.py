"""Bias correction (Nagel et al. 2019, arXiv 1906.04721): rounding a layer's weights moves the mean of what it gives;
the bias takes that back."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from cloud_trainer.exporting.fold import folded

LAYERS = (nn.Conv1d, nn.Conv2d, nn.Linear)


def corrected(model: nn.Module, calibration: Tensor) -> nn.Module:
    """A folded copy whose biases make up for 8-bit weights, by the mean of every layer's input over ``calibration``.
    Its float answers are off by as much as the int8 file's are closer: for quantization only."""
    plain = folded(model)
    means: dict[nn.Module, Tensor] = {}

    def note(layer: nn.Module, inputs: tuple[Any, ...]) -> None:
        x = inputs[0]
        axis = x.ndim - 1 if isinstance(layer, nn.Linear) else 1
        means[layer] = x.mean([i for i in range(x.ndim) if i != axis])

    handles = [m.register_forward_pre_hook(note) for m in plain.modules() if isinstance(m, LAYERS)]
    with torch.no_grad():
        plain(calibration)
        for handle in handles:
            handle.remove()
        for layer, mean in means.items():
            weight: Any = layer.weight
            if layer.bias is not None:
                bias: Any = layer.bias
                bias -= _moved(layer, weight, mean)
    return plain


def _moved(layer: nn.Module, weight: Tensor, mean: Tensor) -> Tensor:
    """(outputs,): what the rounding of ``weight`` adds to the mean of each output."""
    scale = weight.abs().flatten(1).amax(1).clamp_min(1e-12) / 127
    shape = (-1, *([1] * (weight.ndim - 1)))
    gap = torch.round(weight / scale.view(shape)) * scale.view(shape) - weight
    by_input = gap.flatten(2).sum(2) if weight.ndim > 2 else gap  # (outputs, inputs of the group)
    groups = int(getattr(layer, "groups", 1))
    seen = mean.view(groups, -1).repeat_interleave(len(weight) // groups, 0)
    return (by_input * seen).sum(1)
