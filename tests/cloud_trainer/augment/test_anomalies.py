"""Made-up anomalies: one thing is wrong, the rest of the image stays, and what is wrong is said."""

from __future__ import annotations

import numpy as np
import pytest

from cloud_trainer.augment.anomalies import KINDS, alter


def images(n: int = 60, *, colour: bool = False, dtype=np.uint8) -> np.ndarray:
    random = np.random.default_rng(0)
    shape = (n, 16, 20, 3) if colour else (n, 16, 20)
    return (random.random(shape) * (200 if dtype == np.uint8 else 1)).astype(dtype)


@pytest.mark.parametrize("colour", [False, True])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_dtype_and_range_are_kept_and_originals_are_left_alone(colour, dtype):
    x = images(colour=colour, dtype=dtype)
    before = x.copy()
    made, kinds = alter(x, np.random.default_rng(1))
    np.testing.assert_array_equal(x, before)
    assert (made.dtype, made.shape) == (x.dtype, x.shape)
    assert x.min() <= made.min()
    assert made.max() <= x.max()
    assert set(kinds) <= set(range(1, len(KINDS) + 1))
    assert len(set(kinds)) > 5


def test_every_image_is_altered():
    x = images()
    made, _ = alter(x, np.random.default_rng(1))
    assert (made != x).reshape(len(x), -1).any(axis=1).all()


def test_the_same_seed_makes_the_same():
    x = images()
    first, again, other = (alter(x, np.random.default_rng(seed))[0] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("name", ["pasted", "scratched", "flattened", "noisy"])
def test_a_defect_is_small(name):
    x = images(dtype=np.float32)
    random = np.random.default_rng(3)
    kind = {one.__name__: one for one in KINDS}[name]
    for image, other in zip(x[:20], x[20:40], strict=True):
        changed = (kind(image.copy(), other, random) != image).mean()
        assert changed < 0.25


def test_images_that_are_the_same_everywhere_stay_numbers():
    made, _ = alter(np.full((8, 16, 16), 7.0, np.float32), np.random.default_rng(0))
    assert np.isfinite(made).all()
