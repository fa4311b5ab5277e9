"""``edge-agent top`` draws what the status file says, and leaves the terminal as it found it."""

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.cli import main
from edge_agent.commands.top import ENTER, LEAVE
from edge_agent.screen import RED, bar, position, render
from edge_agent.state import AgentStatus, RecentAnswer, StateDirectory, Watched

NOW = 1_800_000_000.0
STATUS = AgentStatus(
    pid=1,
    time=NOW,
    started=NOW - 300,
    site="plant",
    device="cam-1",
    model="digits",
    release=7,
    variant="int8-litert",
    samples=12345,
    rate_hz=31.25,
    p50_us=61.2,
    p99_us=1534.0,
    source="camera 0",
    connected=True,
    drift_evidence=1e-3,
    answers=(
        RecentAnswer(id="a-1", time=NOW - 1, label="one", score=0.5),
        RecentAnswer(id="a-2", time=NOW, value=2.5),
    ),
    watched=(
        Watched(name="contrast", effect=0.25, evidence=1e-6),
        Watched(name="brightness", effect=-1.5, evidence=1e-3),
    ),
)


def frame(status=STATUS, width=70, height=16, *, running=True, colour=False):
    return render(status, width, height, now=NOW, running=running, colour=colour)


def test_a_frame():
    lines = frame()
    clocks = [time.strftime("%H:%M:%S", time.localtime(at)) for at in (NOW, NOW - 1)]
    assert lines == [
        "digits/7  int8-litert                            plant/cam-1  up 5 min",
        "31.2/s   p50 61 µs   p99 1.53 ms   12,345 answers   0 errors",
        "source  camera 0",
        "sinks   ok",
        "broker  connected",
        "",
        "drift       ██████████████████▌··················     0.001",
        "brightness  ██████████████████▌··················     0.001    -1.50 σ",
        "contrast    ·····································     1e-06    +0.25 σ",
        "",
        "last answers",
        f"{clocks[0]}  2.5          a-2",
        f"{clocks[1]}  one   0.500  a-1",
        "",
        "",
        "",
    ]


def test_an_alarm_is_red_and_full_and_without_colour_said_in_words():
    alarm = msgspec.structs.replace(STATUS, drift_evidence=3.0, drift_alarm=True)
    plain = frame(alarm)
    assert re.search(r"drift +█+ +3 +ALARM$", plain[6])
    assert RED in frame(alarm, colour=True)[6]
    assert not any("\x1b" in line for line in plain)


def test_how_good_the_answers_are_stands_under_the_drift():
    known = msgspec.structs.replace(STATUS, estimated_accuracy=0.91, truths=20, accuracy=0.85, reference_accuracy=0.95)
    lines = frame(known, width=80)
    assert lines[7] == "accuracy  estimated 91.0 %, 85.0 % of 20 truths, on held-out data 95.0 %"
    assert lines[8].startswith("brightness")
    assert len(frame(known, width=40)[7]) <= 40
    sure = msgspec.structs.replace(known, truth_evidence=2.0)
    assert RED in frame(sure, width=100, colour=True)[7]
    assert not any("accuracy" in line for line in frame())


def test_learning_shows_how_far_it_is():
    learning = msgspec.structs.replace(STATUS, learned=500, learning=2000)
    line = frame(learning)[6]
    assert line.startswith("learning the baseline  ███")
    assert line.endswith("500 of 2,000")
    assert line.count("█") / line.count("·") == pytest.approx(1 / 3, abs=0.05)
    assert "drift" in frame(msgspec.structs.replace(STATUS, learned=2000, learning=2000))[6]


def test_what_is_wrong_is_said():
    wrong = msgspec.structs.replace(
        STATUS, source_error="camera unplugged", sink_errors=("webhook: 503",), connected=False, connection="refused"
    )
    text = "\n".join(frame(wrong))
    assert all(part in text for part in ("camera unplugged", "webhook: 503", "not connected refused"))
    assert "not running" in frame(running=False)[0]
    assert "silent for" in frame(msgspec.structs.replace(STATUS, time=NOW - 60))[0]
    assert "paused" in frame(msgspec.structs.replace(STATUS, paused=True))[0]
    assert frame(None)[0].startswith("waiting")
    assert frame(None, running=False)[0].startswith("no agent has run")


