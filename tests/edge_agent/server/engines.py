"""Engines that need no model file, with the methods that the server uses."""

from __future__ import annotations

import itertools
from types import SimpleNamespace
from typing import Any

import numpy as np

from edge_agent.answers import NO_SCORES, Answer
from edge_agent.health import Health
from edge_agent.inputs import Signature
from shared.errors import BackendError, InputError, SanderlingError
from shared.manifest import SampleSpec, TensorSpec

WEIGHTS = np.random.default_rng(7).normal(size=(16, 4)).astype(np.float32)
LABELS = ("north", "east", "south", "west")


class LinearEngine:
    """scores = x W; the label is the largest. ``fail`` is raised by each call while it is set."""

    signature: tuple[SampleSpec, ...] = (SampleSpec("float32", (16,), "row"),)
    outputs_spec: tuple[TensorSpec, ...] = (TensorSpec("scores", "float32", (None, 4)),)
    labels: tuple[str, ...] = LABELS

    def __init__(self, name: str = "compass", version: int = 3) -> None:
        self.manifest = SimpleNamespace(name=name, version=version, state=(), labels=self.labels)
        self.variant = SimpleNamespace(id="fp32-onnx", runtime="onnxruntime", outputs=self.outputs_spec)
        self.health = Health()
        self.monitor = None
        self.fail: Exception | None = None
        self.truths: list[tuple[str, Any]] = []
        checks = Signature(self.signature)
        self.check_one, self.check_many = checks.one, checks.many
        self._ids = itertools.count(1)

    def rows(self, samples: Any, count: int) -> list[dict[str, Any]]:
        if self.fail is not None:
            raise self.fail
        rows = []
        for scores in samples @ WEIGHTS:
            index = int(scores.argmax())
            rows.append({"scores": scores, "index": index, "score": float(scores[index]), "label": LABELS[index]})
        return rows

    def infer(self, sample: Any, id: str | None = None) -> Answer:  # noqa: A002
        x = self.check_one(sample)
        batch = {name: values[None] for name, values in x.items()} if isinstance(x, dict) else x[None]
        return self._answers(batch, 1, None if id is None else [id])[0]

    def infer_batch(self, samples: Any, ids: Any = None) -> list[Answer]:
        count, batch = self.check_many(samples)
        return self._answers(batch, count, ids)

    def _answers(self, batch: Any, count: int, ids: Any) -> list[Answer]:
        try:
            rows = self.rows(batch, count)
        except SanderlingError as error:
            self.health.fail(error)
            raise
        answers = []
        for i, row in enumerate(rows):
            name = ids[i] if ids is not None else f"made-{next(self._ids)}"
            self.health.add(5.0)
            scores, score = row.get("scores", NO_SCORES), row.get("score", float("nan"))
            answers.append(Answer(name, row.get("label", ""), score, scores, row, 5.0, row.get("value")))
        return answers

    def outputs(self, samples: Any) -> dict[str, Any]:
        count, batch = self.check_many(samples)
        rows = self.rows(batch, count)
        fields = {}
        for name, first in rows[0].items():
            values = [row[name] for row in rows]
            if isinstance(first, str | list):
                column = np.empty(count, object)
                column[:] = values
                fields[name] = column
            else:
                fields[name] = np.asarray(values, np.float32 if name == "score" else None)
        return fields

    def feedback(self, id: str, truth: Any) -> bool | None:  # noqa: A002
        if truth not in LABELS:
            raise InputError(f"label {truth!r} is none of this release's: {', '.join(LABELS)}")
        self.truths.append((id, truth))
        return truth == "north" if id.startswith("made") else None


class TextEngine(LinearEngine):
    """Counts letters and vowels of a text; gives a ragged list, too."""

    signature = (SampleSpec("str", (), "text"),)
    outputs_spec = ()

    def rows(self, samples: Any, count: int) -> list[dict[str, Any]]:
        rows = []
        for text in samples:
            vowels = [letter for letter in text if letter in "aeiou"]
            rows.append(
                {"letters": len(text), "share": len(vowels) / max(len(text), 1), "upper": text.upper(), "value": vowels}
            )
        return rows


class ManyInputsEngine(LinearEngine):
    """One input for each dtype; gives each back, and the sum of all. Refuses ``length`` above 5, as a runtime would."""

    signature = (
        *(
            SampleSpec(dtype, (2, 3), name=dtype)
            for dtype in ("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
        ),
        *(SampleSpec(dtype, (-1,), name=dtype) for dtype in ("float16", "float32", "float64")),
        SampleSpec("int64", (), name="length"),
    )
    outputs_spec = ()

    def rows(self, samples: Any, count: int) -> list[dict[str, Any]]:
        if samples["length"].max() > 5:
            raise BackendError("index out of bounds")
        return [{f"{name}_back": values[i] for name, values in samples.items()} for i in range(count)]
