"""Ranking under business rules, and what becomes of numbers at the end."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.pipeline.base import objects
from shared.pipeline.decode import Boost, Exclude, Filter, Item, Limit, Rank
from shared.pipeline.postprocess import Action, Actions, Labels, Payload, Round, Units, Value
from shared.pipeline.spec import Pipeline

TAGS = ("new", "sale", "ads")
ITEMS = tuple(Item(f"i{k}", tuple(tag for bit, tag in enumerate(TAGS) if k >> bit & 1)) for k in range(12))
some_ids = st.lists(st.sampled_from([item.id for item in ITEMS]), max_size=4).map(tuple)
some_tags = st.lists(st.sampled_from(TAGS), max_size=2).map(tuple)
rules = st.lists(
    st.one_of(
        st.builds(Filter, some_ids, some_tags, st.sampled_from([None, 0.3])),
        st.builds(Exclude, some_ids.filter(bool), some_tags),
        st.builds(Boost, some_ids, some_tags, st.sampled_from([0.5, 2.0]), st.sampled_from([0.0, 0.25])),
        st.builds(Limit, some_ids, some_tags, count=st.integers(1, 4)),
    ),
    max_size=5,
)


def reference(scores: list[float], applied: list) -> list[tuple[str, float]]:
    """The rules, one item at a time."""
    left = [(item, score) for item, score in zip(ITEMS, scores, strict=True)]
    for rule in applied:

        def met(item: Item, rule=rule) -> bool:
            return (not rule.ids and not rule.tags) or item.id in rule.ids or any(t in rule.tags for t in item.tags)

        if isinstance(rule, Boost):
            left = [(item, s * rule.factor + rule.add if met(item) else s) for item, s in left]
        elif isinstance(rule, Exclude):
            left = [(item, s) for item, s in left if not met(item)]
        elif isinstance(rule, Filter):
            least = -1.0 if rule.minimum_score is None else rule.minimum_score
            left = [(item, s) for item, s in left if met(item) and s >= least]
        else:
            best = sorted((pair for pair in left if met(pair[0])), key=lambda pair: -pair[1])[: rule.count]
            left = [pair for pair in left if not met(pair[0]) or pair in best]
    return [(item.id, s) for item, s in sorted(left, key=lambda pair: -pair[1])]


@given(st.lists(st.sampled_from([0.1, 0.3, 0.5, 0.7]), min_size=12, max_size=12), rules)
def test_rules_do_what_they_say_one_after_the_other(scores: list[float], applied: list) -> None:
    found = Rank(ITEMS, tuple(applied))({"scores": np.array([scores])})
    expected = reference(scores, applied)
    assert [(entry["id"], entry["score"]) for entry in found["value"][0]] == expected
    ranked = [ITEMS[place].id for place in found["ranked"][0] if place >= 0]
    assert ranked == [name for name, _ in expected]
    assert found["label"][0] == (expected[0][0] if expected else "")
    assert found["score"][0] == (expected[0][1] if expected else 0.0)


def test_candidates_name_their_items_and_nan_is_none() -> None:
    fields = {"scores": np.array([[0.2, np.nan, 0.9, 0.5]]), "retrieved": np.array([[7, 1, 3, -1]])}
    found = Rank(ITEMS, candidates="retrieved")(fields)
    assert [entry["id"] for entry in found["value"][0]] == ["i3", "i7"]
    assert found["ranked"].tolist() == [[3, 7, -1, -1]]


@pytest.mark.parametrize(
    "text",
    [
        '{"items": []}',
        '{"items": [{"id": "a"}, {"id": "a"}]}',
        '{"items": [{"id": "a"}], "rules": [{"rule": "exclude"}]}',
        '{"items": [{"id": "a"}], "rules": [{"rule": "limit"}]}',
        '{"items": [{"id": "a"}], "rules": [{"rule": "boost", "factor": -1}]}',
        '{"items": [{"id": "a"}], "rules": [{"rule": "hide"}]}',
    ],
)
def test_rules_that_make_no_sense_are_refused(text: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(text.replace("{", '{"op": "rank", ', 1), type=Rank)


def test_a_class_without_a_name_is_a_clear_error_on_both_paths() -> None:
    row = {"index": 3, "score": 0.5}
    with pytest.raises(ValueError, match="labels: class 3, but there are 2 names"):
        Labels(("a", "b")).bind()(row)
    with pytest.raises(ValueError, match="labels: class 3, but there are 2 names"):
        Labels(("a", "b"))({"index": np.array([0, 3])})


def test_unsure_is_judged_alike_in_a_batch_and_alone() -> None:
    operation, score = Labels(("a", "b"), minimum_score=0.7), np.array([0.7], np.float32)
    row = {"index": 1, "score": score.item(0)}
    operation.bind()(row)
    assert row["label"] == operation({"index": np.array([1]), "score": score})["label"][0] == "unsure"


def test_units_convert_and_name_themselves() -> None:
    found = Units(1.8, 32, "°F")({"value": np.array([[0.0, 100.0]], np.float32)})
    assert found["value"].tolist() == [[32.0, 212.0]]
    assert found["unit"].tolist() == ["°F"]
    assert "unit" not in Units(2.0)({"value": np.array([1.0])})


@given(st.floats(-1e6, 1e6), st.integers(0, 4))
def test_round_is_within_half_a_unit_of_the_last_digit(value: float, digits: int) -> None:
    found = Round(digits)({"value": np.array([value])})["value"][0]
    assert abs(found - value) <= 0.5 * 10**-digits * (1 + 1e-9)
    assert found == float(f"{found:.{digits}f}")


def test_round_reaches_into_lists_and_dicts_and_leaves_the_rest() -> None:
    value = objects([{"a": [1.234, 5], "b": "1.234", "c": True}])
    assert Round(1)({"value": value})["value"].tolist() == [{"a": [1.2, 5], "b": "1.234", "c": True}]
    assert value.tolist() == [{"a": [1.234, 5], "b": "1.234", "c": True}]
    assert Round(1)({"value": np.array([0.3], np.float32)})["value"].tolist() == [0.3]


def test_actions_from_the_lowest_step_to_the_highest() -> None:
    operation = Actions((Action(0.5, "warn"), Action(0.9, "stop")), otherwise="run")
    scores = np.array([0.49, 0.5, 0.89, 0.9, 7.0, np.nan, -np.inf])
    expected = ["run", "warn", "warn", "stop", "stop", "run", "run"]
    assert operation({"score": scores})["action"].tolist() == expected


@pytest.mark.parametrize("steps", ["[]", '[{"at_least": 2, "action": "a"}, {"at_least": 1, "action": "b"}]'])
def test_steps_that_do_not_rise_are_refused(steps: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(f'{{"postprocess": [{{"op": "actions", "steps": {steps}}}]}}', type=Pipeline)


def test_a_payload_is_plain_json() -> None:
    operation = Payload({"what": "label", "scores": "scores", "n": "index"}, {"site": "hall 3"})
    row = {"label": "fan", "scores": np.array([0.25, 0.75], np.float32), "index": 1, "other": object()}
    operation.bind()(row)
    assert row["value"] == {"what": "fan", "scores": [0.25, 0.75], "n": 1, "site": "hall 3"}
    assert msgspec.json.decode(msgspec.json.encode(row["value"])) == row["value"]


@pytest.mark.parametrize("text", ['{"fields": {}}', '{"fields": {"a": "b"}, "constants": {"a": 1}}'])
def test_payloads_that_make_no_sense_are_refused(text: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(text.replace("{", '{"op": "payload", ', 1), type=Payload)


def test_value_of_one_number_is_a_python_float() -> None:
    for given_, expected in ((np.array([2], np.int64), 2.0), (np.array([[0.5]], np.float32)[0], 0.5), (3, 3.0)):
        row = {"power": given_}
        Value("power").bind()(row)
        assert type(row["value"]) is float
        assert row["value"] == expected
    row = {"forecast": np.arange(3.0)}
    Value("forecast").bind()(row)
    assert row["value"].tolist() == [0, 1, 2]
