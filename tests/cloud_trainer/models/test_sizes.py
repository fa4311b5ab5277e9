"""How big networks are, and the biggest that fits."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from cloud_trainer.exporting.fold import folded
from cloud_trainer.models import Limits, architecture, build, bytes_of, count_macs, fit_to, macs_of, weight_bytes
from tests.cloud_trainer.models.zoo import ZOO


def test_macs_of_every_kind_of_layer_worked_out_by_hand():
    line = nn.Conv1d(3, 6, 5, padding=2, groups=3)
    assert count_macs(line, torch.zeros(1, 3, 20)) == 20 * 6 * 5
    assert count_macs(nn.Linear(4, 5), torch.zeros(1, 7, 4)) == 7 * 4 * 5
    assert count_macs(nn.Embedding(9, 4), torch.zeros(1, 7, dtype=torch.int64)) == 0
    assert count_macs(nn.ConvTranspose2d(2, 3, 2, 2), torch.zeros(1, 2, 4, 4)) == 4 * 4 * 2 * 3 * 4


def test_macs_of_attention_are_both_of_its_products():
    a = architecture("transformer", input=(6,), outputs=3, width=8, depth=1, vocabulary=9, embedding=4)
    dense = 6 * (8 * 24 + 8 * 8 + 8 * 16 + 16 * 8)
    assert macs_of(a) == dense + 2 * 6 * 6 * 8 + 8 * 4 + 4 * 3


@pytest.mark.parametrize("name", ZOO)
def test_macs_without_weights_are_those_of_the_real_network(name):
    assert macs_of(ZOO[name]) == count_macs(build(ZOO[name], 0), ZOO[name].sample())


@pytest.mark.parametrize("name", ["resnet", "mobilenet", "cnn1d", "tcn"])
def test_bytes_are_those_of_the_folded_network(name):
    if name in {"resnet", "mobilenet"}:
        assert bytes_of(ZOO[name]) == weight_bytes(folded(build(ZOO[name], 0)))
    weights = sum(p.numel() for p in build(ZOO[name], 0).parameters() if p.ndim > 1)
    assert weights < bytes_of(ZOO[name]) < 4 * weights


def test_bytes_worked_out_by_hand():
    model = nn.Sequential(nn.Conv2d(2, 4, 3, bias=False), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 5))
    assert weight_bytes(model) == 2 * 4 * 9 + 4 * 4 + 16 * 5 + 4 * 5
    tied = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False))
    tied[1].weight = tied[0].weight
    assert weight_bytes(tied) == 9


@pytest.mark.parametrize("limits", [Limits(macs=2_000_000), Limits(bytes=30_000), Limits(macs=900_000, bytes=20_000)])
@pytest.mark.parametrize("family", ["resnet", "ds-cnn", "mobilenet"])
def test_widest_that_fits_is_found(family, limits):
    found = fit_to(architecture(family, input=(1, 28, 28), outputs=10), limits)
    assert limits.fits(found)
    assert not limits.fits(found.with_width(found.width + 1))


def test_depth_is_given_up_before_the_last_channels_are():
    a = architecture("ds-cnn", input=(1, 28, 28), outputs=10, depth=6)
    found = fit_to(a, Limits(macs=60_000))
    assert 1 <= found.depth < 6
    assert found.width >= 4
    assert macs_of(a.with_width(4)) > 60_000


def test_nothing_fits_and_everything_fits():
    a = architecture("ds-cnn", input=(1, 28, 28), outputs=10)
    assert fit_to(a, Limits(macs=100)) is None
    assert fit_to(a, Limits()) is a


def test_heads_share_the_width_evenly():
    a = architecture("transformer", input=(6,), outputs=3, vocabulary=9, heads=4)
    assert fit_to(a, Limits(bytes=4000)).width % 4 == 0
    assert a.with_width(1).width == 4
