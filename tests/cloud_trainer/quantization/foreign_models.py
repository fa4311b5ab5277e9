"""Small ONNX models as others would make them: no torch, no names that this project gives."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SIDE, CHANNELS, CLASSES = 8, 8, 4


def classifier(path, *, spread=0.0, seed=0, opset=17, batch="n", odd=False):
    """conv -> ReLU -> depthwise conv -> ReLU -> mean -> dense. ``spread``: decades by which the scales of the channels
    between the convolutions differ, which changes nothing in float. ``odd``: with an operator that has no int8 form."""
    rng = np.random.default_rng(seed)
    scale = 10.0 ** rng.uniform(-spread / 2, spread / 2, CHANNELS)
    weights = {
        "w1": rng.normal(size=(CHANNELS, 1, 3, 3)) * scale[:, None, None, None],
        "b1": rng.normal(size=CHANNELS) * 0.1 * scale,
        "w2": rng.normal(size=(CHANNELS, 1, 3, 3)) / scale[:, None, None, None],
        "b2": rng.normal(size=CHANNELS) * 0.1,
        "w3": rng.normal(size=(CHANNELS, CLASSES)),
        "b3": np.zeros(CLASSES),
    }
    if not odd:  # every class about as often as any other
        weights["w3"], weights["b3"] = _balanced(weights)
    tail = [helper.make_node("Gemm", ["pooled", "w3", "b3"], ["raw" if odd else "scores"])]
    if odd:
        tail.append(helper.make_node("Mish" if opset >= 18 else "Softsign", ["raw"], ["scores"]))
    nodes = [
        helper.make_node("Conv", ["picture", "w1", "b1"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["ra"]),
        helper.make_node("Conv", ["ra", "w2", "b2"], ["b"], pads=[1, 1, 1, 1], group=CHANNELS),
        helper.make_node("Relu", ["b"], ["rb"]),
        helper.make_node("GlobalAveragePool", ["rb"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["pooled"]),
        *tail,
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("picture", TensorProto.FLOAT, [batch, 1, SIDE, SIDE])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [batch, CLASSES])],
        [numpy_helper.from_array(values.astype(np.float32), name) for name, values in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


def _balanced(weights):
    """Dense weights and biases that give raw answers of mean 0 and spread 1 for each class."""
    x = pictures(400, 9)
    padded = np.pad(x[:, 0], ((0, 0), (1, 1), (1, 1)))
    patches = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (1, 2))
    a = np.maximum(np.einsum("nhwij,cij->nchw", patches, weights["w1"][:, 0]) + weights["b1"][:, None, None], 0)
    padded = np.pad(a, ((0, 0), (0, 0), (1, 1), (1, 1)))
    patches = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (2, 3))
    b = np.maximum(np.einsum("nchwij,cij->nchw", patches, weights["w2"][:, 0]) + weights["b2"][:, None, None], 0)
    mean = b.mean((2, 3))
    normal = (mean - mean.mean(0)) / mean.std(0)
    raw = normal @ weights["w3"]
    w3 = weights["w3"] / mean.std(0)[:, None] / raw.std(0)
    return w3, -(mean.mean(0) @ w3)


def pictures(count, seed):
    """Noise of different strength."""
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(count, 1, SIDE, SIDE)) * rng.uniform(0.2, 2.0, (count, 1, 1, 1))).astype(np.float32)


def samples(path, count=200, seed=1):
    """The pictures that the file is surest of, out of three times as many, and the classes that it gives them: so fp32
    is always right."""
    import onnxruntime

    x = pictures(3 * count, seed)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    rows = np.array([session.run(None, {"picture": one[None]})[0][0] for one in x])
    ordered = np.sort(rows, axis=1)
    sure = np.sort(np.argsort(ordered[:, -2] - ordered[:, -1])[:count])
    return x[sure], rows[sure].argmax(1)
