"""Real processes: no child may outlive its demo, however the demo ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from cloud_trainer.demo import orphans
from cloud_trainer.demo.supervise import DemoError, DemoTimeoutError, Supervisor, follow

SLEEPER = [sys.executable, "-c", "import time; time.sleep(600)"]
# ignores SIGTERM, and has a child in a session of its own, as a controller has its training
STUBBORN = [
    sys.executable,
    "-c",
    textwrap.dedent("""
        import signal, subprocess, sys, time
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
        code += "print('up', flush=True); time.sleep(600)"
        subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
        time.sleep(600)
    """),
]


def wait_until(condition, seconds=15.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "did not happen in time"
        time.sleep(0.02)


def test_all_processes_are_gone_after_an_orderly_end(tmp_path):
    with Supervisor(tmp_path / "logs") as supervisor:
        supervisor.start("a", SLEEPER)
        supervisor.start("b", SLEEPER)
        wait_until(lambda: len(orphans.marked(supervisor.mark)) == 2)
    assert orphans.marked(supervisor.mark) == []


def test_grandchildren_that_hear_nothing_are_ended_too(tmp_path, monkeypatch):
    monkeypatch.setattr("cloud_trainer.demo.supervise.STOP_SECONDS", 0.3)
    monkeypatch.setattr("cloud_trainer.demo.supervise.sweep", lambda mark: orphans.sweep(mark, grace_seconds=0.3))
    with Supervisor(tmp_path / "logs") as supervisor:
        child = supervisor.start("stubborn", STUBBORN)
        wait_until(lambda: child.out.read_text() == "up\n")
        assert len(orphans.marked(supervisor.mark)) == 2
    assert orphans.marked(supervisor.mark) == []


def test_an_error_inside_ends_the_processes(tmp_path):
    supervisor = Supervisor(tmp_path / "logs")

    def interrupted():
        with supervisor:
            supervisor.start("a", SLEEPER)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert orphans.marked(supervisor.mark) == []


def test_a_failing_child_is_quoted(tmp_path):
    code = "import sys; print('starting'); sys.exit('agent: port 1883 is taken')"
    with Supervisor(tmp_path / "logs") as supervisor:
        supervisor.start("good", SLEEPER)
        child = supervisor.start("cam-1", [sys.executable, "-c", code])
        child.process.wait(10)
        with pytest.raises(
            DemoError, match=r"^cam-1 ended with exit code 1: agent: port 1883 is taken \(log: .*cam-1.log\)$"
        ):
            supervisor.check()


def test_a_childs_traceback_is_quoted_by_its_last_line(tmp_path):
    quoted = "train ended with exit code 1: ZeroDivisionError: division by zero"
    with Supervisor(tmp_path / "logs") as supervisor, pytest.raises(DemoError, match=quoted):
        supervisor.run("train", [sys.executable, "-c", "1 / 0"], 10)


def test_a_killed_child_is_named_by_its_signal(tmp_path):
    with Supervisor(tmp_path / "logs") as supervisor:
        child = supervisor.start("labeller", SLEEPER)
        child.process.kill()
        child.process.wait(10)
        with pytest.raises(DemoError, match="labeller was ended by SIGKILL: it said nothing"):
            supervisor.check()


def test_a_command_is_stopped_when_another_process_fails(tmp_path):
    with Supervisor(tmp_path / "logs") as supervisor:
        supervisor.start("broker", [sys.executable, "-c", "raise SystemExit('broker: no')"])
        with pytest.raises(DemoError, match="broker ended with exit code 1: broker: no"):
            supervisor.run("train", SLEEPER, 60)


def test_a_command_that_takes_too_long_is_ended(tmp_path):
    with Supervisor(tmp_path / "logs") as supervisor:
        with pytest.raises(DemoError, match=r"train took longer than 0 s"):
            supervisor.run("train", SLEEPER, 0.2)
        with pytest.raises(DemoTimeoutError, match="the sunrise did not happen within 0 s"):
            supervisor.wait("the sunrise", lambda: False, 0.2)
        assert orphans.marked(supervisor.mark) == []


def test_a_commands_lines_and_output_arrive(tmp_path):
    code = "import sys; print('result'); print('one', file=sys.stderr); print('two', file=sys.stderr)"
    lines: list[str] = []
    with Supervisor(tmp_path / "logs") as supervisor:
        assert supervisor.run("train", [sys.executable, "-c", code], 10, lines.append) == "result\n"
    assert lines == ["one", "two"]


def test_follow_gives_whole_lines_only(tmp_path):
    path = tmp_path / "log"
    lines = follow(path)
    assert next(lines) == []
    path.write_text("one\ntw")
    assert next(lines) == ["one"]
    with path.open("a") as file:
        file.write("o\nthree\n")
    assert next(lines) == ["two", "three"]


DEMO = """
import sys, time
from pathlib import Path
from cloud_trainer.demo.supervise import Supervisor
with Supervisor(Path(sys.argv[1])) as supervisor:
    for name in "ab":
        supervisor.start(name, [sys.executable, "-c", "import time; time.sleep(600)"])
    print(supervisor.mark, flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT], ids=["kill -9", "Ctrl-C"])
def test_nothing_outlives_a_demo_that_is_told_to_go(tmp_path, number):
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    command = [sys.executable, "-c", DEMO, str(tmp_path / "logs")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment) as demo:
        mark = demo.stdout.readline().decode().strip()
        try:
            wait_until(lambda: len(orphans.marked(mark)) == 2)
        except BaseException:
            demo.kill()  # or leaving the block would wait for it
            raise
        demo.send_signal(number)
        demo.wait(20)
        wait_until(lambda: orphans.marked(mark) == [])
