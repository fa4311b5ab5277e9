"""Images that are not as they should be, learned from those that are.

Teacher and student learn to tell normal images from made-up anomalies (:mod:`cloud_trainer.augment.anomalies`). The
answer is not what they say of an image, but how unusually far it lies from normal images of the train split, which
reaches anomalies that nobody thought of. Three distances make it:

1. of its embedding, from the mean one (Mahalanobis 1936);
2. of the means over a coarse grid of the picture itself, from the nearest of some typical pictures, where normal ones
   differ little (the same; how many there are is what makes the validation split's images likeliest): small flaws;
3. of that grid from the nearest of more typical pictures, as it is: what looks like none of them.

What is usual for each, and the threshold, are the validation split's: about one normal image in a hundred is flagged.
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
from cloud_trainer.room import ANOMALY_MACS, anomaly_samples
from shared.errors import TrainingError
from shared.pipeline.anomaly import fields_of
from shared.pipeline.bind import run_arrays
from shared.pipeline.decode import AnomalyScore, JointScore, Threshold
from shared.pipeline.postprocess import Value
from shared.pipeline.spec import Decode, Pipeline

STRIDE = 2
EMBEDDING, MOST_EMBEDDING = 64, 128
"""Numbers of an embedding, at least and at most: their covariance goes into the manifest."""
FLAGGED, MARGIN = 0.01, 0.05
"""Share of the normal validation images that lie beyond the threshold, but for a margin: a device computes a little
otherwise than the trainer, and where images repeat each other, many lie just there."""
PICTURE_NOISE, EMBEDDING_NOISE = 0.003, 0.01
"""Of the root mean square of the values: less than that tells nothing of pictures; nor of embeddings, which are no
nearer in int8 to those in float32."""
SHRINK = 0.05
PICTURE_SHRINK = 0.01
GRID = 9
"""Fields a side: no made-up anomaly teaches a network all that a picture shows."""
TYPICAL, SAMPLES_EACH = (1, 2, 4, 8, 16, 32, 64), 4
"""How many typical pictures the second distance may have, each of at least so many samples."""
MOST_TYPICAL = 128
"""How many the third one has, of twice as many samples at least."""
EMBEDDED, PICTURE, NEAREST, TARGET = "embedding_distance", "picture_distance", "nearest_distance", "strangeness"


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
        """Standardized, and how far a picture lies from typical ones; the rest of an answer can only be said once there
        is a student (:meth:`finish`)."""
        del task
        found = fit_pipeline(splits.train)
        steps = Pipeline(preprocess=found.preprocess, encode=found.encode)
        normal, held = (
            fields_of(run_arrays(steps, part.x[part.y == 0]), GRID) for part in (splits.train, splits.validation)
        )
        distance, nearest = _picture_distance(normal, held), _nearest(normal)
        return Prepared(
            sample_spec(splits.train),
            msgspec.structs.replace(steps, decode=(distance, nearest)),
            1 + len(KINDS),
            "alterations",
            notes=(
                f"Trained on normal images and {len(KINDS)} kinds of made-up anomalies.",
                (
                    f"A coarse grid of each image is compared with {_typical(distance)} where normal images differ "
                    f"little, and with {_typical(nearest)} as it is."
                ),
            ),
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
        half = anomaly_samples(len(normal), normal[0].size) // 2
        whole = np.resize(rng.permutation(len(normal)), half)
        altered, kinds = alter(normal[np.resize(rng.permutation(len(normal)), half)], rng)
        return np.concatenate([normal[whole], altered]), np.concatenate([np.zeros(half, np.int64), kinds])

    def teachers(self, task: TaskConfig, prepared: Prepared, input_shape: tuple[int, ...]) -> tuple[Architecture, ...]:
        """Residual networks of ``teacher_width``, or what time allows."""
        widest = _network(ResNet, task, prepared, input_shape).with_width(task.model.width)
        within = fit_to(widest, Limits(macs=ANOMALY_MACS), most=task.model.width)
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
        """How strange (n, 1), as a device would find it, of several models the mean; and which are anomalies."""
        found = []
        for model in models:
            if isinstance(model, nn.Module):
                fields = _fields(prepared, model, part)
                found.append(_run(_strangeness(prepared, model, splits), fields)[TARGET])
        return np.mean(found, axis=0)[:, None], part.y

    def finish(self, task: TaskConfig, prepared: Prepared, student: nn.Module, splits: Splits) -> Pipeline:
        """What is strange to this student, and the threshold."""
        del task
        scores = _strangeness(prepared, student, splits)
        found = _run(scores, _fields(prepared, student, _normal(splits.validation)))[TARGET]
        limit = float(np.quantile(found, 1 - FLAGGED, method="higher")) + MARGIN
        return msgspec.structs.replace(
            prepared.pipeline,
            decode=(*scores, Threshold(threshold=limit, names=splits.train.labels, source=TARGET)),
            postprocess=(Value(source=TARGET),),
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


def _picture_distance(normal: NDArray[np.float64], held: NDArray[np.float64]) -> AnomalyScore:
    """From the nearest of as many typical pictures as make ``held`` likeliest (ties: the fewest); of both the fields
    of the grid are given."""
    tried = [
        AnomalyScore.fit(normal, source="input", target=PICTURE, shrink=PICTURE_SHRINK, prototypes=count)
        for count in TYPICAL
        if count == 1 or count * SAMPLES_EACH <= len(normal)
    ]
    best = min(tried, key=lambda one: _surprise(one, held)) if len(held) else tried[0]
    return msgspec.structs.replace(best, grid=GRID)


def _nearest(normal: NDArray[np.float64]) -> AnomalyScore:
    """Plain distance from the nearest of many typical pictures, of which the fields of the grid are given."""
    count = min(MOST_TYPICAL, max(1, len(normal) // 2))
    found = AnomalyScore.fit(normal, source="input", target=NEAREST, shrink=1.0, prototypes=count)
    return msgspec.structs.replace(found, grid=GRID)


def _count(distance: AnomalyScore) -> int:
    return len(distance.prototypes) or 1


def _typical(distance: AnomalyScore) -> str:
    count = _count(distance)
    return f"that of the nearest of {count} typical ones" if count > 1 else "the mean one"


def _surprise(distance: AnomalyScore, held: NDArray[np.float64]) -> float:
    """Twice the mean negative log-likelihood under the likeliest of its normal distributions, less a constant."""
    squares = np.square(distance({"input": held})[PICTURE])
    logarithm = float(np.linalg.slogdet(np.array(distance.precision))[1])
    return float(squares.mean()) - logarithm + 2 * float(np.log(_count(distance)))


def _strangeness(prepared: Prepared, model: nn.Module, splits: Splits) -> tuple[Decode, ...]:
    """All distances, and how unusual they are together."""
    train, held = (_fields(prepared, model, _normal(part)) for part in (splits.train, splits.validation))
    pictures = [one for one in prepared.pipeline.decode if isinstance(one, AnomalyScore)]
    distances = (*pictures, AnomalyScore.fit(train["embedding"], target=EMBEDDED, shrink=SHRINK))
    found = _run(distances, held)
    names = (PICTURE, NEAREST, EMBEDDED)
    picture = PICTURE_NOISE * _size(train["input"])
    noise = (picture, picture, EMBEDDING_NOISE * _size(train["embedding"]))
    least = [one.of_noise(size) for one, size in zip(distances, noise, strict=True)]
    return (
        *distances,
        JointScore.fit({name: found[name] for name in names}, TARGET, dict(zip(names, least, strict=True))),
    )


def _size(values: NDArray[Any]) -> float:
    """Root of the mean square."""
    return float(np.sqrt(np.square(values, dtype=np.float64).mean()))


def _run(scores: Sequence[Decode], fields: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    for score in scores:
        fields = score(fields)
    return fields


def _normal(part: Dataset) -> Dataset:
    return part.take(part.y == 0)


def _fields(prepared: Prepared, model: nn.Module, part: Dataset) -> dict[str, NDArray[Any]]:
    encoded = prepared.encode(part.x)
    found = embeddings(model, torch.from_numpy(encoded))
    if found is None:
        raise TrainingError("image-anomaly needs a network with an embedding: forward(x) -> (answer, embedding)")
    return {"embedding": found.numpy(), "input": encoded}
