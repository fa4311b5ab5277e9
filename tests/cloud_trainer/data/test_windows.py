"""Windows of sensors, and forecasts: no moment on both sides."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from cloud_trainer.data import join, load_splits
from cloud_trainer.data.loading import load
from shared.errors import ConfigError, DataError
from tests.cloud_trainer.data.samples import task, write_csv


def stretches(path, lengths, classes, users=None, **more):
    lengths = np.array(lengths)
    x = np.arange(lengths.sum() * 2, dtype=np.int16).reshape(-1, 2)
    arrays = {"X": x, "lens": lengths, "y": np.array(classes), "names": np.array(["sit", "walk"])}
    if users is not None:
        arrays["user"] = np.array(users)
    np.savez(path, **arrays, **more)
    return str(path)


def test_stretches_of_an_npz_file_are_cut_and_never_crossed(tmp_path):
    path = stretches(tmp_path / "d.npz", [40, 50] * 40, [0, 1] * 40, [f"u{i // 8}" for i in range(80)])
    splits = load_splits(task("series-classification", format="npz", path=path, window=16, step=8, group="user"))
    assert splits.train.x.shape[1:] == (16, 2)
    assert splits.train.labels == ("sit", "walk")
    every = join(list(splits.parts().values()))
    assert len(every) == 40 * (4 + 5)
    assert (np.diff(every.x[:, :, 0], axis=1) == 2).all()
    seen = [set(part.groups.tolist()) for part in splits.parts().values()]
    assert sum(map(len, seen)) == 10


def test_without_groups_no_row_is_in_two_parts(tmp_path):
    path = stretches(tmp_path / "d.npz", [900, 800], [0, 1])
    splits = load_splits(task("series-classification", format="npz", path=path, window=16, step=4))
    seen = [set(part.x[:, :, 0].ravel().tolist()) for part in splits.parts().values()]
    assert sum(map(len, seen)) == len(set().union(*seen))
    for part in splits.parts().values():
        assert set(part.y.tolist()) == {0, 1}


def test_stretches_shorter_than_a_window_are_left_out_and_named(tmp_path):
    path = stretches(tmp_path / "d.npz", [40, 50] * 20 + [5], [0, 1] * 20 + [0])
    loaded = load(task("series-classification", format="npz", path=path, window=16))
    assert "1 of 41 stretches are shorter than a window of 16 rows" in loaded.findings[0].text
    path = stretches(tmp_path / "e.npz", [40, 5] * 20, [0, 1] * 20)
    with pytest.raises(DataError, match=r"class 'walk' has no stretch of 16 rows; its longest has 5: set data.window"):
        load(task("series-classification", format="npz", path=path, window=16))


def test_lengths_that_do_not_add_up(tmp_path):
    path = stretches(tmp_path / "d.npz", [40, 50], [0, 1])
    arrays = dict(np.load(path)) | {"lens": np.array([40, 51])}
    np.savez(path, **arrays)
    with pytest.raises(DataError, match="whose sum is the 90 rows of x"):
        load(task("series-classification", format="npz", path=path))


def test_rows_of_a_table_are_cut_by_group_and_class_in_the_order_of_time(tmp_path):
    n = 960
    order = np.random.default_rng(0).permutation(n)
    columns = {
        "t": np.arange(n)[order],
        "v": np.arange(n)[order],
        "user": np.array([f"u{i // 80}" for i in range(n)])[order],
        "activity": np.array([["sit", "walk"][i // 40 % 2] for i in range(n)])[order],
    }
    path = write_csv(tmp_path / "d.csv", columns)
    data = load(
        task(
            "series-classification",
            format="csv",
            path=path,
            target="activity",
            group="user",
            time="t",
            window=10,
            step=5,
        )
    ).data
    assert data.columns == ("v",)
    assert len(data) == 24 * 7
    assert (np.diff(data.x[:, :, 0], axis=1) == 1).all()
    first = data.x[:, 0, 0].astype(int)
    assert (data.y == first // 40 % 2).all()
    assert (data.groups == np.array([f"u{i // 80}" for i in first])).all()


def test_words_among_the_channels_of_a_window(tmp_path):
    path = write_csv(tmp_path / "d.csv", {"v": range(300), "room": ["hall"] * 300, "y": ["a", "b"] * 150})
    with pytest.raises(DataError, match="column 'room' holds words; channels of a window are numbers"):
        load(task("series-classification", format="csv", path=path, target="y"))


def series(path, n=800, **more):
    days = np.datetime64("2020-01-01") + np.arange(n)
    columns = {"date": days.astype(str), "price": np.arange(n) * 10, "sales": np.arange(n), "shop": ["main"] * n}
    return write_csv(path, columns | more)


def test_forecast_windows_show_the_past_and_foretell_the_next(tmp_path):
    path = series(tmp_path / "d.csv")
    splits = load_splits(
        task("forecasting", format="csv", path=path, target="sales", time="date", history=5, horizon=3)
    )
    part = splits.train
    assert part.columns == ("sales", "price", "date")
    assert part.x.shape[1:] == (5, 3)
    assert part.x.dtype == np.float64
    assert part.x[7, :, 0].tolist() == [7, 8, 9, 10, 11]
    assert part.x[7, :, 1].tolist() == [70, 80, 90, 100, 110]
    assert part.y[7].tolist() == [12, 13, 14]
    assert part.times[7] == part.x[7, -1, 2] + 86400
    assert "column 'shop' holds words" in splits.findings[0].text


def test_no_window_of_a_forecast_shares_a_moment_with_another_part(tmp_path):
    path = series(tmp_path / "d.csv")
    splits = load_splits(
        task("forecasting", format="csv", path=path, target="sales", history=10, horizon=4, ignore=("date", "shop"))
    )
    parts = list(splits.parts().values())
    for before, after in itertools.pairwise(parts):
        assert before.y.max() < after.x[:, :, 0].min()
    assert parts[0].x.dtype == np.float32


def test_several_series_are_cut_apart_and_split_at_the_same_time(tmp_path):
    n = 400
    days = (np.datetime64("2020-01-01") + np.arange(n)).astype(str)
    columns = {"date": [*days, *days], "shop": ["a"] * n + ["b"] * n, "sales": [*range(n), *range(1000, 1000 + n)]}
    path = write_csv(tmp_path / "d.csv", columns)
    splits = load_splits(
        task("forecasting", format="csv", path=path, target="sales", time="date", group="shop", history=6, horizon=2)
    )
    parts = list(splits.parts().values())
    for part in parts:
        assert (np.diff(part.x[:, :, 0], axis=1) == 1).all()
        assert set(part.groups.tolist()) == {"a", "b"}
    for before, after in itertools.pairwise(parts):
        assert before.times.max() + 86400 < after.x[:, :, -1].min()


def test_gaps_of_the_target_are_seen_but_never_foretold(tmp_path):
    sales = [str(i) if i != 50 else "" for i in range(800)]
    path = series(tmp_path / "d.csv", sales=sales)
    loaded = load(task("forecasting", format="csv", path=path, target="sales", time="date", history=4, horizon=2))
    assert np.isfinite(loaded.data.y).all()
    assert np.isnan(loaded.data.x[:, :, 0]).sum() == 4
    assert any("2 windows have no known target" in finding.text for finding in loaded.findings)


def test_forecast_bad_wishes(tmp_path):
    path = series(tmp_path / "d.csv", 60)
    with pytest.raises(DataError, match="60 rows are too few for a window of 60 seen and 1 foretold"):
        load(task("forecasting", format="csv", path=path, target="sales", time="date", history=60))
    path = series(tmp_path / "d.csv")
    with pytest.raises(ConfigError, match="'random' would let a forecast see the future"):
        load_splits(task("forecasting", format="csv", path=path, target="sales", time="date", split="random"))


def test_ready_windows_of_an_npz_file(tmp_path):
    n = 600
    x = np.arange(n)[:, None] + np.arange(8)
    np.savez(tmp_path / "d.npz", x=x.astype(np.float32), y=(x[:, -1] + 1).astype(np.float32))
    splits = load_splits(task("forecasting", format="npz", path=str(tmp_path / "d.npz")))
    assert splits.train.x.shape[1:] == (8, 1)
    assert splits.train.y.shape[1:] == (1,)
    assert splits.train.y.max() < splits.validation.x.min()
