"""Files and lines that cannot be read: a few are skipped and named, many are an error."""

from __future__ import annotations

from collections.abc import Sequence

from cloud_trainer.data.findings import Finding
from shared.errors import DataError

MOST = 0.1
"""Share of unreadable files or lines up to which the others are still used."""


def skipped(where: str, what: str, bad: Sequence[tuple[str, str]], count: int) -> tuple[Finding, ...]:
    """The finding about ``bad`` (place, why) out of ``count``; none if there are none.

    Raises:
        DataError: more than a tenth are bad.

    >>> skipped("a.jsonl", "line", [("a.jsonl:3", "is cut short")], 20)[0].text
    '1 of 20 lines cannot be read and was skipped (a.jsonl:3: is cut short)'
    """
    if not bad:
        return ()
    example = f"{bad[0][0]}: {bad[0][1]}"
    if len(bad) > MOST * count:
        raise DataError(f"{where}: {len(bad)} of {count} {what}s cannot be read, more than {MOST:.0%} ({example})")
    verb = "was" if len(bad) == 1 else "were"
    text = f"{len(bad)} of {count} {what}s cannot be read and {verb} skipped ({example})"
    return (Finding("unreadable", "warning", text, bad[0][0]),)
