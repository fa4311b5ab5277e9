"""The training loop: AdamW, one cycle of the learning rate, a loss; read it from top to bottom.

1. Same arguments, same weights, also when the training was killed and gone on with from its checkpoint. Every random
   number is a function of the seed, the epoch and the batch.
2. The network is trained in place and left in evaluation mode, where it was.
3. A loss that is no number ends the training, with the batch that it came from; so does a teacher's.
4. Every worker of :mod:`cloud_trainer.distributed` runs this very loop on its share of each batch.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from torch import Tensor, nn

from cloud_trainer import checkpoints
from cloud_trainer.distributed import World, whole_batch_statistics
from cloud_trainer.fit.curve import Curve, best_epoch, finding
from cloud_trainer.fit.forward import answers, both, device_of
from cloud_trainer.fit.plan import Encoded, Plan
from cloud_trainer.fit.randomness import generator, mixed, seed_everything
from cloud_trainer.fit.step import Updater, device_of_plan, not_finite
from cloud_trainer.fit.teaching import AlteredCopies, Augment, Projection, Teaching, copies_of
from cloud_trainer.objectives import Objective
from cloud_trainer.progress import WARNING, Progress, silent
from shared.errors import DataError, StoppedError, TrainingError

LOOK_EVERY = 50
"""Batches between looks at the losses of a GPU: each look waits for it. A CPU's are looked at one by one."""
SAMPLE_SHARE, SAMPLE_LEAST, SAMPLE_MOST = 0.05, 256, 4096
"""Of the train split, that its score is measured on."""
PLACES = {"augment": 1, "layers": 2, "projection": 3, "sample": 4, "copies": 5}
ROWS_SHOWN = 8


def train(
    model: nn.Module,
    data: Encoded,
    validation: Encoded,
    plan: Plan,
    *,
    objective: Objective,
    teaching: Teaching | None = None,
    augment: Augment | None = None,
    checkpoint: Path | None = None,
    name: str = "model",
    progress: Progress = silent,
    stop: Callable[[], bool] | None = None,
) -> Curve:
    """Train ``model`` in place and leave it in evaluation mode. Same arguments, same weights.

    ``model(x)`` gives the answer (b, outputs), or that and an embedding (b, e). ``teaching``: what a teacher said of
    ``data.x`` (:func:`cloud_trainer.distillation.teach`). ``checkpoint``: a file that is written now and then, gone
    on from where it fits these arguments, and left there at the end, so that the same call gives the same weights at
    once; who calls removes it. ``stop`` is asked before every batch: true writes the checkpoint and ends the training.

    A last batch of one sample is left out of its epoch: batch normalisation can't be computed from one.

    Raises:
        TrainingError: a loss that is not finite; a checkpoint that cannot be written; a GPU that is not there.
        StoppedError: ``stop`` said so.
        DataError: there is nothing to train on, or to validate with.
    """
    if len(data) < 2 or not len(validation):
        raise DataError(f"{name}: {len(data)} samples to train on, {len(validation)} to validate with; needs 2 and 1")
    training = _Training(model, data, validation, plan, objective, teaching, augment, name, progress)
    devices = [training.device] if training.device.type == "cuda" else []
    home = device_of(model)
    with torch.random.fork_rng(devices=devices), whole_batch_statistics(model, training.world):
        try:
            model.to(training.device)
            return training.run(checkpoint, stop)
        finally:
            model.to(home).eval()


