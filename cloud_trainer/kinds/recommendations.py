"""What somebody will want next, from what they had: the items of a catalogue, best first.

A sample is the ids of the last items, oldest first and "" in front where there are fewer; the answer is the catalogue
in the order of the scores (:class:`shared.pipeline.ranking.Rank`), to which the rules of the business can be added in
the manifest: filter, boost, exclude, limit.
"""

from __future__ import annotations

from typing import ClassVar

from cloud_trainer.config import TaskConfig
from cloud_trainer.data import Splits
from cloud_trainer.kinds.base import Kind, Prepared
from cloud_trainer.models import Architecture, NextItem
from cloud_trainer.objectives import Items, Objective
from shared.errors import DataError
from shared.manifest import SampleSpec
from shared.pipeline.decode import Rank
from shared.pipeline.encode import EmbeddingIndex
from shared.pipeline.ranking import Item, Limit
from shared.pipeline.spec import Pipeline

ANSWERED = 20
"""Items of an answer, at most."""


class Recommendation(Kind):
    """The next item of a history."""

    name: ClassVar[str] = "recommendation"
    task: ClassVar[str] = "ranking"

    def prepare(self, task: TaskConfig, splits: Splits) -> Prepared:
        """Ids into places; padding and what was never seen in training are place 0."""
        del task
        train = splits.train
        if train.x.ndim != 2 or train.x.dtype.kind not in "UO" or not train.labels:
            raise DataError(
                f"recommendation takes histories of item ids (n, history); x is {train.x.dtype} {train.x.shape}"
            )
        items = tuple(train.labels)
        return Prepared(
            SampleSpec(dtype="str", shape=(train.x.shape[1],), kind="history"),
            Pipeline(
                encode=(EmbeddingIndex(ids=items),),
                decode=(Rank(items=tuple(Item(item) for item in items), rules=(Limit(count=ANSWERED),)),),
            ),
            len(items),
            "scores",
        )

    def objective(self, task: TaskConfig, prepared: Prepared, splits: Splits) -> Objective:
        """NDCG among the first ten."""
        del splits
        return Items(
            prepared.outputs,
            label_smoothing=task.training.label_smoothing or 0.0,
            temperature=task.distill.temperature,
            teacher_weight=task.distill.teacher_weight,
        )

    def teachers(self, task: TaskConfig, prepared: Prepared, input_shape: tuple[int, ...]) -> tuple[Architecture, ...]:
        """Attention over the history."""
        outputs = prepared.outputs
        teacher = NextItem(
            input=input_shape,
            outputs=outputs,
            vocabulary=outputs + 1,
            width=2 * task.model.width,
            mix="transformer",
        )
        return (teacher,) * task.model.ensemble

    def students(self, task: TaskConfig, prepared: Prepared, input_shape: tuple[int, ...]) -> tuple[Architecture, ...]:
        """The mean of the history and its latest item; attention again, but smaller."""
        del task
        outputs = prepared.outputs
        return (
            NextItem(input=input_shape, outputs=outputs, vocabulary=outputs + 1),
            NextItem(input=input_shape, outputs=outputs, vocabulary=outputs + 1, mix="transformer"),
        )
