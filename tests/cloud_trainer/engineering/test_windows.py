"""What is made of the past of a series."""

from __future__ import annotations

import numpy as np
import pytest

from cloud_trainer.config import DataConfig, FeatureConfig, TaskConfig
from cloud_trainer.data.dataset import Dataset, Splits
from cloud_trainer.engineering.rows import applied
from cloud_trainer.engineering.windows import season_of, window_features
from shared.pipeline.moments import Calendar
from shared.pipeline.recent import Pick, Recent

HISTORY, HORIZON = 30, 3


def series(n, seed):
    """A season of 12 hours, another channel of noise, and the time."""
    random = np.random.default_rng(seed)
    hours = np.arange(n + HISTORY + HORIZON) + 1000.0 * seed
    target = np.sin(hours * 2 * np.pi / 12) * 5 + 0.3 * random.normal(size=len(hours))
    rows = np.stack([target, random.normal(size=len(hours)), 1.7e9 // 3600 * 3600 + hours * 3600], axis=1)
    x = np.stack([rows[k : k + HISTORY] for k in range(n)])
    y = np.stack([target[k + HISTORY : k + HISTORY + HORIZON] for k in range(n)])
    return Dataset(x, y.astype(np.float32), columns=("sales", "other", "when"))


@pytest.fixture(scope="module")
def splits():
    return Splits(series(500, 0), series(400, 1), series(60, 2), series(60, 3))


@pytest.fixture(scope="module")
def found(splits):
    return window_features(task(), splits, moments=True)


def task(**features):
    data = DataConfig("csv", time="when", history=HISTORY, horizon=HORIZON)
    return TaskConfig("t", "forecasting", data, features=FeatureConfig(**features))


def test_a_season_is_found_and_noise_has_none(splits):
    assert season_of(splits.train.x[:, :, 0]) == 12
    assert season_of(np.random.default_rng(0).normal(size=(50, HISTORY))) == 0
    assert season_of(np.ones((5, HISTORY))) == 0


def test_lags_are_kept_and_the_channel_of_noise_is_not(splits, found):
    rows = {feature.name: feature for feature in found.table.features}
    assert any(rows[name].kept for name in rows if name.startswith("sales,"))
    assert not rows["other, mean of 12"].kept
    assert found.season == 12
    encoded = applied((*found.preprocess, *found.encode), splits.test.x)
    assert encoded.shape[0] == 60
    assert np.isfinite(encoded).all()
    picks = found.preprocess[0]
    assert isinstance(picks, Recent)
    assert len(picks.picks) < 40


def test_what_is_chosen_is_what_was_measured(splits):
    """The operations that are left compute the chosen columns of the whole, in the same order."""
    whole = window_features(task(select="none"), splits, moments=True)
    assert any(isinstance(operation, Calendar) for operation in whole.preprocess)
    few = window_features(task(max_features=2), splits, moments=True)
    kept = {feature.name for feature in few.table.features if feature.kept}
    assert len(kept) == 2
    encoded = applied((*few.preprocess, *few.encode), splits.test.x)
    everything = applied((*whole.preprocess, *whole.encode), splits.test.x)
    for column in encoded.T:
        assert np.isclose(everything.T, column, atol=1e-5).all(axis=1).any()


def test_gaps_in_the_past_are_filled(splits, found):
    x = splits.test.x.copy()
    x[:, -4:, :2] = np.nan
    assert np.isfinite(applied((*found.preprocess, *found.encode), x)).all()


def test_lags_and_windows_may_be_named(splits):
    found = window_features(task(lags=(1, 24), rolling=(6,), select="none"), splits, moments=False)
    names = [feature.name for feature in found.table.features]
    assert "sales, 24 back" in names
    assert "sales, statistics of 6" in names


def test_a_channel_that_leaves_its_range_is_left_out_and_the_level_always_there():
    train, validation = series(300, 0), series(100, 1)
    task_ = task(select="none")
    found = window_features(task_, Splits(train, validation, validation, validation), moments=False)
    picks = found.preprocess[0].picks
    assert not any(pick.channel == 2 for pick in picks)  # hours since 1970: of the train split, and not again
    assert any(pick.channel == 1 for pick in picks)
    assert picks[found.level] == Pick(0, "mean", 12)
