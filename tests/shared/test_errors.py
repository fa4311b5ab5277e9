"""Foreign errors in one line, also those that say nothing."""

from __future__ import annotations

import pytest

from shared.errors import one_line


@pytest.mark.parametrize(
    ("error", "last", "expected"),
    [
        (ValueError("first\nsecond\n"), False, "first"),
        (ValueError("first\nsecond\n"), True, "second"),
        (AssertionError(), False, "AssertionError"),
        (RuntimeError("  \n"), True, "RuntimeError"),
        (ValueError("x" * 1000), False, "x" * 300),
    ],
)
def test_a_foreign_error_becomes_one_line(error: Exception, last: bool, expected: str) -> None:
    assert one_line(error, last=last) == expected
