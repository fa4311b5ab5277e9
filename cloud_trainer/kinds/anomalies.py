"""Images that are not as they should be, learned from those that are.

Teacher and student learn to tell normal images from made-up anomalies (:mod:`cloud_trainer.augment.anomalies`). The
answer is not what they say of an image, but how far its embedding lies from those of normal images: the Mahalanobis
distance, fitted on the train split, which reaches anomalies that nobody thought of. Means over a coarse grid of the
picture itself are part of it. The threshold is the validation
split's: about one normal image in a hundred is flagged.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import msgspec
import numpy as np
import torch
from msgspec import Struct
from numpy.typing import NDArray
from torch import Tensor, nn

from cloud_trainer import metrics
from cloud_trainer.augment.anomalies import KINDS, alter
from cloud_trainer.config import TaskConfig
from cloud_trainer.data import Dataset, Splits
from cloud_trainer.distillation import Teacher
from cloud_trainer.features import fit_pipeline, sample_spec
from cloud_trainer.fit import embeddings
from cloud_trainer.kinds.base import Augment, Kind, Prepared
from cloud_trainer.kinds.images import channels_last
from cloud_trainer.models import Architecture, DsCnn, Limits, MobileNet, ResNet, fit_to
from cloud_trainer.objectives import Classes, Objective
from shared.errors import TrainingError
from shared.pipeline.decode import AnomalyScore, Threshold
from shared.pipeline.postprocess import Value
from shared.pipeline.spec import Pipeline

COPIES, LEAST_SAMPLES, SAMPLES = 16, 4000, 16_000
"""Made-up anomalies for each normal image, within bounds for all samples: what the network sees only once or twice
teaches it more than what it sees often."""
BYTES = 1 << 29
"""Of all encoded samples, at most."""
TEACHER_MACS = 20_000_000
"""A teacher is as wide as the task says, or as wide as this allows: large images take long."""
STRIDE = 2
EMBEDDING, MOST_EMBEDDING = 64, 74
"""Numbers that a distance is made of beside those of the grid, at least and at most: with them a manifest has room for
155."""
FLAGGED = 0.01
"""Share of the normal validation images that lie beyond the threshold."""
SHRINK = 0.05
GRID = 9
"""Fields a side, whose means are part of the distance: no made-up anomaly teaches a network all that a picture shows.
Beside the embedding they raised the AUC of held-out flaws from .85 to .96 (a small student, drilled plates), of digits
never seen from .91 to .92."""


class Strangeness(Struct, frozen=True, tag="strangeness"):
    """Which of the made-up anomalies, or none (class 0). The score is the AUC of being one: of ``answer`` (n, 10), the
    logits, or (n, 1), a distance."""

    metric: ClassVar[str] = "auc"

    classes: Classes

    def loss(self, answer: Tensor, y: Tensor) -> Tensor:
        """Cross-entropy."""
        return self.classes.loss(answer, y)

    def distilled(self, answer: Tensor, y: Tensor, taught: Tensor) -> Tensor:
        """As for classes."""
        return self.classes.distilled(answer, y, taught)

    def score(self, answer: NDArray[Any], y: NDArray[Any]) -> float:
        """Share of the pairs of a normal image and another one of which the other one is found stranger."""
        strange = answer[:, 0] if answer.shape[1] == 1 else _not_normal(answer)
        return metrics.auc(strange, y > 0)

    def constant(self, y: NDArray[Any]) -> NDArray[np.float32]:
        """How frequent each class is, as logits."""
        return self.classes.constant(y)


def _not_normal(logits: NDArray[Any]) -> NDArray[np.float64]:
    """Logit of being any but class 0."""
    others = logits[:, 1:].astype(np.float64)
    top = others.max(axis=1)
    found: NDArray[np.float64] = top + np.log(np.exp(others - top[:, None]).sum(axis=1)) - logits[:, 0]
    return found


class ImageAnomaly(Kind):
    """A distance for each image, and whether it is too far."""

    name: ClassVar[str] = "image-anomaly"
    task: ClassVar[str] = "anomaly"

    def prepare(self, task: TaskConfig, splits: Splits) -> Prepared:
        """Standardized; what an answer is can only be said once there is a student (:meth:`finish`)."""
        del task
        found = fit_pipeline(splits.train)
        return Prepared(
            sample_spec(splits.train),
            Pipeline(preprocess=found.preprocess, encode=found.encode),
            1 + len(KINDS),
            "alterations",
            notes=(f"Trained on normal images and {len(KINDS)} kinds of made-up anomalies.",),
        )

    def objective(self, task: TaskConfig, prepared: Prepared, splits: Splits) -> Objective:
        """AUC between normal images and made-up anomalies."""
        del splits
        return Strangeness(
            Classes(
                classes=prepared.outputs,
                label_smoothing=task.training.label_smoothing or 0.0,
                temperature=task.distill.temperature,
                teacher_weight=task.distill.weight(),
            )
        )

    def examples(
        self, task: TaskConfig, prepared: Prepared, part: Dataset, seed: int
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """As many made-up anomalies as normal images; these repeated where they are few, some of them where there are
        very many."""
        del task, prepared
        normal = part.x[part.y == 0]
        rng = np.random.default_rng([seed, 5])
        wanted = int(np.clip(2 * COPIES * len(normal), LEAST_SAMPLES, SAMPLES))
        half = max(1, min(wanted, BYTES // (4 * normal[0].size)) // 2)
        whole = np.resize(rng.permutation(len(normal)), half)
        altered, kinds = alter(normal[np.resize(rng.permutation(len(normal)), half)], rng)
        return np.concatenate([normal[whole], altered]), np.concatenate([np.zeros(half, np.int64), kinds])

    def teachers(self, task: TaskConfig, prepared: Prepared, input_shape: tuple[int, ...]) -> tuple[Architecture, ...]:
        """Residual networks of ``teacher_width``, or what time allows."""
        widest = _network(ResNet, task, prepared, input_shape).with_width(task.model.width)
        within = fit_to(widest, Limits(macs=TEACHER_MACS), most=task.model.width)
        return (within or widest.with_width(1),) * task.members

    def students(self, task: TaskConfig, prepared: Prepared, input_shape: tuple[int, ...]) -> tuple[Architecture, ...]:
        """Of three families."""
        return tuple(_network(family, task, prepared, input_shape) for family in (ResNet, DsCnn, MobileNet))

    def augment(self, task: TaskConfig, prepared: Prepared) -> Augment | None:
        """Not at all: an image that was moved or lit is one with something wrong."""
        del task, prepared
        return None

    def feature_weight(self, task: TaskConfig) -> float:
        """The embedding is what answers are made of: it is matched in any case."""
        return task.distill.feature_weight or 1.0

    def graded(
        self, prepared: Prepared, models: Sequence[Teacher], splits: Splits, part: Dataset
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Distances (n, 1) as a device would find them, of several models their mean; and which are anomalies."""
        found = [_distances(prepared, model, splits.train, part) for model in models if isinstance(model, nn.Module)]
        return np.mean(found, axis=0)[:, None], part.y

    def finish(self, task: TaskConfig, prepared: Prepared, student: nn.Module, splits: Splits) -> Pipeline:
        """Distance and threshold of this student."""
        del task
        distance = _distance(prepared, student, splits.train)
        found = _distances(prepared, student, splits.train, splits.validation)[splits.validation.y == 0]
        limit = float(np.quantile(found, 1 - FLAGGED, method="higher"))
        return msgspec.structs.replace(
            prepared.pipeline,
            decode=(distance, Threshold(threshold=limit, names=splits.train.labels, source=distance.target)),
            postprocess=(Value(source=distance.target),),
        )


