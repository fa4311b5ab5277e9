"""Losses against their formulas worked out by hand, and that every objective keeps to the contract."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from cloud_trainer.objectives import Classes, Items, Numbers, Quantiles, Reconstruction, balanced


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


CASES = [
    (Classes(3), normal(8, 3), torch.tensor([0, 1, 2, 0, 0, 1, 2, 0])),
    (
        Classes(3, label_smoothing=0.1, class_weights=(1.0, 2.0, 3.0)),
        normal(8, 3),
        torch.tensor([0, 1, 2, 0, 0, 1, 2, 0]),
    ),
    (Numbers(), normal(8, 2), normal(8, 2, seed=1)),
    (Numbers(form="mse"), normal(8, 1), normal(8, seed=1)),
    (Quantiles(), normal(8, 6), normal(8, 2, seed=1)),
    (Reconstruction(), normal(8, 5), normal(8, 5, seed=1)),
    (Items(30), normal(8, 30), torch.arange(8)),
]


@pytest.mark.parametrize(("objective", "answer", "y"), CASES, ids=lambda value: type(value).__name__)
def test_losses_are_means_over_rows_so_that_workers_can_share_a_batch(objective, answer, y):
    taught = answer.flip(0)
    for loss in (lambda rows: objective.loss(answer[rows], y[rows]),
                 lambda rows: objective.distilled(answer[rows], y[rows], taught[rows])):  # fmt: skip
        shares = [loss(slice(0, 3)) * 3 / 8, loss(slice(3, 8)) * 5 / 8]
        torch.testing.assert_close(sum(shares), loss(slice(0, 8)))


@pytest.mark.parametrize(("objective", "answer", "y"), CASES, ids=lambda value: type(value).__name__)
def test_student_that_answers_as_its_teacher_and_the_truth_say_has_no_worse_loss_than_others(objective, answer, y):
    taught = normal(*answer.shape, seed=7)
    taught_only = type(objective)(
        **{f: getattr(objective, f) for f in objective.__struct_fields__} | {"teacher_weight": 1.0}
    )
    same = taught_only.distilled(taught, y, taught)
    assert same <= taught_only.distilled(taught + 0.1 * answer, y, taught)
    assert same.item() == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize(("objective", "answer", "y"), CASES, ids=lambda value: type(value).__name__)
def test_constant_answer_has_the_answer_s_shape_and_is_a_better_constant_than_others(objective, answer, y):
    constant = torch.from_numpy(objective.constant(y.numpy()))
    assert constant.dtype == torch.float32
    assert constant.shape == answer.shape[1:]
    if not getattr(objective, "class_weights", ()):
        other = constant + 0.5 * normal(*constant.shape, seed=3)
        assert objective.loss(constant.expand_as(answer), y) < objective.loss(other.expand_as(answer), y)
    assert objective.score(answer.numpy(), y.numpy()) <= 1


def test_distillation_is_plain_cross_entropy_at_weight_zero_and_the_paper_s_formula_else():
    taught, student, y = normal(4, 3), normal(4, 3, seed=1), torch.tensor([0, 2, 1, 1])
    entropy = functional.cross_entropy(student, y)
    torch.testing.assert_close(Classes(3, temperature=3, teacher_weight=0.0).distilled(student, y, taught), entropy)
    p, q = torch.softmax(taught / 3, 1), torch.softmax(student / 3, 1)
    expected = 0.7 * 9 * (p * (p / q).log()).sum(1).mean() + 0.3 * entropy
    torch.testing.assert_close(Classes(3, temperature=3, teacher_weight=0.7).distilled(student, y, taught), expected)


def test_class_weights_and_label_smoothing_by_hand():
    answer, y = torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.tensor([0, 0])
    logs = answer.log_softmax(1)
    expected = -(0.9 * logs[:, 0] + 0.1 * 3 * logs[:, 1]).mean()  # smoothing 0.2: 0.9 to the class, 0.1 to the other
    torch.testing.assert_close(Classes(2, 0.2, (1.0, 3.0)).loss(answer, y), expected)


def test_balanced_weights_make_rare_classes_count_as_much():
    y = np.array([0] * 90 + [1] * 10)
    weights = np.array(balanced(y, 2))
    assert np.bincount(y) * weights == pytest.approx([50, 50])
    assert len(balanced(y, 3)) == 3


def test_pinball_by_hand_and_the_order_of_quantiles():
    objective = Quantiles((0.1, 0.5, 0.9))
    answer = torch.tensor([[0.0, 10.0, 1.0, 20.0, 2.0, 30.0]])  # of two numbers: 0, 1, 2 and 10, 20, 30
    y = torch.tensor([[1.0, 20.0]])
    expected = (0.1 * 1 + 0.5 * 0 + 0.1 * 1 + 0.1 * 10 + 0.5 * 0 + 0.1 * 10) / 6
    assert objective.loss(answer, y).item() == pytest.approx(expected)
    assert objective.score(answer.numpy(), y.numpy()) == 1.0


def test_huber_is_linear_far_out():
    assert Numbers().loss(torch.tensor([[11.0]]), torch.tensor([1.0])).item() == pytest.approx(9.5)
    assert Numbers(form="mse").loss(torch.tensor([[11.0]]), torch.tensor([1.0])).item() == pytest.approx(100)


def test_numbers_never_pair_every_answer_with_every_truth():
    answer, y = torch.zeros(3, 1), torch.tensor([1.0, 2.0, 3.0])
    assert Numbers(form="mse").loss(answer, y).item() == pytest.approx(14 / 3)


def test_items_score_is_ndcg_among_the_first_ten():
    answer = np.zeros((1, 30))
    answer[0, :3] = (3, 2, 1)
    assert Items(30).score(answer, np.array([1])) == pytest.approx(1 / math.log2(3))
    assert Items(30).score(-np.arange(30.0)[None], np.array([10])) == 0
