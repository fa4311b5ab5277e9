"""Which engine the options mean; what the engines do is tested with each of them."""

from __future__ import annotations

import pytest

from cloud_trainer.engines import engine_of
from cloud_trainer.fit import train
from cloud_trainer.workers import Workers
from shared.errors import TrainingError, UsageError


def test_one_process_unless_more_are_asked_for():
    with engine_of() as engine:
        assert engine.train is train
        assert engine.map(lambda x: x + 1, [3, 1]) == [4, 2]
    with engine_of(workers=3) as engine:
        assert isinstance(engine.train, Workers)
        assert engine.train.count == 3


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"name": "ray", "workers": 2}, "--workers is for --engine local"),
        ({"address": "host:6379"}, "--ray-address needs --engine ray"),
        ({"workers": 0}, "expected 2 to 64"),
    ],
)
def test_options_that_do_not_go_together(options, line):
    with pytest.raises(UsageError, match=line), engine_of(**options):
        pass


def test_address_reaches_ray():
    pytest.importorskip("ray")
    with (
        pytest.raises(TrainingError, match=r"cluster \(127\.0\.0\.1:1\) cannot be reached"),
        engine_of("ray", address="127.0.0.1:1"),
    ):
        pass
