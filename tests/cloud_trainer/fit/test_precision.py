"""What networks for pictures are trained in, where the task leaves it open."""

from __future__ import annotations

import pytest
import torch

from cloud_trainer.distillation import teach
from cloud_trainer.fit import precision
from cloud_trainer.fit.forward import both
from tests.cloud_trainer.fit.samples import SHAPE, resnet


@pytest.mark.parametrize(
    ("able", "macs", "expected"),
    [(True, 30_000_000, "bf16"), (True, 5_000_000, "auto"), (False, 30_000_000, "auto")],
)
def test_large_networks_are_trained_in_bf16_where_the_cpu_multiplies_it(monkeypatch, able, macs, expected):
    monkeypatch.setattr(precision, "multiplies_bf16", lambda: able)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert precision.of_picture("auto", macs) == expected
    assert precision.of_picture("fp32", macs) == "fp32"


def test_a_gpu_decides_for_itself(monkeypatch):
    monkeypatch.setattr(precision, "multiplies_bf16", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert precision.of_picture("auto", 10**9) == "auto"


def test_answers_in_bf16_are_float32_and_close():
    model, x = resnet(1), torch.randn(9, *SHAPE.input, generator=torch.Generator().manual_seed(1))
    full, half = both(model, x), both(model, x, dtype=torch.bfloat16)
    for wanted, found in zip(full, half, strict=True):
        assert found.dtype == torch.float32
        assert not torch.equal(found, wanted)
        torch.testing.assert_close(found, wanted, rtol=0.1, atol=0.05)
    torch.testing.assert_close(teach([model], x, dtype=torch.bfloat16).answers, half[0])
