"""One's own network: what it may answer with, and what is said when it is wrong."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from cloud_trainer.exporting.fold import folded
from cloud_trainer.exporting.to_onnx import export_onnx
from cloud_trainer.exporting.to_tflite import save_program
from cloud_trainer.models import build, custom, macs_of
from shared.errors import UsageError

SOURCE = """
import torch
from torch import nn

class Both(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.a, self.b = nn.Linear(inputs, 5), nn.Linear(5, outputs)
    def forward(self, x):
        e = torch.relu(self.a(x.flatten(1)))
        return self.b(e), e

def both(input, outputs): return Both(input[0] * input[1], outputs)
def alone(input, outputs):
    return nn.Sequential(nn.Flatten(), nn.Linear(input[0] * input[1], 6), nn.ReLU(), nn.Linear(6, outputs))
def squashed(input, outputs): return nn.Sequential(*alone(input, outputs), nn.Tanh())
def bare(input, outputs): return nn.Linear(3, outputs)
def words(input, outputs): return nn.Sequential(nn.Embedding(9, 4), nn.Flatten(), nn.Linear(4 * input[0], outputs))
def number(input, outputs): return 3
def narrow(input, outputs): return alone(input, outputs - 1)
def breaks(input, outputs): raise ValueError("no such thing")
def three(input, outputs):
    class Three(nn.Module):
        def forward(self, x): return x, x, x
    return Three()
"""


@pytest.fixture(autouse=True)
def mine(tmp_path, monkeypatch):
    (tmp_path / "own_network.py").write_text(SOURCE)
    (tmp_path / "own_broken.py").write_text("import no_such_module_at_all\n")
    monkeypatch.syspath_prepend(str(tmp_path))


def test_network_with_an_embedding_of_its_own():
    model = build(custom("own_network:both", (2, 2), 3), 0)
    assert [part.shape for part in model(torch.zeros(4, 2, 2))] == [(4, 3), (4, 5)]


@pytest.mark.parametrize(("function", "size"), [("alone", 6), ("squashed", 3)])
def test_network_that_answers_alone_gets_what_goes_into_its_last_layer(function, size, tmp_path):
    a = custom(f"own_network:{function}", (2, 2), 3)
    model = folded(build(a, 0))
    x = torch.randn(5, 2, 2, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        answer, embedding = model(x)
    assert answer.shape == (5, 3)
    assert embedding.shape == (5, size)
    if function == "alone":
        last = [m for m in model.modules() if isinstance(m, nn.Linear)][-1]
        torch.testing.assert_close(last(embedding), answer)
        assert macs_of(a) == 4 * 6 + 6 * 3
    export_onnx(model, a.input, tmp_path / "m.onnx")
    save_program(model, a.input, tmp_path / "m.pt2")
    found = onnxruntime.InferenceSession(str(tmp_path / "m.onnx")).run(None, {"input": x.numpy()})
    for one, wanted in zip(found, (answer, embedding), strict=True):
        np.testing.assert_allclose(one, wanted.numpy(), rtol=1e-5, atol=1e-6)


def test_network_of_token_ids_and_its_label():
    a = custom("own_network:words", (5,), 3, tokens=True)
    assert a.label == "custom-words"
    assert build(a, 0)(a.sample(2))[0].shape == (2, 3)


def test_same_seed_same_weights_and_the_global_generator_is_left_alone():
    before = torch.random.get_rng_state()
    a = custom("own_network:alone", (2, 2), 3)
    first, second = (build(a, 1).state_dict() for _ in range(2))
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        ("own_network", "'own_network' names no function; expected module:function"),
        ("no_such_module_here:f", "cannot be imported: No module named 'no_such_module_here'"),
        ("own_broken:f", "own_broken cannot be imported: No module named 'no_such_module_at_all'"),
        ("own_network:nothing", "own_network has no function nothing"),
        ("own_network:breaks", "failed: ValueError: no such thing"),
        ("own_network:number", "gave a int; expected a torch.nn.Module"),
        ("own_network:narrow", r"answers a batch of 2 with \(2, 2\); expected \(2, 3\)"),
        ("own_network:bare", r"fails on a batch \(2, 2, 2\): mat1 and mat2"),
        ("own_network:three", "answers a batch of 2 with tuple"),
    ],
)
def test_wrong_function_is_one_line(factory, message):
    with pytest.raises(UsageError, match=message) as caught:
        custom(factory, (2, 2), 3)
    assert "\n" not in str(caught.value)