class _Training:
    """Where a training stands: everything that its next batch depends on."""

    def __init__(
        self,
        model: nn.Module,
        data: Encoded,
        validation: Encoded,
        plan: Plan,
        objective: Objective,
        teaching: Teaching | None,
        augment: Augment | None,
        name: str,
        progress: Progress,
    ) -> None:
        self.world, self.device = World(), device_of_plan(plan)
        self.model, self.data, self.validation, self.plan = model, data, validation, plan
        self.objective, self.teaching, self.augment = objective, teaching, augment
        self.name, self.progress = name, progress if self.world.first else silent
        self.curve = Curve(name, objective.metric)
        self.epoch = self.batch = 0
        self.total = self.spent = 0.0
        self.best: dict[str, Tensor] | None = None
        self.order = torch.Generator().manual_seed(plan.seed)
        self.order_before = self.order.get_state()
        self.copies: AlteredCopies | None = None
        if teaching is not None and augment is not None:
            if teaching.ask is None:
                raise TrainingError(f"{name}: the teacher cannot be asked about altered samples; train without augment")
            copies = copies_of(data.x, plan.epochs)
            if copies:
                self.copies = AlteredCopies(data.x, teaching, augment, copies, mixed(plan.seed, PLACES["copies"]))
        size = min(len(data), max(SAMPLE_LEAST, min(SAMPLE_MOST, round(SAMPLE_SHARE * len(data)))))
        self.sample = torch.randperm(len(data), generator=generator(plan.seed, PLACES["sample"]))[:size]
        self.sample_x, self.sample_y = data.x[self.sample], data.y[self.sample].numpy()

    def run(self, checkpoint: Path | None, stop: Callable[[], bool] | None) -> Curve:
        plan = self.plan
        steps = sum(size > 1 for size in _sizes(len(self.data), plan.batch))
        updater = Updater(self.model, self._projection(), plan, self.objective, steps, self.world)
        identity = self._identity() if checkpoint is not None else ""
        if checkpoint is not None and self._restored(checkpoint, identity, updater):
            return self.curve
        saved, clock = time.monotonic(), time.monotonic()
        wanted = False

        def save(*, complete: bool = False) -> None:
            nonlocal saved
            if checkpoint is not None and self.world.first:
                checkpoints.write(checkpoint, checkpoints.dump(self._state(updater, complete=complete), identity))
            saved = time.monotonic()

        while self.epoch < plan.epochs:
            began = time.monotonic() - self.spent
            self.model.train()
            rows_of = torch.split(torch.randperm(len(self.data), generator=self.order), plan.batch)
            source = self._source()
            losses = _Losses(self, rows_of)
            for batch in range(self.batch, len(rows_of)):
                rows = rows_of[batch]
                if len(rows) < 2:
                    continue
                wanted = wanted or (stop is not None and self.world.first and stop())
                clock = time.monotonic()
                due = checkpoint is not None and 0 < plan.checkpoint_seconds <= clock - saved
                if (wanted and self.world.size == 1) or due:
                    losses.look()
                    self.batch, self.total, self.spent = batch, losses.total, clock - began
                    save()
                    if wanted and self.world.size == 1:
                        raise self._stopped(checkpoint)
                share = self.world.share(rows)
                seed_everything(self.device, plan.seed, PLACES["layers"], self.epoch, batch, self.world.rank)
                value = updater.loss(*source(batch, rows, share))
                losses.check(batch, value)
                whole, wanted = updater.update(value, len(share) / len(rows), stop=wanted)
                losses.add(batch, whole)
                if wanted and self.world.size > 1:
                    losses.look()
                    self.batch, self.total, self.spent = batch + 1, losses.total, time.monotonic() - began
                    save()
                    raise self.world.failed(self._stopped(checkpoint))
            losses.look()
            self._end_of_epoch(losses.total, updater.learning_rate, time.monotonic() - began)
            if self._patience_is_out():
                break
            if checkpoint is not None and plan.checkpoint_seconds == 0:
                save()
        self._finish()
        save(complete=True)
        return self.curve

    def _source(self) -> Callable[[int, Tensor, Tensor], tuple[Tensor, Tensor, Tensor | None, Tensor | None]]:
        """How batches of this epoch are made: number, rows, this worker's rows -> samples, truth, answer, embedding."""
        x, teaching, augment = self.data.x, self.teaching, self.augment
        taught = None if teaching is None else teaching.answers
        seen = None if teaching is None else teaching.embeddings
        if self.copies is not None:
            x, taught, seen = self.copies.of(self.epoch)
            augment = None
        y, epoch, seed, world, here = self.data.y, self.epoch, self.plan.seed, self.world, self._here

        def batch_of(batch: int, rows: Tensor, share: Tensor) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
            if augment is None:
                samples = x.index_select(0, share)
                said = None if taught is None else taught.index_select(0, share)
                embedded = None if seen is None else seen.index_select(0, share)
            else:  # the whole batch, and then the share: one worker or many, the same samples
                altered = augment(x.index_select(0, rows), generator(seed, PLACES["augment"], epoch, batch))
                samples = world.share(altered)
                said = embedded = None
                if teaching is not None and teaching.ask is not None:
                    said, embedded = teaching.ask(samples)
            truth = y.index_select(0, share)
            return here(samples), here(truth), here(said), here(embedded)  # type: ignore[return-value]

        return batch_of

    def _here(self, values: Tensor | None) -> Tensor | None:
        return values if values is None or self.device.type == "cpu" else values.to(self.device, non_blocking=True)

    def _projection(self) -> Projection | None:
        teaching = self.teaching
        if teaching is None or teaching.embeddings is None or teaching.feature_weight <= 0:
            return None
        _, embedding = both(self.model, self.data.x[:2])
        if embedding is None:
            raise TrainingError(f"{self.name}: gives no embedding to match with its teacher's; set feature_weight to 0")
        seed_everything(self.device, self.plan.seed, PLACES["projection"])
        made = Projection(embedding.shape[1], teaching.embeddings.shape[1], teaching.feature_weight)
        return made.to(self.device)

    def _end_of_epoch(self, total: float, rate: float, seconds: float) -> None:
        measured = self.world.agree(self._measured() if self.world.first else None)
        assert measured is not None
        loss, score, train_score = measured
        if not_finite(loss):
            raise self.world.failed(self._validation_is_not_finite())
        curve = self.curve
        added = {
            "train_loss": total / len(self.data),
            "validation_loss": loss,
            "train_score": train_score,
            "validation_score": score,
            "learning_rate": rate,
            "seconds": seconds,
        }
        curve = msgspec.structs.replace(curve, **{field: (*getattr(curve, field), v) for field, v in added.items()})
        best = best_epoch(curve.validation_score, curve.validation_loss) if self.plan.patience else self.epoch
        self.curve = msgspec.structs.replace(curve, best_epoch=best)
        if self.plan.patience and best == self.epoch:
            self.best = copy.deepcopy(self.model.state_dict())
        self.epoch, self.batch, self.total, self.spent = self.epoch + 1, 0, 0.0, 0.0
        self.order_before = self.order.get_state()
        self.progress(
            self.name,
            self.epoch / self.plan.epochs,
            f"epoch {self.epoch} of {self.plan.epochs}, loss {added['train_loss']:.3f}, "
            f"validation {curve.metric} {score:.1%}",
        )

    def _measured(self) -> tuple[float, float, float]:
        answer = answers(self.model, self.validation.x)
        loss = float(self.objective.loss(answer, self.validation.y))
        if not_finite(loss):
            return loss, -math.inf, -math.inf
        score = self.objective.score(answer.numpy(), self.validation.y.numpy())
        return loss, score, self.objective.score(answers(self.model, self.sample_x).numpy(), self.sample_y)

    def _patience_is_out(self) -> bool:
        return 0 < self.plan.patience <= self.curve.epochs - 1 - self.curve.best_epoch

    def _finish(self) -> None:
        if self.best is not None:
            self.model.load_state_dict(self.best)
        self.model.eval()
        constant = self.objective.constant(self.data.y.numpy())
        truth = self.validation.y.numpy()
        worth = self.objective.score(np.broadcast_to(constant, (len(truth), *constant.shape)), truth)
        found = finding(self.curve, worth, (len(self.sample), len(truth)))
        self.curve = msgspec.structs.replace(self.curve, finding=found)

    def _identity(self) -> str:
        """What a checkpoint must have in common with this training, so that going on gives what starting would."""
        teaching, weights = self.teaching, self.model.state_dict()
        # how often it is saved, and for how long it is waited, change no weight
        plan = msgspec.structs.replace(self.plan, checkpoint_seconds=0.0)
        parts = [
            f"{self.name} {plan} {self.objective} {type(self.model).__qualname__} {self.world.size}",
            getattr(self.augment, "__qualname__", None) or repr(type(self.augment)),
            *(part for split in (self.data, self.validation) for part in (split.x, split.y)),
            *(part for name, values in weights.items() for part in (name, values)),
        ]
        if teaching is not None:
            parts += [str(teaching.feature_weight), teaching.answers, teaching.embeddings]
        return checkpoints.digest(parts)

    def _state(self, updater: Updater, *, complete: bool) -> dict[str, Any]:
        return {
            "epoch": self.epoch,
            "batch": self.batch,
            "total": self.total,
            "spent": self.spent,
            "order": self.order_before,
            "model": self.model.state_dict(),
            "best": self.best,
            "curve": msgspec.json.encode(self.curve).decode(),
            "complete": complete,
            "updater": None if complete else updater.state(),
        }

    def _restored(self, checkpoint: Path, identity: str, updater: Updater) -> bool:
        """Stand where the checkpoint does, if it is one of this training; is nothing left to do?"""
        found: bytes | None = None
        try:
            found = self.world.agree(checkpoints.read(checkpoint) if self.world.first else None)
            if found is None:
                return False
            state = checkpoints.parse(found, identity)
        except checkpoints.Unusable as why:
            self.progress(WARNING, 0.0, f"{checkpoint} {why}: {self.name} is trained from the start")
            return False
        self.model.load_state_dict(state["model"])
        self.curve = msgspec.json.decode(state["curve"], type=Curve)
        if state["complete"]:
            self.model.eval()
            return True
        updater.load(state["updater"])
        self.epoch, self.batch = state["epoch"], state["batch"]
        self.total, self.spent, self.best = state["total"], state["spent"], state["best"]
        self.order_before = state["order"]
        self.order.set_state(self.order_before)
        self.progress(self.name, self.epoch / self.plan.epochs, f"goes on in epoch {self.epoch + 1}")
        return False

    def _stopped(self, checkpoint: Path | None) -> StoppedError:
        place = f"{self.name} was stopped in epoch {self.epoch + 1} of {self.plan.epochs}"
        return StoppedError(f"{place}; {checkpoint} goes on from there" if checkpoint is not None else place)

    def not_finite(self, batch: int, rows: Tensor, loss: float) -> TrainingError:
        """Name the batch, and what about it can be seen."""
        x, y = self.data.x.index_select(0, rows), self.data.y.index_select(0, rows)
        bad = [int(row) for row, ok in zip(rows, _finite(x) & _finite(y), strict=True) if not ok]
        weights = all(bool(p.isfinite().all()) for p in self.model.parameters())
        if bad:
            why = f"the sample or target of row {_listed(bad)} is not finite; clean the data"
        elif not weights and self.device.type == "cpu":
            why = "the update before made weights that are not finite; lower the learning rate or set clip_norm"
        else:
            why = "its samples and targets are finite; lower the learning rate or set clip_norm"
        where = f"epoch {self.epoch + 1}, batch {batch + 1} (rows {_listed(rows.tolist())} of the train split)"
        return TrainingError(f"{self.name}: the loss is {loss} in {where}: {why}")

    def _validation_is_not_finite(self) -> TrainingError:
        bad = (~(_finite(self.validation.x) & _finite(self.validation.y))).nonzero().flatten().tolist()
        if bad:
            return TrainingError(f"{self.name}: row {_listed(bad)} of the validation split is not finite")
        return TrainingError(
            f"{self.name}: the validation loss is not finite after epoch {self.epoch + 1}; "
            "lower the learning rate or set clip_norm"
        )


