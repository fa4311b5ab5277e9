"""Networks: shapes, MACs, folding, and how long they are trained."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from cloud_trainer.config import DataConfig, TaskConfig, TrainingConfig
from cloud_trainer.exporting.fold import folded
from cloud_trainer.lesson import plan
from cloud_trainer.models import ResNet, build, count_macs, macs_of, widest_within
from shared.errors import TrainingError

SHAPE = ResNet(input=(1, 16, 16), outputs=4, width=6, embedding=5)


def test_macs_of_layers_worked_out_by_hand():
    model = nn.Sequential(
        nn.Conv2d(2, 4, 3, stride=2, padding=1), nn.Conv2d(4, 4, 3, padding=1, groups=4), nn.Flatten(), nn.Linear(64, 7)
    )
    # 4x4 outputs x 4 channels x 9 x 2;  4x4 x 4 channels x 9 x 1;  64 x 7
    assert count_macs(model, torch.zeros(1, 2, 8, 8)) == 16 * 4 * 18 + 16 * 4 * 9 + 64 * 7


def test_counting_leaves_no_hooks_and_the_mode_as_it_was():
    model = build(SHAPE, 0).train()
    count_macs(model, torch.zeros(1, 1, 16, 16))
    assert model.training
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize("share", [0.02, 0.1, 0.5, 1.0])
def test_student_is_the_widest_that_fits(share):
    teacher = ResNet(input=(1, 16, 16), outputs=10, width=24, embedding=32)
    limit = share * macs_of(teacher)
    student = widest_within(teacher, limit)
    assert macs_of(student) <= limit
    assert student.width == teacher.width or macs_of(student.with_width(student.width + 1)) > limit


def test_share_too_small_for_any_student():
    with pytest.raises(TrainingError, match=r"raise model\.mac_share"):
        widest_within(SHAPE, 100)


@pytest.mark.parametrize(
    ("shape", "stages"),
    [
        (SHAPE, 2),
        (ResNet(input=(1, 8, 8), outputs=2, width=3, embedding=4), 1),
        (ResNet(input=(1, 32, 48), outputs=2, width=3, embedding=4), 3),
        (ResNet(input=(28, 28, 3), outputs=2, width=3, embedding=4, channels_last=True), 3),
    ],
)
def test_answers_have_the_shapes_that_were_asked_for(shape, stages):
    logits, embedding = build(shape, 0).eval()(torch.zeros(3, *shape.input))
    assert shape.stages == stages
    assert logits.shape == (3, shape.outputs)
    assert embedding.shape == (3, shape.embedding)


def test_folding_keeps_the_answers_and_the_original():
    model = build(SHAPE, 1)
    for _ in range(3):  # running means and variances that are not the initial ones
        model(torch.randn(16, 1, 16, 16, generator=torch.Generator().manual_seed(0)) * 3 + 1)
    model.eval()
    x = torch.randn(8, 1, 16, 16, generator=torch.Generator().manual_seed(1))
    small = folded(model)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in small.modules())
    assert any(isinstance(module, nn.BatchNorm2d) for module in model.modules())
    with torch.no_grad():
        torch.testing.assert_close(small(x)[0], model(x)[0], rtol=1e-4, atol=1e-5)


def test_building_leaves_the_global_generator_alone():
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    build(SHAPE, 0)
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize(
    ("samples", "epochs", "share", "expected"),
    [(64 * 100, 12, 1.0, 12), (640, 12, 1.0, 60), (640, 12, 0.5, 30), (1, 12, 1.0, 600)],
    ids=["enough data", "little data", "little data, warm start", "one sample"],
)
def test_little_data_is_seen_more_often(samples, epochs, share, expected):
    task = TaskConfig(
        name="t",
        kind="image-classification",
        data=DataConfig(format="npz"),
        training=TrainingConfig(batch=64, minimum_steps=600),
    )
    assert plan(task, epochs, share, samples, seed=0).epochs == expected
