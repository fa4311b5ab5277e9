"""Files without names and notes answer as before, and say nothing about the machine they were made on."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper
from torch import nn

from cloud_trainer.exporting.to_onnx import export_onnx
from cloud_trainer.models import ResNet, build
from cloud_trainer.quantization.onnx_lean import make_lean
from cloud_trainer.quantization.onnx_static import quantize_onnx
from tests.cloud_trainer.quantization.foreign_models import pictures


def run(path, x):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_outputs()]
    return dict(zip(names, session.run(None, {session.get_inputs()[0].name: x}), strict=True))


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    path = tmp_path_factory.mktemp("lean") / "fp32.onnx"
    model = build(ResNet(input=(1, 8, 8), outputs=10, width=8), 0).eval()
    export_onnx(model, (1, 8, 8), path)
    return path


def test_a_lean_file_is_smaller_and_gives_the_same_answers(exported, tmp_path):
    x, path = pictures(32, 1), tmp_path / "int8.onnx"
    quantize_onnx(exported, path, x, activations="uint8", input_name="input")
    wanted, before = run(path, x), path.stat().st_size
    make_lean(path)
    onnx.checker.check_model(onnx.load(path), full_check=True)
    found = run(path, x)
    assert set(found) == {"logits", "embedding"}
    for name, values in wanted.items():
        np.testing.assert_array_equal(found[name], values)
    assert path.stat().st_size < 0.8 * before
    names = [one.name for one in onnx.load(path).graph.initializer]
    assert len(set(names)) == len(names)


def test_model_files_do_not_tell_where_they_were_made(exported):
    content = exported.read_bytes()
    assert b".py" not in content
    assert b"stack_trace" not in content


def test_a_model_with_a_graph_inside_stays_as_it_is(tmp_path):
    scalar = helper.make_tensor_value_info("chosen", TensorProto.FLOAT, [2])
    branch = helper.make_graph([helper.make_node("Identity", ["long_name_outside"], ["chosen"])], "b", [], [scalar])
    nodes = [
        helper.make_node("Relu", ["x"], ["long_name_outside"]),
        helper.make_node("If", ["yes"], ["y"], then_branch=branch, else_branch=branch),
    ]
    inputs = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, [2]),
        helper.make_tensor_value_info("yes", TensorProto.BOOL, []),
    ]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2])]
    path = tmp_path / "if.onnx"
    onnx.save(helper.make_model(helper.make_graph(nodes, "g", inputs, outputs)), path)
    before = path.read_bytes()
    make_lean(path)
    assert path.read_bytes() == before


def test_equal_constants_are_kept_once_and_short_names_meet_nobodys(tmp_path):
    class Net(nn.Module):
        def forward(self, x):
            return x * 2.0 + 2.0

    path = tmp_path / "net.onnx"
    export_onnx(Net(), (3,), path, outputs=("a0",))
    make_lean(path)
    np.testing.assert_allclose(run(path, np.ones((2, 3), np.float32))["a0"], torch.full((2, 3), 4.0))
