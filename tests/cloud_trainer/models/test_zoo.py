"""Every family keeps to the contract of an Architecture: in torch, in ONNX, in TFLite, in int8."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import onnxruntime
import pytest
import torch

from cloud_trainer.exporting.environment import existing_python, unsupported
from cloud_trainer.exporting.fold import folded
from cloud_trainer.exporting.to_onnx import export_onnx
from cloud_trainer.exporting.to_tflite import TfliteWorker, save_calibration, save_program
from cloud_trainer.models import FAMILIES, AnyArchitecture, architecture, build, macs_of
from cloud_trainer.quantization import quantize_onnx
from shared.errors import TrainingError, UsageError
from tests.cloud_trainer.models.zoo import MORE, ZOO, samples, warmed

ALL = ZOO | MORE
EXPORTED = [*ZOO, "next-item-transformer", "resnet-fine"]
INT8 = [name for name, a in ZOO.items() if not a.tokens and name != "window-transformer"]
CLOSE = {"rtol": 1e-4, "atol": 1e-5}


def test_every_family_is_tried():
    assert set(ZOO) == set(FAMILIES)


@pytest.mark.parametrize("name", ALL)
def test_answers_and_embeddings_have_a_row_a_sample(name):
    a = ALL[name]
    for n in (1, 2, 5):
        answer, embedding = warmed(a)(samples(a, n))
        assert answer.shape == (n, a.outputs)
        assert embedding.ndim == 2
        assert len(embedding) == n
        assert answer.dtype == embedding.dtype == torch.float32
        assert torch.isfinite(answer).all()


@pytest.mark.parametrize("name", ALL)
def test_a_row_depends_on_its_own_sample_alone(name):
    a, x = ALL[name], samples(ALL[name], 6)
    model = warmed(a)
    other = x.clone()
    other[1:] = samples(a, 5, 99)
    with torch.no_grad():
        alone, beside, changed = model(x[:1]), model(x), model(other)
    for i in range(2):
        torch.testing.assert_close(alone[i][0], beside[i][0], **CLOSE)
        torch.testing.assert_close(changed[i][0], beside[i][0], **CLOSE)
    assert not torch.equal(changed[0][4], beside[0][4])


@pytest.mark.parametrize("name", ALL)
def test_first_weights_depend_on_the_seed_alone(name):
    first, again, other = (build(ALL[name], seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[key], again[key]) for key in first)
    if name != "linear-forecast":  # begins with the mean of the past
        assert any(not torch.equal(first[key], other[key]) for key in first)


@pytest.mark.parametrize("name", ALL)
def test_every_weight_learns(name):
    a = ALL[name]
    model = build(a, 0).train()
    answer, _ = model(samples(a, 16))
    answer.square().sum().backward()
    dead = [key for key, weight in model.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert dead == []


@pytest.mark.parametrize("name", ALL)
def test_an_architecture_survives_json_and_its_label_is_a_file_name(name):
    a = ALL[name]
    assert msgspec.json.decode(msgspec.json.encode(a), type=AnyArchitecture) == a
    assert set(a.label) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")


@pytest.mark.parametrize("name", [name for name, a in ALL.items() if a.max_width > 1])
def test_wider_and_deeper_costs_more(name):
    a = ALL[name]
    assert macs_of(a.with_width(a.width + 4)) > macs_of(a)
    assert macs_of(a.with_depth(a.depth + 1)) > macs_of(a)


@pytest.fixture(scope="module")
def onnx_files(tmp_path_factory):
    directory, made = tmp_path_factory.mktemp("zoo"), {}

    def of(name) -> Path:
        if name not in made:
            made[name] = directory / f"{name}.onnx"
            export_onnx(folded(warmed(ALL[name])), ALL[name].input, made[name], tokens=ALL[name].tokens)
        return made[name]

    return of


def run_onnx(path, x):
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(None, {"input": x})


@pytest.mark.parametrize("name", EXPORTED)
def test_onnx_answers_the_same_at_any_batch(onnx_files, name):
    a, x = ALL[name], samples(ALL[name], 5)
    with torch.no_grad():
        expected = warmed(a)(x)
    for n in (1, 5):
        found = run_onnx(onnx_files(name), x[:n].numpy())
        for one, wanted in zip(found, expected, strict=True):
            np.testing.assert_allclose(one, wanted[:n].numpy(), **CLOSE)


@pytest.mark.parametrize("name", INT8)
def test_onnx_in_int8_is_close(onnx_files, tmp_path, name):
    x = samples(ALL[name], 128).numpy() * 2 + 0.5
    quantize_onnx(onnx_files(name), tmp_path / "int8.onnx", x, activations="uint8", input_name="input")
    found, wanted = run_onnx(tmp_path / "int8.onnx", x)[0], run_onnx(onnx_files(name), x)[0]
    assert 0 < np.sqrt(np.mean((found - wanted) ** 2)) < 0.03 * np.ptp(wanted)


@pytest.fixture(scope="module")
def tflite_worker():
    if unsupported() is not None or existing_python() is None:
        pytest.skip("this machine has no TFLite exporter")
    with TfliteWorker(existing_python()) as worker:
        yield worker


def run_tflite(path, x):
    """Both outputs, dequantized, sample by sample."""
    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(model_path=str(path), num_threads=1).get_signature_runner()
    ((name, details),) = runner.get_input_details().items()
    outputs = sorted(runner.get_output_details().items())
    scale, zero = details["quantization"]
    rows = []
    for sample in x:
        value = np.clip(np.round(sample / scale) + zero, -128, 127) if scale else sample
        answer = runner(**{name: value[None].astype(details["dtype"])})
        rows.append([_real(answer[key], out["quantization"]) for key, out in outputs])
    return [np.concatenate(column) for column in zip(*rows, strict=True)]


def _real(x, quantization):
    scale, zero = quantization
    return (x.astype(np.float32) - zero) * scale if scale else x


@pytest.mark.parametrize("name", ZOO)
def test_tflite_answers_the_same_and_int8_is_close(tflite_worker, tmp_path, name):
    a = ZOO[name]
    model, x = folded(warmed(a)), samples(a, 24)
    save_program(model, a.input, tmp_path / "model.pt2", tokens=a.tokens)
    save_calibration(x.numpy(), tmp_path / "calibration.npz")
    files = {kind: str(tmp_path / f"{kind}.tflite") for kind in ("fp32", "int8")}
    tflite_worker.convert({"program": str(tmp_path / "model.pt2"), "fp32": files["fp32"]})
    if name in INT8:
        quantized = {"fp32": files["fp32"], "out": files["int8"], "recipe": "static"}
        tflite_worker.convert(quantized | {"calibration": str(tmp_path / "calibration.npz")})
    with torch.no_grad():
        expected = [part.numpy() for part in model(x)]
    for found, wanted in zip(run_tflite(tmp_path / "fp32.tflite", x.numpy()), expected, strict=True):
        np.testing.assert_allclose(found, wanted, **CLOSE)
    if name in INT8:
        found = run_tflite(tmp_path / "int8.tflite", x.numpy())[0]
        assert 0 < np.sqrt(np.mean((found - expected[0]) ** 2)) < 0.03 * np.ptp(expected[0])


@pytest.mark.parametrize("name", ["transformer", "bag", "next-item"])
def test_padding_says_nothing(name):
    a, model = ZOO[name], warmed(ZOO[name])
    with torch.no_grad():
        model.table.weight[0] = 1e3
        before = model(samples(a, 3))[0]
        model.table.weight[0] = -1e3
        torch.testing.assert_close(model(samples(a, 3))[0], before, **CLOSE)


def test_a_forecaster_never_looks_ahead_and_moves_with_the_level():
    a = architecture("tcn", input=(20, 1), outputs=3, width=4, depth=3, forecast=True)
    model, x = warmed(a), samples(ALL["tcn-pool"], 1)[:, :, :1].repeat(1, 2, 1)[:, :20]
    inside = []
    model.blocks.register_forward_hook(lambda _module, _x, y: inside.append(y))
    later = x.clone()
    later[:, 12:] += 1
    with torch.no_grad():
        model(x), model(later)
    torch.testing.assert_close(inside[0][..., :12], inside[1][..., :12])
    assert not torch.allclose(inside[0][..., 12:], inside[1][..., 12:])


def test_nlinear_follows_the_level_of_the_series():
    a = architecture("linear-forecast", input=(12, 1), outputs=4)
    model, x = build(a, 0), samples(a, 3)
    torch.testing.assert_close(model(x + 10)[0], model(x)[0] + 10)


def test_moving_average_repeats_both_ends():
    from cloud_trainer.models.linear_forecast import moving_average

    x = torch.tensor([[3.0, 6.0, 0.0, 9.0]])
    torch.testing.assert_close(x @ moving_average(4, 3), torch.tensor([[4.0, 3.0, 5.0, 6.0]]))


def test_ramps_are_shares_of_their_intervals():
    from cloud_trainer.models.mlp import Ramps

    ramps = Ramps(2)  # -3 .. 0 .. 3
    torch.testing.assert_close(ramps(torch.tensor([[-1.5], [1.5], [9.0]])), torch.tensor([[0.5, 0], [1, 0.5], [1, 1]]))


def test_an_unknown_family_or_size_is_named():
    with pytest.raises(UsageError, match="no family 'vgg'; expected one of mlp, resnet"):
        architecture("vgg", input=(1, 8, 8), outputs=2)
    with pytest.raises(UsageError, match=r"resnet: .*colour"):
        architecture("resnet", input=(1, 8, 8), outputs=2, colour=3)


@pytest.mark.parametrize(
    ("family", "shape", "more"),
    [("resnet", (9,), {}), ("tcn", (9,), {}), ("cnn1d", (1, 9, 9), {}), ("bag", (3, 3), {"vocabulary": 4})],
)
def test_samples_of_another_kind_are_refused(family, shape, more):
    with pytest.raises(TrainingError, match=rf"{family} reads samples \("):
        architecture(family, input=shape, outputs=2, **more)


def test_an_autoencoder_answers_with_as_much_as_it_got():
    with pytest.raises(TrainingError, match="16 values, not 10"):
        architecture("autoencoder", input=(1, 4, 4), outputs=10)


def test_small_residual_networks_begin_with_the_weights_that_they_always_began_with():
    model = build(architecture("resnet", input=(1, 16, 16), outputs=4, width=6, embedding=5), 7)
    assert next(iter(model.state_dict())) == "trunk.0.0.weight"
    assert list(model.state_dict())[-1] == "classify.bias"
    total = sum(float(weight.detach().double().abs().sum()) for weight in model.parameters())
    assert total == pytest.approx(296.28089577747596, rel=1e-6)
