"""The loop gives what it always gave, whatever is switched on gives the same again, and bad numbers stop it."""

from __future__ import annotations

import itertools

import msgspec
import numpy as np
import pytest
import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

from cloud_trainer.distillation import teach
from cloud_trainer.fit import Encoded, Plan, answers, train
from cloud_trainer.objectives import Classes, Numbers
from shared.errors import DataError, TrainingError
from tests.cloud_trainer.fit.samples import PLAN, Dropped, noisy, resnet, same_weights, stripes

replace = msgspec.structs.replace
CLASSES = Classes(4)


def first_release(model, data, plan, loss):
    """The loop of the first release, as it was: weights, and the mean loss of each epoch."""
    order = torch.Generator().manual_seed(plan.seed)
    optimizer = torch.optim.AdamW(model.parameters(), plan.learning_rate, weight_decay=plan.weight_decay)
    steps = sum(len(rows) > 1 for rows in torch.split(torch.arange(len(data.y)), plan.batch))
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, plan.learning_rate, total_steps=max(2, plan.epochs * steps))
    losses = []
    for _ in range(plan.epochs):
        model.train()
        total = 0.0
        for rows in torch.split(torch.randperm(len(data.y), generator=order), plan.batch):
            if len(rows) < 2:
                continue
            optimizer.zero_grad(set_to_none=True)
            value = loss(model(data.x[rows])[0], data.y[rows], rows)
            value.backward()
            optimizer.step()
            cycle.step()
            total += value.item() * len(rows)
        losses.append(total / len(data.y))
        model.eval()
    return losses


@pytest.mark.parametrize("samples", [256, 97, 33], ids=["whole batches", "a part of one", "a last batch of one"])
def test_plain_training_is_bit_for_bit_that_of_the_first_release(samples):
    data, models = stripes(samples), (resnet(), resnet())
    expected = first_release(models[0], data, PLAN, lambda logits, y, _: nn.functional.cross_entropy(logits, y))
    curve = train(models[1], data, stripes(64, 1), PLAN, objective=CLASSES)
    assert same_weights(*models)
    assert list(curve.train_loss) == expected


def test_distillation_is_bit_for_bit_that_of_the_first_release():
    data, teacher, models = stripes(), resnet(7), (resnet(), resnet())
    soft = (answers(teacher, data.x) / 4.0).log_softmax(1)

    def loss(logits, y, rows):
        student = (logits / 4.0).log_softmax(1)
        divergence = nn.functional.kl_div(student, soft[rows], reduction="batchmean", log_target=True)
        return 0.7 * 4.0**2 * divergence + (1 - 0.7) * nn.functional.cross_entropy(logits, y)

    first_release(models[0], data, PLAN, loss)
    train(models[1], data, stripes(64, 1), PLAN, objective=CLASSES, teaching=teach([teacher], data.x))
    assert same_weights(*models)


def test_curve_has_every_figure_of_every_epoch():
    data, validation, model = stripes(), stripes(64, 1), resnet()
    curve = train(model, data, validation, PLAN, objective=CLASSES, name="student")
    for field in ("train_loss", "validation_loss", "train_score", "validation_score", "learning_rate", "seconds"):
        assert len(getattr(curve, field)) == PLAN.epochs
    assert curve.metric == "accuracy"
    assert curve.validation_score[-1] > 0.9
    assert curve.train_loss[-1] < curve.train_loss[0]
    assert curve.learning_rate[0] > curve.learning_rate[-1]
    assert all(seconds > 0 for seconds in curve.seconds)
    answer = answers(model, validation.x)
    assert curve.validation_score[-1] == CLASSES.score(answer.numpy(), validation.y.numpy())
    assert curve.validation_loss[-1] == pytest.approx(float(CLASSES.loss(answer, validation.y)))
    assert curve.finding == ""


@pytest.mark.parametrize("augment", [None, noisy], ids=["as they are", "altered"])
def test_same_seed_same_weights_and_another_seed_others(augment):
    data, models = stripes(), (Dropped(), Dropped(), Dropped())
    for model, seed in zip(models, (3, 3, 4), strict=True):
        torch.manual_seed(seed + 1)  # what others draw from torch's generator changes nothing
        train(model, data, data, replace(PLAN, seed=seed), objective=CLASSES, augment=augment)
    assert same_weights(models[0], models[1])
    assert not same_weights(models[0], models[2])


