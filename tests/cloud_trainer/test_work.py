"""The work directory beside a release: one training at a time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from cloud_trainer.work import forget, work_directory, working_on
from shared.errors import UsageError

WORKING = """
import sys, time
from pathlib import Path
from cloud_trainer.work import working_on
with working_on(Path(sys.argv[1])):
    print("working", flush=True)
    time.sleep(60)
"""


def test_one_training_at_a_time_and_no_lock_outlives_its_process(tmp_path):
    out = tmp_path / "releases" / "7"
    other = subprocess.Popen([sys.executable, "-c", WORKING, str(out)], stdout=subprocess.PIPE)
    try:
        assert other.stdout.readline() == b"working\n"
        (work_directory(out) / "teacher.ckpt").write_bytes(b"kept")
        for wanted in (lambda: working_on(out).__enter__(), lambda: forget(out)):
            with pytest.raises(UsageError, match=r"7: another training makes it now; wait for it, or choose another"):
                wanted()
        assert (work_directory(out) / "teacher.ckpt").exists()
        with working_on(tmp_path / "releases" / "8"):
            pass
    finally:
        os.kill(other.pid, signal.SIGKILL)
        other.wait()
        other.stdout.close()
    with working_on(out) as work:
        assert sorted(path.name for path in work.iterdir()) == ["teacher.ckpt"]
    forget(out)
    assert not work_directory(out).exists()
    forget(out)


def test_a_place_that_cannot_be_used_is_one_line(tmp_path):
    (tmp_path / "7.work").write_text("a file")
    with pytest.raises(UsageError, match=r"7\.work: cannot be used: "), working_on(tmp_path / "7"):
        pass
