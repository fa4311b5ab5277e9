"""Trainings and searches on a real Ray cluster of this machine, which is gone afterwards."""

from __future__ import annotations

import os
import socket
import sys
import time
from pathlib import Path

import pytest
import torch
from torch import nn

from cloud_trainer.engine_ray import RayEngine
from cloud_trainer.fit import train
from cloud_trainer.objectives import Classes
from shared.errors import DataError, MissingExtraError, StoppedError, TrainingError
from tests.cloud_trainer.fit.samples import PLAN, noisy, resnet, same_weights, stripes

pytest.importorskip("ray")
CLASSES = Classes(4)
MARK = f"SANDERLING_TEST_{os.getpid()}"


def left_running():
    """Processes of a cluster that this test process has started."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                if MARK.encode() in (entry / "environ").read_bytes():
                    found.append((entry / "cmdline").read_bytes())
            except OSError:
                continue
    return found


@pytest.fixture(scope="module")
def engine():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(MARK, "1")
        patch.delenv("RAY_ADDRESS", raising=False)
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # here as there: sums are added in another order by two
        with RayEngine(cpus=1) as running:
            assert left_running()
            assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
            yield running
        torch.set_num_threads(threads)
        end = time.monotonic() + 30  # Ray's own end takes a moment on a busy machine
        while left_running() and time.monotonic() < end:
            time.sleep(0.1)
        assert not left_running()


@pytest.mark.timeout(240)  # a cluster starts slowly on a busy machine
def test_training_on_the_cluster_gives_the_weights_of_one_here_after_it_was_stopped_too(engine, tmp_path):
    data, validation, told = stripes(97), stripes(64, 1), []
    here, there = resnet(), resnet()
    expected = train(here, data, validation, PLAN, objective=CLASSES, augment=noisy)
    run = {
        "objective": CLASSES,
        "augment": lambda x, generator: noisy(x, generator),  # noqa: PLW0108  # a local function can be sent, too
        "checkpoint": tmp_path / "checkpoint",
        "progress": lambda *line: told.append(line),
    }
    curve = engine.train(there, data, validation, PLAN, **run)
    assert same_weights(here, there)
    assert curve.train_loss == expected.train_loss
    assert [line[1] for line in told] == [0.25, 0.5, 0.75, 1.0]
    assert (tmp_path / "checkpoint").is_file()


class Slow(nn.Module):
    """Trains until it is stopped."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(64, 4)

    def forward(self, x):
        return self.linear(x.flatten(1))


def test_stop_reaches_the_worker(engine):
    data = stripes(64)
    plan = PLAN.__class__(**{f: getattr(PLAN, f) for f in PLAN.__struct_fields__} | {"epochs": 1_000_000})
    with pytest.raises(StoppedError, match="student was stopped in epoch"):
        engine.train(Slow(), data, data, plan, objective=CLASSES, name="student", stop=lambda: True)


def test_what_goes_wrong_on_the_cluster_is_told_here(engine):
    data = stripes(64)
    data.x[3] = float("nan")
    with pytest.raises(TrainingError, match="row 3 is not finite"):
        engine.train(Slow(), data, data, PLAN, objective=CLASSES)


def test_candidates_of_a_search_are_tried_on_the_cluster_in_order(engine):
    factor = 3

    def evaluate(candidate):
        if candidate < 0:
            raise DataError(f"{candidate} is negative")
        return candidate * factor, os.getpid()

    found = engine.map(evaluate, [3, 1, 2])
    assert [value for value, _ in found] == [9, 3, 6]
    assert os.getpid() not in {process for _, process in found}
    with pytest.raises(DataError, match="-1 is negative"):
        engine.map(evaluate, [1, -1])


def test_ray_that_is_not_installed_is_one_line_with_the_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'sanderling\[ray\]'"), RayEngine():
        pass


@pytest.mark.parametrize("form", ["127.0.0.1:{}", "ray://127.0.0.1:{}"])
def test_cluster_that_is_not_there_is_one_line_at_once(monkeypatch, form):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = form.format(free.getsockname()[1])
    monkeypatch.setenv("RAY_ADDRESS", address)
    line = rf"^Ray's cluster \({address}\) cannot be reached: .*refused$"
    with pytest.raises(TrainingError, match=line), RayEngine():
        pass
