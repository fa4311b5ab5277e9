from __future__ import annotations
from msgspec import Struct
from typing import Any
class ReportData(Struct, frozen=True, eq=False):
    manifest: Any; measured: Any; left_out: Any; counts: Any; curves: Any; macs: Any; test: Any; reference: Any; watch: Any; gates: Any; warm: Any
def report(d): return "x"
