"""One training by two real processes under torchrun: the same network as by one, and one that fails ends both."""

from __future__ import annotations

import atexit
import os
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
import torch
from torch import nn

from cloud_trainer import workers
from cloud_trainer.distillation import teach
from cloud_trainer.distributed import World, whole_batch_statistics
from cloud_trainer.fit import train
from cloud_trainer.jobs import Job, packed, raised, told
from cloud_trainer.objectives import Classes
from cloud_trainer.workers import Workers
from shared.errors import DataError, StoppedError, TrainingError, UsageError
from tests.cloud_trainer.fit.samples import PLAN, Dropped, noisy, resnet, same_weights, stripes

CLASSES = Classes(4)
MARK = f"SANDERLING_TEST_{os.getpid()}"


def test_two_workers_that_are_stopped_and_go_on_train_the_network_that_one_process_does(tmp_path):
    data, validation, told = stripes(99), stripes(64, 1), []  # the last batch of three: two rows and one
    plan = msgspec.structs.replace(PLAN, clip_norm=3.0, epochs=6)
    alone, shared, again = resnet(), resnet(), resnet()
    run = {
        "objective": CLASSES,
        "teaching": teach([resnet(5)], data.x, feature_weight=0.3),
        "augment": noisy,
        "checkpoint": tmp_path / "checkpoint",
    }
    expected = train(alone, data, validation, plan, **run | {"checkpoint": None})
    with pytest.raises(StoppedError, match=r"model was stopped in epoch \d of 6; .*checkpoint goes on from there$"):
        Workers(2)(shared, data, validation, plan, **run, stop=lambda: True)
    assert same_weights(shared, resnet())
    curve = Workers(2)(shared, data, validation, plan, **run, progress=lambda *line: told.append(line))
    assert told[0][2].startswith("goes on in epoch ")
    assert told[-1][:2] == ("model", 1.0)
    assert not shared.training
    torch.testing.assert_close(list(shared.state_dict().values()), list(alone.state_dict().values()))
    assert curve.train_loss == pytest.approx(expected.train_loss, rel=1e-5)
    assert curve.validation_score == pytest.approx(expected.validation_score)
    assert curve.best_epoch == expected.best_epoch
    assert not same_weights(shared, again)


class Sick(nn.Module):
    """Ends its second worker's process, or fails there, at the fifth batch."""

    def __init__(self, killed):
        super().__init__()
        self.linear, self.killed, self.calls = nn.Linear(64, 4), killed, 0

    def forward(self, x):
        self.calls += 1
        if self.calls == 5 and os.environ.get("RANK") == "1":
            if self.killed:
                os.kill(os.getpid(), signal.SIGKILL)
            raise TrainingError("the second worker is sick")
        return self.linear(x.flatten(1))