def test_training_leaves_the_global_generator_alone():
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    train(Dropped(), stripes(), stripes(), PLAN, objective=CLASSES)
    assert torch.equal(before, torch.random.get_rng_state())


def test_augmentation_is_another_one_in_every_batch_and_never_changes_the_data():
    data, seen = stripes(64), []
    before = data.x.clone()

    def augment(x, generator):
        seen.append(torch.rand(1, generator=generator).item())
        return noisy(x, generator)

    train(resnet(), data, data, PLAN, objective=CLASSES, augment=augment)
    assert len(set(seen)) == len(seen) == 2 * PLAN.epochs
    assert torch.equal(data.x, before)


class Falling(nn.Module):
    """Answers well or badly in validation as it is told, epoch by epoch."""

    def __init__(self, scores):
        super().__init__()
        self.linear = nn.Linear(1, 2)
        self.register_buffer("epoch", torch.zeros((), dtype=torch.int64))
        self.scores = scores
        self.was_training = False

    def train(self, mode=True):
        if mode and not self.training:
            self.epoch += 1
        return super().train(mode)

    def forward(self, x):
        answer = self.linear(x)
        if self.training:
            return answer
        right = torch.arange(len(x)) < self.scores[int(self.epoch)] * len(x)
        return 0 * answer + torch.stack([right, ~right], 1).float()


def falling(scores, patience):
    data = Encoded(torch.zeros(10, 1), torch.zeros(10, dtype=torch.int64))
    model = Falling(scores).eval()
    model.epoch -= 1
    curve = train(
        model, data, data, Plan(len(scores), 5, 0.1, 0, 0, patience=patience, device="cpu"), objective=Classes(2)
    )
    return model, curve


def test_patience_ends_the_training_and_keeps_the_best_weights():
    model, curve = falling([0.1, 0.5, 0.9, 0.8, 0.7, 0.9, 1.0], patience=2)
    assert curve.epochs == 5
    assert curve.best_epoch == 2
    assert int(model.epoch) == 2


def test_without_patience_every_epoch_is_trained_and_the_last_weights_stay():
    model, curve = falling([0.1, 0.9, 0.5], patience=0)
    assert (curve.epochs, curve.best_epoch, int(model.epoch)) == (3, 2, 2)


def test_best_weights_are_kept_where_patience_never_runs_out():
    model, curve = falling([0.1, 0.9, 0.5], patience=3)
    assert (curve.epochs, curve.best_epoch, int(model.epoch)) == (3, 1, 1)


