from __future__ import annotations

import numpy as np
import pytest

from cloud_trainer.config import DataConfig, TaskConfig
from cloud_trainer.data import check_splits
from cloud_trainer.demo import data


def test_no_base_image_is_in_two_pools():
    seen: dict[bytes, str] = {}
    for name, pool in data.pools().items():
        for base in pool.bases:
            # scikit-learn's digits hold no two equal images, so bytes tell them apart
            assert seen.setdefault(base.tobytes(), name) == name
    assert len(seen) == 1797


def test_every_pool_has_every_class_about_equally_often():
    for name, pool in data.pools().items():
        counts = np.bincount(pool.labels, minlength=data.CLASSES)
        assert counts.min() > 0.85 * counts.max(), name


def test_a_picture_is_a_function_of_device_seed_and_index():
    pool = data.pools()["cam-2"]
    first, labels = data.stream(pool, "cam-2", 5, 3)
    again, _ = data.stream(pool, "cam-2", 5, 3)
    other, _ = data.stream(pool, "cam-2", 6, 3)
    next_one, _ = data.stream(pool, "cam-2", 5, 4)
    assert first.shape == (data.BLOCK, 16, 16)
    assert first.dtype == np.uint8
    assert (first == again).all()
    assert (first != other).any()
    assert (first != next_one).any()
    start = 3 * data.BLOCK
    assert (data.stream_labels("cam-2", 5, start, start + data.BLOCK) == labels).all()


@pytest.mark.parametrize(("start", "stop"), [(0, 0), (0, 1), (63, 65), (100, 101), (64, 128)])
def test_labels_of_any_stretch_are_those_of_the_whole(start, stop):
    whole = data.stream_labels("cam-1", 1, 0, 200)
    assert (data.stream_labels("cam-1", 1, start, stop) == whole[start:stop]).all()


def test_labels_are_those_of_the_base_images():
    # with one base image a class, the picture must resemble its class's image more than any other's
    bases = np.zeros((10, 8, 8), np.float32)
    for digit in range(10):
        bases[digit, digit % 8, :] = 1.0
        bases[digit, :, digit // 2] = 1.0
    x, y = data.draw(bases, np.arange(10), 300, np.random.default_rng(0))
    means = np.stack([x[y == digit].mean(axis=0) for digit in range(10)])
    blurred = bases.repeat(2, axis=1).repeat(2, axis=2)
    score = np.einsum("ahw,bhw->ab", means - means.mean((1, 2), keepdims=True), blurred - blurred.mean(0))
    assert (score.argmax(axis=1) == np.arange(10)).all()


def test_a_bad_camera_loses_contrast_and_sharpness():
    x, _ = data.stream(data.pools()["cam-1"], "cam-1", 0, 0)
    bad = data.spoil(x, "cam-1", 0, 0)
    assert bad.dtype == np.uint8
    assert bad.std(axis=(1, 2)).mean() < 0.6 * x.std(axis=(1, 2)).mean()
    assert (data.go_bad(x, np.random.default_rng(0), 0.0) == x).all()


def test_splits_are_what_the_trainer_takes():
    task = TaskConfig(name="digits", kind="image-classification", data=DataConfig(format="python"), seed=3)
    splits = check_splits(data.splits(task))
    assert {name: len(part) for name, part in splits.parts().items()} == {
        "train": 6000,
        "validation": 1000,
        "reference": 3000,
        "test": 2000,
    }
    assert (splits.train.x != data.splits(task).train.x).sum() == 0


@pytest.mark.parametrize("name", ["cam-9-000001", "cam-1", "cam-1-x1", ""])
def test_a_strangers_sample_is_refused(name):
    with pytest.raises(ValueError, match="is not <device>-<number>"):
        data.parse_id(name)
