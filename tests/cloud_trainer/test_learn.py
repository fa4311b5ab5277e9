"""What teachers and students may cost."""

from __future__ import annotations

import numpy as np
import pytest
from torch import nn

from cloud_trainer.config import DataConfig, DistillConfig, ModelConfig, TaskConfig, TrainingConfig
from cloud_trainer.data import Dataset, Splits
from cloud_trainer.fit import Encoded
from cloud_trainer.kinds import kind_of
from cloud_trainer.learn import learn
from cloud_trainer.lesson import Lesson
from cloud_trainer.models import Bag, Limits, bytes_of, fit_to, macs_of
from cloud_trainer.progress import silent
from cloud_trainer.room import PIXEL_WORK, TEACHER_LEAST
from cloud_trainer.sizing import default_student, limits_of, teachers_of
from shared.errors import UsageError


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


def lesson_of(model: ModelConfig, side: int = 8) -> Lesson:
    x = np.zeros((40, side, side), np.uint8)
    x[::2, 0] = 9
    part = Dataset(x, np.arange(40) % 2, ("a", "b"))
    task, splits = TaskConfig("t", "image-classification", DataConfig("npz"), model=model), Splits(*[part] * 4)
    kind = kind_of(task.kind)
    prepared = kind.prepare(task, splits)
    data = Encoded.of(prepared.encode(part.x), part.y)
    return Lesson(task, kind, prepared, kind.objective(task, prepared, splits), data, data)


@pytest.mark.parametrize(
    ("model", "count"), [(ModelConfig(), 2), (ModelConfig(ensemble=3), 3), (ModelConfig(ensemble=1), 1)]
)
def test_image_teachers_share_what_an_answer_may_cost(model, count):
    found = teachers_of(lesson_of(model))
    assert len(found) == count
    assert 0.5 < sum(map(macs_of, found)) / max(TEACHER_LEAST, PIXEL_WORK * 64) <= 1


def test_image_teacher_of_a_width_is_one():
    assert [one.label for one in teachers_of(lesson_of(ModelConfig(teacher_width=7)))] == ["resnet-w7"]


@pytest.mark.parametrize(
    ("macs", "label"), [(5_000_000, "resnet-w16-fine"), (3_000_000, "resnet-w12-fine"), (2_000_000, "resnet-w12")]
)
def test_small_images_get_a_fine_student_where_it_is_wide_enough(macs, label):
    assert default_student(lesson_of(ModelConfig(), side=28), Limits(macs=macs)).label == label


def test_large_images_and_other_families_are_not_fine():
    assert "fine" not in default_student(lesson_of(ModelConfig(), side=48), Limits(macs=50_000_000)).label
    assert default_student(lesson_of(ModelConfig(student="ds-cnn")), Limits(macs=500_000)).family == "ds-cnn"


def table_lesson(model: ModelConfig) -> Lesson:
    """Numbers that a tree tells at once."""
    random = np.random.default_rng(0)
    x = random.normal(size=(300, 4)).astype(np.float32)
    part = Dataset(x, (np.abs(x[:, 1]) > 0.7).astype(np.int64), ("a", "b"), tuple("abcd"))
    plan = TrainingConfig(teacher_epochs=1, student_epochs=1, minimum_steps=0)
    task = TaskConfig(
        "t", "tabular-classification", DataConfig("csv"), model=model, training=plan, distill=DistillConfig()
    )
    splits, kind = Splits(*[part] * 4), kind_of(task.kind)
    prepared = kind.prepare(task, splits)
    data = Encoded.of(prepared.encode(part.x), part.y)
    return Lesson(task, kind, prepared, kind.objective(task, prepared, splits), data, data)


def test_trees_that_are_named_teach_alone():
    found = learn(table_lesson(ModelConfig(teacher="trees", teacher_width=2)), start=None, progress=silent)
    assert [one.label.partition("-")[0] for one in found.advisers] == ["trees"]
    assert len(found.council) == 1
    assert not found.teachers
    assert not isinstance(found.council[0], nn.Module)


def test_trees_for_samples_that_have_none_are_refused():
    with pytest.raises(UsageError, match=r'model.teacher = "trees": they are grown for tables.*auto$'):
        teachers_of(lesson_of(ModelConfig(teacher="trees")))
