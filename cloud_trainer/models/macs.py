"""Multiply-accumulate operations of a network for one sample, counted while it runs."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from cloud_trainer.models.base import Architecture


def count_macs(model: nn.Module, sample: Tensor) -> int:
    """MACs of convolutions, dense layers and matrix products (attention) for ``sample`` (1, *input); what else there is
    costs next to nothing, and looking up an embedding nothing. Layers that torch runs as one kernel of their own
    (``nn.LSTM``, ``nn.GRU``) are not seen.

    A convolution costs output elements x kernel elements x input channels / groups; a dense layer inputs x outputs
    for each row.
    """
    was_training = model.training
    counter = FlopCounterMode(display=False)
    try:
        model.eval()
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:
            model(sample)
    finally:
        model.train(was_training)
    return int(counter.get_total_flops()) // 2


@lru_cache(maxsize=4096)
def macs_of(architecture: Architecture) -> int:
    """MACs of the network, counted without memory for its weights."""
    with torch.device("meta"):
        return count_macs(architecture.network(), architecture.sample())
