"""What a student may cost."""

from __future__ import annotations

import pytest

from cloud_trainer.config import DataConfig, ModelConfig, TaskConfig
from cloud_trainer.learn import limits_of
from cloud_trainer.models import Bag, Limits, bytes_of, fit_to


@pytest.mark.parametrize(
    ("model", "teacher_bytes", "expected"),
    [
        (ModelConfig(), 500_000, Limits(100_000, 500_000)),
        (ModelConfig(), 1_000, Limits(100_000, 65_536)),
        (ModelConfig(max_bytes=150_000), 500_000, Limits(100_000, 150_000)),
        (ModelConfig(max_bytes=900_000, max_macs=5_000), 500_000, Limits(5_000, 900_000)),
        (ModelConfig(mac_share=0.5), 500_000, Limits(500_000, 500_000)),
    ],
)
def test_student_keeps_to_the_strictest_limit_and_has_no_more_weights_than_its_teacher(model, teacher_bytes, expected):
    task = TaskConfig("t", "text-classification", DataConfig("csv"), model=model)
    assert limits_of(task, 1_000_000, teacher_bytes) == expected


def test_embeddings_that_cost_nothing_to_look_up_do_not_grow_without_end():
    task = TaskConfig("t", "text-classification", DataConfig("csv"))
    bag = Bag(input=(48,), outputs=2, vocabulary=4000)
    assert bytes_of(fit_to(bag, limits_of(task, 3_700_000, 400_000))) <= 400_000
