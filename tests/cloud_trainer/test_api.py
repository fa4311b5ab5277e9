"""The trainer as a library: each of the five functions alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from cloud_trainer import distill, export, package, quantize, train
from cloud_trainer.config import load_task
from edge_agent import Engine
from shared.errors import ConfigError, DataError, StoppedError, TrainingError, UsageError
from tests.cloud_trainer.quantization.foreign_models import classifier, samples
from tests.cloud_trainer.test_command_train import TASK, bars

ROOT = Path(__file__).resolve().parents[2]


def network(width, seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 2))


def pair(n, seed):
    x, y = bars(n, seed)
    return (x / 255).astype(np.float32), y


@pytest.fixture
def task(tmp_path):
    x, y = bars()
    np.savez(tmp_path / "bars.npz", x=x, y=y, names=np.array(["standing", "lying"]))
    (tmp_path / "task.toml").write_text(TASK)
    return tmp_path / "task.toml"


def test_train_gives_a_release_and_tells_how_far_it_is(task, tmp_path):
    stages = []
    trained = train(str(task), tmp_path / "1", version=3, progress=lambda *line: stages.append(line[0]))
    assert trained.manifest.version == 3
    assert set(trained.scores) == {"teacher", "student"}
    assert trained.path == tmp_path / "1"
    assert stages[-1] == "done"
    engine = Engine.load(tmp_path / "1", variant="fp32-onnx")
    assert engine.infer(bars(1)[0][0]).label in {"standing", "lying"}
    engine.close()


def test_train_that_is_told_to_stop_leaves_no_release(task, tmp_path):
    with pytest.raises(StoppedError, match="teacher was stopped in epoch 1 of 12"):
        train(load_task(task), tmp_path / "1", stop=lambda: True)
    assert not (tmp_path / "1").exists()


def test_train_that_makes_no_sense(task, tmp_path):
    with pytest.raises(UsageError, match="engine 'cloud': expected 'local' or 'ray'"):
        train(task, tmp_path / "1", engine="cloud")
    with pytest.raises(UsageError, match="expected 2 to 64"):
        train(task, tmp_path / "1", workers=0)
    with pytest.raises(ConfigError, match=r"nowhere\.toml"):
        train(tmp_path / "nowhere.toml", tmp_path / "1")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bars.npz", "task.toml"]


def test_distill_trains_a_network_of_ones_own_beside_its_teachers():
    data, held_out = pair(400, 0), pair(200, 1)
    teacher, student = network(64), network(8, 1)
    alone = distill(teacher, [], data, held_out, epochs=15, batch=32, learning_rate=0.01)
    assert alone.validation_score[-1] > 0.9

    def table(x):
        with torch.no_grad():
            return teacher(torch.from_numpy(x)).numpy()

    curve = distill(student, [teacher, table], data, held_out, epochs=15, batch=32, learning_rate=0.01)
    assert curve.name == "student"
    assert curve.metric == "accuracy"
    assert curve.validation_score[curve.best_epoch] > 0.9
    assert not student.training


def test_a_single_teacher_needs_no_list():
    data, held_out = pair(100, 0), pair(50, 1)
    teacher = network(16)
    curves = [distill(network(8, 1), one, data, held_out, epochs=2) for one in (teacher, [teacher])]
    assert curves[0].train_loss == curves[1].train_loss


def test_distill_of_numbers_needs_no_objective():
    x, _ = pair(300, 0)
    truth = 10 * (x[:, :4].mean((1, 2)) - x[:, 4:].mean((1, 2)))[:, None]
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 1))
    curve = distill(model, [], (x[:200], truth[:200]), (x[200:], truth[200:]), epochs=20, batch=32, learning_rate=0.01)
    assert curve.metric == "r2"
    assert curve.validation_score[-1] > 0.5


def test_distill_goes_on_from_its_checkpoint(tmp_path):
    data, held_out = pair(200, 0), pair(100, 1)
    one, other = network(8), network(8)
    distill(one, [], data, held_out, epochs=3, checkpoint=tmp_path / "c")
    curve = distill(other, [], data, held_out, epochs=3, checkpoint=str(tmp_path / "c"))
    assert curve.epochs == 3
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize(
    ("changed", "error", "line"),
    [
        ({"data": (np.zeros((3, 8, 8)), np.zeros(2, int))}, DataError, "data: 3 samples and 2 truths"),
        (
            {"validation": (np.zeros((0, 8, 8)), np.zeros(0, int))},
            DataError,
            "validation has shape .*at least one sample",
        ),
        ({"teachers": [lambda x: np.zeros((len(x), 5))]}, TrainingError, "the teachers give 5 outputs, the student 2"),
    ],
    ids=["lengths", "nothing", "a teacher of other classes"],
)
def test_distill_says_what_does_not_fit(changed, error, line):
    given = {"teachers": [], "data": pair(40, 0), "validation": pair(20, 1)} | changed
    with pytest.raises(error, match=line):
        distill(network(4), given["teachers"], given["data"], given["validation"], epochs=1)


def test_export_writes_files_that_answer_as_the_network_does(tmp_path):
    x, _ = pair(64, 0)
    model = network(8).eval()
    found = export(model, tmp_path / "files", calibration=x, runtimes=["onnxruntime"], precisions=["int8", "fp16"])
    assert [one.id for one in found] == ["fp32-onnx", "int8-onnx", "int8-arm-onnx", "fp16-onnx"]
    on_disk = {path.relative_to(tmp_path / "files").as_posix() for path in (tmp_path / "files").rglob("*.onnx")}
    assert on_disk == {one.file.path for one in found}
    with torch.no_grad():
        expected = model(torch.from_numpy(x)).numpy()
    for one, near in ((found[0], 1e-5), (found[1], 0.2), (found[3], 0.01)):
        engine = Engine.load(tmp_path / "files" / one.file.path, learn=0)
        np.testing.assert_allclose(engine.outputs(x)["logits"], expected, atol=near)
        engine.close()


def test_export_that_makes_no_sense(tmp_path):
    x, _ = pair(8, 0)
    with pytest.raises(DataError, match=r"calibration has shape \(0, 8, 8\)"):
        export(network(4), tmp_path / "files", calibration=x[:0])
    with pytest.raises(UsageError, match="export: Invalid enum value 'int3'"):
        export(network(4), tmp_path / "files", calibration=x, precisions=["int3"])
    assert not (tmp_path / "files").exists()
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "mine").touch()
    with pytest.raises(UsageError, match="exists already"):
        export(network(4), tmp_path / "files", calibration=x, runtimes=["onnxruntime"])
    assert [path.name for path in (tmp_path / "files").iterdir()] == ["mine"]


def test_quantize_and_package_take_the_options_of_their_commands(tmp_path):
    model = classifier(tmp_path / "pets.onnx")
    x, y = samples(model)
    np.savez(tmp_path / "data.npz", x=x, y=y)
    manifest = quantize(
        str(model), tmp_path / "data.npz", tmp_path / "q", labels="a,b,c,d", precisions="fp16", name="pets"
    )
    assert [one.id for one in manifest.variants] == ["fp32-onnx", "fp16-onnx"]
    assert manifest.name == "pets"
    files = [tmp_path / "q" / one.file.path for one in manifest.variants]
    again = package(files, str(tmp_path / "p"), labels="a,b,c,d", task="classification", version=4)
    assert again.version == 4
    assert [one.precision for one in again.variants] == ["fp32", "fp16"]
    with pytest.raises(UsageError, match="quantize: unknown option 'colour'; there are "):
        quantize(model, tmp_path / "data.npz", tmp_path / "x", colour="red")
    with pytest.raises(UsageError, match="package: unknown option 'colour'; there are "):
        package([model], tmp_path / "x", colour="red")
    assert not (tmp_path / "x").exists()


def test_naming_the_package_loads_no_torch_and_package_needs_none(tmp_path):
    classifier(tmp_path / "m.onnx")
    code = (
        "import sys, cloud_trainer; assert 'torch' not in sys.modules; "
        "cloud_trainer.package(['m.onnx'], 'r'); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, check=True)
    assert (tmp_path / "r" / "manifest.json").is_file()


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"y": lambda y: y + 5}, "data: classes 5 to 6, but the student has 2 outputs, for 0 to 1"),
        ({"y": lambda y: y - 1}, "data: classes -1 to 0"),
        ({"y": lambda y: y.astype(float)}, "the truth has shape (60,), but the student 2 outputs"),
        ({"y": lambda y: y.astype(str)}, "the truth has dtype <U"),
        ({"x": lambda x: x[:, :3]}, "data has samples of shape (3, 8), validation of (8, 8)"),
        ({"x": lambda x: x.astype(str)}, "data has dtype <U"),
        ({"epochs": 0}, "epochs 0: must be above 0"),
        ({"batch": 0}, "batch 0: must be above 0"),
        ({"learning_rate": float("nan")}, "learning_rate nan: must be above 0"),
    ],
)
def test_distil_what_does_not_fit(change, error):
    x, y = pair(60, 0)
    given = change.pop("x", lambda x: x)(x), change.pop("y", lambda y: y)(y)
    with pytest.raises((DataError, UsageError)) as raised:
        distill(network(4), [], given, (x, y), **change)
    assert error in str(raised.value)


def test_samples_that_a_network_does_not_take(tmp_path):
    wrong = np.zeros((60, 3, 3), np.float32)
    with pytest.raises(DataError, match=r"the student fails on samples of shape \(3, 3\) and dtype float32: mat1"):
        distill(network(4), [], (wrong, np.zeros(60, int)), (wrong, np.zeros(60, int)))
    for samples_, error in (
        (wrong, r"the model fails on samples of shape \(3, 3\)"),
        (np.full((9, 8, 8), np.nan), "calibration has NaN or infinite values"),
        (np.array([["a"]]), "calibration has dtype <U1; expected numbers"),
    ):
        with pytest.raises(DataError, match=error):
            export(network(4), tmp_path / "out", calibration=samples_)
    assert not (tmp_path / "out").exists()


def test_what_pruning_cost_is_told(task, tmp_path):
    task.write_text(f"{TASK}prune = 0.6\n")
    trained = train(task, tmp_path / "1")
    assert set(trained.scores) == {"teacher", "student", "student, pruned"}
    assert any("channels pruned" in line and "accuracy on the validation part" in line for line in trained.warnings)
    assert "what pruning cost" in (tmp_path / "1" / "report.html").read_text()


def test_a_release_for_no_runtime(task):
    task.write_text(TASK.replace('["onnxruntime"]', "[]"))
    with pytest.raises(ConfigError, match=r"export\.runtimes: expected `array` of length >= 1"):
        load_task(task)
