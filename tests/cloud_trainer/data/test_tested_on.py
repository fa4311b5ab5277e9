"""``data.test_path``: a file or folder of its own is the test part."""

from __future__ import annotations

import numpy as np
import pytest

from cloud_trainer.data import load_splits
from shared.errors import DataError, UsageError
from tests.cloud_trainer.data.samples import rows, task, write_csv, write_images


def images(path, n, names, classes, seed=0, size=8):
    random = np.random.default_rng(seed)
    y = random.integers(0, classes, n)
    y[:classes] = np.arange(classes)
    np.savez(path, x=random.integers(0, 256, (n, size, size), dtype=np.uint8), y=y, names=np.array(names))
    return str(path), y


def loaded(path, test, **data):
    return load_splits(task("image-classification", format="npz", path=path, test_path=test, **data))


def test_it_is_the_test_part_and_what_that_would_have_been_is_reference(tmp_path):
    path, _ = images(tmp_path / "a.npz", 400, ["a", "b"], 2)
    test, y = images(tmp_path / "b.npz", 90, ["a", "b"], 2, seed=1)
    alone = load_splits(task("image-classification", format="npz", path=path))
    splits = loaded(path, test)
    assert np.array_equal(splits.test.y, y)
    with np.load(test) as file:
        assert np.array_equal(splits.test.x, file["x"])
    assert sum(len(part) for part in splits.parts().values()) == 490
    assert abs(len(splits.reference) - 100) <= 2
    assert len(splits.train) > len(alone.train)


def test_classes_are_told_apart_by_their_names_not_their_numbers(tmp_path):
    path, _ = images(tmp_path / "a.npz", 400, ["a", "b", "c"], 3)
    test, y = images(tmp_path / "b.npz", 60, ["c", "a"], 2, seed=1)
    splits = loaded(path, test)
    assert splits.test.labels == ("a", "b", "c")
    assert np.array_equal(splits.test.y, np.array([2, 0])[y])


def test_a_class_that_nothing_is_learned_of_is_named(tmp_path):
    path, _ = images(tmp_path / "a.npz", 400, ["a", "b"], 2)
    test, _ = images(tmp_path / "b.npz", 60, ["a", "z"], 2)
    with pytest.raises(DataError, match=r"b\.npz: class 'z' is not in .*a\.npz; there are a, b"):
        loaded(path, test)


def test_samples_of_another_shape_are_named(tmp_path):
    path, _ = images(tmp_path / "a.npz", 400, ["a", "b"], 2)
    test, _ = images(tmp_path / "b.npz", 60, ["a", "b"], 2, size=9)
    with pytest.raises(DataError, match=r"b\.npz: samples are uint8 \(9, 9\), in .*a\.npz they are uint8 \(8, 8\)"):
        loaded(path, test)


def test_other_columns_are_refused(tmp_path):
    path = write_csv(tmp_path / "a.csv", rows())
    other = {("size" if name == "a" else name): values for name, values in rows(120, 1).items()}
    with pytest.raises(DataError, match=r"b\.csv: samples are"):
        load_splits(task(format="csv", path=path, target="label", test_path=write_csv(tmp_path / "b.csv", other)))


def test_rows_of_a_second_table(tmp_path):
    path, test = write_csv(tmp_path / "a.csv", rows()), write_csv(tmp_path / "b.csv", rows(120, 1))
    splits = load_splits(task(format="csv", path=path, target="label", test_path=test))
    assert len(splits.test) == 120
    assert splits.test.columns == splits.train.columns == ("a", "b", "color")
    assert splits.test.labels == splits.train.labels == ("no", "yes")


def test_a_file_that_is_not_there(tmp_path):
    path, _ = images(tmp_path / "a.npz", 400, ["a", "b"], 2)
    with pytest.raises(UsageError, match=r"gone\.npz: no such file"):
        loaded(path, str(tmp_path / "gone.npz"))


def test_anomalies_of_a_test_folder_are_test_samples_and_only_normal_ones_are_reference(tmp_path):
    path = write_images(tmp_path / "parts", ["good", "scratch"], n=200)
    test = write_images(tmp_path / "held", ["good", "dent"], n=40, seed=1)
    splits = load_splits(task("image-anomaly", format="image-folder", path=path, target="good", test_path=test))
    assert len(splits.test) == 80
    assert np.bincount(splits.test.y).tolist() == [40, 40]
    for part in (splits.train, splits.validation, splits.reference):
        assert not part.y.any()
