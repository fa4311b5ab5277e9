"""Answers as sinks, messages and the status get them. Pure."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from edge_agent.state import RecentAnswer
from shared.messages import AnswerRecord

if TYPE_CHECKING:
    from edge_agent.engine import Answer

VALUE_LENGTH = 80


def answer_record(answer: Answer, now: float, release: int, variant: str) -> AnswerRecord:
    """``answer`` as sinks get it: what JSON has no word for is left out."""
    return AnswerRecord(
        id=answer.id,
        label=answer.label,
        score=answer.score if math.isfinite(answer.score) else None,
        value=plain(answer.value),
        time=now,
        latency_us=answer.latency_us,
        release=release,
        variant=variant,
    )


def plain(value: Any) -> Any:
    """Arrays as lists, numpy's numbers as Python's, NaN and infinity as None.

    >>> import numpy as np
    >>> plain({"boxes": np.array([[1.0, np.nan]]), "n": np.int64(3), "at": (np.float32(0.5),)})
    {'boxes': [[1.0, None]], 'n': 3, 'at': [0.5]}
    """
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | int | bool):
        return value
    if isinstance(value, dict):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    to_list = getattr(value, "tolist", None)
    return plain(to_list()) if to_list is not None else value


def recent_answer(answer: Answer, when: float) -> RecentAnswer:
    """``answer`` in the short form of the status."""
    value = plain(answer.value)
    if isinstance(value, bool | int):
        value = float(value)
    elif value is not None and not isinstance(value, float):
        value = str(value)
        value = value if len(value) <= VALUE_LENGTH else value[: VALUE_LENGTH - 1] + "…"
    score = answer.score if math.isfinite(answer.score) else None
    return RecentAnswer(id=answer.id, time=when, label=answer.label, score=score, value=value)
