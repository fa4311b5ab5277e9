"""JSON lines: one object a line, its keys are the columns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from cloud_trainer.data.csv_file import check_size
from cloud_trainer.data.findings import Finding
from cloud_trainer.data.skipped import skipped
from cloud_trainer.data.table import Cells, Table, text_of
from cloud_trainer.drift.opening import check_file
from shared.errors import UNREADABLE, DataError, UsageError, one_line
from shared.files import reason


def read_jsonl(path: Path) -> Table:
    """Every object of the file. A key that an object lacks, and ``null``, is missing; lists and objects within are left
    out, which is a finding, and so are lines that are no objects, up to a tenth of them.

    Raises:
        UsageError: no such file.
        DataError: there are no rows, more than a tenth are unreadable, or it is more than fits in memory.
    """
    check_file(path)
    check_size(path)
    try:
        raw = path.read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n")
    except OSError as error:
        raise UsageError(f"{path}: {reason(error)}") from error
    decode = msgspec.json.Decoder().decode
    rows: list[dict[str, Any]] = []
    lines, bad = [], []
    for number, line in enumerate(raw, 1):
        if not line.strip():
            continue
        try:
            row = decode(line)
        except UNREADABLE as error:
            bad.append((f"{path}:{number}", one_line(error)))
            continue
        if isinstance(row, dict):
            rows.append(row)
            lines.append(number)
        else:
            bad.append((f"{path}:{number}", f"expected an object, got {line[:40].decode(errors='replace')}"))
    findings = list(skipped(str(path), "line", bad, len(rows) + len(bad)))
    if not rows:
        raise DataError(f"{path}: the file is empty; expected one JSON object a line")
    columns: dict[str, Cells] = {}
    for name in dict.fromkeys(key for row in rows for key in row):
        values = [row.get(name) for row in rows]
        if any(isinstance(value, (list, dict)) for value in values):
            text = f"column {name!r} is left out: it holds lists or objects"
            findings.append(Finding("unused column", "warning", text, name))
        else:
            columns[name] = _cells(values)
    return Table(str(path), columns, lines, findings=tuple(findings))


def _cells(values: list[Any]) -> Cells:
    if all(value is None or isinstance(value, (int, float)) for value in values):
        return np.array([np.nan if value is None else float(value) for value in values])
    return np.array([value if isinstance(value, str) else text_of(value) for value in values], object)
