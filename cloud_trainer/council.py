"""Who teaches beside the networks, and how much each is heard.

Rows of a table have several kinds of teachers: networks, boosted trees, a kernel machine, a linear model. On some
tables one is far better than another, and which is seldom known from a validation split of a few dozen rows; each errs
elsewhere, so all are heard, each by its loss on the validation split, to the power of -2 (a weighted average as of
forecasts, Bates and Granger 1969). Then what is no network learns from the validation split, too.

Texts and items have one adviser (:meth:`cloud_trainer.kinds.base.Kind.adviser`), which is heard where that is better.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from cloud_trainer.distillation import Teacher, Weighted, teach
from cloud_trainer.kinds.base import Adviser
from cloud_trainer.lesson import Lesson
from cloud_trainer.models import Limits
from cloud_trainer.models.kernel import fit_kernel
from cloud_trainer.models.linear import ROW_STRENGTHS, fit_linear, fit_ridge
from cloud_trainer.models.trees import TEACHING, TreePlan, Trees, fit_trees, refit_trees
from cloud_trainer.objectives import Classes, Numbers
from cloud_trainer.progress import Progress

POWER, LIGHT = 2.0, 0.02
"""Of a validation loss's inverse, and weights below which nobody is asked."""

Gathered = tuple[tuple[Teacher, ...], tuple[Adviser, ...]]
"""Who teaches, and those of them that are no networks."""
Refit = Callable[[Tensor, Tensor], Adviser | None]


def gather(lesson: Lesson, networks: tuple[Teacher, ...], progress: Progress) -> Gathered:
    """The council around ``networks``; without any, trees alone."""
    task, kind, prepared = lesson.task, lesson.kind, lesson.prepared
    adviser = kind.adviser(task, prepared, lesson.data, lesson.validation)
    if adviser is not None:
        return _better(lesson, networks, adviser)
    if not kind.trees(task, prepared):
        return networks, ()
    progress("teachers", 0.0, "gradient-boosted trees")
    grown = trees_within(lesson, Limits(), TEACHING)
    if not networks:
        alone = _refitted(lesson, lambda x, y: refit_trees(grown, x.numpy(), y.numpy(), seed=task.seed)) or grown
        return (alone.answers,), (alone,)
    progress("teachers", 0.5, "a kernel machine and a linear model")
    found: list[tuple[Adviser, Refit]] = [
        (grown, lambda x, y: refit_trees(grown, x.numpy(), y.numpy(), seed=task.seed)),
        *_smooth(lesson),
    ]
    weights = _weights(lesson, [networks, *((one.answers,) for one, _ in found)])
    council: list[Teacher] = [Weighted(one, weights[0] / len(networks)) for one in networks if weights[0]]
    advisers: list[Adviser] = []
    for weight, (one, refit) in zip(weights[1:], found, strict=True):
        if weight:
            advisers.append(_refitted(lesson, refit) or one)
            council.append(Weighted(advisers[-1].answers, weight))
    return tuple(council), tuple(advisers)


def trees_within(lesson: Lesson, limits: Limits, plan: TreePlan = TreePlan()) -> Trees:  # noqa: B008  (frozen)
    """The best trees within ``limits``.

    Raises:
        TrainingError: not a single tree fits.
    """
    data, validation = lesson.data, lesson.validation
    return fit_trees(
        data.x.numpy(),
        data.y.numpy(),
        (validation.x.numpy(), validation.y.numpy()),
        outputs=lesson.prepared.outputs,
        score=lesson.objective.score,
        limits=limits,
        plan=plan,
        seed=lesson.task.seed,
    )


def _smooth(lesson: Lesson) -> list[tuple[Adviser, Refit]]:
    """A kernel machine and a linear model, where they can learn what the networks do: classes, or one number."""
    data, outputs, objective = lesson.data, lesson.prepared.outputs, lesson.objective
    x, y = data.x.numpy(), data.y.numpy()
    if not isinstance(objective, Classes | Numbers) or not np.isfinite(x).all():
        return []
    found: list[tuple[Adviser, Refit]] = []
    kernel = fit_kernel(x, y, outputs=outputs)
    if kernel is not None:
        known = kernel
        found.append((known, lambda x, y: fit_kernel(x.numpy(), y.numpy(), outputs=outputs, known=known)))
    if isinstance(objective, Numbers):
        if y.size == len(y):
            found.append((fit_ridge(x, y), lambda x, y: fit_ridge(x.numpy(), y.numpy())))
        return found
    held = (lesson.validation.x.numpy(), lesson.validation.y.numpy())

    def score(answers: np.ndarray, truth: np.ndarray) -> float:
        return -float(objective.loss(torch.from_numpy(answers), torch.from_numpy(truth)))

    linear = fit_linear(x, y, held, outputs=outputs, score=score, strengths=ROW_STRENGTHS)
    if linear is not None:
        strengths = (linear.strength,)
        found.append(
            (
                linear,
                lambda x, y: fit_linear(x.numpy(), y.numpy(), held, outputs=outputs, score=score, strengths=strengths),
            )
        )
    return found


def _weights(lesson: Lesson, members: Sequence[tuple[Teacher, ...]]) -> list[float]:
    """Of each group of equals; they sum to 1."""
    validation, objective = lesson.validation, lesson.objective
    losses = np.array([float(objective.loss(teach(one, validation.x).answers, validation.y)) for one in members])
    weights = np.maximum(losses, 1e-6) ** -POWER
    weights /= weights.sum()
    weights[weights < LIGHT] = 0.0
    return [float(weight) for weight in weights / weights.sum()]


def _refitted(lesson: Lesson, refit: Refit) -> Adviser | None:
    """Learned from the validation split as well, now that it has chosen: a seventh more rows tell."""
    x, y = (torch.cat([getattr(lesson.data, name), getattr(lesson.validation, name)]) for name in ("x", "y"))
    return refit(x, y)


def _better(lesson: Lesson, networks: tuple[Teacher, ...], adviser: Adviser) -> Gathered:
    """With the ``adviser`` where that is better on the validation split."""
    choices, validation = (networks, (*networks, adviser.answers)), lesson.validation
    alone, both = (
        lesson.objective.score(teach(one, validation.x).answers.numpy(), validation.y.numpy()) for one in choices
    )
    return (choices[1], (adviser,)) if both > alone else (networks, ())
