"""The pure parts: ranges, agreement, scores, order of layers, stories."""

from __future__ import annotations

import doctest

import numpy as np
import pytest

from cloud_trainer.export import recipes
from cloud_trainer.quantize import agreement, gate, prune, ranges, sensitivity, story
from cloud_trainer.quantize.agreement import compare, sqnr
from cloud_trainer.quantize.gate import determination, score_of
from cloud_trainer.quantize.ranges import METHODS, Observed, merge, range_of, spread
from cloud_trainer.quantize.sensitivity import counts, rank


@pytest.mark.parametrize("module", [recipes, agreement, gate, prune, ranges, sensitivity, story])
def test_examples_in_the_docstrings(module):
    found = doctest.testmod(module)
    assert found.attempted
    assert not found.failed


@pytest.mark.parametrize("method", METHODS)
def test_every_range_has_zero_inside_and_is_no_wider_than_the_values(method):
    rng = np.random.default_rng(0)
    for values in (rng.normal(size=5000), rng.uniform(2, 5, 5000), -rng.exponential(size=5000)):
        held = Observed(float(values.min()), float(values.max()), values.astype(np.float32))
        low, high = range_of(held, method)
        assert min(held.low, 0) <= low <= 0 <= high <= max(held.high, 0)
        assert high > low


@pytest.mark.parametrize("method", ["percentile", "entropy"])
def test_one_outlier_does_not_take_all_the_steps(method):
    values = np.append(np.random.default_rng(0).normal(size=20_000), 200.0).astype(np.float32)
    assert range_of(Observed(float(values.min()), 200.0, values), method)[1] < 150
    assert range_of(Observed(float(values.min()), 200.0, values), "min-max")[1] == 200


def test_a_tensor_that_is_always_zero_has_a_range():
    held = Observed(0.0, 0.0, np.zeros(10, np.float32))
    assert {range_of(held, method) for method in METHODS} == {(0.0, 0.0)}


def test_observed_extremes_are_exact_whatever_is_kept():
    tensor = np.zeros((10, 1000), np.float32)
    tensor[3, 7], tensor[9, 1] = 5.0, -3.0
    held = merge(merge(None, tensor, 100), tensor + 1, 100)
    assert (held.low, held.high, len(held.values)) == (-3.0, 6.0, 200)


def test_what_is_kept_of_a_tensor_is_of_every_channel():
    channels = np.arange(4096) % 16
    assert len(set(channels[spread(4096, 256)])) == 16  # a plain step of 16 would see one


def test_agreement_counts_classes_only_where_there_are_some():
    wanted = np.array([[1.0, 0.0], [0.0, 1.0]])
    assert compare("v", wanted, wanted[::-1], classes=True).same == 0
    assert compare("v", wanted[:, :1], wanted[:, :1], classes=True).same is None
    assert compare("v", wanted, wanted, classes=False).sqnr_db == 200


def test_sqnr_is_twenty_decibels_at_a_tenth_of_the_amplitude():
    assert sqnr(np.array([1.0, -1.0]), np.array([1.1, -1.1])) == pytest.approx(20)


def test_scores_by_task():
    numbers = {"value": np.array([1.0, 2.0, 4.0]), "out": np.array([[1.0], [2.0], [4.0]])}
    truth = np.array([1.0, 2.0, 3.0])
    assert score_of("regression", "out", numbers, numbers, truth) == pytest.approx(0.5)
    assert score_of("raw", "out", numbers, numbers, None) == 1
    said = {"label": np.array(["a", "b", "unsure"])}
    assert score_of("classification", "logits", said, said, np.array([0, 1, 1]), ("a", "b")) == pytest.approx(2 / 3)


def test_determination_of_a_constant_is_all_or_nothing():
    assert determination(np.ones(3), np.ones(3)) == 1
    assert determination(np.ones(3), np.zeros(3)) == 0


def test_layers_are_ranked_by_what_each_alone_costs():
    costs = {"a": 30.0, "b": 5.0, "c": 12.0}
    asked = []

    def quality(leave):
        asked.append(leave)
        (alone,) = set(costs) - set(leave)
        return costs[alone]

    assert [one.layer for one in rank(tuple(costs), quality)] == ["b", "c", "a"]
    assert asked == [("b", "c"), ("a", "c"), ("a", "b")]


def test_never_all_layers_are_left_in_float():
    for layers in range(12):
        assert all(count < layers for count in counts(layers))