class _Losses:
    """The losses of an epoch's batches. Added up in the order of the batches, in double precision."""

    def __init__(self, training: _Training, rows_of: tuple[Tensor, ...]) -> None:
        self._training, self._rows_of = training, rows_of
        self.total = training.total
        self._waiting: list[tuple[int, Tensor]] = []

    def check(self, batch: int, value: Tensor) -> None:
        """On a CPU, where looking costs nothing: before anything is learned from it."""
        if value.device.type == "cpu" and self._training.world.size == 1 and not_finite(found := value.item()):
            raise self._training.not_finite(batch, self._rows_of[batch], found)

    def add(self, batch: int, whole: float | Tensor) -> None:
        if isinstance(whole, Tensor) and whole.device.type != "cpu":
            self._waiting.append((batch, whole))
            if len(self._waiting) >= LOOK_EVERY:
                self.look()
        else:
            self._count(batch, float(whole))

    def look(self) -> None:
        """Wait for the device."""
        if self._waiting:
            values = torch.stack([value for _, value in self._waiting]).tolist()
            for (batch, _), value in zip(self._waiting, values, strict=True):
                self._count(batch, value)
            self._waiting.clear()

    def _count(self, batch: int, loss: float) -> None:
        rows = self._rows_of[batch]
        if not_finite(loss):
            raise self._training.world.failed(self._training.not_finite(batch, rows, loss))
        self.total += loss * len(rows)


def _sizes(samples: int, batch: int) -> Iterator[int]:
    return (min(batch, samples - start) for start in range(0, samples, batch))


def _finite(values: Tensor) -> Tensor:
    return values.isfinite().reshape(len(values), -1).all(dim=1)


def _listed(rows: list[int]) -> str:
    more = f" and {len(rows) - ROWS_SHOWN} more" if len(rows) > ROWS_SHOWN else ""
    return ", ".join(str(row) for row in rows[:ROWS_SHOWN]) + more
