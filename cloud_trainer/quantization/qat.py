"""Quantization-aware training: the network learns with the rounding in it (Jacob et al. 2018, arXiv 1712.05877).

The network, batch normalisation folded, is captured with a dynamic batch; torchao's PT2E flow puts a fake quantizer on
every activation that a convolution, dense layer or sum reads, and on every weight, channel by channel: as the files
will have them. After training, the weights go back into a plain network, which is exported like any other: so the
result runs in both runtimes, and no exporter has to know what a fake quantizer is. The ranges that were learned go with
them (:class:`Learned`): a network that was trained with them is no longer right without.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any

import torch
from msgspec import Struct
from torch import Tensor, nn

from cloud_trainer.exporting.fold import folded
from cloud_trainer.exporting.to_onnx import quiet, zeros
from cloud_trainer.quantization.ranges import Ranges
from shared.errors import ExportError, one_line

Finetune = Callable[[nn.Module], None]
"""Trains a network in place, for some epochs; may call ``train()`` and ``eval()`` on it."""

AVERAGING = 0.05
SAME = 1e-3
"""Relative difference up to which two tensors' extremes are the same."""


class Learned(Struct, frozen=True):
    """An activation's range, and how to find the tensor in an exported file: by the extremes (``low``, ``high``) that
    it has, unclipped, over the calibration samples."""

    low: float
    high: float
    range: tuple[float, float]


class Aware(Struct, frozen=True, eq=False):
    """A network in evaluation mode that was trained under int8 rounding, and the ranges that it was trained with."""

    model: nn.Module
    learned: tuple[Learned, ...]

    def ranges(self, extremes: Ranges) -> Ranges:
        """The learned range of every tensor whose ``extremes`` are those of a trained one; the others keep theirs."""
        return {name: self._found(low, high) or (low, high) for name, (low, high) in extremes.items()}

    def _found(self, low: float, high: float) -> tuple[float, float] | None:
        near = SAME * max(high - low, 1e-12)
        for one in self.learned:
            if abs(one.low - low) <= near and abs(one.high - high) <= near:
                return one.range
        return None


def aware(
    model: nn.Module, input_shape: tuple[int, ...], calibration: Tensor, finetune: Finetune, *, tokens: bool = False
) -> Aware:
    """A copy of ``model``, folded and in evaluation mode, whose weights were trained by ``finetune`` under int8
    rounding. Ranges start at what ``calibration`` (n, *input_shape) causes.

    Raises:
        ExportError: the network can't be captured, or torchao can't prepare it.
    """
    plain = folded(model)
    try:
        with quiet("torch.export", "torchao"):
            prepared = _prepared(plain, input_shape, tokens=tokens)
            with torch.no_grad():
                for part in torch.split(calibration, 64):
                    prepared(part)
    except Exception as error:  # capture and preparation raise whatever their passes raise
        raise ExportError(f"quantization-aware training is not possible: {one_line(error)}") from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torchao's own deprecations, at every step
        finetune(prepared)
        return Aware(with_weights(plain, prepared), _learned(prepared, calibration))


def _learned(prepared: nn.Module, calibration: Tensor) -> tuple[Learned, ...]:
    """Range and unclipped extremes of every activation that has a fake quantizer."""
    from torchao.quantization.pt2e import FusedMovingAvgObsFakeQuantize, disable_fake_quant, disable_observer

    prepared.apply(disable_observer)
    prepared.apply(disable_fake_quant)
    seen: dict[nn.Module, tuple[float, float]] = {}

    def note(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        low, high = seen.get(module, (float("inf"), float("-inf")))
        seen[module] = min(low, float(inputs[0].min())), max(high, float(inputs[0].max()))

    activations: list[Any] = [
        module
        for module in prepared.modules()
        if isinstance(module, FusedMovingAvgObsFakeQuantize) and module.qscheme == torch.per_tensor_affine
    ]
    handles = [module.register_forward_pre_hook(note) for module in activations]
    prepared.eval()
    with torch.no_grad():
        for part in torch.split(calibration, 64):
            prepared(part)
    for handle in handles:
        handle.remove()
    found = []
    for module in activations:
        if module in seen:
            observer = module.activation_post_process
            span = min(float(observer.min_val), 0.0), max(float(observer.max_val), 0.0)
            found.append(Learned(*seen[module], span))
    return tuple(found)


def with_weights(plain: nn.Module, trained: nn.Module) -> nn.Module:
    """A copy of ``plain`` in evaluation mode with the parameters of ``trained`` that have the same names."""
    result = copy.deepcopy(plain).eval()
    learned = trained.state_dict()
    own = result.state_dict()
    missing = [name for name, _ in plain.named_parameters() if name not in learned]
    if missing:
        raise ExportError(f"quantization-aware training lost {missing[0]} of the network")
    result.load_state_dict({name: learned.get(name, value) for name, value in own.items()})
    return result


def _prepared(plain: nn.Module, input_shape: tuple[int, ...], *, tokens: bool) -> nn.Module:
    from torchao.quantization.pt2e import allow_exported_model_train_eval
    from torchao.quantization.pt2e.quantize_pt2e import prepare_qat_pt2e

    batch = torch.export.Dim("batch", min=1, max=1 << 20)
    sample = (zeros(input_shape, 2, tokens=tokens),)
    captured = torch.export.export(plain, sample, dynamic_shapes=({0: batch},)).module()
    prepared: Any = prepare_qat_pt2e(captured, _quantizer())
    allowed: nn.Module = allow_exported_model_train_eval(prepared)
    return allowed


def _quantizer() -> Any:
    """Annotates what the runtimes quantize: activations unsigned with a zero point, weights signed by channel."""
    from torchao.quantization.pt2e import (
        FusedMovingAvgObsFakeQuantize,
        MovingAverageMinMaxObserver,
        MovingAveragePerChannelMinMaxObserver,
    )
    from torchao.quantization.pt2e.quantizer import QuantizationAnnotation, QuantizationSpec, Quantizer

    activation = QuantizationSpec(
        dtype=torch.uint8,
        observer_or_fake_quant_ctr=FusedMovingAvgObsFakeQuantize.with_args(
            observer=MovingAverageMinMaxObserver, averaging_constant=AVERAGING
        ),
        quant_min=0,
        quant_max=255,
        qscheme=torch.per_tensor_affine,
    )
    weight = QuantizationSpec(
        dtype=torch.int8,
        observer_or_fake_quant_ctr=FusedMovingAvgObsFakeQuantize.with_args(
            observer=MovingAveragePerChannelMinMaxObserver, averaging_constant=1.0
        ),
        quant_min=-127,
        quant_max=127,
        qscheme=torch.per_channel_symmetric,
        ch_axis=0,
    )
    aten = torch.ops.aten
    weighted = {aten.conv1d.default, aten.conv2d.default, aten.linear.default}
    sums = {aten.add.Tensor, aten.add_.Tensor}

    class Annotator(Quantizer):  # type: ignore[misc]  # torchao ships no types
        def annotate(self, model: Any) -> Any:
            for node in model.graph.nodes:
                inputs = {}
                if node.target in weighted:
                    inputs = {node.args[0]: activation, node.args[1]: weight}
                elif node.target in sums:
                    inputs = {arg: activation for arg in node.args[:2] if isinstance(arg, torch.fx.Node)}
                if inputs:
                    node.meta["quantization_annotation"] = QuantizationAnnotation(
                        input_qspec_map=inputs, _annotated=True
                    )
            return model

        def validate(self, model: Any) -> None:
            del model

    return Annotator()
