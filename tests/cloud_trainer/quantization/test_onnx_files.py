"""What stands in quantized ONNX files, and that ONNX Runtime's optimizer leaves it so."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from cloud_trainer.exporting.fold import folded
from cloud_trainer.exporting.to_onnx import export_onnx
from cloud_trainer.models import ResNet, build
from cloud_trainer.quantization.agreement import sqnr
from cloud_trainer.quantization.onnx_static import (
    observe_extremes,
    onnx_layers,
    prepare,
    quantize_onnx,
    static,
    stems,
)
from cloud_trainer.quantization.onnx_weights import attends, quantize_weights
from shared.errors import ExportError
from tests.cloud_trainer.quantization.foreign_models import classifier, pictures

LEVELS = onnxruntime.GraphOptimizationLevel


def run(path, x, level=LEVELS.ORT_ENABLE_ALL):
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = level
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: x})[0]


def test_a_layer_left_in_float_is_not_quantized_by_the_runtime_behind_our_back(tmp_path):
    x = pictures(64, 1)
    fp32 = classifier(tmp_path / "net.onnx", spread=3.0)
    prepare(fp32, tmp_path / "prepared.onnx")
    model = onnx.load(tmp_path / "prepared.onnx")
    for at, node in enumerate(model.graph.node):
        node.name = f"{node.op_type}_{at}"
    onnx.save(model, tmp_path / "prepared.onnx")
    ranges = observe_extremes(tmp_path / "prepared.onnx", {"picture": x})
    static(tmp_path / "prepared.onnx", tmp_path / "q.onnx", ranges=ranges, activations="uint8", leave=("Conv_2",))
    plain, optimized = (run(tmp_path / "q.onnx", x, level) for level in (LEVELS.ORT_DISABLE_ALL, LEVELS.ORT_ENABLE_ALL))
    assert sqnr(plain, optimized) > 40


def test_a_mean_over_a_map_is_computed_in_int8(tmp_path):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Conv2d(1, 8, 3), nn.Linear(8, 3)

        def forward(self, x):
            return self.b(torch.relu(self.a(x)).mean((2, 3)))

    fp32, int8 = tmp_path / "fp32.onnx", tmp_path / "int8.onnx"
    export_onnx(Net().eval(), (1, 8, 8), fp32, outputs=("logits",))
    x = pictures(64, 1)
    quantize_onnx(fp32, int8, x, activations="uint8", input_name="input")
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    onnxruntime.InferenceSession(str(int8), options, providers=["CPUExecutionProvider"])
    found = Counter(node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node)
    assert found["QLinearGlobalAveragePool"] == 1
    assert not found["ReduceMean"]
    assert sqnr(run(fp32, x), run(int8, x)) > 25


def test_layers_are_those_with_constant_weights(tmp_path):
    fp32 = classifier(tmp_path / "net.onnx")
    assert len(onnx_layers(fp32)) == 3
    assert not attends(fp32)


@pytest.mark.parametrize("bits", [4, 8])
def test_weights_alone_are_smaller_and_answers_close(tmp_path, bits):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.table, self.wide, self.out = nn.Embedding(300, 32), nn.Linear(32, 128), nn.Linear(128, 4)

        def forward(self, ids):
            return self.out(torch.relu(self.wide(self.table(ids)))).mean(1)

    torch.manual_seed(0)
    fp32, small = tmp_path / "fp32.onnx", tmp_path / "small.onnx"
    export_onnx(Net().eval(), (5,), fp32, tokens=True, outputs=("logits",))
    quantize_weights(fp32, small, bits)
    ids = np.random.default_rng(0).integers(0, 300, (40, 5))
    assert small.stat().st_size < 0.5 * fp32.stat().st_size
    assert {8: 30, 4: 15}[bits] < sqnr(run(fp32, ids), run(small, ids)) < 80


def test_a_model_without_weights_has_none_to_quantize(tmp_path):
    fp32 = tmp_path / "fp32.onnx"
    export_onnx(nn.ReLU(), (4,), fp32, outputs=("y",))
    with pytest.raises(ExportError, match="no matrix, convolution or embedding table"):
        quantize_weights(fp32, tmp_path / "small.onnx", 8)


def test_the_convolution_that_sees_the_input_stays_in_float_on_x86(tmp_path):
    fp32 = tmp_path / "fp32.onnx"
    export_onnx(folded(build(ResNet(input=(12, 12, 3), outputs=4, width=16, channels_last=True), 0)), (12, 12, 3), fp32)
    x = np.random.default_rng(0).normal(size=(64, 12, 12, 3)).astype(np.float32)
    for activations, floats in (("uint8", 1), ("int8", 0)):
        path = tmp_path / f"{activations}.onnx"
        quantize_onnx(fp32, path, x, activations=activations, input_name="input")
        graph = onnx.load(path).graph
        large = [one for one in graph.initializer if len(one.dims) == 4 and one.data_type == onnx.TensorProto.FLOAT]
        assert len(large) == floats
        assert sqnr(run(fp32, x), run(path, x)) > 15


def test_a_convolution_with_most_of_the_weights_is_no_stem(tmp_path):
    fp32 = classifier(tmp_path / "net.onnx")
    prepare(fp32, tmp_path / "prepared.onnx")
    assert stems(tmp_path / "prepared.onnx") == ()
