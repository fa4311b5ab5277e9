"""One suite that every operation of the pipeline passes. An operation without an example fails it."""

from __future__ import annotations

from typing import Any, get_args

import msgspec
import numpy as np
import pytest

from shared.pipeline.base import name_of
from shared.pipeline.bind import bind_arrays, bind_fields
from shared.pipeline.spec import Decode, Encode, Pipeline, Postprocess, Preprocess
from tests.shared.pipeline.examples import ARRAYS, FIELDS, Example

STEPS = {"preprocess": Preprocess, "encode": Encode, "decode": Decode, "postprocess": Postprocess}
NAMES = """
parse calendar combine choose recent piecewise
impute clip scale standardize resize crop pad grayscale channel_order resample window detrend log_mel mfcc lags
difference rolling clean_text one_hot ordinal tokens hashed_ngrams embedding_index layout add_channel reshape cast
rates magnitude summary correlations band_power envelope concatenate
softmax sigmoid argmax top_k threshold boxes inverse anomaly_score joint_score normalize rank labels units
round actions payload value
"""
arrays = pytest.mark.parametrize("example", ARRAYS, ids=lambda e: f"{repr(e.operation)[:70]}-{e.make.__name__}")
field_operations = pytest.mark.parametrize("example", FIELDS, ids=lambda e: repr(e.operation)[:70])
seeds = pytest.mark.parametrize("seed", range(3))


def exact(value: Any) -> Any:
    """What must be the same, to the last bit."""
    if isinstance(value, np.ndarray) and value.dtype.kind not in "UO":
        return value.dtype, value.shape, value.tobytes()
    if isinstance(value, np.ndarray):
        return value.shape, value.tolist()
    if isinstance(value, np.generic):
        value = value.item()
    return (type(value), repr(value))


def same(found: Any, expected: Any) -> None:
    assert exact(found) == exact(expected), (found, expected)


@pytest.mark.parametrize("step", STEPS)
def test_every_operation_has_an_example(step: str) -> None:
    shown = {type(example.operation) for example in (*ARRAYS, *FIELDS)}
    assert set(get_args(STEPS[step])) <= shown


def test_every_operation_has_a_step_and_names_are_never_used_twice() -> None:
    operations = {operation for step in STEPS.values() for operation in get_args(step)}
    assert {type(example.operation) for example in (*ARRAYS, *FIELDS)} == operations
    assert len({operation.__struct_config__.tag for operation in operations}) == len(operations)


def test_names_that_manifests_use_stay() -> None:
    names = {operation.__struct_config__.tag for step in STEPS.values() for operation in get_args(step)}
    assert names == set(NAMES.split())


@pytest.mark.parametrize("example", [*ARRAYS, *FIELDS], ids=lambda e: repr(e.operation)[:70])
def test_json_gives_an_equal_operation(example: Example) -> None:
    steps = [step for step, union in STEPS.items() if isinstance(example.operation, get_args(union))]
    assert steps
    for step in steps:
        pipeline = Pipeline(**{step: (example.operation,)})
        assert msgspec.json.decode(msgspec.json.encode(pipeline), type=Pipeline) == pipeline


@seeds
@arrays
def test_array_operations_leave_their_input_alone_and_repeat_themselves(example: Example, seed: int) -> None:
    batch = example.make(np.random.default_rng(seed), 4)
    before = batch.copy()
    batch.setflags(write=False)
    whole = example.operation(batch)
    same(batch, before)
    same(example.operation(batch), whole)
    assert len(whole) == len(batch)


@seeds
@arrays
def test_a_batch_and_its_rows_one_by_one_agree_to_the_last_bit(example: Example, seed: int) -> None:
    for n in (1, 2, 7, 33):
        batch = example.make(np.random.default_rng(seed), n)
        whole = example.operation(batch)
        for i in range(n):
            same(example.operation(batch[i : i + 1])[0], whole[i])
        same(example.operation(batch[::-1])[::-1], whole)  # whatever its strides
        same(example.operation(np.asfortranarray(batch)), whole)


@seeds
@arrays
def test_bound_to_the_models_input_they_give_the_same(example: Example, seed: int) -> None:
    batch = example.make(np.random.default_rng(seed), 5)
    whole = example.operation(batch)
    text = batch.dtype.kind in "UO"
    if text and not hasattr(example.operation, "into"):
        pytest.skip("text of any length is not bound")
    zeros = np.full_like(batch[:1], "") if text else np.zeros_like(batch[:1])
    target = np.empty(whole[:1].shape, whole.dtype)
    first, second = bind_arrays([example.operation], [], zeros, target)
    for i in range(len(batch)):
        for run in (*first, *second):
            run(batch[i : i + 1])
        same(target[0], whole[i])


@arrays
def test_an_empty_batch_gives_an_empty_tensor_of_the_same_kind(example: Example) -> None:
    batch = example.make(np.random.default_rng(0), 3)
    whole, empty = example.operation(batch), example.operation(batch[:0])
    assert empty.shape == (0, *whole.shape[1:])
    assert empty.dtype.kind == whole.dtype.kind
    assert whole.dtype.kind == "U" or empty.dtype == whole.dtype


@pytest.mark.parametrize("example", [*ARRAYS, *FIELDS], ids=lambda e: repr(e.operation)[:70])
def test_what_does_not_fit_is_refused_in_one_line_that_names_the_operation(example: Example) -> None:
    assert example.refused
    for batch in example.refused:
        with pytest.raises(ValueError, match=name_of(example.operation)) as caught:  # noqa: PT012
            example.operation(batch)
            pytest.fail(f"{example.operation} took {batch}")
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 300


@seeds
@field_operations
def test_field_operations_leave_their_fields_alone_and_repeat_themselves(example: Example, seed: int) -> None:
    fields = example.make(np.random.default_rng(seed), 4)
    before = {name: value.copy() for name, value in fields.items()}
    for value in fields.values():
        value.setflags(write=False)
    whole = example.operation(fields)
    again = example.operation(fields)
    assert list(fields) == list(before)
    for name, value in before.items():
        same(fields[name], value)
    for name, value in whole.items():
        same(again[name], value)
        assert len(value) == 4, name


@seeds
@field_operations
def test_fields_of_a_batch_and_of_its_rows_agree_to_the_last_bit(example: Example, seed: int) -> None:
    run = example.operation.bind()
    (bound,) = bind_fields([example.operation])
    for n in (1, 3, 17):
        fields = example.make(np.random.default_rng(seed), n)
        whole = example.operation(fields)
        turned = example.operation({name: np.asfortranarray(value) for name, value in fields.items()})
        for name, value in whole.items():
            same(turned[name], value)
        for i in range(n):
            single = example.operation({name: value[i : i + 1] for name, value in fields.items()})
            row = {
                name: value[i].item() if value.ndim == 1 and value.dtype != object else value[i]
                for name, value in fields.items()
            }
            other = dict(row)
            run(row)
            bound(other)
            assert set(row) == set(whole)
            for name, value in whole.items():
                same(single[name][0], value[i])
                same(row[name], value[i])
                same(other[name], value[i])
                assert not isinstance(row[name], np.generic), name


@field_operations
def test_fields_of_an_empty_batch_are_empty(example: Example) -> None:
    whole = example.operation(example.make(np.random.default_rng(0), 3))
    empty = example.operation(example.make(np.random.default_rng(0), 0))
    for name, value in whole.items():
        assert empty[name].shape[0] == 0, name
        assert empty[name].dtype.kind == value.dtype.kind, name
        assert empty[name].shape[1:] == value.shape[1:], name
