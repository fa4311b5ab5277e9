"""Which channels of a network belong together: cut one, and all of its group must go.

Walks the captured graph once. A convolution or dense layer begins a new group for its outputs; a depthwise convolution,
an activation, a pool goes on with its input's; a sum makes its operands one group. What cannot be followed (attention,
normalisation over channels, concatenation) freezes the groups that meet it, and so do inputs and outputs.
"""

from __future__ import annotations

from typing import Any

import torch
from msgspec import Struct, field
from torch import nn

from cloud_trainer.export.to_onnx import quiet, zeros

_aten = torch.ops.aten
CONVOLUTIONS = {_aten.conv1d.default, _aten.conv2d.default}
SAME = {
    "relu", "relu_", "hardtanh", "hardtanh_", "hardswish", "hardswish_", "hardsigmoid", "sigmoid", "silu", "silu_",
    "gelu", "tanh", "elu", "leaky_relu", "clamp", "dropout", "dropout_", "clone", "contiguous", "max_pool1d",
    "max_pool2d", "avg_pool1d", "avg_pool2d", "adaptive_avg_pool1d", "adaptive_avg_pool2d", "pad", "constant_pad_nd",
    "slice", "alias", "detach", "to",
}  # fmt: skip
JOINED = {"add", "add_", "sub", "mul", "mul_", "maximum"}


class Use(Struct, frozen=True):
    """A parameter's axis that is as long as the group: ``made`` gives the channels, else it reads them. ``input_of`` a
    depthwise convolution there is none: its one weight is ``made`` for each channel."""

    parameter: str
    axis: int
    made: bool


class Group(Struct):
    """Channels that are cut together."""

    size: int
    uses: list[Use] = field(default_factory=list)
    frozen: str = ""
    """Why nothing may be cut; empty: it may."""
    into: Group | None = None

    def root(self) -> Group:
        """The group that this one has become part of."""
        found = self
        while found.into is not None:
            found = found.into
        return found


class Place(Struct, frozen=True):
    """Where a tensor has its channels."""

    group: Group
    axis: int


def groups_of(model: nn.Module, input_shape: tuple[int, ...], *, tokens: bool = False) -> list[Group]:
    """Every group of ``model``, in the order of its layers, frozen ones too."""
    with quiet("torch.export"):
        program = torch.export.export(model, (zeros(input_shape, 1, tokens=tokens),))
    walk = _Walk(program)
    for node in program.graph.nodes:
        walk.see(node)
    found: list[Group] = []
    for group in walk.groups:
        root = group.root()
        if root.uses and all(root is not other for other in found):
            found.append(root)
    return found


