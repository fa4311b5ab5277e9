"""What a student hears from its teachers."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
import torch
from torch import nn

from cloud_trainer.distillation import teach
from cloud_trainer.fit import Encoded, Plan, answers, embeddings, teaching, train
from cloud_trainer.objectives import Classes, Numbers
from shared.errors import TrainingError
from tests.cloud_trainer.fit.samples import PLAN, Dropped, noisy, resnet, same_weights, stripes

CLASSES = Classes(4)


def test_one_teacher_says_what_it_answers():
    x, teacher = stripes(50).x, resnet()
    taught = teach([teacher], x)
    assert torch.equal(taught.answers, answers(teacher, x))
    assert taught.embeddings is None


def test_several_teachers_are_averaged_and_their_embeddings_stand_side_by_side():
    x, teachers = stripes(50).x, [resnet(1), resnet(2), Dropped()]
    taught = teach(teachers, x, feature_weight=1.0)
    torch.testing.assert_close(taught.answers, sum(answers(teacher, x) for teacher in teachers) / 3)
    assert taught.embeddings.shape == (50, 5 + 5 + 16)
    assert taught.embeddings.mean(0).abs().max() < 1e-5
    assert taught.embeddings.square().mean().item() == pytest.approx(1)


def test_trees_answer_in_numpy_beside_networks():
    x, network = stripes(50).x, resnet()
    trees = lambda samples: np.full((len(samples), 4), 2.0)  # noqa: E731
    torch.testing.assert_close(teach([network, trees], x).answers, (answers(network, x) + 2) / 2)
    assert teach([trees], x, feature_weight=1.0).embeddings is None


def test_teachers_that_do_not_fit_are_named():
    x = stripes(20).x
    with pytest.raises(TrainingError, match="at least one teacher"):
        teach([], x)
    with pytest.raises(TrainingError, match=r"teacher 2 answered \(20, 3\); expected \(20, 4\)"):
        teach([resnet(), lambda samples: np.zeros((len(samples), 3))], x)
    with pytest.raises(TrainingError, match="teacher 1: its answer to sample 4 is not finite"):
        teach([lambda samples: np.where(np.arange(len(samples))[:, None] == 4, np.nan, np.zeros((1, 4)))], x)


def test_student_learns_from_a_teacher_what_no_label_says():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 5)).astype(np.float32)
    right, wrong = x[:, :1] * 2, rng.normal(size=(400, 1)).astype(np.float32)
    data = Encoded.of(x, wrong)
    taught = teach([lambda samples: samples[:, :1] * 2], data.x)
    model, plan = nn.Linear(5, 1), Plan(20, 32, 3e-2, 0, 0, device="cpu")
    train(model, data, data, plan, objective=Numbers(teacher_weight=1.0), teaching=taught)
    assert np.abs(answers(model, data.x).numpy() - right).max() < 0.1


class Features(nn.Module):
    """A teacher that sees six things of a sample, and answers by none of them."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.register_buffer("weight", torch.randn(64, 6, generator=generator) / 8)

    def forward(self, x):
        return torch.zeros(len(x), 4), torch.tanh(x.flatten(1) @ self.weight)


def test_features_are_matched_through_a_projection_that_is_thrown_away():
    data, teacher, validation = stripes(), Features(), stripes(64, 1)
    data.x.normal_(generator=torch.Generator().manual_seed(1))
    validation.x.normal_(generator=torch.Generator().manual_seed(2))
    goal = embeddings(teacher, validation.x).numpy()

    def explained(weight):  # of the teacher's embedding, by a linear function of the student's
        student = Dropped()
        names = list(student.state_dict())
        train(
            student, data, validation, msgspec.structs.replace(PLAN, epochs=10),
            objective=CLASSES, teaching=teach([teacher], data.x, feature_weight=weight),
        )  # fmt: skip
        assert list(student.state_dict()) == names
        seen = np.c_[embeddings(student, validation.x).numpy(), np.ones(64)]
        left = goal - seen @ np.linalg.lstsq(seen, goal, rcond=None)[0]
        return 1 - left.var() / goal.var()

    assert explained(10.0) > explained(0.0) + 0.1


def test_student_without_an_embedding_cannot_match_features():
    data = stripes()
    student = nn.Sequential(nn.Flatten(), nn.Linear(64, 4))
    with pytest.raises(TrainingError, match="no embedding to match with its teacher's; set feature_weight to 0"):
        train(student, data, data, PLAN, objective=CLASSES, teaching=teach([resnet()], data.x, feature_weight=1.0))


class Listener(nn.Module):
    """Notes which samples it is shown while it trains."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(64, 4)
        self.heard = []

    def forward(self, x):
        if self.training:
            self.heard.append(x.clone())
        return self.linear(x.flatten(1))


@pytest.mark.parametrize(("limit", "asked"), [(0, "live"), (1 << 30, "copies")])
def test_teacher_is_heard_about_the_very_samples_that_the_student_sees(monkeypatch, limit, asked):
    monkeypatch.setattr(teaching, "COPIES_BYTES", limit)
    monkeypatch.setattr(teaching, "COPIES_SAMPLES", 4 * 64)
    data, student, heard = stripes(64), Listener(), []

    def teacher(samples):
        return samples.reshape(len(samples), -1)[:, :4].astype(np.float32)

    class Hearing(msgspec.Struct):
        """Like the objective; notes what the teacher says of a batch."""

        metric: str = "accuracy"

        def distilled(self, answer, y, taught):
            heard.append(taught)
            return CLASSES.distilled(answer, y, taught)

        loss, score, constant = CLASSES.loss, CLASSES.score, CLASSES.constant

    plan = msgspec.structs.replace(PLAN, epochs=6)
    train(student, data, data, plan, objective=Hearing(), teaching=teach([teacher], data.x), augment=noisy)
    assert len(heard) == len(student.heard) == 12
    for samples, said in zip(student.heard, heard, strict=True):
        assert torch.equal(samples.flatten(1)[:, :4], said)
    first = [torch.cat(student.heard[2 * epoch : 2 * epoch + 2]).sum().item() for epoch in range(6)]
    different = len({round(value, 1) for value in first})
    assert different == (6 if asked == "live" else teaching.COPIES)


def test_distilled_training_on_altered_samples_gives_the_same_again():
    data, models = stripes(), (Dropped(), Dropped())
    for model in models:
        plan = msgspec.structs.replace(PLAN, epochs=6)
        train(model, data, data, plan, objective=CLASSES, teaching=teach([resnet()], data.x), augment=noisy)
    assert same_weights(*models)
