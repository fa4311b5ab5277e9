"""docs/pipeline.md names every operation with its fields and defaults, and its examples are pipelines that run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, get_args

import msgspec
import numpy as np
import pytest

from shared.pipeline.bind import run_arrays, run_fields
from shared.pipeline.spec import Decode, Encode, Pipeline, Postprocess, Preprocess

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "pipeline.md").read_text(encoding="utf-8")
EXAMPLES = [
    msgspec.json.decode(text, type=Pipeline) for text in re.findall(r"```json\n(.*?)```", PAGE, flags=re.DOTALL)
]
STEPS = {"preprocess": Preprocess, "encode": Encode, "decode": Decode, "postprocess": Postprocess}


def rows(step: str) -> dict[str, str]:
    section = PAGE.split(f"\n## {step}:")[1].split("\n## ")[0]
    return dict(re.findall(r"^\| `([a-z_]+)` \| (.*?) \|", section, flags=re.MULTILINE))


def expected(operation: type[msgspec.Struct]) -> str:
    """The operation's fields with their defaults, as the page writes them."""

    def default(field: Any) -> str:
        if field.required:
            return ""
        value = field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
        return f" = {msgspec.json.encode(value).decode()}"

    return ", ".join(f"`{field.name}{default(field)}`" for field in msgspec.structs.fields(operation))


@pytest.mark.parametrize("step", STEPS)
def test_every_operation_is_on_the_page_with_its_fields(step: str) -> None:
    operations = {operation.__struct_config__.tag: operation for operation in get_args(STEPS[step])}
    shown = rows(step)
    section = PAGE.split(f"\n## {step}:")[1].split("\n## ")[0]
    assert shown.keys() <= operations.keys()
    for name, operation in operations.items():
        if name in shown:
            assert shown[name] == expected(operation), name
        else:
            assert f"`{name}`" in section, f"{name} may stand in {step}"
            assert any(name in rows(other) for other in STEPS), name


def test_an_image_goes_through_the_first_example() -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 90, 120, 3)).astype(np.uint8)
    assert run_arrays(EXAMPLES[0], images).shape == (2, 3, 64, 64)
    fields = run_fields(EXAMPLES[0], {"logits": np.array([[0.0, 9.0], [0.1, 0.0]], np.float32)})
    assert fields["label"].tolist() == ["dog", "unsure"]


def test_a_second_of_sound_goes_through_the_second() -> None:
    sound = np.random.default_rng(0).normal(size=(2, 44_100)).astype(np.float32)
    assert run_arrays(EXAMPLES[1], sound).shape == (2, 1, 98, 40)
    fields = run_fields(EXAMPLES[1], {"logits": np.array([[3.0, 4.0]], np.float32)})
    assert fields["value"][0]["heard"] == "horn, siren"


def test_vibration_goes_through_the_third() -> None:
    tensor = run_arrays(EXAMPLES[2], np.random.default_rng(0).normal(size=(2, 1024)).astype(np.float32))
    fields = run_fields(EXAMPLES[2], {"decoded": np.zeros_like(tensor), "input": tensor})
    assert fields["label"].tolist() == ["anomaly", "anomaly"]
    assert set(fields["action"]) <= {"inspect", "stop"}


def test_a_table_goes_through_the_fourth() -> None:
    table = np.array([[np.nan, 1000.0, 3.0]], np.float32)
    np.testing.assert_allclose(run_arrays(EXAMPLES[3], table), [[20.5, 1000, 0, 0, 1]])
    fields = run_fields(EXAMPLES[3], {"output": np.array([[1.0]], np.float32)})
    assert fields["value"].tolist() == [77.9]
    assert fields["unit"].tolist() == ["°F"]


def test_a_picture_is_searched_by_the_fifth() -> None:
    assert run_arrays(EXAMPLES[4], np.zeros((1, 32, 48, 3), np.uint8)).shape == (1, 3, 32, 48)
    output = np.zeros((1, 6, 3), np.float32)
    output[0, :, 1] = [20, 10, 8, 6, 0.1, 0.9]
    (detection,) = run_fields(EXAMPLES[4], {"output0": output})["value"][0]
    assert detection == {"box": [16.0, 7.0, 24.0, 13.0], "index": 1, "label": "forklift", "score": 0.9}


def test_offers_are_ranked_by_the_sixth() -> None:
    assert run_arrays(EXAMPLES[5], np.array(["fast car"])).tolist() == [[3, 1, 0, 0, 0, 0, 0, 0]]
    found = run_fields(EXAMPLES[5], {"scores": np.array([[0.5, 0.55, 0.9]], np.float32)})
    assert [entry["id"] for entry in found["value"][0]] == ["bike", "car"]
    assert len(EXAMPLES) == 8


def test_movements_go_through_the_seventh() -> None:
    window = np.random.default_rng(0).integers(0, 64, (2, 128, 3)).astype(np.uint8)
    assert run_arrays(EXAMPLES[6], window).shape == (2, 4 * (4 + 4))


def test_words_and_a_date_become_numbers_by_the_last() -> None:
    row = np.array([["2024-05-04T06:00", "12", "", "rain"]], object)
    found = run_arrays(EXAMPLES[7], row)
    np.testing.assert_allclose(found, [[0, -0.05, 0, 1, 1, 0, 1, -0.1]], atol=1e-6)
