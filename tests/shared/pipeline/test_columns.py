"""Rows of words and numbers, moments, windows as rows: what the numbers are."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.pipeline.bind import bind_arrays
from shared.pipeline.encode import Categories, OneHot
from shared.pipeline.preprocess import Calendar, Choose, Combine, Impute, Pair, Parse, Pick, Piecewise, Recent
from shared.pipeline.spec import Pipeline, pipeline_takes_missing


@given(st.datetimes(timezones=st.just(dt.UTC)))
def test_places_in_day_week_month_and_year_are_those_of_the_standard_library(aware: dt.datetime) -> None:
    operation = Calendar(0, ("hour", "weekday", "monthday", "yearday", "month"), harmonics=0, weekend=True)
    (found,) = operation(np.array([[aware.timestamp()]]))
    hour = (aware - aware.replace(hour=0, minute=0, second=0, microsecond=0)).total_seconds() / 3600
    weekday, year = aware.weekday(), aware.timetuple().tm_yday
    np.testing.assert_allclose(found, [hour, weekday, aware.day, year, aware.month, weekday >= 5], atol=1e-4)


def test_local_time_is_ahead_by_the_offset() -> None:
    late = np.array([[dt.datetime(2024, 12, 31, 23, tzinfo=dt.UTC).timestamp()]])
    found = Calendar(0, ("hour", "yearday"), harmonics=0, offset=2.0)(late)
    assert found.tolist() == [[1.0, 1.0]]


def test_a_missing_moment_gives_zeros_and_leaves_the_other_columns() -> None:
    found = Calendar(1, ("hour",), weekend=True)(np.array([[7.0, np.nan], [8.0, 1e300]]))
    assert found.tolist() == [[7.0, 0, 0, 0], [8.0, 0, 0, 0]]


@given(st.lists(st.text(max_size=12), min_size=3, max_size=3))
def test_any_text_is_parsed_alike_alone_and_in_a_batch(row: list[str]) -> None:
    operation = Parse(3, (Categories(2, ("a", "b")),), times=(0,))
    batch = np.array([row, ["1", "2", "a"]], object)
    whole = operation(batch)
    target = np.empty((1, 3), whole.dtype)
    first, second = bind_arrays([operation], [], np.full((1, 3), "", object), target)
    for run in (*first, *second):
        run(batch[:1])
    np.testing.assert_array_equal(target, whole[:1])
    assert np.isfinite(whole[1]).all()
    assert not np.isinf(whole).any()


def test_known_words_are_learned_and_the_empty_one_only_where_it_was_there() -> None:
    train = np.array([["b", "x"], ["a", ""], ["b", "x"]], object)
    operation = Parse.fit(train, categories=(0, 1))
    assert operation.categories == (Categories(0, ("a", "b")), Categories(1, ("", "x")))
    assert operation(np.array([["", ""], ["c", "x"]], object)).tolist() == [[-1, 0], [-1, 1]]


def test_categories_must_be_words_of_different_columns_of_the_row() -> None:
    for wrong in ({"categories": (Categories(2, ("a",)),)}, {"categories": (Categories(0, (1,)),)}):
        with pytest.raises(ValueError, match="parse: categories"):
            Parse(2, **wrong)
    with pytest.raises(ValueError, match="parse: categories"):
        Parse(2, categories=(Categories(0, ("a",)),), times=(0,))


def test_a_ratio_to_nothing_is_nothing_and_to_little_is_finite() -> None:
    found = Combine((Pair("ratio", 0, 1),))(np.array([[3.0, 0.0], [3e38, 1e-38], [1.0, np.nan]], np.float32))
    assert found[0, 2] == 0
    assert np.isfinite(found[1, 2])
    assert np.isnan(found[2, 2])


def test_a_window_says_its_lags_changes_and_statistics() -> None:
    window = np.arange(12.0).reshape(1, 6, 2)
    picks = (Pick(0), Pick(1, steps=2), Pick(0, "change", 5), Pick(1, "mean", 3), Pick(1, "std", 2), Pick(0, "min", 6))
    assert Recent(picks)(window).tolist() == [[10.0, 7.0, 10.0, 9.0, 1.0, 0.0]]
    with pytest.raises(ValueError, match="at least 7 time steps"):
        Recent((Pick(0, "value", 6),))(window)


def test_knots_hold_as_many_samples_each_or_are_the_few_values_that_there_are() -> None:
    random = np.random.default_rng(0)
    columns = np.stack([random.exponential(size=1000), random.integers(0, 3, 1000), np.full(1000, 7.0)], axis=1)
    columns[::5, 0] = np.nan
    operation = Piecewise.fit(columns, intervals=4)
    assert [len(knots) for knots in operation.knots] == [5, 3, 2]
    assert operation.knots[1] == (0.0, 1.0, 2.0)
    known = columns[~np.isnan(columns[:, 0]), 0]
    counts = np.histogram(known, operation.knots[0])[0]
    assert counts.min() > 190
    found = operation(np.nan_to_num(columns))
    assert found.min() == 0
    assert found.max() == 1
    assert (found[:, -1] == 0).all()


def test_gaps_are_filled_behind_operations_that_pass_them_on() -> None:
    parse, impute, one_hot = Parse(2, (Categories(0, ("a",)),)), Impute((0.0,)), OneHot((Categories(0, (0,)),))
    assert pipeline_takes_missing(Pipeline(preprocess=(parse, Choose((1,)), impute)))
    assert pipeline_takes_missing(Pipeline(preprocess=(Combine((Pair("ratio", 0, 1),)), Recent((Pick(0),)), impute)))
    assert pipeline_takes_missing(Pipeline(preprocess=(Parse(1, (Categories(0, ("a",)),)),), encode=(one_hot,)))
    assert not pipeline_takes_missing(Pipeline(preprocess=(parse,), encode=(one_hot,)))
    assert not pipeline_takes_missing(Pipeline(preprocess=(Piecewise(((0.0, 1.0),)), impute)))
