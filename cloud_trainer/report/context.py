"""What every section asks for: the best variant, its answers, how they are judged, and how sure that is."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cloud_trainer.data import Dataset
from cloud_trainer.evaluation.comparison import Compared, compare
from cloud_trainer.evaluation.figures import Judge, answer_of, figure_intervals
from cloud_trainer.package import Measured
from cloud_trainer.report.views import ReportData
from edge_agent.selection import quality_of

PART = "test"


class Context:
    """Of one report."""

    def __init__(self, data: ReportData) -> None:
        self.data, self.manifest = data, data.manifest
        self.judge = data.judge or Judge(data.manifest.task)
        self.best: Measured = max(data.measured, key=lambda one: _or_worst(quality_of(one.variant)))
        first = next(iter(self.best.variant.quality), "")
        self.metric = first or self.judge.score

    @property
    def score(self) -> float | None:
        """Of the best variant."""
        return quality_of(self.best.variant)

    @property
    def fields(self) -> dict[str, NDArray[Any]]:
        """What the best variant gave for the test split."""
        return self.best.outputs.get(PART, {})

    @cached_property
    def answered(self) -> tuple[NDArray[Any], Dataset] | None:
        """Answers of the best variant and the test split; ``None`` where one is missing or they don't fit."""
        return self._answers(self.best)

    def _answers(self, one: Measured) -> tuple[NDArray[Any], Dataset] | None:
        test, fields = self.data.test, one.outputs.get(PART, {})
        answer = answer_of(self.manifest.task, fields)
        if test is None or answer is None or len(answer) != len(test.y):
            return None
        return answer, test

    @cached_property
    def compared(self) -> dict[str, Compared]:
        """Variant -> intervals; as they were given, or found now."""
        if self.data.compared is not None:
            return self.data.compared
        both = [(m.variant, m.outputs[PART]) for m in self.data.measured if self._answers(m) is not None]
        test = self.data.test
        if not both or test is None or not self.judge.family:
            return {}
        found = compare(self.judge, both, test.y, test.groups)
        if self.answered is not None:  # of the best, every figure has its interval
            own = found[self.best.variant.id]
            every = figure_intervals(self.judge, self.answered[0], test.y, test.groups)
            found[self.best.variant.id] = Compared(every | own.figures, own.to_fp32)
        return found

    def worst_first(self, badness: NDArray[Any], most: int) -> NDArray[np.intp]:
        """The first ``most`` places by ``badness`` (n,), highest first; equals by place."""
        return np.argsort(-np.asarray(badness, np.float64), kind="stable")[:most]


def _or_worst(value: float | None) -> float:
    return -np.inf if value is None else value
