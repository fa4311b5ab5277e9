"""The networks that the benchmarks run, as ONNX files: made with numpy from a fixed seed, the same bytes each time.

``mlp_onnx``: 16 -> 32 -> 4, ReLU: what a sensor node runs. ``cnn_onnx``: (3, 32, 32) -> 10, five 3 × 3 convolutions,
12.3 MFLOP (6.2 million multiply-adds, as ``FLOP = 2 MAC``): a small camera's. ``resnet8_onnx``: MLPerf Tiny's, of the
same sizes. Inputs are called ``input``, outputs ``logits``; axis 0 is a dynamic batch.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

MLP_SHAPE = (16,)
CNN_SHAPE = (3, 32, 32)
CONVOLUTIONS = ((3, 20, 1), (20, 32, 2), (32, 64, 2), (64, 64, 1), (64, 64, 2))
"""Channels in, channels out, stride. Sides 32, 16, 8, 8, 4."""


def mlp_onnx(path: Path) -> Path:
    """Write the 16 -> 32 -> 4 network to ``path``: input (n, 16) float32, logits (n, 4)."""
    random = np.random.default_rng(16)
    weights = []
    for index, (inputs, outputs) in enumerate(((16, 32), (32, 4))):
        weights += [
            _weight(random, f"w{index}", (outputs, inputs), inputs),
            numpy_helper.from_array(random.normal(0, 0.1, outputs).astype(np.float32), f"b{index}"),
        ]
    nodes = [
        helper.make_node("Gemm", ["input", "w0", "b0"], ["h0"], transB=1),
        helper.make_node("Relu", ["h0"], ["a0"]),
        helper.make_node("Gemm", ["a0", "w1", "b1"], ["logits"], transB=1),
    ]
    return _write(path, nodes, weights, MLP_SHAPE, 4)


def cnn_onnx(path: Path) -> Path:
    """Write the 12 MFLOP network to ``path``: input (n, 3, 32, 32) float32, logits (n, 10)."""
    random = np.random.default_rng(32)
    nodes, weights, last = [], [], "input"
    for index, (inputs, outputs, stride) in enumerate(CONVOLUTIONS):
        weights += [
            _weight(random, f"w{index}", (outputs, inputs, 3, 3), inputs * 9),
            numpy_helper.from_array(random.normal(0, 0.1, outputs).astype(np.float32), f"b{index}"),
        ]
        nodes += [
            helper.make_node(
                "Conv", [last, f"w{index}", f"b{index}"], [f"c{index}"], pads=[1] * 4, strides=[stride] * 2
            ),
            helper.make_node("Relu", [f"c{index}"], [f"a{index}"]),
        ]
        last = f"a{index}"
    weights += [
        _weight(random, "w", (10, 64), 64),
        numpy_helper.from_array(random.normal(0, 0.1, 10).astype(np.float32), "b"),
    ]
    nodes += [
        helper.make_node("GlobalAveragePool", [last], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["features"], axis=1),
        helper.make_node("Gemm", ["features", "w", "b"], ["logits"], transB=1),
    ]
    return _write(path, nodes, weights, CNN_SHAPE, 10)


def resnet8_onnx(path: Path) -> Path:
    """MLPerf Tiny's ResNet8 with random weights, its normalisations folded in: memory does not ask what it knows."""
    random = np.random.default_rng(8)
    nodes: list[Any] = []
    weights: list[Any] = []

    def convolution(source: str, name: str, inputs: int, outputs: int, stride: int, side: int) -> str:
        weights.append(_weight(random, f"w{name}", (outputs, inputs, side, side), inputs * side * side))
        given = [source, f"w{name}"]
        shape = {"pads": [side // 2] * 4, "strides": [stride] * 2}
        nodes.append(helper.make_node("Conv", given, [f"c{name}"], **shape))
        return f"c{name}"

    def relu(source: str) -> str:
        nodes.append(helper.make_node("Relu", [source], [f"a{source}"]))
        return f"a{source}"

    last = relu(convolution("input", "0", 3, 16, 1, 3))
    for block, (inputs, outputs, stride) in enumerate(((16, 16, 1), (16, 32, 2), (32, 64, 2))):
        inner = relu(convolution(last, f"{block}a", inputs, outputs, stride, 3))
        inner = convolution(inner, f"{block}b", outputs, outputs, 1, 3)
        beside = last if stride == 1 else convolution(last, f"{block}s", inputs, outputs, stride, 1)
        nodes.append(helper.make_node("Add", [inner, beside], [f"sum{block}"]))
        last = relu(f"sum{block}")
    weights.append(_weight(random, "w", (64, 10), 64))
    nodes += [
        helper.make_node("GlobalAveragePool", [last], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"], axis=1),
        helper.make_node("MatMul", ["flat", "w"], ["logits"]),
    ]
    return _write(path, nodes, weights, (3, 32, 32), 10)


def _weight(random: np.random.Generator, name: str, shape: tuple[int, ...], fan_in: int) -> Any:
    return numpy_helper.from_array(random.normal(0, np.sqrt(2 / fan_in), shape).astype(np.float32), name)


def _write(path: Path, nodes: list[Any], weights: list[Any], shape: tuple[int, ...], classes: int) -> Path:
    graph = helper.make_graph(
        nodes,
        path.stem,
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["n", *shape])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", classes])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())
    return path
