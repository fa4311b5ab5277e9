"""What a reader hands to the splitter."""

from __future__ import annotations

from typing import Any

from msgspec import Struct
from numpy.typing import NDArray

from cloud_trainer.data.dataset import Dataset
from cloud_trainer.data.findings import Finding

MAX_BYTES = 4 << 30
"""Unpacked; more than this belongs in a factory that streams."""


class Loaded(Struct, frozen=True, eq=False):
    """All samples, not yet split. ``spans`` (n, 2): the first and the last moment that a sample shows, where samples
    overlap in time; parts are cut so that no moment is on both sides. ``findings`` of reading."""

    data: Dataset
    findings: tuple[Finding, ...] = ()
    spans: NDArray[Any] | None = None
