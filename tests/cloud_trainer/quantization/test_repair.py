"""int8 that truly fails, repaired; pruning that truly makes networks smaller."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from cloud_trainer.config import ExportConfig
from cloud_trainer.exporting.environment import existing_python
from cloud_trainer.exporting.fold import folded
from cloud_trainer.exporting.variants import Student, export_all, open_worker
from cloud_trainer.models import ResNet, build
from cloud_trainer.progress import silent
from cloud_trainer.quantization.agreement import answers_of, sqnr
from cloud_trainer.quantization.bias import corrected
from cloud_trainer.quantization.channels import groups_of
from cloud_trainer.quantization.prune import prune
from cloud_trainer.quantization.repair import Repairs, repair
from shared.errors import ExportError

needs_tflite = pytest.mark.skipif(existing_python() is None, reason="no TFLite exporter on this machine")


class Depthwise(nn.Module):
    """Like MobileNet, in small."""

    def __init__(self, width=8):
        super().__init__()

        def layer(inputs, outputs, size, groups=1):
            convolution = nn.Conv2d(inputs, outputs, size, 1, size // 2, groups=groups, bias=False)
            return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU())

        self.trunk = nn.Sequential(
            layer(1, width, 3), layer(width, width, 3, width), layer(width, width, 1), layer(width, width, 3, width)
        )
        self.classify = nn.Linear(width, 3)

    def forward(self, x):
        embedding = self.trunk(x).mean((2, 3))
        return self.classify(embedding), embedding


def badly_scaled(model, decades, seed=1):
    """The same function (ReLU keeps positive factors), with channels of very different size between layers."""
    model = folded(model)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for one, after in zip(model.trunk[:-1], model.trunk[1:], strict=True):
            made, read = one[0], after[0]
            scale = 10 ** ((torch.rand(made.out_channels, generator=generator) - 0.5) * decades)
            made.weight *= scale.view(-1, 1, 1, 1)
            made.bias *= scale
            read.weight /= scale.view((-1, 1, 1, 1) if read.groups > 1 else (1, -1, 1, 1))
    return model


def pictures(n, seed):
    """Stripes one way, the other way, or noise."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, n)
    x = rng.normal(scale=1.5, size=(n, 1, 8, 8))
    stripes = np.sin(np.arange(8) * 1.6)
    x[y == 0] += stripes[:, None]
    x[y == 1] += stripes
    return x.astype(np.float32), y


X, Y = pictures(600, 0)
TEST_X, TEST_Y = pictures(300, 1)


def train(model, epochs=6, rate=4e-3):
    torch.manual_seed(0)
    optimizer = torch.optim.Adam(model.parameters(), rate)
    model.train()
    x, y = torch.from_numpy(X), torch.from_numpy(Y)
    for _ in range(epochs):
        for rows in torch.split(torch.randperm(len(x)), 40):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x[rows])[0], y[rows]).backward()
            optimizer.step()
    model.eval()


@pytest.fixture(scope="module")
def hard():
    """A student whose int8 files are far worse than itself."""
    torch.manual_seed(0)
    model = Depthwise()
    train(model, 12, 1e-2)
    return Student(badly_scaled(model, 3.5), (1, 8, 8), 1, "depthwise", X[:128])


def scorer(release):
    def score(variant):
        return float((answers_of(variant, release, TEST_X)["logits"].argmax(1) == TEST_Y).mean())

    return score


def exported(student, release, worker=None):
    (release / "variants").mkdir()
    runtimes = ("onnxruntime",) if worker is None else ("litert",)
    return export_all(student, ExportConfig(runtimes=runtimes), release, worker, silent)


def test_training_with_the_rounding_repairs_what_no_choice_of_ranges_does(hard, tmp_path):
    made = {v.id: v for v in exported(hard, tmp_path)}
    score = scorer(tmp_path)
    fp32, int8 = score(made["fp32-onnx"]), score(made["int8-onnx"])
    assert fp32 > 0.75
    assert int8 < fp32 - 0.03
    trained = []

    def finetune(model):
        trained.append(model)
        train(model, 10)

    with Repairs(hard, ExportConfig(mixed=False), tmp_path, None, score=score, finetune=finetune) as repairs:
        found = repairs.repair(made["int8-onnx"], fp32 - 0.02)
        also = repairs.repair(made["int8-arm-onnx"], fp32 - 0.02)
    assert found.variant is not None, found.text
    assert also.variant is not None, also.text
    assert len(trained) == 1  # one training for both
    assert score(found.variant) >= fp32 - 0.02  # the file that lies there is the one that was measured
    assert found.variant.file.bytes == found.trials[-1].bytes
    assert [one.what for one in found.trials[:2]] == ["as it was", "ranges by percentile"]
    assert found.trials[-1].what.startswith("quantization-aware training")


