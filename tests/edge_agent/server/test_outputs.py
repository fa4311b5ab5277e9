"""Bodies of responses: an answer is written the same whatever was written before it."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.answers import NO_SCORES, Answer
from edge_agent.server.outputs import KEPT_FORMS, REMADE, Bodies
from edge_agent.server.request import Plan, Wanted
from shared.errors import InputError

FIELDS = {
    "logits": (np.dtype("float32"), (4,)),
    "score": (np.dtype("float32"), ()),
    "mean": (np.dtype("float64"), ()),
    "index": (np.dtype("int64"), ()),
    "small": (np.dtype("uint8"), ()),
    "label": (np.dtype(object), ()),
}
VALUES: dict[str, list[Any]] = {
    "logits": [
        np.array([1, -2.5, np.nan, np.inf], np.float32),
        np.arange(8, dtype=np.float32)[::2],
        np.zeros((2, 2), np.float32),
        np.zeros(4, np.float64),
        np.array(["a", "b", "c", "d"], object),
        [1, 2],
    ],
    "score": [0.1, 1e39, float("nan"), 3, None],
    "mean": [0.1, 1e300, float("inf"), "0.1"],
    "index": [3, -1, 1 << 63, -(1 << 63), True, 0.5],
    "small": [3, 300, -1],
    "label": ["north", 'quo"te\n', "", None, 7, np.array(["a"], object)],
}
ASKED = [
    (),
    ("logits",),
    ("score", "label", "index"),
    ("logits", "id"),
    ("logits", "nothing"),
]


def plan(names: tuple[str, ...], *, binary: bool, classes: int = 0) -> Plan:
    outputs = tuple(Wanted(name, binary, classes) for name in names)
    return Plan(None, 1, (), outputs, binary, None, 0)


def answer(row: dict[str, Any], id_: str = "a-1") -> Answer:
    return Answer(id_, "", 0.0, NO_SCORES, row, 1.0)


def bodies() -> Bodies:
    return Bodies("compass", "3", FIELDS, ("n", "e", "s", "w"))


def written(writer: Bodies, asked: Plan, given_: Answer) -> Any:
    try:
        body, binaries = writer.body(asked, given_)
    except (InputError, ValueError) as error:
        return type(error), str(error)
    return body, list(binaries)


rows = st.fixed_dictionaries({}, optional={name: st.sampled_from(values) for name, values in VALUES.items()})


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
@settings(max_examples=300, deadline=None)
@given(several=st.lists(rows.filter(bool), min_size=2, max_size=5), names=st.sampled_from(ASKED), binary=st.booleans())
def test_answers_before_change_nothing(several, names, binary):
    writer = bodies()
    asked = plan(names, binary=binary)
    for i, row in enumerate(several * 2):
        given_ = answer(row, f"a-{i}")
        assert written(writer, asked, given_) == written(bodies(), asked, given_)


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("name", VALUES)
@pytest.mark.parametrize("names", [(), None])
def test_any_value_after_any_other(name, names, binary):
    asked = plan((name,) if names is None else names, binary=binary)
    for first in VALUES[name]:
        for second in VALUES[name]:
            writer = bodies()
            written(writer, asked, answer({name: first}))
            given_ = answer({name: second})
            assert written(writer, asked, given_) == written(bodies(), asked, given_)


@pytest.mark.parametrize("binary", [True, False])
def test_the_short_way_is_taken(binary, monkeypatch):
    writer = bodies()
    asked = plan(("logits",) if binary else (), binary=binary)
    row = {name: values[0] for name, values in VALUES.items() if name != "small"}
    first = writer.body(asked, answer(row))
    monkeypatch.setattr(writer, "_long", None)
    assert [*map(bytes, writer.body(asked, answer(row))[1])] == [*first[1]]
    text = json.loads(writer.body(asked, answer(row, 'id"2'))[0])
    assert text["id"] == 'id"2'
    assert [tensor["name"] for tensor in text["outputs"]] == (["logits"] if binary else list(row))


def test_a_form_is_made_anew_only_so_often(monkeypatch):
    writer = bodies()
    asked = plan((), binary=False)
    made = []
    form = writer._form
    monkeypatch.setattr(writer, "_form", lambda *given: made.append(form(*given)) or made[-1])
    for size in range(1, 40):
        body, _ = writer.body(asked, answer({"logits": np.zeros(size, np.float32)}))
        assert json.loads(body)["outputs"][0]["shape"] == [1, size]
    assert len(made) == REMADE + 1


def test_forms_are_bounded():
    writer = bodies()
    for i in range(2 * KEPT_FORMS):
        row = {f"f{i}": 1.0}
        writer.body(plan((f"f{i}",), binary=False), answer(row))
        assert len(writer._forms) <= KEPT_FORMS


def test_classes_are_asked_for_once_and_then_not():
    writer = bodies()
    row = {"logits": np.array([1, 4, 2, 3], np.float32)}
    for classes, expected in ((2, ["4.000000:1:e", "3.000000:3:w"]), (0, [1, 4, 2, 3])) * 2:
        body, _ = writer.body(plan(("logits",), binary=False, classes=classes), answer(row))
        assert json.loads(body)["outputs"][0]["data"] == expected