class _Walk:
    def __init__(self, program: Any) -> None:
        self.parameters: dict[str, str] = dict(program.graph_signature.inputs_to_parameters)
        self.places: dict[Any, Place] = {}
        self.groups: list[Group] = []

    def see(self, node: Any) -> None:
        if node.op == "output":
            self.freeze(node.all_input_nodes, "an output of the network")
        elif node.op == "call_function":
            name = getattr(node.target, "__name__", str(node.target)).split(".")[0]
            place = self.step(node, name)
            if place is not None:
                self.places[node] = place

    def step(self, node: Any, name: str) -> Place | None:
        first = node.args[0] if node.args else None
        if node.target in CONVOLUTIONS:
            return self.convolution(node)
        if name == "linear":
            return self.dense(node)
        before = self.places.get(first)
        if name in JOINED:
            return self.join(node)
        if before is None:
            self.freeze(node.all_input_nodes, name)
            return None
        if name in SAME:
            return before
        if name == "mean":
            return self.mean(node, before)
        if name == "permute":
            return Place(before.group, [int(i) % len(node.args[1]) for i in node.args[1]].index(before.axis))
        if name == "transpose":
            rank = len(node.meta["val"].shape)
            a, b = (int(i) % rank for i in node.args[1:3])
            return Place(before.group, {a: b, b: a}.get(before.axis, before.axis))
        if name in {"flatten", "view", "reshape", "squeeze", "unsqueeze", "_unsafe_view"}:
            return self.reshaped(node, before, name)
        self.freeze(node.all_input_nodes, name)
        return None

    def convolution(self, node: Any) -> Place | None:
        x, weight = node.args[:2]
        name = self.parameters.get(weight.name)
        groups = int(node.args[6]) if len(node.args) > 6 else 1
        before = self.places.get(x)
        if name is None:
            self.freeze(node.all_input_nodes, "weights that are computed")
            return None
        shape = weight.meta["val"].shape
        if groups == 1:
            if before is not None:
                self.read(before, name, 1, 1)
            return self.new(node, name, int(shape[0]))
        if before is None or groups != shape[0] or shape[1] != 1 or before.axis != 1:
            self.freeze([x], "a grouped convolution")
            return self.new(node, name, int(shape[0]), frozen="a grouped convolution")
        self.made(before.group, node, name)
        return before

    def dense(self, node: Any) -> Place | None:
        x, weight = node.args[:2]
        name = self.parameters.get(weight.name)
        if name is None:
            self.freeze(node.all_input_nodes, "weights that are computed")
            return None
        before = self.places.get(x)
        if before is not None:
            self.read(before, name, 1, len(x.meta["val"].shape) - 1)
        return self.new(node, name, int(weight.meta["val"].shape[0]), axis=len(node.meta["val"].shape) - 1)

    def read(self, before: Place, name: str, axis: int, expected: int) -> None:
        root = before.group.root()
        if before.axis != expected:
            root.frozen = root.frozen or "a layer that reads another axis"
            return
        root.uses.append(Use(name, axis, made=False))

    def new(self, node: Any, name: str, size: int, *, axis: int = 1, frozen: str = "") -> Place:
        group = Group(size, frozen=frozen)
        self.groups.append(group)
        self.made(group, node, name)
        return Place(group, axis)

    def made(self, group: Group, node: Any, name: str) -> None:
        root = group.root()
        root.uses.append(Use(name, 0, made=True))
        bias = node.args[2] if len(node.args) > 2 else None
        if bias is not None and bias.name in self.parameters:
            root.uses.append(Use(self.parameters[bias.name], 0, made=True))

    def join(self, node: Any) -> Place | None:
        sides = [a for a in node.args[:2] if isinstance(a, torch.fx.Node)]
        places = [self.places.get(a) for a in sides]
        if len(sides) == 1:
            return places[0]
        first, second = places
        same = [len(a.meta["val"].shape) for a in sides]
        if first is None or second is None or first.axis != second.axis or same[0] != same[1]:
            self.freeze(sides, "a sum with something that has no channels")
            return first or second
        one, other = first.group.root(), second.group.root()
        if one is not other:
            if one.size != other.size:
                self.freeze(sides, "a sum of different widths")
                return first
            one.uses += other.uses
            one.frozen = one.frozen or other.frozen
            other.into = one
        return first

    def mean(self, node: Any, before: Place) -> Place | None:
        rank = len(node.args[0].meta["val"].shape)
        axes = sorted(int(a) % rank for a in (node.args[1] or range(rank)))
        if before.axis in axes:
            self.freeze([node.args[0]], "a mean over channels")
            return None
        kept = (len(node.args) > 2 and bool(node.args[2])) or bool(node.kwargs.get("keepdim"))
        return before if kept else Place(before.group, before.axis - sum(a < before.axis for a in axes))

    def reshaped(self, node: Any, before: Place, name: str) -> Place | None:
        """Followed where the axis survives by its size, and nothing but sizes of 1 has moved around it."""
        old, new = (list(n.meta["val"].shape) for n in (node.args[0], node))
        spots = [i for i, n in enumerate(new) if n == before.group.size and i]
        if len(spots) == 1 and [n for n in old if n != 1] == [n for n in new if n != 1]:
            return Place(before.group, spots[0])
        self.freeze([node.args[0]], name)
        return None

    def freeze(self, nodes: Any, why: str) -> None:
        for node in nodes:
            place = self.places.get(node)
            if place is not None:
                root = place.group.root()
                root.frozen = root.frozen or why