def test_the_worst_layers_stay_in_float_where_nobody_can_train(hard, tmp_path):
    made = {v.id: v for v in exported(hard, tmp_path)}
    score = scorer(tmp_path)
    goal = score(made["fp32-onnx"]) - 0.02
    found = repair(hard, made["int8-onnx"], ExportConfig(), tmp_path, None, score=score, goal=goal)
    assert found.variant is not None, found.text
    assert 0 < len(found.in_float) < 5
    assert found.in_float[0] == found.sensitivities[0].layer
    assert [one.sqnr_db for one in found.sensitivities] == sorted(one.sqnr_db for one in found.sensitivities)
    assert not any("training" in one.what for one in found.trials)


def test_a_goal_that_nothing_reaches_leaves_the_best_try_and_its_story(hard, tmp_path):
    made = {v.id: v for v in exported(hard, tmp_path)}
    score = scorer(tmp_path)
    config = ExportConfig(mixed=False)
    found = repair(hard, made["int8-onnx"], config, tmp_path, None, score=score, goal=1.1)
    assert found.variant is None
    best = max(one.score for one in found.trials)
    assert score(made["int8-onnx"]) == pytest.approx(best)
    assert len(found.trials) == 5  # as it was, three ranges, biases


@needs_tflite
def test_tflite_is_repaired_by_training_and_by_floats(hard, tmp_path):
    with open_worker(("onnxruntime", "litert"), silent) as worker:
        made = {v.id: v for v in exported(hard, tmp_path, worker)}
        score = scorer(tmp_path)
        goal = score(made["fp32-litert"]) - 0.02
        assert score(made["int8-litert"]) < goal
        kept = (tmp_path / made["int8-litert"].file.path).read_bytes()
        with Repairs(
            hard, ExportConfig(mixed=False), tmp_path, worker, score=score, finetune=lambda m: train(m, 10)
        ) as repairs:
            assert repairs.repair(made["int8-litert"], goal).variant is not None
        (tmp_path / made["int8-litert"].file.path).write_bytes(kept)
        with Repairs(hard, ExportConfig(qat=False), tmp_path, worker, score=score) as repairs:
            found = repairs.repair(made["int8-litert"], goal)
    assert found.variant is not None, found.text
    assert found.in_float


def test_an_mlp_is_trained_with_the_rounding_too(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 6)).astype(np.float32)
    y = torch.from_numpy(x @ rng.normal(size=(6, 1)).astype(np.float32))
    model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 1))

    def fit(network, epochs=40):
        torch.manual_seed(0)
        optimizer = torch.optim.Adam(network.parameters(), 1e-2)
        for _ in range(epochs):
            optimizer.zero_grad()
            nn.functional.mse_loss(network(torch.from_numpy(x)), y).backward()
            optimizer.step()

    fit(model, 120)
    with torch.no_grad():  # channels of very different size
        scale = 10 ** torch.linspace(-2, 2, 16)
        model[0].weight *= scale[:, None]
        model[0].bias *= scale
        model[2].weight /= scale
    student = Student(model.eval(), (6,), 1, "mlp", x[:100], answer="value")
    made = {v.id: v for v in exported(student, tmp_path)}

    def score(variant):
        found = answers_of(variant, tmp_path, x)["value"]
        return 1 - float(np.square(found - y.numpy()).sum() / np.square(y.numpy() - y.numpy().mean()).sum())

    goal = score(made["fp32-onnx"]) - 0.02
    before = score(made["int8-onnx"])
    found = repair(
        student, made["int8-onnx"], ExportConfig(mixed=False), tmp_path, None, score=score, goal=goal, finetune=fit
    )
    assert before < goal
    assert max(one.score for one in found.trials) > before
    assert any("training" in one.what and one.score is not None for one in found.trials) or found.variant is not None