def left_running():
    """Processes of jobs that this test process has started."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words, environment = (entry / "cmdline").read_bytes(), (entry / "environ").read_bytes()
            except OSError:
                continue
            if b"cloud_trainer.jobs" in words and MARK.encode() in environment:
                found.append(words)
    return found


@pytest.mark.parametrize(
    ("killed", "line"),
    [(True, r"^worker 1 was ended by SIGKILL \(out of memory\?\)"), (False, "^the second worker is sick$")],
    ids=["killed", "an error"],
)
def test_worker_that_fails_ends_all_of_them_with_one_line(killed, line, monkeypatch):
    monkeypatch.setenv(MARK, "1")
    data = stripes()
    with pytest.raises(TrainingError, match=line):
        Workers(2)(Sick(killed), data, data, PLAN, objective=CLASSES)
    assert not left_running()


class Ill(nn.Module):
    """Fails outside the training proper: where it is read, where its weights are written, or by ending itself."""

    def __init__(self, how):
        super().__init__()
        self.linear, self.how = nn.Linear(64, 4), how

    def __setstate__(self, state):
        super().__setstate__(state)
        if self.how == "read" and os.environ.get("RANK") == "0":
            raise ValueError("what was sent is no network")

    def state_dict(self, *args, **kwargs):
        found = super().state_dict(*args, **kwargs)
        if self.how == "written" and os.environ.get("RANK") == "0":
            found["linear.bias"] = sys.stdout  # nothing that can be saved
        return found

    def forward(self, x):
        if os.environ.get("RANK") == "1" and self.how == "exit":
            sys.exit("no licence")
        if os.environ.get("RANK") == "1" and self.how == "silent":
            os._exit(3)
        if os.environ.get("RANK") == "1" and self.how == "interrupt":
            raise KeyboardInterrupt
        return self.linear(x.flatten(1))


@pytest.mark.parametrize(
    ("how", "line"),
    [
        ("read", "^ValueError: what was sent is no network$"),
        ("written", "^TypeError: cannot pickle "),
        ("exit", r"^a worker ended itself: sys.exit\('no licence'\)$"),
        ("interrupt", "^KeyboardInterrupt$"),
        ("silent", "^the workers failed: worker 1 ended with status 3, without a word$"),
    ],
)
def test_what_fails_outside_the_training_is_told_too(how, line, monkeypatch):
    monkeypatch.setenv(MARK, "1")
    data = stripes()
    with pytest.raises(TrainingError, match=line):
        Workers(2)(Ill(how), data, data, PLAN, objective=CLASSES)
    assert not left_running()


TAIL = """
Traceback (most recent call last):
  raise ChildFailedError(
torch.distributed.elastic.multiprocessing.errors.ChildFailedError:
============================================================
cloud_trainer.jobs FAILED
Root Cause (first observed failure):
[0]:
  time      : 2026-01-01_00:00:00
  rank      : 1 (local_rank: 1)
  exitcode  : 3 (pid: 4242)
  error_file: <N/A>
"""
"""As torchrun ends its log."""


@pytest.mark.parametrize(
    ("log", "line"),
    [
        ("[rank1]: Traceback\n[rank1]: torch.OutOfMemoryError: of 3 GiB\nmore", "torch.OutOfMemoryError: of 3 GiB"),
        (f"ModuleNotFoundError: No module named 'mine'\n{TAIL}", "ModuleNotFoundError: No module named 'mine'"),
        (TAIL, "worker 1 ended with status 3, without a word"),
        ("", "torchrun ended, without a word"),
    ],
)
def test_workers_that_could_not_tell_are_told_of_by_what_they_printed(tmp_path, log, line):
    (tmp_path / "log").write_text(log)
    assert str(workers._failure(tmp_path)) == f"the workers failed: {line}"


def test_workers_end_is_not_put_off_by_a_full_disk():
    code = "import sys\nfrom cloud_trainer.jobs import end\nprint('lost')\nend(3)"
    buffered = os.environ | {"PYTHONUNBUFFERED": ""}
    with Path("/dev/full").open("w") as full:
        found = subprocess.run(
            [sys.executable, "-c", code], stdout=full, check=False, stderr=subprocess.DEVNULL, env=buffered
        )
    assert found.returncode == 3


class Fragile(nn.Module):
    """Aborts its second worker's process if that cleans up when it ends, as threads of ``gloo`` sometimes do."""

    def __init__(self):
        super().__init__()
        self.linear, self.armed = nn.Linear(64, 4), False

    def forward(self, x):
        if not self.armed and os.environ.get("RANK") == "1":
            self.armed = True
            atexit.register(os.abort)
        return self.linear(x.flatten(1))


def test_training_is_not_undone_by_the_interpreters_end():
    data = stripes()
    curve = Workers(2)(Fragile(), data, data, PLAN, objective=CLASSES)
    assert len(curve.train_loss) == PLAN.epochs


@pytest.mark.parametrize("count", [-1, 0, 1, 65])
def test_number_of_workers_that_makes_no_sense(count):
    with pytest.raises(UsageError, match="expected 2 to 64"):
        Workers(count)


def test_what_cannot_be_sent_is_one_line():
    data = stripes(8)
    job = Job(Dropped(), data, data, PLAN, CLASSES, None, lambda x, _: x, None, "student")
    with pytest.raises(TrainingError, match=r"student cannot be sent to another process: .*top of a module$"):
        packed(job)


def test_errors_come_back_as_what_they_were():
    for error in (DataError("a"), StoppedError("b"), UsageError("c")):
        back = raised(told(error))
        assert type(back) is type(error)
        assert str(back) == str(error)
    assert str(raised(told(ValueError("bad\nmore")))) == "ValueError: bad"
    assert type(raised({"type": "SystemExit", "text": "d"})) is TrainingError


class Halves:
    """A world of two in one process: the second half of every sum is known."""

    size, rank, first = 2, 0, True

    def __init__(self, other):
        self.other = other

    def sum(self, values):
        return values.add_(self.other.pop(0))


@pytest.mark.parametrize(
    ("layer", "shape"), [(nn.BatchNorm1d(3), (8, 3)), (nn.BatchNorm2d(3), (8, 3, 2, 2)), (nn.BatchNorm1d(3), (8, 3, 5))]
)
def test_batch_normalisation_over_workers_is_that_of_the_whole_batch(monkeypatch, layer, shape):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0)) * 3 + 1
    mine, theirs = x[:3], x[3:]
    axes = [0, *range(2, x.ndim)]
    mean = x.mean(axes)
    centred = theirs - mean.view(1, 3, *[1] * (x.ndim - 2))
    other = [
        torch.cat([theirs.sum(axes), torch.tensor([theirs.numel() / 3.0])]),
        centred.square().sum(axes),
    ]
    whole = type(layer)(3).train()
    layer.train()
    monkeypatch.setattr("cloud_trainer.distributed.World", lambda: Halves(other))
    with whole_batch_statistics(layer, Halves(other)):
        found = layer(mine)
    torch.testing.assert_close(found, whole(x)[:3])
    torch.testing.assert_close(layer.running_mean, whole.running_mean)
    torch.testing.assert_close(layer.running_var, whole.running_var)
    assert "forward" not in vars(layer)


def test_world_of_one_changes_nothing():
    world, rows = World(), torch.arange(5)
    assert (world.rank, world.size, world.first) == (0, 1, True)
    assert torch.equal(world.share(rows), rows)
    assert world.agree("a") == "a"
