"""Folds batch normalisation into the layer before it, so that every exporter and quantizer sees one layer."""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

M = TypeVar("M", bound=nn.Module)


def folded(model: M) -> M:
    """A copy of ``model`` in evaluation mode: same answers (to rounding), no batch normalisation behind a
    convolution or dense layer of the same ``nn.Sequential``."""
    model = copy.deepcopy(model).eval()
    # the TFLite converter reads channels-last weights as if they were not
    model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    for module in model.modules():
        if not isinstance(module, nn.Sequential):
            continue
        for i in range(len(module) - 1):
            first, second = module[i], module[i + 1]
            if isinstance(first, nn.Linear) and isinstance(second, nn.BatchNorm1d):
                module[i], module[i + 1] = fuse_linear_bn_eval(first, second), nn.Identity()
            elif isinstance(first, nn.Conv1d | nn.Conv2d) and isinstance(second, nn.BatchNorm1d | nn.BatchNorm2d):
                module[i], module[i + 1] = fuse_conv_bn_eval(first, second), nn.Identity()
    return model
