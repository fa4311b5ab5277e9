"""What the processor has consumed, where it counts that itself: RAPL, as Linux shows it under ``/sys/class/powercap``.

The counters are of whole packages, so a difference includes what else runs and what an idle package takes; readable by
root only on most systems (CVE-2020-8694).
"""

from __future__ import annotations

from pathlib import Path

POWERCAP = Path("/sys/class/powercap")


class EnergyMeter:
    """Sums the packages' counters. ``consumed_uj`` is what was consumed since the meter was made."""

    def __init__(self, root: Path | None = None) -> None:
        """Find the counters.

        Raises:
            OSError: there are none, or they may not be read; the text says which.
        """
        root = POWERCAP if root is None else root
        packages = sorted(path for path in root.glob("intel-rapl:*") if path.name.count(":") == 1)
        if not packages:
            raise OSError(f"no energy counters in {root}")
        self._counters = [path / "energy_uj" for path in packages]
        self._ranges = [_number(path / "max_energy_range_uj") for path in packages]
        self._last = [_number(path) for path in self._counters]
        self._total = 0

    def consumed_uj(self) -> int:
        """Microjoules since the meter was made. Call it at least once a minute: a counter starts again at its end.

        Raises:
            OSError: a counter can no longer be read.
        """
        now = [_number(path) for path in self._counters]
        for last, this, most in zip(self._last, now, self._ranges, strict=True):
            self._total += this - last if this >= last else this - last + most
        self._last = now
        return self._total


def _number(path: Path) -> int:
    try:
        return int(path.read_text(encoding="ascii"))
    except ValueError as error:
        raise OSError(f"{path}: no number in it") from error
