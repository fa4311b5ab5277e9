"""What exporters are given: one layer where there were two, laid out as they read it."""

from __future__ import annotations

import torch

from cloud_trainer.exporting.fold import folded
from cloud_trainer.models import ResNet, build


def test_channels_last_weights_are_laid_out_for_exporters():
    model = build(ResNet(input=(1, 12, 12), outputs=3, width=4), 0).to(memory_format=torch.channels_last).eval()
    assert not all(parameter.is_contiguous() for parameter in model.parameters())
    x = torch.randn(2, 1, 12, 12)
    plain = folded(model)
    assert all(parameter.is_contiguous() for parameter in plain.parameters())
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in plain.modules())
    torch.testing.assert_close(plain(x)[0], model(x)[0], atol=1e-5, rtol=1e-4)
