"""What is made of a table's columns."""

from __future__ import annotations

import numpy as np
import pytest

from cloud_trainer.config import DataConfig, FeatureConfig, TaskConfig
from cloud_trainer.data.dataset import Dataset, Splits
from cloud_trainer.engineering.rows import applied, columns_of, row_features
from cloud_trainer.engineering.spread import sources_of
from shared.errors import DataError
from shared.pipeline.columns import Combine, Parse
from shared.pipeline.moments import Calendar
from shared.pipeline.tables import Impute, OneHot

COLUMNS = ("when", "temp", "sky", "name", "fixed", "noise")


def table(n, seed):
    """y depends on the hour, the temperature where it is known, and the sky."""
    random = np.random.default_rng(seed)
    seconds = 1.7e9 + random.integers(0, 60 * 24, n) * 3600.0
    hour, temp, sky = seconds % 86_400 / 3600, random.normal(10, 5, n), random.choice(["dry", "rain", "fog"], n)
    y = 3 * np.sin(hour * np.pi / 12) + temp / 5 + 2 * (sky == "rain") + 0.1 * random.normal(size=n)
    cells = [seconds, temp.round(2), sky, [f"row {seed} {k}" for k in range(n)], np.full(n, 7), random.normal(size=n)]
    x = np.stack([np.asarray(cell).astype(str) for cell in cells], axis=1).astype(object)
    x[random.random(n) < 0.1, 1] = ""
    return Dataset(x, y.astype(np.float32), columns=COLUMNS)


@pytest.fixture(scope="module")
def splits():
    return Splits(table(1200, 0), table(420, 1), table(60, 2), table(60, 3))


@pytest.fixture(scope="module")
def found(splits):
    return row_features(task(), splits, classes=0)


def task(**features):
    return TaskConfig("t", "tabular-regression", DataConfig("csv", time="when"), features=FeatureConfig(**features))


def test_columns_are_numbers_words_a_time_or_nothing_to_learn_from(splits):
    found = columns_of(splits.train, task())
    assert (found.numbers, found.words, found.time) == ((1, 5), (2,), 0)
    assert set(found.dropped) == {3, 4}
    assert "1200 different words" in found.dropped[3]


def test_features_are_parsed_chosen_and_filled(splits, found):
    kinds = [type(operation) for operation in (*found.preprocess, *found.encode)]
    assert kinds[:2] == [Parse, Calendar]
    assert Impute in kinds
    assert OneHot in kinds
    rows = {feature.name: feature for feature in found.table.features}
    assert rows["temp"].kept
    assert rows["sky"].kept
    assert rows["when: hour"].kept
    assert not rows["noise"].kept
    assert not rows["name"].kept
    assert rows["fixed"].why == "the same everywhere"
    encoded = applied((*found.preprocess, *found.encode), splits.test.x)
    assert np.isfinite(encoded).all()
    assert encoded.dtype == np.float32
    assert encoded.min() >= 0
    assert encoded.max() <= 1


def test_a_row_of_nothing_but_gaps_is_encoded_too(found):
    empty = np.full((1, len(COLUMNS)), "", object)
    assert np.isfinite(applied((*found.preprocess, *found.encode), empty)).all()


def test_numbers_alone_need_no_parsing_and_few_rows_no_ramps():
    random = np.random.default_rng(0)
    parts = [random.normal(size=(n, 3)).astype(np.float32) for n in (150, 60, 60, 60)]
    splits = Splits(*(Dataset(x, x[:, 0] * 2, columns=("a", "b", "c")) for x in parts))
    plain = TaskConfig("t", "tabular-regression", DataConfig("csv"))
    found = row_features(plain, splits, classes=0)
    names = [operation.__struct_config__.tag for operation in (*found.preprocess, *found.encode)]
    assert names[-4:] == ["choose", "impute", "standardize", "clip"]
    assert "parse" not in names
    assert found.table.features[0].name == "a"
    assert found.table.features[0].kept


def test_a_ratio_that_says_it_all_is_kept():
    random = np.random.default_rng(0)

    def part(n):
        x = random.uniform(0.05, 3, size=(n, 2)).astype(np.float32)
        return Dataset(x, (x[:, 0] / x[:, 1]).clip(0, 8), columns=("a", "b"))

    plain = TaskConfig("t", "tabular-regression", DataConfig("csv"))
    found = row_features(plain, Splits(part(700), part(420), part(60), part(60)), classes=0)
    assert any(isinstance(operation, Combine) for operation in found.preprocess)
    assert any(feature.name == "a / b" and feature.kept for feature in found.table.features)
    without = TaskConfig("t", "tabular-regression", DataConfig("csv"), features=FeatureConfig(engineer=False))
    plainer = row_features(without, Splits(part(700), part(420), part(60), part(60)), classes=0)
    assert not any(isinstance(operation, Combine) for operation in plainer.preprocess)


def test_a_table_without_anything_to_learn_from_is_refused():
    x = np.full((80, 2), 3.0, np.float32)
    part = Dataset(x, np.arange(80, dtype=np.float32), columns=("a", "b"))
    with pytest.raises(DataError, match="no column is left to learn from"):
        row_features(
            TaskConfig("t", "tabular-regression", DataConfig("csv")), Splits(part, part, part, part), classes=0
        )


def test_every_number_of_the_input_has_a_column_that_it_comes_from(splits, found):
    at = max(k for k, operation in enumerate(found.preprocess) if operation.__struct_config__.tag == "choose")
    columns = len(found.preprocess[at].columns)
    sources = sources_of((*found.preprocess[at + 1 :], *found.encode), columns)
    encoded = applied((*found.preprocess, *found.encode), splits.test.x)
    assert len(sources) == encoded.shape[1]
    assert set(sources) == set(range(columns))