@pytest.mark.parametrize(("clip", "longest"), [(0.0, 1e5), (1.0, 1.0)])
def test_clipping_bounds_what_one_wild_target_does(clip, longest):
    x = torch.linspace(-1, 1, 64)[:, None]
    y = x[:, 0].clone()
    y[5] = 1e6
    lengths = []

    def look(optimizer, *_):
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"]]
        lengths.append(float(torch.cat([g.flatten() for g in gradients]).norm()))

    hook = register_optimizer_step_pre_hook(look)
    try:
        train(
            nn.Linear(1, 1), Encoded(x, y), Encoded(x, y), replace(PLAN, clip_norm=clip), objective=Numbers(form="mse")
        )
    finally:
        hook.remove()
    assert max(lengths) == pytest.approx(longest, rel=1e-3) if clip else max(lengths) > longest / 10


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_mixed_precision_learns_too_and_keeps_weights_in_float32(precision):
    model, data = resnet(), stripes()
    types = set()
    model.trunk[0][0].register_forward_hook(lambda layer, given, out: types.add((layer.training, out.dtype)))
    curve = train(model, data, stripes(64, 1), replace(PLAN, precision=precision), objective=CLASSES)
    low = {"bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    assert types == {(True, low), (False, torch.float32)}
    assert curve.validation_score[-1] > 0.9
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_compiled_training_gives_the_weights_of_the_uncompiled_one():
    data, models = stripes(97), (resnet(), resnet())
    for model, how in zip(models, ("never", "always"), strict=True):
        plan = replace(PLAN, compile=how, compile_backend="eager")
        train(model, data, stripes(64, 1), plan, objective=CLASSES)
    assert same_weights(*models)


def test_network_that_cannot_be_compiled_is_one_line():
    def backend(*_):
        raise RuntimeError("no such thing\nand much more")

    with pytest.raises(TrainingError, match=r'set training\.compile = "never"$'):
        train(
            resnet(), stripes(), stripes(), replace(PLAN, compile="always", compile_backend=backend), objective=CLASSES
        )


def test_gpu_that_is_not_there():
    if torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(TrainingError, match="no GPU that torch can use"):
        train(resnet(), stripes(), stripes(), replace(PLAN, device="cuda"), objective=CLASSES)


def test_sample_that_is_no_number_stops_the_training_and_is_named():
    data = stripes(97)
    data.x[41, 0, 3, 3] = float("nan")
    order = torch.randperm(97, generator=torch.Generator().manual_seed(PLAN.seed)).tolist()
    batch = order.index(41) // 32 + 1
    with pytest.raises(TrainingError, match=rf"loss is nan in epoch 1, batch {batch} \(rows .*row 41 is not finite"):
        train(resnet(), data, stripes(64, 1), PLAN, objective=CLASSES)


def test_validation_sample_that_is_no_number_is_named():
    validation = stripes(64, 1)
    validation.x[7] = float("inf")
    with pytest.raises(TrainingError, match="row 7 of the validation split is not finite"):
        train(resnet(), stripes(), validation, PLAN, objective=CLASSES)


def test_learning_rate_that_blows_up_is_told_from_bad_samples():
    x = torch.linspace(-1, 1, 64)[:, None]
    plan = Plan(50, 32, 1e38, 0, 0, device="cpu")
    with pytest.raises(TrainingError, match=r"epoch \d+, batch \d .*lower the learning rate or set clip_norm"):
        train(nn.Linear(1, 1), Encoded(x, x), Encoded(x, x), plan, objective=Numbers(form="mse"))


def test_too_little_to_train_on():
    with pytest.raises(DataError, match="1 samples to train on"):
        train(resnet(), stripes(1), stripes(), PLAN, objective=CLASSES)


def test_last_batch_of_one_sample_is_survived():
    data = stripes(33)
    assert train(resnet(), data, data, PLAN, objective=CLASSES).epochs == PLAN.epochs


def test_network_learned_by_heart_is_named():
    rng = np.random.default_rng(0)
    data, validation = (
        Encoded.of(rng.normal(size=(n, 20)).astype(np.float32), rng.integers(0, 2, n)) for n in (100, 200)
    )
    validation.y[:] = (validation.x[:, 0] > 0).long()
    data.y[:80] = (data.x[:80, 0] > 0).long()
    model = nn.Sequential(nn.Linear(20, 128), nn.ReLU(), nn.Linear(128, 2))
    curve = train(model, data, validation, replace(PLAN, epochs=60), objective=Classes(2))
    assert curve.train_score[-1] > 0.95
    assert "overfitting: accuracy 100.0 % on train samples" in curve.finding


def test_nothing_to_learn_is_named():
    rng = np.random.default_rng(0)
    data = Encoded.of(rng.normal(size=(400, 3)).astype(np.float32), rng.normal(size=400).astype(np.float32))
    validation = Encoded.of(rng.normal(size=(400, 3)).astype(np.float32), rng.normal(size=400).astype(np.float32))
    curve = train(nn.Linear(3, 1), data, validation, PLAN, objective=Numbers())
    assert "no learning: validation r2" in curve.finding


def test_answers_do_not_depend_on_how_many_are_asked_at_once():
    model, x = resnet(), stripes(50).x
    parts = [answers(model, x, batch) for batch in (7, 50)]
    torch.testing.assert_close(*parts)
    assert all(len(part) == 50 for part in itertools.chain(parts))
