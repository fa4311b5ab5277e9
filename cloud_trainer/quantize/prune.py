"""Structured pruning: the least important channels of a trained network cut off for good (Li et al. 2017,
arXiv 1608.08710), so that MACs and bytes go down in every runtime, and nothing has to know about sparsity.

A channel's importance is what its filter weighs times what its readers make of it (sums of absolute weights, batch
normalisation folded in): scaling a layer up and the next one down changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from msgspec import Struct
from torch import Tensor, nn

from cloud_trainer.export.fold import folded
from cloud_trainer.export.to_onnx import zeros
from cloud_trainer.export.variants import Student
from cloud_trainer.models.macs import count_macs
from cloud_trainer.quantize.channels import Group, groups_of
from cloud_trainer.quantize.qat import Finetune
from shared.errors import ExportError, one_line

SMALLEST = 2
"""Channels that every group keeps."""


class Pruned(Struct, frozen=True, eq=False):
    """``student`` is the smaller one, fine-tuned. ``channels``: (before, after) of each group that was cut;
    ``left``: why others were not."""

    student: Student
    macs: tuple[int, int]
    parameters: tuple[int, int]
    channels: tuple[tuple[int, int], ...]
    left: tuple[str, ...]

    @property
    def text(self) -> str:
        """One line for the report."""
        cut = sum(a - b for a, b in self.channels)
        return (
            f"{cut} of {sum(a for a, _ in self.channels)} channels pruned: {self.macs[0]:,} to {self.macs[1]:,} MACs, "
            f"{self.parameters[0]:,} to {self.parameters[1]:,} parameters"
        )


def prune(student: Student, share: float, finetune: Finetune | None = None) -> Pruned:
    """``student`` with ``share`` of the channels of every group cut off, then fine-tuned.

    Raises:
        ExportError: nothing in this network can be cut, in one line with the reason.
    """
    model = folded(student.model)
    try:
        groups = groups_of(model, student.input, tokens=student.tokens)
    except Exception as error:  # torch.export raises whatever tracing raises
        raise ExportError(f"{student.name} can't be pruned: {one_line(error)}") from error
    parameters = dict(model.named_parameters())
    before = sum(p.numel() for p in parameters.values())
    channels = []
    for group in groups:
        keep = kept(importance(group, parameters), share)
        if group.frozen or len(keep) == group.size:
            continue
        channels.append((group.size, len(keep)))
        for use in group.uses:
            _cut(model, use.parameter, use.axis, keep)
    reasons = tuple(dict.fromkeys(g.frozen for g in groups if g.frozen))
    if not channels:
        why = f"all of its channels meet {', '.join(reasons)}" if reasons else "it is too narrow"
        raise ExportError(f"{student.name} can't be pruned: {why}")
    sample = zeros(student.input, 1, tokens=student.tokens)
    try:
        with torch.no_grad():
            model(sample)
    except RuntimeError as error:  # a width that stands in the network's own code
        raise ExportError(f"{student.name} can't be pruned: {one_line(error)}") from error
    if finetune is not None:
        finetune(model)
    model.eval()
    macs = count_macs(folded(student.model), sample), count_macs(model, sample)
    smaller = Student(
        model=model,
        input=student.input,
        macs=macs[1],
        name=f"{student.name}-pruned",
        calibration=student.calibration,
        tokens=student.tokens,
        answer=student.answer,
    )
    after = sum(p.numel() for p in model.parameters())
    return Pruned(smaller, macs, (before, after), tuple(channels), reasons)


def importance(group: Group, parameters: Mapping[str, Tensor]) -> Tensor:
    """(size,): weight of each channel's filters times weight of its readers."""
    made, read = torch.zeros(group.size), torch.zeros(group.size)
    for use in group.uses:
        weight = parameters[use.parameter].detach().abs()
        if weight.ndim == 1:
            continue
        total = weight.transpose(0, use.axis).flatten(1).sum(1)
        if use.made:
            made = made + total
        else:
            read = read + total
    return made * read if read.any() else made


def kept(importance: Tensor, share: float) -> Tensor:
    """Indices of the channels that stay, in order.

    >>> kept(torch.tensor([3.0, 1.0, 2.0, 4.0]), 0.5).tolist()
    [0, 3]
    """
    count = max(min(SMALLEST, len(importance)), round(len(importance) * (1 - share)))
    return importance.argsort(descending=True, stable=True)[:count].sort().values


def _cut(model: nn.Module, parameter: str, axis: int, keep: Tensor) -> None:
    """One parameter shortened, and its layer's own numbers with it."""
    path, _, name = parameter.rpartition(".")
    layer = model.get_submodule(path)
    old = getattr(layer, name)
    depthwise = isinstance(layer, nn.Conv1d | nn.Conv2d) and layer.groups > 1
    setattr(layer, name, nn.Parameter(old.detach().index_select(axis, keep).clone()))
    if name != "weight":
        return
    size = len(keep)
    if isinstance(layer, nn.Conv1d | nn.Conv2d):
        if depthwise:
            layer.groups = layer.in_channels = layer.out_channels = size
        elif axis == 0:
            layer.out_channels = size
        else:
            layer.in_channels = size
    elif isinstance(layer, nn.Linear):
        if axis == 0:
            layer.out_features = size
        else:
            layer.in_features = size
