"""Short texts into classes: routing, spam, intents.

What is tried (:mod:`cloud_trainer.kinds.views`): hashed runs of words and of characters into dense layers, which stand
typing errors and need no vocabulary; the known words' embeddings, averaged; and a small transformer, which knows the
order of words.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from cloud_trainer.augment import chain
from cloud_trainer.augment.tokens import HideWords, LoseBuckets, LoseWords
from cloud_trainer.config import TaskConfig
from cloud_trainer.data import Dataset, Splits
from cloud_trainer.fit import Encoded
from cloud_trainer.kinds import classes
from cloud_trainer.kinds.base import Adviser, Augment, Kind, Prepared
from cloud_trainer.kinds.views import Effort, Steps, View, choose, notes_of
from cloud_trainer.models import Architecture, Bag, Mlp, Transformer
from cloud_trainer.models.linear import fit_linear
from cloud_trainer.objectives import Classes
from cloud_trainer.room import BUCKETS
from shared.errors import DataError
from shared.manifest import SampleSpec
from shared.pipeline.branches import Concatenate
from shared.pipeline.encode import HashedNgrams, Tokens
from shared.pipeline.spec import Encode
from shared.pipeline.text import WORDS, CleanText

Array = NDArray[Any]

WORD_SHARE = 0.25
"""Of the buckets, for words; a text has more runs of characters."""
VOCABULARY = 4000
LONGEST = 64
"""Tokens that a text is cut off at, if fewer than one in twenty is longer."""
MOST_CHARACTERS = 4096
MOST_NUMBERS = 400_000_000
"""Of all encoded samples, for a linear classifier beside them."""
FIRST = 2
"""Of the ids of words: before them come padding and the unknown word."""


class TextClassification(Kind):
    """See the module."""

    name: ClassVar[str] = "text-classification"
    task: ClassVar[str] = "classification"
    effort: ClassVar[Effort] = Effort()
    """What each view may cost."""

    def prepare(self, task: TaskConfig, splits: Splits) -> Prepared:
        """Try the views and keep the best.

        Raises:
            DataError: samples are no text, or have no word in them.
        """
        check_texts(splits.train)
        views = views_of(task, splits.train)
        trial, table = choose(views, splits, seed=task.seed, effort=self.effort)
        sample = SampleSpec(dtype="str", shape=(), kind="text")
        return classes.prepared(sample, trial.view.fit(splits.train.x), splits.train.labels, table, notes_of(table))

    def objective(self, task: TaskConfig, prepared: Prepared, splits: Splits) -> Classes:
        """Cross-entropy."""
        del prepared
        return classes.objective(task, splits)

    def teachers(self, task: TaskConfig, prepared: Prepared, input_shape: tuple[int, ...]) -> tuple[Architecture, ...]:
        """Dense layers over hashed runs; a transformer over tokens."""
        words, width = vocabulary_of(prepared.pipeline.encode), task.model.width
        wide: Architecture
        if words:
            wide = Transformer(input=input_shape, outputs=prepared.outputs, vocabulary=words, width=2 * width, heads=4)
        else:
            wide = Mlp(input=input_shape, outputs=prepared.outputs, width=8 * width, depth=1, dropout=0.5)
        return classes.teachers(task, wide)

    def adviser(self, task: TaskConfig, prepared: Prepared, data: Encoded, validation: Encoded) -> Adviser | None:
        """A linear classifier of hashed runs."""
        if (
            vocabulary_of(prepared.pipeline.encode)
            or task.model.teacher != "auto"
            or task.model.teacher_factory
            or data.x.numel() > MOST_NUMBERS
        ):
            return None
        held_out = validation.x.numpy(), validation.y.numpy()
        score = Classes(prepared.outputs).score
        return fit_linear(data.x.numpy(), data.y.numpy(), held_out, outputs=prepared.outputs, score=score)

    def students(self, task: TaskConfig, prepared: Prepared, input_shape: tuple[int, ...]) -> tuple[Architecture, ...]:
        """The same families, small; for tokens the average of their embeddings first, which costs next to nothing."""
        sizes: dict[str, Any] = {"input": input_shape, "outputs": prepared.outputs, "embedding": task.model.embedding}
        words = vocabulary_of(prepared.pipeline.encode)
        if not words:
            return classes.students(task, Mlp(**sizes, depth=1, dropout=0.2))
        return classes.students(task, Bag(**sizes, vocabulary=words), Transformer(**sizes, vocabulary=words))

    def augment(self, task: TaskConfig, prepared: Prepared) -> Augment | None:
        """Words that are missing or not known."""
        if task.training.augment is False:
            return None
        if vocabulary_of(prepared.pipeline.encode):
            return chain(LoseWords(0.1), HideWords(0.1), share=0.8)
        return chain(LoseBuckets(0.2))


def check_texts(train: Dataset) -> None:
    """Refuse what is no text.

    Raises:
        DataError: with what came instead.
    """
    if train.x.ndim != 1 or train.x.dtype.kind not in "UO" or not all(isinstance(text, str) for text in train.x):
        raise DataError(
            f"samples have dtype {train.x.dtype} and shape {train.x.shape[1:]}; text-classification takes one text "
            "each; set data.text to the column that it stands in"
        )
    if not any(WORDS.search(text) for text in train.x):
        raise DataError("no text of the train split has a word in it; set data.text to the column that it stands in")


def vocabulary_of(encode: Sequence[Encode]) -> int:
    """How many ids there are, padding included; 0: it gives no ids."""
    tokens = [operation for operation in encode if isinstance(operation, Tokens)]
    return FIRST + len(tokens[-1].vocabulary) if tokens else 0


def views_of(task: TaskConfig, train: Dataset) -> tuple[View, ...]:
    """What is tried, from cheap to dear on a device. Without ``features.engineer`` it is the tokens."""
    buckets = task.features.buckets or BUCKETS
    length = task.features.max_length or usual_length(train.x)
    cleaned = CleanText(digits="zero", max_characters=MOST_CHARACTERS)

    def hashed(x: Array) -> Steps:
        del x
        words = max(1, round(WORD_SHARE * buckets))
        branches = (
            (HashedNgrams(words, 1, 2, normalize=True),),
            (HashedNgrams(max(1, buckets - words), 2, 4, "characters", normalize=True),),
        )
        return Steps((cleaned,), (Concatenate(branches),))

    def known(x: Array) -> Steps:
        return Steps((cleaned,), (Tokens.fit(cleaned(x), length, size=VOCABULARY),))

    views = (
        View("words", known, _bag, f"{length} tokens, averaged embeddings"),
        View("hashed runs", hashed, _dense, f"words and characters in {buckets} buckets"),
        View("words in order", known, _attention, f"{length} tokens, attention"),
    )
    return views if task.features.engineer else views[:1]


def usual_length(x: Array) -> int:
    """Tokens that 19 of 20 texts do not exceed, at most 64; a multiple of 8."""
    lengths = [len(WORDS.findall(text)) for text in x.tolist()]
    return int(min(LONGEST, max(8, -(-int(np.quantile(lengths, 0.95)) // 8) * 8)))


def _dense(steps: Steps, shape: tuple[int, ...], outputs: int) -> Architecture:
    del steps
    return Mlp(input=shape, outputs=outputs, width=48, depth=1, dropout=0.3)


def _bag(steps: Steps, shape: tuple[int, ...], outputs: int) -> Architecture:
    return Bag(input=shape, outputs=outputs, vocabulary=vocabulary_of(steps.encode))


def _attention(steps: Steps, shape: tuple[int, ...], outputs: int) -> Architecture:
    return Transformer(input=shape, outputs=outputs, vocabulary=vocabulary_of(steps.encode))
