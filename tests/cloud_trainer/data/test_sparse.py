"""Columns that no device could watch are left out, with a finding."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from cloud_trainer.data import Dataset, Splits
from cloud_trainer.data.sparse import is_words, without_sparse


def part(n: int, start: int) -> Dataset:
    """A number with odd cells, a name, a category, a time, and 300 words of which each comes often."""
    at = range(start, start + n)
    rows = [
        [str(i * 0.5) if i % 40 else "?", f"id{i}", "ab"[i % 2], f"2024-01-{1 + i % 28:02}T00:00:00", f"w{i % 30}"]
        for i in at
    ]
    return Dataset(np.array(rows, dtype=object), np.arange(n) % 2, ("n", "y"), ("number", "id", "kind", "time", "word"))


def test_names_are_left_out_and_said_so_before_anything_is_trained():
    splits = Splits(part(300, 0), part(50, 300), part(60, 350), part(60, 410))
    found = without_sparse(splits, "x.csv")
    assert found.train.columns == ("number", "kind", "time", "word")
    assert found.test.x.shape == (60, 4)
    (finding,) = found.findings
    assert finding.text.startswith("column 'id' holds names, no categories: of 60 cells in the reference part 0 are")
    assert finding.check == "names"
    assert finding.where == "id"


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["1", "y", "x"] * 9, True),
        (["1", "2.5", ""] * 20 + ["?"], False),
        (["a", "b"], True),
        (["2024-01-02", "2024-01-03"], False),
        ([""] * 3, False),
    ],
)
def test_words_are_what_is_no_number_and_no_time(cells, expected):
    assert is_words(np.array(cells, dtype=object)) is expected
    assert not is_words(np.zeros(3))


def test_empty_columns_are_left_out():
    splits = Splits(*(part(100, 100 * k) for k in range(4)))

    def emptied(one: Dataset) -> Dataset:
        x = one.x.copy()
        x[:, 2] = ""
        return msgspec.structs.replace(one, x=x)

    found = without_sparse(Splits(*(emptied(one) for one in splits.parts().values())), "x.csv")
    assert "kind" not in found.train.columns