def test_a_network_that_training_cannot_capture_says_so_and_goes_on(hard, tmp_path):
    made = {v.id: v for v in exported(hard, tmp_path)}

    class Fork(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = hard.model

        def forward(self, x):
            return self.inner(x) if float(x.sum()) > -1e30 else self.inner(-x)

    student = Student(Fork(), hard.input, 1, "fork", hard.calibration)
    with Repairs(
        student, ExportConfig(mixed=False), tmp_path, None, score=lambda _: 0.0, finetune=lambda _: None
    ) as repairs:
        repairs._source = lambda _: pytest.skip("never asked")  # the ranges are not what this is about
        repairs._ranges = repairs._biases = lambda _: False
        found = repairs.repair(made["int8-onnx"], 1.0)
    assert found.variant is None
    assert found.trials[-1].what.startswith("quantization-aware training is not possible: ")


def test_corrected_biases_bring_the_mean_back():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 4), nn.ReLU()).eval()
    x = torch.rand(200, 8) + 1
    rounded = folded(model)
    fixed = corrected(model, x)
    scale = model[0].weight.detach().abs().amax(1, keepdim=True) / 127
    stored = torch.round(model[0].weight.detach() / scale) * scale
    with torch.no_grad():
        rounded[0].weight.copy_(stored)
        plain = rounded[0](x)
        rounded[0].bias.copy_(fixed[0].bias)
        wanted, found = model[0](x).mean(0), rounded[0](x).mean(0)
    assert (found - wanted).abs().max() < 1e-5 < (plain.mean(0) - wanted).abs().max()


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        (build(ResNet(input=(1, 16, 16), outputs=4, width=8, embedding=8), 0), (1, 16, 16)),
        (build(ResNet(input=(16, 16, 3), outputs=4, width=8, embedding=8, channels_last=True), 0), (16, 16, 3)),
        (Depthwise(), (1, 8, 8)),
        (nn.Sequential(nn.Linear(6, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 4)), (6,)),
    ],
)
def test_pruning_makes_macs_and_files_really_smaller(model, shape, tmp_path):
    student = Student(model.eval(), shape, 0, "net", np.random.default_rng(0).normal(size=(32, *shape)).astype("f4"))
    found = prune(student, 0.5)
    assert found.macs[1] < 0.65 * found.macs[0]
    assert found.parameters[1] < 0.75 * found.parameters[0]
    assert found.student.macs == found.macs[1]
    (tmp_path / "variants").mkdir()
    made = export_all(found.student, ExportConfig(runtimes=("onnxruntime",)), tmp_path, None, silent)
    answers = answers_of(made[0], tmp_path, student.calibration)["logits"]
    with torch.no_grad():
        wanted = found.student.model(torch.from_numpy(student.calibration))
    wanted = (wanted if isinstance(wanted, torch.Tensor) else wanted[0]).numpy()
    assert sqnr(wanted, answers) > 90


def test_channels_that_do_nothing_are_the_ones_that_go():
    model = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, 3, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with torch.no_grad():
        model[0].weight[::2] *= 1e-6
        model[0].bias[::2] = 0
    student = Student(model.eval(), (1, 8, 8), 0, "net", np.zeros((2, 1, 8, 8), np.float32))
    x = torch.randn(4, 1, 8, 8)
    smaller = prune(student, 0.5).student.model
    assert smaller[0].out_channels == 4
    torch.testing.assert_close(smaller(x), model(x), rtol=1e-3, atol=1e-4)


def test_a_network_that_cannot_be_pruned_says_why_in_one_line():
    student = Student(nn.Linear(4, 2).eval(), (4,), 0, "line", np.zeros((2, 4), np.float32))
    with pytest.raises(ExportError, match=r"^line can't be pruned: all of its channels meet an output of the network$"):
        prune(student, 0.5)


def test_channels_that_meet_what_is_not_understood_are_left_alone():
    class Mixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = nn.Linear(4, 6), nn.Linear(6, 6), nn.Linear(6, 2)

        def forward(self, x):
            return self.c(torch.relu(self.b(torch.softmax(self.a(x), -1))))

    groups = groups_of(Mixed(), (4,))
    assert [bool(one.frozen) for one in groups] == [True, False, True]
    assert groups[0].frozen == "softmax"
