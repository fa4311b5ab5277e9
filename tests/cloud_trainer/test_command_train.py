"""``cloud-trainer train`` as a process of its own: interrupted, killed, gone on with, spread out; on tiny images."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from cloud_trainer.cli import main
from cloud_trainer.packaging import staging
from shared.manifest import load_manifest

ROOT = Path(__file__).resolve().parents[2]
TASK = """
name = "bars"
kind = "image-classification"
[data]
format = "npz"
path = "bars.npz"
[model]
teacher_width = 8
mac_share = 0.5
embedding = 8
[training]
teacher_epochs = 12
student_epochs = 12
minimum_steps = 0
batch = 32
learning_rate = 0.01
threads = 1
checkpoint_seconds = 1e-6
[export]
runtimes = ["onnxruntime"]
calibration_samples = 32
"""


def bars(n=400, seed=0):
    """Lying or standing, in noise."""
    random = np.random.default_rng(seed)
    y = np.arange(n) % 2
    x = random.normal(100, 20, (n, 8, 8))
    for i, k in enumerate(y):
        place = random.integers(2, 6)
        x[i][(place, slice(None)) if k else (slice(None), place)] += 100
    return np.clip(x, 0, 255).astype(np.uint8), y


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    directory = tmp_path_factory.mktemp("train")
    x, y = bars()
    np.savez(directory / "bars.npz", x=x, y=y, names=np.array(["standing", "lying"]))
    (directory / "task.toml").write_text(TASK)
    return directory


@pytest.fixture(scope="module")
def whole(place):
    """What ``--json`` printed of a training that nobody disturbed."""
    return trained(place, *words("whole"))


def trained(place, *line):
    """What ``--json`` printed; a training that fails shows what it said."""
    done = subprocess.run(line, cwd=place, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def words(out, *more):
    return [sys.executable, "-m", "cloud_trainer.cli", "train", "task.toml", "--out", out, "--json", *more]


def environment():
    return os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def ended(place, checkpoint, number):
    """(exit code, lines of standard error) of a training that got a signal when it had written ``checkpoint``."""
    with subprocess.Popen(
        words("torn"), cwd=place, env=environment(), stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        while process.poll() is None and not (place / "torn.work" / checkpoint).exists():
            time.sleep(0.002)
        process.send_signal(number)
        output, errors = process.communicate()
    assert not output
    return process.returncode, errors.splitlines()


def variant_files(release):
    return {path.name: path.read_bytes() for path in (release / "variants").iterdir()}


def asides(place):
    return [path.name for path in place.iterdir() if path.name.startswith(".torn.")]


def test_training_that_is_interrupted_then_killed_ends_with_the_files_of_one_that_is_not(place, whole):
    code, lines = ended(place, "teacher.ckpt", signal.SIGINT)
    assert code == 1
    spoken = [line for line in lines if not line.startswith("{")]
    assert spoken[0] == "ending after this batch; once more ends at once"
    assert re.fullmatch(r"cloud-trainer train: teacher was stopped in epoch \d.*", spoken[1])
    assert len(spoken) == 2
    assert not (place / "torn").exists()
    assert asides(place) == []

    code, _ = ended(place, "student.ckpt", signal.SIGKILL)
    assert code == -signal.SIGKILL
    assert not (place / "torn").exists()
    assert len(asides(place)) == 1
    assert {"teacher.ckpt", "student.ckpt"} == {path.name for path in (place / "torn.work").iterdir()}

    done = subprocess.run(words("torn"), cwd=place, env=environment(), capture_output=True, text=True, check=True)
    assert '"stage": "teacher"' not in done.stderr  # it was done
    assert '"stage": "student"' in done.stderr
    assert asides(place) == []
    assert variant_files(place / "torn") == variant_files(Path(place / whole["path"]))
    assert json.loads(done.stdout)["scores"] == whole["scores"]
    assert [path.name for path in (place / "torn.work").iterdir()] == ["checkpoint.pt"]


def test_json_has_scores_costs_and_variants(place, whole):
    manifest = load_manifest(place / "whole")
    assert set(whole["scores"]) == {"teacher", "student"}
    assert min(whole["scores"].values()) > 0.9
    assert whole["macs"]["student"] <= 0.5 * whole["macs"]["teacher"]
    assert {one["id"]: one["quality"] for one in whole["variants"]} == {v.id: v.quality for v in manifest.variants}
    assert whole["gates"] is None


def run(place, monkeypatch, capsys, *arguments):
    """(exit code, standard output, standard error) of ``train`` in this process."""
    monkeypatch.chdir(place)
    code = main(["train", "task.toml", *arguments])
    return code, *capsys.readouterr()


def test_fresh_starts_over(place, monkeypatch, capsys):
    work = place / "again.work"
    work.mkdir()
    (work / "teacher.ckpt").write_bytes(b"what a training left that was another one")
    code, _, err = run(place, monkeypatch, capsys, "--out", "again", "--fresh", "--json")
    assert code == 0
    assert "goes on" not in err
    assert "teacher.ckpt" not in err
    assert load_manifest(place / "again").variant("fp32-onnx")


def test_strict_stops_at_a_finding_before_anything_is_trained(tmp_path, monkeypatch, capsys):
    x, y = bars()
    x[7] = x[3]
    y[7] = y[3]
    np.savez(tmp_path / "bars.npz", x=x, y=y, names=np.array(["standing", "lying"]))
    (tmp_path / "task.toml").write_text(TASK)
    code, out, err = run(tmp_path, monkeypatch, capsys, "--out", "out", "--strict")
    assert code == 1
    assert out == ""
    assert "teacher" not in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bars.npz", "task.toml"]
    assert "duplicate" in err.splitlines()[-1] or "again" in err.splitlines()[-1]


@pytest.mark.timeout(300)  # workers and clusters start slowly on a busy machine
@pytest.mark.parametrize("spread", [("--workers", "2"), ("--engine", "ray")], ids=["two workers", "Ray"])
def test_training_that_is_spread_out_gives_the_same_model(place, whole, spread):
    if "ray" in spread:
        pytest.importorskip("ray")
    found = trained(place, *words(spread[-1], *spread))
    assert found["scores"] == pytest.approx(whole["scores"], abs=0.03)
    assert found["macs"] == whole["macs"]
    golden = [dict(np.load(place / release / "golden.npz")) for release in ("whole", spread[-1])]
    np.testing.assert_allclose(golden[0]["scores.fp32-onnx"], golden[1]["scores.fp32-onnx"], atol=0.02)


def test_options_that_do_not_go_together(place, monkeypatch, capsys):
    code, _, err = run(place, monkeypatch, capsys, "--out", "x", "--engine", "ray", "--workers", "2")
    assert code == 2
    assert err.splitlines()[-1].endswith("--workers is for --engine local: on Ray each training has one worker")
    assert run(place, monkeypatch, capsys, "--out", "x", "--workers", "0")[0] == 2


def test_only_what_dead_processes_left_is_removed(tmp_path):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    kept = [f".1.{os.getpid()}.abc", ".1.notes.abc", ".1.abc", f".10.{gone.pid}.abc"]
    for name in (f".1.{gone.pid}.abc", *kept):
        (tmp_path / name / "variants").mkdir(parents=True)
    with staging(tmp_path / "1"):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["1", *kept])