def test_an_agent_alone_has_no_broker():
    assert not any(line.startswith("broker") for line in frame(msgspec.structs.replace(STATUS, local=True)))


def test_ids_are_whole_beside_long_answers():
    ids = {"77733d80-9", "77733d80-1000", "77733d80-123456"}
    answers = tuple(RecentAnswer(id=id_, time=NOW, value="[0.05302850157022476, " * 9) for id_ in ids)
    lines = frame(msgspec.structs.replace(STATUS, answers=answers, watched=()))
    assert {line.split()[-1] for line in lines if "[0.05" in line} == ids


def test_too_many_scalars_leave_room_for_answers():
    many = tuple(Watched(name=f"x{i}", effect=0.1, evidence=10.0**-i) for i in range(30))
    lines = frame(msgspec.structs.replace(STATUS, watched=many))
    assert len(lines) == 16
    assert any("more scalars" in line for line in lines)
    assert "last answers" in lines


@given(
    st.builds(
        AgentStatus,
        pid=st.just(1),
        time=st.floats(0, 2e9),
        started=st.floats(0, 2e9),
        answers=st.lists(
            st.builds(RecentAnswer, id=st.text(), time=st.floats(0, 2e9), label=st.text()), max_size=9
        ).map(tuple),
        watched=st.lists(
            st.builds(Watched, name=st.text(), effect=st.floats(allow_nan=False), evidence=st.none() | st.floats(0))
        ).map(tuple),
    ),
    st.integers(1, 120),
    st.integers(1, 40),
)
def test_every_status_fits_every_window(status, width, height):
    lines = render(status, width, height, now=NOW, running=True, colour=False)
    assert len(lines) == height
    assert all(len(line) <= max(width, 40) and line.isprintable() for line in lines)


@given(st.floats(0, 10), st.floats(0, 10), st.integers(1, 80))
def test_bars_grow_with_the_evidence(a, b, width):
    low, high = (bar(position(value), width) for value in sorted((a, b)))
    assert len(low) == len(high) == width
    assert low.count("█") <= high.count("█")
    assert ("█" * width == high) == (max(a, b) >= 1)


def state_of(directory, status=STATUS):
    state = StateDirectory(directory)
    directory.mkdir(exist_ok=True)
    state.write(state.status, status)
    return directory


def test_once_and_json(tmp_path, capsys, monkeypatch):
    directory = state_of(tmp_path / "state")
    assert main(["top", str(directory), "--once"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("digits/7  int8-litert")
    assert "\x1b" not in shown
    monkeypatch.chdir(tmp_path)
    assert main(["top", "--json"]) == 0  # finds ./state
    found = json.loads(capsys.readouterr().out)
    assert (found["running"], found["agent"]["rate_hz"]) == (False, 31.25)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no agent has run in this directory"),
        (["no"], "no: no such file"),
        (["m.onnx"], "no agent has run with it"),
    ],
)
def test_what_is_not_there_is_said_in_one_line(tmp_path, capsys, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert main(["top", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_the_terminal_is_clean_afterwards(tmp_path, signum):
    directory = state_of(tmp_path / "state")
    main_end, other_end = pty.openpty()
    environment = {**os.environ, "TERM": "xterm"}
    process = subprocess.Popen(
        [sys.executable, "-m", "edge_agent.cli", "top", str(directory)],
        stdin=other_end,
        stdout=other_end,
        stderr=other_end,
        env=environment,
    )
    os.close(other_end)
    seen = read_until(main_end, b"last answers")
    process.send_signal(signal.SIGWINCH)
    process.send_signal(signum)
    seen += read_until(main_end, LEAVE.encode())
    assert process.wait(20) == 0
    os.close(main_end)
    text = seen.decode()
    assert text.startswith(ENTER)
    assert text.endswith(LEAVE)
    assert "Traceback" not in text


def read_until(descriptor, wanted, seconds=20):
    """Bytes of a terminal up to and with ``wanted``."""
    found, end = b"", time.monotonic() + seconds
    while wanted not in found and time.monotonic() < end:
        if select.select([descriptor], [], [], 0.1)[0]:
            found += os.read(descriptor, 65536)
    assert wanted in found, found
    return found
