"""What somebody will want next, from what they had: the items of a catalogue, best first. Or, without ``data.item``,
candidates that are rows of features: how relevant each is to its query.

A sample is the ids of the last items, oldest first and "" in front where there are fewer; the answer is the catalogue
in the order of the scores (:class:`shared.pipeline.ranking.Rank`), to which the rules of the business can be added in
the manifest: filter, boost, exclude, limit.

Candidates are scored one by one, as numbers are foretold (:mod:`cloud_trainer.kinds.tables`); they are told from each
other by query (``data.group``), which is what NDCG is the mean of. A device scores all candidates of a query at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from numpy.typing import NDArray

from cloud_trainer.augment.histories import LoseItems
from cloud_trainer.config import TaskConfig
from cloud_trainer.data import Dataset, Splits
from cloud_trainer.distillation import Teacher
from cloud_trainer.fit import Encoded
from cloud_trainer.kinds.base import Adviser, Augment, Kind, Prepared
from cloud_trainer.kinds.counts import MOST_ITEMS, count
from cloud_trainer.kinds.tables import TabularRegression, Targets
from cloud_trainer.models import Architecture, NextItem
from cloud_trainer.objectives import Items, Objective
from shared.errors import DataError
from shared.manifest import SampleSpec
from shared.pipeline.decode import Rank
from shared.pipeline.encode import EmbeddingIndex
from shared.pipeline.ranking import Item, Limit
from shared.pipeline.spec import Pipeline

DROPOUT, TAUGHT_DROPOUT = 0.5, 0.25
ROWS, SCORES = TabularRegression(), "scores"
ANSWERED = 20
"""Items of an answer, at most."""


class Recommendation(Kind):
    """The next item of a history."""

    name: ClassVar[str] = "recommendation"
    task: ClassVar[str] = "ranking"

    def prepare(self, task: TaskConfig, splits: Splits) -> Prepared:
        """Ids into places; padding and what was never seen in training are place 0. Rows as numbers are foretold.

        Raises:
            DataError: samples are neither; candidates without queries.
        """
        train = splits.train
        if not train.labels and not task.data.item:
            if train.groups is None:
                raise DataError(
                    "recommendation ranks items of a history (name their column in data.item) or the candidates of a "
                    "query (name the query's column in data.group); data has neither"
                )
            return ROWS.prepare(task, splits)
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
            SCORES,
        )

    def objective(self, task: TaskConfig, prepared: Prepared, splits: Splits) -> Objective:
        """NDCG among the first ten; of candidates, the error of their relevance."""
        if not _items(prepared):
            return ROWS.objective(task, prepared, splits)
        return Items(
            prepared.outputs,
            label_smoothing=task.training.label_smoothing or 0.0,
            temperature=task.distill.temperature,
            teacher_weight=task.distill.weight(),
        )

    def teachers(self, task: TaskConfig, prepared: Prepared, input_shape: tuple[int, ...]) -> tuple[Architecture, ...]:
        """Attention over the history, and its mean by age."""
        if not _items(prepared):
            return ROWS.teachers(task, prepared, input_shape)
        wide = _next(input_shape, prepared, width=4 * task.model.width)
        seeing = _next(input_shape, prepared, width=2 * task.model.width, mix="transformer")
        return (wide, seeing) * task.members

    def students(self, task: TaskConfig, prepared: Prepared, input_shape: tuple[int, ...]) -> tuple[Architecture, ...]:
        """The mean of the history by age and its latest item; attention again, but smaller."""
        if not _items(prepared):
            return ROWS.students(task, prepared, input_shape)
        return tuple(_next(input_shape, prepared, mix=mix, dropout=TAUGHT_DROPOUT) for mix in ("pool", "transformer"))

    def graded(
        self, prepared: Prepared, models: Sequence[Teacher], splits: Splits, part: Dataset
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Of candidates: relevances as they are, by which gains are reckoned."""
        answer, truth = super().graded(prepared, models, splits, part)
        if not isinstance(prepared.targets, Targets):
            return answer, truth
        return answer * prepared.targets.std + prepared.targets.mean, part.y

    def trees(self, task: TaskConfig, prepared: Prepared) -> bool:
        """Of candidates."""
        return not _items(prepared) and ROWS.trees(task, prepared)

    def adviser(self, task: TaskConfig, prepared: Prepared, data: Encoded, validation: Encoded) -> Adviser | None:
        """Counts of what followed what."""
        if (
            not _items(prepared)
            or task.model.teacher != "auto"
            or task.model.teacher_factory
            or prepared.outputs > MOST_ITEMS
        ):
            return None
        held_out = validation.x.numpy(), validation.y.numpy()
        return count(data.x.numpy(), data.y.numpy(), held_out, prepared.outputs)

    def augment(self, task: TaskConfig, prepared: Prepared) -> Augment | None:
        """Items of the history are missing: what is known of it must not be known by heart."""
        if not _items(prepared):
            return ROWS.augment(task, prepared)
        return LoseItems() if task.training.augment is not False else None


def _items(prepared: Prepared) -> bool:
    """Whether samples are histories of items."""
    return prepared.answer == SCORES


def _next(input_shape: tuple[int, ...], prepared: Prepared, **more: Any) -> NextItem:
    outputs = prepared.outputs
    return NextItem(
        input=input_shape, outputs=outputs, vocabulary=outputs + 1, tied=False, **({"dropout": DROPOUT} | more)
    )
