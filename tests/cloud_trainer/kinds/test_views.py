"""How views and columns are chosen; what samples must look like. No network but the smallest."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
import torch

from cloud_trainer.config import FeatureConfig
from cloud_trainer.data import Dataset
from cloud_trainer.fit import Encoded
from cloud_trainer.kinds import columns, series, sounds, texts
from cloud_trainer.kinds.views import Effort, Steps, Trial, View, best, choose, permuted, sampled, tried
from cloud_trainer.models import Mlp
from shared.errors import DataError
from shared.pipeline.preprocess import Standardize
from tests.cloud_trainer.kinds.generated import dealt, messages, movements, task, tones

EFFORT = Effort(updates=60, batch=32)


def trial(name: str, score: float, loss: float, count: int = 400) -> Trial:
    judged = Encoded(torch.zeros(count, 1), torch.zeros(count, dtype=torch.int64))
    view = View(name, lambda x: Steps(), lambda steps, shape, outputs: Mlp(input=shape, outputs=outputs))
    return Trial(view, Steps(), score, loss, 0, torch.nn.Identity(), judged)


def columns_data(n: int = 300, useless: int = 6) -> Dataset:
    """Two columns tell the class, the others nothing."""
    random = np.random.default_rng(0)
    y = np.arange(n) % 2
    x = random.normal(size=(n, 2 + useless)).astype(np.float32)
    x[:, :2] += 2 * y[:, None]
    return Dataset(x, y.astype(np.int64), ("a", "b"))


def columns_view() -> View:
    def fit(x):
        return Steps((Standardize.fit(x, per_column=True),), columns=tuple(f"c{i}" for i in range(x.shape[1])))

    return View("columns", fit, lambda _, shape, outputs: Mlp(input=shape, outputs=outputs, width=16, depth=1))


def test_the_best_view_has_the_highest_score():
    assert best([trial("a", 0.8, 0.3), trial("b", 0.9, 0.5)]).view.name == "b"


def test_where_scores_do_not_differ_by_more_than_chance_the_loss_decides_and_then_the_order():
    assert best([trial("a", 0.898, 0.3), trial("b", 0.9, 0.5)]).view.name == "a"
    assert best([trial("a", 0.9, 0.3), trial("b", 0.9, 0.3)]).view.name == "a"
    assert best([trial("a", 0.898, 0.3, 10**6), trial("b", 0.9, 0.5, 10**6)]).view.name == "b"


def test_a_part_of_the_samples_has_every_class_and_is_the_same_for_the_same_seed():
    data = Dataset(np.arange(1000)[:, None], np.array([0] * 990 + [1] * 9 + [2]), ("a", "b", "c"))
    part = sampled(data, 20, seed=3)
    assert len(part) == 20
    assert set(part.y) == {0, 1, 2}
    assert len(np.unique(part.x)) == 20
    np.testing.assert_array_equal(part.x, sampled(data, 20, seed=3).x)
    assert not np.array_equal(part.x, sampled(data, 20, seed=4).x)
    assert sampled(data, 5000, seed=0) is data


def test_a_view_that_sees_the_class_wins_over_one_that_does_not():
    seeing = columns_view()
    blind = msgspec.structs.replace(
        seeing, name="blind", fit=lambda x: msgspec.structs.replace(seeing.fit(x), encode=(columns_off(x.shape[1]),))
    )
    kept, table = choose([blind, seeing], dealt(columns_data()), seed=0, effort=EFFORT)
    assert kept.view.name == "columns"
    assert [(row.name, row.kept) for row in table.features] == [("columns", True), ("blind", False)]
    assert table.features[0].importance > 0.85


def columns_off(count: int):
    from shared.pipeline.preprocess import Scale

    return Scale(0.0)


def test_shuffling_a_column_that_tells_something_costs_and_others_do_not():
    found = permuted(tried(columns_view(), dealt(columns_data()), seed=0, effort=EFFORT), seed=1)
    assert set(np.argsort(-found)[:2]) == {0, 1}
    assert found[:2].min() > 5 * np.abs(found[2:]).max()


@pytest.mark.parametrize("select", ["permutation", "mutual-information"])
def test_columns_that_tell_nothing_are_dropped_and_the_pipeline_gives_the_others(select):
    splits = dealt(columns_data())
    first = tried(columns_view(), splits, seed=0, effort=EFFORT)
    config = FeatureConfig(select=select, max_features=2)
    again, table = columns.selected(first, splits, config, seed=0, effort=EFFORT)
    assert [feature.name for feature in table.features if feature.kept] in (["c0", "c1"], ["c1", "c0"])
    assert again.steps.columns == ("c0", "c1")
    np.testing.assert_allclose(again.steps(splits.test.x), first.steps(splits.test.x)[:, :2])
    assert again.score > 0.85


def test_columns_that_are_missed_all_stay_and_the_table_says_why():
    splits = dealt(columns_data())
    first = tried(columns_view(), splits, seed=0, effort=EFFORT)
    better = msgspec.structs.replace(first, score=1.0)  # as if all columns together had done best
    again, table = columns.selected(better, splits, FeatureConfig(), seed=0, effort=Effort(updates=1))
    assert again is better
    assert all(feature.kept for feature in table.features)
    assert "all stay" in table.features[0].why


def test_nothing_is_measured_where_nothing_is_to_be_selected():
    splits = dealt(columns_data())
    first = tried(columns_view(), splits, seed=0, effort=Effort(updates=1))
    again, table = columns.selected(first, splits, FeatureConfig(select="none"), seed=0, effort=EFFORT)
    assert again is first
    assert {feature.importance for feature in table.features} == {None}


def test_numbers_of_a_window_have_a_name_each():
    data = movements(20, time=300)
    views = {view.name: view for view in series.views_of(task("series-classification"), data)}
    steps = views["numbers"].fit(data.x)
    assert steps(data.x).shape == (20, len(steps.columns))
    assert len(set(steps.columns)) == len(steps.columns)
    assert "std of x" in steps.columns
    assert any("envelope" in name for name in steps.columns)
    assert np.abs(steps(data.x)).max() <= series.LIMIT


@pytest.mark.parametrize("shape", [(5, 1), (9, 1), (40, 2), (1000, 1)])
def test_every_view_takes_short_and_long_windows_of_any_sensor(shape):
    x = np.random.default_rng(0).normal(size=(30, *shape)).astype(np.float32) * 1000
    data = Dataset(x, np.arange(30) % 2, ("a", "b"))
    for view in series.views_of(task("series-classification"), data):
        steps = view.fit(x)
        out = steps(x)
        assert np.isfinite(out).all(), view.name
        view.network(steps, out.shape[1:], 2).network()


@pytest.mark.parametrize(("rate", "seconds"), [(8000, 1.0), (16_000, 1.0), (44_100, 3.0), (1000, 0.1), (96_000, 0.05)])
def test_every_view_of_a_sound_takes_any_rate_and_length(rate, seconds):
    x = (np.random.default_rng(0).normal(size=(4, int(rate * seconds))) * 1000).astype(np.int16)
    data = Dataset(x, np.arange(4) % 2, ("a", "b"), rate=float(rate))
    for view in sounds.views_of(task("audio-classification"), data):
        steps = view.fit(x)
        out = steps(x)
        assert 8 <= out.shape[1] <= sounds.MOST_FRAMES, view.name
        assert out.std() > 0.5
        view.network(steps, out.shape[1:], 2).network()


def test_a_louder_recording_of_the_same_looks_the_same_without_its_level():
    data = tones(20)
    view = {view.name: view for view in sounds.views_of(task("audio-classification"), data)}["log-mel, level removed"]
    steps = view.fit(data.x)
    np.testing.assert_allclose(steps(data.x), steps((data.x // 2 * 2) * 2), atol=0.1)


def test_texts_are_as_long_as_most_of_them_and_empty_ones_are_taken():
    data = messages(60)
    assert texts.usual_length(data.x) == 8
    assert texts.usual_length(np.array(["a " * 500] * 3, dtype=object)) == texts.LONGEST
    for view in texts.views_of(task("text-classification"), data):
        out = view.fit(data.x)(np.array(["", "Ünknown wörds ⚙"], dtype=object))
        assert np.isfinite(out).all()


@pytest.mark.parametrize(
    ("module", "x", "rate", "message"),
    [
        (series.sample_spec, np.zeros((5, 40)), 0.0, "data.window"),
        (series.sample_spec, np.zeros((5, 3, 2)), 0.0, "at least 4 time steps"),
        (sounds.sample_spec, np.zeros((5, 10), np.int16), 8000.0, "at least 64"),
        (sounds.sample_spec, np.zeros((5, 8000), np.int16), 0.0, "data.sample_rate"),
        (sounds.sample_spec, np.zeros((5, 3, 40)), 0.0, "at least 4 each"),
        (texts.check_texts, np.zeros((5, 3)), 0.0, "data.text"),
        (texts.check_texts, np.array(["", " ", "", "\t", ""], dtype=object), 0.0, "no text of the train split"),
    ],
)
def test_samples_of_another_kind_are_refused_in_one_line(module, x, rate, message):
    with pytest.raises(DataError, match=message) as caught:
        module(Dataset(x, np.zeros(5, np.int64), ("a", "b"), rate=rate))
    assert "\n" not in str(caught.value)
