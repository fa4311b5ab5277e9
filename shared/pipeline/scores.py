"""From logits to scores and choices: Softmax, Sigmoid, Argmax, TopK, Threshold, Normalize."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Self

import numpy as np
from msgspec import Meta

from shared.pipeline.base import Array, FieldOperation, Fields, Floats, Row, number_field, objects, refuse

FLOAT32 = np.dtype(np.float32)
FEW = 16
"""Up to so many classes are added one by one in float64, by whichever path: numpy's sum has a longer start."""
Temperature = Annotated[float, Meta(gt=0)]


class Softmax(FieldOperation, frozen=True, tag="softmax"):
    """``source`` (n, classes) of logits → ``target`` of probabilities that sum to one.

    The variant's own calibration temperature multiplies ``temperature`` (Guo et al. 2017, arXiv 1706.04599).
    """

    source: str = "logits"
    target: str = "scores"
    temperature: Temperature = 1.0

    def apply(self, fields: Mapping[str, Array]) -> Fields:
        """Sets ``target`` (n, classes) float32."""
        source = number_field(self, fields, self.source)
        if source.ndim < 2 or not source.shape[-1]:
            raise refuse(self, f"(n, classes) in field {self.source!r}", source)
        logits = np.ascontiguousarray(source, np.float32)
        if self.temperature != 1.0:
            logits = logits * np.float32(1 / self.temperature)
        exp = np.exp(logits - logits.max(axis=-1, keepdims=True))
        if logits.shape[-1] > FEW:
            return {self.target: exp / exp.sum(axis=-1, keepdims=True)}
        total = np.zeros(exp.shape[:-1])
        for k in range(logits.shape[-1]):
            total += exp[..., k]
        return {self.target: exp / total.astype(np.float32)[..., None]}

    def bind(self) -> Callable[[Row], None]:
        """Sets ``target`` (classes,) float32, a new array."""
        source, target, scores_of = self.source, self.target, self.bound()

        def run(row: Row) -> None:
            row[target] = scores_of(row[source])

        return run

    def bound(self) -> Callable[[Array], Floats]:
        """The function from one row's logits (classes,) to its scores (classes,), in as few calls of numpy as there
        can be: at this size a call costs more than its arithmetic."""
        scaled, inverse = self.temperature != 1.0, np.array(1 / self.temperature, np.float32)
        exp, add, subtract, divide, divisor = np.exp, np.add.reduce, np.subtract, np.divide, np.array(1, np.float32)
        float32, few, other = FLOAT32, FEW, self._other

        def scores_of(logits: Array) -> Floats:
            if logits.ndim != 1:
                return other(logits)
            if logits.dtype is not float32:
                logits = logits.astype(float32)
            if scaled:
                logits = logits * inverse
            # argmax and a look-up take a third of a maximum's time; 0-d arrays half of a scalar's
            scores: Floats = subtract(logits, logits[logits.argmax(), ...])
            exp(scores, scores)
            if len(scores) > few:
                return divide(scores, add(scores), scores)
            total = 0.0
            for value in scores.tolist():
                total += value
            divisor[()] = total
            return divide(scores, divisor, scores)

        return scores_of

    def _other(self, logits: Array) -> Floats:
        """The scores of a row that is no vector."""
        scores: Floats = self.apply({self.source: logits[None]})[self.target][0]
        return scores


class Sigmoid(FieldOperation, frozen=True, tag="sigmoid"):
    """``source`` of logits → ``target`` of probabilities, each for itself: 1 / (1 + e⁻ˣ), never overflowing."""

    source: str = "logits"
    target: str = "scores"
    temperature: Temperature = 1.0

    def apply(self, fields: Mapping[str, Array]) -> Fields:
        """Sets ``target`` (n, ...) float32."""
        logits = np.ascontiguousarray(number_field(self, fields, self.source), np.float32)
        if self.temperature != 1.0:
            logits = logits * np.float32(1 / self.temperature)
        small = np.exp(-np.abs(logits))
        return {self.target: np.where(logits >= 0, np.float32(1), small) / (np.float32(1) + small)}


class Argmax(FieldOperation, frozen=True, tag="argmax"):
    """``source`` (n, classes) → ``target`` (n,) index of the largest, and its value as ``score``."""

    source: str = "scores"
    target: str = "index"

    def apply(self, fields: Mapping[str, Array]) -> Fields:
        """Sets ``target`` (n,) intp and ``score`` (n,), of the scores' dtype or, for whole numbers, float64."""
        scores = number_field(self, fields, self.source)
        if scores.ndim != 2 or not scores.shape[1]:
            raise refuse(self, f"(n, classes) in field {self.source!r}", scores)
        index = scores.argmax(axis=-1)
        best = np.take_along_axis(scores, index[:, None], -1)[:, 0]
        return {self.target: index, "score": best if best.dtype.kind == "f" else best.astype(np.float64)}

    def bind(self) -> Callable[[Row], None]:
        """Sets ``target`` and ``score`` as Python numbers."""
        source, target = self.source, self.target

        def run(row: Row) -> None:
            scores = row[source]
            if scores.ndim != 1:
                raise refuse(self, f"(n, classes) in field {source!r}", scores[None])
            row[target] = index = int(scores.argmax())
            row["score"] = float(scores.item(index))

        return run


