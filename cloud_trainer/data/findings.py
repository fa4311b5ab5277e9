"""What readers and checks have to say about data: shown in the report; ``strict`` stops at the first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from msgspec import Struct

from shared.errors import DataError

Severity = Literal["warning", "error"]


class Finding(Struct, frozen=True):
    """One thing that a person should know. ``check``: which check found it (``missing``, ``leakage``, ...);
    ``severity``: "warning" for what was repaired or may be meant, "error" for what makes the figures of the model
    worthless; ``text``: one line; ``where``: the column, class, file or split."""

    check: str
    severity: Severity
    text: str
    where: str = ""


def stop_if_strict(findings: Sequence[Finding], *, strict: bool) -> None:
    """Raise for any finding if ``strict``, else do nothing.

    Raises:
        DataError: the first finding, an error before a warning, and how many more there are.
    """
    if not strict or not findings:
        return
    first = min(findings, key=lambda finding: finding.severity != "error")
    more = f" (and {len(findings) - 1} more findings)" if len(findings) > 1 else ""
    raise DataError(f"strict: {first.check}: {first.text}{more}")


def some(names: Sequence[object], limit: int = 5) -> str:
    """The first names, for a line of text.

    >>> some(["a", "b", "c"], 2)
    'a, b and 1 more'
    """
    shown = ", ".join(map(str, names[:limit]))
    return f"{shown} and {len(names) - limit} more" if len(names) > limit else shown
