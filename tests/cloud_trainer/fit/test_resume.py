"""A training that was killed, stopped or damaged, and what the next call makes of it."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from cloud_trainer.distillation import teach
from cloud_trainer.fit import train
from cloud_trainer.objectives import Classes
from cloud_trainer.progress import WARNING
from shared.errors import StoppedError, TrainingError
from tests.cloud_trainer.fit.samples import PLAN, Dropped, noisy, same_weights, stripes

ROOT = Path(__file__).resolve().parents[3]
EVERY_BATCH = msgspec.structs.replace(PLAN, checkpoint_seconds=1e-9)
CLASSES = Classes(4)


def test_training_that_is_killed_again_and_again_ends_with_the_weights_of_one_that_is_not(tmp_path):
    done = subprocess.run(
        [sys.executable, ROOT / "tests/cloud_trainer/fit/killed_process.py", tmp_path],
        capture_output=True, text=True, check=True, cwd=ROOT, timeout=100,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    whole, torn = json.loads(done.stdout)
    assert torn["kills"] >= 3
    assert torn["weights"] == whole["weights"]
    assert torn["curve"] == whole["curve"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["torn", "whole"]


def stopping_after(calls):
    left = [calls]

    def stop():
        left[0] -= 1
        return left[0] < 0

    return stop


def fitted(model, checkpoint, plan=EVERY_BATCH, stop=None, data=None, augment=noisy, told=None):
    return train(
        model,
        stripes() if data is None else data,
        stripes(64, 1),
        plan,
        objective=CLASSES,
        augment=augment,
        checkpoint=checkpoint,
        stop=stop,
        progress=lambda *line: None if told is None else told.append(line),
    )


@pytest.mark.parametrize("batches", [0, 3, 7, 8, 20, 31])
def test_stop_writes_a_checkpoint_that_the_next_call_goes_on_from(tmp_path, batches):
    path, whole, model = tmp_path / "checkpoint", Dropped(), Dropped()
    never = msgspec.structs.replace(PLAN, checkpoint_seconds=1e9)  # none but the one at the stop
    curve = fitted(whole, None)
    with pytest.raises(StoppedError, match=rf"stopped in epoch {batches // 8 + 1} of 4; .*checkpoint goes on"):
        fitted(model, path, never, stopping_after(batches))
    assert not model.training
    told = []
    again = fitted(Dropped(), path, never, told=told)
    resumed = Dropped()
    fitted(resumed, path, never)
    assert same_weights(whole, resumed)
    assert again.train_loss == curve.train_loss
    assert again.validation_score == curve.validation_score
    assert told[0][2] == f"goes on in epoch {batches // 8 + 1}"


def test_stop_without_a_checkpoint_ends_too():
    with pytest.raises(StoppedError, match=r"stopped in epoch 1 of 4$"):
        fitted(Dropped(), None, stop=stopping_after(2))


def test_finished_training_is_not_trained_again(tmp_path):
    first, second = Dropped(), Dropped()
    curve = fitted(first, tmp_path / "checkpoint")
    assert fitted(second, tmp_path / "checkpoint", stop=lambda: pytest.fail("it trains")) == curve
    assert same_weights(first, second)


def test_after_every_epoch_where_no_seconds_are_given(tmp_path):
    path, seen = tmp_path / "checkpoint", []

    def stop():
        seen.append(path.exists())
        return False

    fitted(Dropped(), path, msgspec.structs.replace(PLAN, checkpoint_seconds=0.0), stop)
    assert seen == [False] * 8 + [True] * 24


@pytest.mark.parametrize("damage", ["cut", "flipped", "text", "empty", "pickle"])
def test_damaged_checkpoint_is_left_aside_with_a_warning(tmp_path, damage):
    path, told, expected, model = tmp_path / "checkpoint", [], Dropped(), Dropped()
    fitted(expected, None)
    with pytest.raises(StoppedError):
        fitted(model, path, stop=stopping_after(11))
    whole = path.read_bytes()
    broken = {
        "cut": whole[: len(whole) // 2],
        "flipped": whole[:5000] + bytes([whole[5000] ^ 1]) + whole[5001:],
        "text": b"hello",
        "empty": b"",
        "pickle": b"cposix\nsystem\n(S'true'\ntR.",
    }[damage]
    path.write_bytes(broken)
    again = Dropped()
    fitted(again, path, told=told)
    assert [line[0] for line in told].count(WARNING) == 1
    assert "is trained from the start" in told[0][2]
    assert same_weights(again, expected)


def other_plan(run):
    return run | {"plan": msgspec.structs.replace(EVERY_BATCH, learning_rate=2e-2)}


def other_data(run):
    data = stripes()
    data.x[0, 0, 0, 0] += 1
    return run | {"data": data}


def other_weights(run):
    return run | {"model": Dropped(seed=9)}


def other_augmentation(run):
    return run | {"augment": None}


@pytest.mark.parametrize("other", [other_plan, other_data, other_weights, other_augmentation])
def test_checkpoint_of_another_training_is_left_aside_with_a_warning(tmp_path, other):
    path, told = tmp_path / "checkpoint", []
    with pytest.raises(StoppedError):
        fitted(Dropped(), path, stop=stopping_after(11))
    run = other({"model": Dropped()})
    expected = other({"model": Dropped()})
    fitted(**run, checkpoint=path, told=told)
    fitted(**expected, checkpoint=None)
    assert told[0][0] == WARNING
    assert "belongs to another training" in told[0][2]
    assert same_weights(run["model"], expected["model"])


def test_how_often_it_is_saved_is_no_other_training(tmp_path):
    told = []
    with pytest.raises(StoppedError):
        fitted(Dropped(), tmp_path / "checkpoint", stop=stopping_after(11))
    fitted(Dropped(), tmp_path / "checkpoint", PLAN, told=told)
    assert WARNING not in [line[0] for line in told]


def test_another_teacher_is_another_training(tmp_path):
    data, told = stripes(), []
    for seed in (3, 4):
        train(
            Dropped(),
            data,
            data,
            PLAN,
            objective=CLASSES,
            teaching=teach([Dropped(seed=seed)], data.x),
            checkpoint=tmp_path / "checkpoint",
            progress=lambda *line: told.append(line),
        )
    assert [line[0] for line in told].count(WARNING) == 1


def test_full_disk_is_one_line_and_leaves_the_checkpoint_before(tmp_path):
    path = tmp_path / "checkpoint"
    with pytest.raises(StoppedError):
        fitted(Dropped(), path, stop=stopping_after(11))
    before = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))  # what a full disk looks like from here
    try:
        with pytest.raises(TrainingError, match=r"checkpoint of 0\.0 MB cannot be written: File too large; free some"):
            fitted(Dropped(), path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == before
    assert [child.name for child in tmp_path.iterdir()] == ["checkpoint"]


def test_directory_of_the_checkpoint_is_made(tmp_path):
    fitted(Dropped(), tmp_path / "work" / "student.pt")
    assert (tmp_path / "work" / "student.pt").stat().st_size > 0