class TopK(FieldOperation, frozen=True, tag="top_k"):
    """``source`` (n, classes) → ``target`` (n, k): indices of the k largest, best first, ties by lower index."""

    k: Annotated[int, Meta(ge=1)]
    source: str = "scores"
    target: str = "top"

    def apply(self, fields: Mapping[str, Array]) -> Fields:
        """Sets ``target`` (n, min(k, classes)) intp."""
        scores = number_field(self, fields, self.source)
        if scores.ndim != 2:
            raise refuse(self, f"(n, classes) in field {self.source!r}", scores)
        falling = -scores if scores.dtype.kind == "f" else ~scores  # ~x = -x - 1, without the overflow of -x
        return {self.target: np.argsort(falling, axis=-1, kind="stable")[:, : self.k]}


class Threshold(FieldOperation, frozen=True, tag="threshold"):
    """Yes where a score is at least ``threshold``, compared in float64; NaN is no.

    One score a row, (n,) or (n, 1): ``names`` are the two answers, no first. (n, classes): ``names`` are the classes',
    the answer lists all that are yes, and ``otherwise`` stands for none.
    """

    threshold: float
    names: tuple[str, ...] = ("no", "yes")
    source: str = "score"
    target: str = "label"
    flag: str = "flag"
    otherwise: str = ""

    def apply(self, fields: Mapping[str, Array]) -> Fields:
        """Sets ``flag`` (n,) or (n, classes) bool, ``target`` (n,) of str, and ``score`` (n,), the highest."""
        values = number_field(self, fields, self.source)
        single = values.size == len(values) and values.ndim in {1, 2}
        expected = 2 if single else values.shape[-1] if values.ndim == 2 else -1
        if not len(values) and values.ndim <= 2:  # an empty batch: any number of names will do
            single, expected = values.ndim == 1 or values.shape[1] == 1, len(self.names)
        if expected != len(self.names):
            raise refuse(
                self, f"{len(self.names)} classes (or one score a row, for two names) in {self.source!r}", values
            )
        scores = values.astype(np.float64).reshape(len(values), -1 if len(values) else 1)
        flags = scores >= self.threshold
        if single:
            flag = flags[:, 0]
            labels = np.array(self.names, dtype=object)[flag.astype(np.intp)]
            return {self.flag: flag, self.target: labels, "score": scores[:, 0]}
        named = objects(
            ", ".join(name for name, yes in zip(self.names, row, strict=True) if yes) or self.otherwise for row in flags
        )
        return {self.flag: flags.reshape(values.shape), self.target: named, "score": scores.max(axis=1)}

    def bind(self) -> Callable[[Row], None]:
        """Sets ``flag``, ``target`` and ``score``; one Python number is compared as it is."""
        source, target, flag, threshold, otherwise = self.source, self.target, self.flag, self.threshold, super().bind()
        names = self.names if len(self.names) == 2 else None

        def run(row: Row) -> None:
            score = row.get(source)
            if type(score) is not float or names is None:
                otherwise(row)
                return
            row[flag] = yes = score >= threshold
            row[target] = names[yes]
            row["score"] = score

        return run

    @classmethod
    def fit(cls, scores: Array, quantile: float, names: tuple[str, ...] = ("normal", "anomaly")) -> Self:
        """The threshold that a share ``quantile`` of good data's ``scores`` stays below."""
        return cls(threshold=float(np.quantile(np.asarray(scores, np.float64), quantile)), names=names)


class Normalize(FieldOperation, frozen=True, tag="normalize"):
    """``source`` (n, ..., d) divided by its Euclidean length over the last axis; a length of zero stays zero."""

    source: str = "embedding"
    target: str = "embedding"

    def apply(self, fields: Mapping[str, Array]) -> Fields:
        """Sets ``target`` (n, ..., d) float32."""
        values = number_field(self, fields, self.source)
        if values.ndim < 2:
            raise refuse(self, f"(n, ..., d) in field {self.source!r}", values)
        wide = np.ascontiguousarray(values, np.float64)
        length = np.sqrt((wide * wide).sum(axis=-1, keepdims=True))
        return {self.target: (wide / np.where(length > 0, length, 1.0)).astype(np.float32)}
