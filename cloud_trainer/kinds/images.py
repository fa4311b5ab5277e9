"""Images into classes."""

from __future__ import annotations

from typing import Any, ClassVar

from cloud_trainer.augment.images import Images
from cloud_trainer.config import TaskConfig
from cloud_trainer.data import Splits
from cloud_trainer.features import fit_pipeline, sample_spec
from cloud_trainer.kinds.base import Augment, Kind, Prepared
from cloud_trainer.kinds.classes import objective
from cloud_trainer.models import Architecture, DsCnn, MobileNet, ResNet
from cloud_trainer.objectives import Objective

AUGMENTED_SIDE = 20
"""Pixels: of smaller images a moved edge or a missing piece is half of what there was to see."""
FINE_SIDE = 40
"""Pixels: larger images have more of them than they have to tell."""


class ImageClassification(Kind):
    """One label an image: residual networks as teachers, the lightest family that is as good as the student."""

    name: ClassVar[str] = "image-classification"
    task: ClassVar[str] = "image-classification"
    sized: ClassVar[bool] = True

    def prepare(self, task: TaskConfig, splits: Splits) -> Prepared:
        """Standardized, channels where the network wants them."""
        del task
        train = splits.train
        return Prepared(sample_spec(train), fit_pipeline(train), len(train.labels))

    def objective(self, task: TaskConfig, prepared: Prepared, splits: Splits) -> Objective:
        """Accuracy."""
        del prepared
        return objective(task, splits)

    def teachers(self, task: TaskConfig, prepared: Prepared, input_shape: tuple[int, ...]) -> tuple[Architecture, ...]:
        """Residual networks of ``teacher_width``; as many as the task wants, or is worth."""
        teacher = ResNet(
            input=input_shape,
            outputs=prepared.outputs,
            width=task.model.width,
            embedding=task.model.embedding,
            channels_last=channels_last(input_shape),
        )
        return (teacher,) * task.members

    def students(self, task: TaskConfig, prepared: Prepared, input_shape: tuple[int, ...]) -> tuple[Architecture, ...]:
        """Of three families; of small images, where a fine network has room, that first."""
        sizes: dict[str, Any] = {
            "input": input_shape,
            "outputs": prepared.outputs,
            "embedding": task.model.embedding,
            "channels_last": channels_last(input_shape),
        }
        usual = ResNet(**sizes)
        fine = (ResNet(**sizes, fine=True),) if max(usual.sides) <= FINE_SIDE else ()
        return (*fine, usual, DsCnn(**sizes), MobileNet(**sizes))

    def augment(self, task: TaskConfig, prepared: Prepared) -> Augment | None:
        """Moved, in another light, with a piece missing; small images only where the task asks for it."""
        large = min(prepared.sample.shape[:2]) >= AUGMENTED_SIDE
        if not (large if task.training.augment is None else task.training.augment):
            return None
        return Images(channels_last=len(prepared.sample.shape) == 3, mirror=task.training.mirror)


def channels_last(input_shape: tuple[int, ...]) -> bool:
    """Whether encoded images are (H, W, C): all but grey ones, (1, H, W)."""
    return input_shape[0] != 1
