"""The whole loop, as ``scripts/demo`` runs it: every process, the real broker, real training."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

MARK = "SANDERLING_LOOP_TEST"


@pytest.mark.timeout(420)
def test_the_demo_closes_the_loop_and_leaves_nothing_behind(tmp_path: Path) -> None:
    mark = tmp_path.as_posix()
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "cloud_trainer.cli",
            "demo",
            "--seed",
            "11",
            "--json",
            "--out",
            str(tmp_path / "report"),
        ],
        env={**os.environ, MARK: mark, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    result = json.loads(done.stdout)
    devices = {device["device"]: device for device in result["devices"]}
    assert [device["bad"] for device in devices.values()] == [True, True, False]
    for device in devices.values():
        before, during, after = (device["phases"][name] for name in ("before", "during", "after"))
        assert min(before["samples"], during["samples"], after["samples"]) >= 1000
        assert device["release"] == 2
        assert before["accuracy"] > 0.95
        if device["bad"]:
            assert device["alarms"] >= 1
            assert during["accuracy"] < before["accuracy"] - 0.1
            assert after["accuracy"] > before["accuracy"] - 0.03
        else:
            assert device["alarms"] == 0
    page = (tmp_path / "report" / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"""(src|href)=["']https?:""", page), "the report must be self-contained"
    assert not _left(mark)


def _left(mark: str) -> list[str]:
    """Processes that still carry this test's mark in their environment."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if int(path.parent.name) != os.getpid() and f"{MARK}={mark}".encode() in path.read_bytes():
                found.append((path.parent / "cmdline").read_text().replace("\0", " "))
        except OSError:
            continue  # gone in the meantime, or somebody else's
    return found
