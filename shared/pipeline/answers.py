"""From numbers to what a person or another system wants to read: Labels, Units, Round, Actions, Payload, Value."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import msgspec
import numpy as np
from msgspec import Meta, Struct

from shared.pipeline.base import Array, FieldOperation, Fields, Row, field, number_field, objects, refuse, singles


class Labels(FieldOperation, frozen=True, tag="labels"):
    """``source`` (n,) of class indices → ``target`` (n,) of their names; ``unsure`` where ``score`` is below
    ``minimum_score`` (compared in float64)."""

    names: tuple[str, ...]
    source: str = "index"
    target: str = "label"
    minimum_score: Annotated[float, Meta(ge=0, le=1)] = 0.0
    unsure: str = "unsure"

    def apply(self, fields: Mapping[str, Array]) -> Fields:
        """Sets ``target`` (n,) of str objects."""
        index = number_field(self, fields, self.source)
        if index.dtype.kind not in "iu" or index.ndim != 1:
            raise refuse(self, f"class indices (n,) in field {self.source!r}", index)
        if index.size and not 0 <= index.min() <= index.max() < len(self.names):
            raise ValueError(f"labels: class {index.max()}, but there are {len(self.names)} names")
        label = objects(self.names)[index] if self.names else objects([])
        if self.minimum_score > 0:
            label = np.where(singles(self, fields, "score") < self.minimum_score, self.unsure, label)
        return {self.target: label}

    def bind(self) -> Callable[[Row], None]:
        """Sets ``target`` to a str."""
        names, source, target = self.names, self.source, self.target
        minimum, unsure, count = self.minimum_score, self.unsure, len(self.names)

        def run(row: Row) -> None:
            index = row[source]
            if not 0 <= index < count:
                raise ValueError(f"labels: class {index}, but there are {count} names")
            row[target] = names[index]

        def run_with_minimum(row: Row) -> None:
            run(row)
            if row["score"] < minimum:
                row[target] = unsure

        return run_with_minimum if minimum > 0 else run


class Units(FieldOperation, frozen=True, tag="units"):
    """``source * factor + offset``, in float64: from the model's unit to the reader's, whose name goes into ``unit``.

    >>> Units(factor=1.8, offset=32.0, unit="°F")({"value": np.array([100.0])})["value"]
    array([212.])
    """

    factor: float = 1.0
    offset: float = 0.0
    unit: str = ""
    source: str = "value"
    target: str = "value"

    def apply(self, fields: Mapping[str, Array]) -> Fields:
        """Sets ``target`` (n, ...) float64, and ``unit`` (n,) of str where there is one."""
        values = number_field(self, fields, self.source)
        made: Fields = {self.target: values.astype(np.float64) * self.factor + self.offset}
        return {**made, "unit": objects([self.unit] * len(values))} if self.unit else made


class Round(FieldOperation, frozen=True, tag="round"):
    """``source`` rounded to ``digits`` after the point, halves to even; also inside lists and dicts.

    >>> Round(digits=1)({"value": np.array([0.25, 7.77])})["value"]
    array([0.2, 7.8])
    """

    digits: Annotated[int, Meta(ge=-15, le=15)] = 2
    source: str = "value"
    target: str = "value"

    def apply(self, fields: Mapping[str, Array]) -> Fields:
        """Sets ``target`` (n, ...) float64; objects stay objects."""
        values = field(self, fields, self.source)
        if values.dtype.kind == "O":
            return {self.target: objects(self._inside(value) for value in values)}
        if values.dtype.kind not in "biuf":
            raise refuse(self, f"numbers in field {self.source!r}", values)
        return {self.target: np.round(values.astype(np.float64), self.digits)}

    def _inside(self, value: Any) -> Any:
        if isinstance(value, float):
            return float(np.round(value, self.digits))
        if isinstance(value, dict):
            return {key: self._inside(entry) for key, entry in value.items()}
        return [self._inside(entry) for entry in value] if isinstance(value, list) else value


class Action(Struct, frozen=True, forbid_unknown_fields=True):
    """What to do from a score of ``at_least`` on."""

    at_least: float
    action: str


class Actions(FieldOperation, frozen=True, tag="actions"):
    """``source``, one number a row, → the action of the highest step that it reaches, ``otherwise`` below all; NaN
    reaches none.

    >>> Actions(steps=(Action(0.5, "warn"), Action(0.9, "stop")))({"score": np.array([0.6, 0.1])})["action"].tolist()
    ['warn', '']
    """

    steps: Annotated[tuple[Action, ...], Meta(min_length=1, max_length=1024)]
    otherwise: str = ""
    source: str = "score"
    target: str = "action"

    def __post_init__(self) -> None:
        levels = [step.at_least for step in self.steps]
        if sorted(set(levels)) != levels:
            raise ValueError(f"actions: steps must rise, got {levels}")

    def apply(self, fields: Mapping[str, Array]) -> Fields:
        """Sets ``target`` (n,) of str."""
        values = singles(self, fields, self.source)
        levels = np.array([step.at_least for step in self.steps])
        reached = np.where(np.isnan(values), 0, np.searchsorted(levels, values, side="right"))
        return {self.target: objects([self.otherwise, *(step.action for step in self.steps)])[reached]}


class Payload(FieldOperation, frozen=True, tag="payload"):
    """What a sink gets: ``value`` becomes a dict of the fields named in ``fields`` ({new name: field}) and of
    ``constants``, as plain numbers, text and lists.

    >>> Payload(fields={"celsius": "value"})({"value": np.array([21.5])})["value"].tolist()
    [{'celsius': 21.5}]
    """

    fields: dict[str, str]
    constants: dict[str, str | bool | int | float] = msgspec.field(default_factory=dict)
    target: str = "value"

    def __post_init__(self) -> None:
        both = sorted(self.fields.keys() & self.constants.keys())
        if both or not self.fields:
            raise ValueError(f"payload: {f'{both[0]!r} is a field and a constant' if both else 'fields is empty'}")

    def apply(self, fields: Mapping[str, Array]) -> Fields:
        """Sets ``target`` (n,) of dicts."""
        columns = {name: field(self, fields, source).tolist() for name, source in self.fields.items()}
        rows = zip(*columns.values(), strict=True)
        return {self.target: objects({**dict(zip(columns, row, strict=True)), **self.constants} for row in rows)}


class Value(FieldOperation, frozen=True, tag="value"):
    """``source`` as the answer's ``value``; one number a row becomes a single number.

    >>> Value(source="power")({"power": np.array([[1.5], [2.5]])})["value"]
    array([1.5, 2.5])
    """

    source: str
    target: str = "value"

    def apply(self, fields: Mapping[str, Array]) -> Fields:
        """Sets ``target``: (n,) float64 from (n,) or (n, 1, ...) numbers; else ``source`` as it is."""
        values = field(self, fields, self.source)
        if values.dtype.kind in "biuf" and math.prod(values.shape[1:]) == 1:
            return {self.target: values.reshape(len(values)).astype(np.float64)}
        return {self.target: values}

    def bind(self) -> Callable[[Row], None]:
        """Sets ``target`` to a Python float, or to what ``source`` is."""
        source, target, otherwise = self.source, self.target, super().bind()

        def run(row: Row) -> None:
            value = row.get(source)
            if type(value) is not np.ndarray:
                otherwise(row)
            elif value.size == 1 and value.dtype.kind in "biuf":
                row[target] = float(value.item())
            else:
                row[target] = value

        return run