def _network(
    family: type[ResNet | DsCnn | MobileNet], task: TaskConfig, prepared: Prepared, input_shape: tuple[int, ...]
) -> ResNet | DsCnn | MobileNet:
    """Defects are small: what a network looks for is seen by the largest value of its maps."""
    return family(
        input=input_shape,
        outputs=prepared.outputs,
        embedding=min(max(EMBEDDING, task.model.embedding), MOST_EMBEDDING),
        channels_last=channels_last(input_shape),
        pool="both",
        stride=STRIDE,
    )


def _embedding(prepared: Prepared, model: nn.Module, part: Dataset) -> NDArray[np.float32]:
    found = embeddings(model, torch.from_numpy(prepared.encode(part.x)))
    if found is None:
        raise TrainingError("image-anomaly needs a network with an embedding: forward(x) -> (answer, embedding)")
    return found.numpy()


def _distance(prepared: Prepared, model: nn.Module, train: Dataset) -> AnomalyScore:
    normal = train.take(train.y == 0)
    pictures = prepared.encode(normal.x)
    fitted = AnomalyScore.fit(
        _embedding(prepared, model, normal), "distance", shrink=SHRINK, grid=GRID, pictures=pictures
    )
    return msgspec.structs.replace(fitted, target="strangeness")


def _distances(prepared: Prepared, model: nn.Module, train: Dataset, part: Dataset) -> NDArray[np.float64]:
    distance = _distance(prepared, model, train)
    given = {"embedding": _embedding(prepared, model, part), "input": prepared.encode(part.x)}
    found: NDArray[np.float64] = distance(given)[distance.target]
    return found
