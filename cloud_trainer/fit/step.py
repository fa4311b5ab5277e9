"""One update of the weights: forward, loss, backward, optimizer, schedule; in the precision that the device likes."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, cast

import torch
from torch import Tensor, nn

from cloud_trainer.distributed import World
from cloud_trainer.fit.forward import outputs
from cloud_trainer.fit.plan import Plan
from cloud_trainer.fit.precision import precision_of
from cloud_trainer.fit.teaching import Projection
from cloud_trainer.objectives import Objective
from shared.errors import TrainingError, one_line

COMPILE_STEPS = 2000
"""Updates from which compiling (some 30 s) earns its time back."""


class Updater:
    """Optimizer, schedule, gradient scaler and compiled network around ``model``, which is on its device already."""

    def __init__(
        self,
        model: nn.Module,
        projection: Projection | None,
        plan: Plan,
        objective: Objective,
        steps: int,
        world: World,
    ) -> None:
        device = device_of_plan(plan)
        self._model, self._projection, self._objective, self._world = model, projection, objective, world
        self._device, self._clip = device, plan.clip_norm
        self.parameters = list(model.parameters())
        if projection is not None:
            self.parameters += projection.parameters()
        self.optimizer = torch.optim.AdamW(
            self.parameters, plan.learning_rate, weight_decay=plan.weight_decay, fused=device.type == "cuda" or None
        )
        self.cycle = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer, plan.learning_rate, total_steps=max(2, plan.epochs * steps)
        )
        self._type = precision_of(plan, device)
        self.scaler = torch.amp.GradScaler(device.type, enabled=self._type == torch.float16)
        compiled = plan.compile == "always" or (
            plan.compile == "auto" and device.type == "cuda" and plan.epochs * steps >= COMPILE_STEPS
        )
        self._compiled = compiled
        self._call = cast(
            "Callable[[Tensor], Any]", torch.compile(model, backend=plan.compile_backend) if compiled else model
        )

    def _autocast(self) -> AbstractContextManager[object]:
        return torch.autocast(self._device.type, self._type) if self._type != torch.float32 else nullcontext()

    def loss(self, x: Tensor, y: Tensor, taught: Tensor | None, seen: Tensor | None) -> Tensor:
        """Of a batch on the device: samples, truth, and the teacher's answers and embeddings, where there is one."""
        with self._autocast():
            answer, embedding = outputs(self._run(x))
        if self._type != torch.float32:
            answer = answer.float()
            embedding = None if embedding is None else embedding.float()
        if not len(x):
            return answer.sum() * 0  # a worker without a share; it takes part in the sums
        value = self._objective.loss(answer, y) if taught is None else self._objective.distilled(answer, y, taught)
        if self._projection is not None and seen is not None:
            if embedding is None:
                raise TrainingError("distill.feature_weight: the student's network gives no embedding; set it to 0")
            value = value + self._projection(embedding, seen)
        return value

    def _run(self, x: Tensor) -> Any:
        if not self._compiled:
            return self._call(x)
        try:
            return self._call(x)
        except Exception as error:
            raise TrainingError(
                f'torch.compile cannot compile this network: {one_line(error)}; set training.compile = "never"'
            ) from error

    def update(self, value: Tensor, share: float, *, stop: bool) -> tuple[float | Tensor, bool]:
        """Weights and learning rate one step further, by the gradient of ``value``, the mean over ``share`` of the
        batch's rows. Returns the loss of the whole batch, and whether any worker wants to stop."""
        if self._world.size > 1:
            value = value * share
        self.optimizer.zero_grad(set_to_none=True)
        scaled = self.scaler.scale(value)
        scaled.backward()  # type: ignore[no-untyped-call]  # torch leaves it so
        whole: float | Tensor = value.detach()
        if self._world.size > 1:
            wish = value.new_tensor(float(stop and self._world.first))
            whole, wishes = self._world.sum_gradients(self.parameters, value, wish)
            stop = wishes > 0
        if self._clip:
            self.scaler.unscale_(self.optimizer)
            torch.nn.utils.clip_grad_norm_(self.parameters, self._clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.scaler.is_enabled():
            with warnings.catch_warnings():  # the scaler may leave out the first step, while it looks for its scale
                warnings.filterwarnings("ignore", message="Detected call of `lr_scheduler.step")
                self.cycle.step()
        else:
            self.cycle.step()
        return whole, stop

    @property
    def learning_rate(self) -> float:
        """Of the next update."""
        return float(self.optimizer.param_groups[0]["lr"])

    def state(self) -> dict[str, Any]:
        """Everything that the next step depends on, beside the network's own weights."""
        return {
            "optimizer": self.optimizer.state_dict(),
            "cycle": self.cycle.state_dict(),
            "scaler": self.scaler.state_dict(),
            "projection": None if self._projection is None else self._projection.state_dict(),
        }

    def load(self, state: dict[str, Any]) -> None:
        """Go on from what :meth:`state` gave."""
        self.optimizer.load_state_dict(state["optimizer"])
        self.cycle.load_state_dict(state["cycle"])
        self.scaler.load_state_dict(state["scaler"])
        if self._projection is not None:
            self._projection.load_state_dict(state["projection"])


def device_of_plan(plan: Plan) -> torch.device:
    """Where to train.

    Raises:
        TrainingError: a GPU was asked for, and there is none.
    """
    if plan.device == "cuda" and not torch.cuda.is_available():
        raise TrainingError("training.device: no GPU that torch can use; set it to auto or cpu")
    if plan.device == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", torch.cuda.current_device())


def not_finite(value: float) -> bool:
    """Is a loss one that nothing can be learned from?"""
    return not math.isfinite(value)
