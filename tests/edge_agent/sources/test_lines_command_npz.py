from __future__ import annotations

import base64
import json
import logging
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from edge_agent.config import CommandSource, NpzSource, load_config
from edge_agent.sources import lines, open_source
from edge_agent.sources.command import Command
from edge_agent.sources.lines import LineReader
from edge_agent.sources.npz import Npz
from edge_agent.sources.stdin import Stdin
from edge_agent.sources.values import parse_line
from shared.errors import ConfigError, InputError
from shared.manifest import SampleSpec

SPEC = SampleSpec(dtype="uint8", shape=(2, 3))


def gather(source, count: int, seconds: float = 20) -> list:
    samples: list = []
    end = time.monotonic() + seconds
    while len(samples) < count:
        assert time.monotonic() < end, f"got {len(samples)} of {count}: {source.last_error}"
        samples += source.poll(0.05)
    return samples


def line(number: int) -> str:
    data = base64.b64encode(bytes([number] * 6)).decode()
    return json.dumps({"id": f"cam-{number}", "data": data})


def program(text: str) -> CommandSource:
    return CommandSource(command=(sys.executable, "-u", "-c", text), restart_seconds=0.01)


def test_data_and_values_give_the_same_sample():
    raw = base64.b64encode(np.arange(6, dtype="<f4").tobytes()).decode()
    spec = SampleSpec(dtype="float32", shape=(2, 3))
    a = parse_line(json.dumps({"id": "a", "data": raw}).encode(), spec)
    b = parse_line(b'{"id": 7, "values": [[0, 1, 2], [3, 4, 5]]}', spec)
    assert a.data.dtype == b.data.dtype == np.float32
    np.testing.assert_array_equal(a.data, b.data)
    assert (a.id, b.id) == ("a", "7")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("nonsense", "not a sample in JSON"),
        ("[1, 2]", "not a sample in JSON"),
        ("", "not a sample in JSON"),
        ('{"id": "a"}', "needs 'data'"),
        ('{"data": "AAAA"}', "3 bytes; uint8 of shape .2, 3. needs 6"),
        ('{"data": "%%"}', "not a sample in JSON"),
        ('{"values": [1, 2]}', "2 values; shape .2, 3. needs 6"),
        ('{"values": [[1, 2], [3]]}', "values are no uint8 array"),
        ('{"values": [1, 2, 3, 4, 5, 300]}', "values do not fit into uint8"),
        ('{"values": [1, 2, 3, 4, 5, 0.5]}', "values do not fit into uint8"),
        ('{"values": "abcdef"}', "values are no uint8 array"),
        (b'{"id": "caf\xe9", "values": [0]}', "not a sample in JSON"),
        ('{"values": ' + "[" * 100_000, "not a sample in JSON"),
    ],
)
def test_a_bad_line_says_what_was_wrong(text, expected):
    with pytest.raises(InputError, match=expected):
        parse_line(text if isinstance(text, bytes) else text.encode(), SPEC)


def test_a_bad_line_is_counted_and_the_next_one_read():
    source = open_source(program(f"print('junk'); print(''); print({line(1)!r})\nimport time; time.sleep(60)"), [SPEC])
    try:
        samples = gather(source, 1)
        assert samples[0].id == "cam-1"
        assert source.bad == 1
        assert "not a sample in JSON" in source.last_error
    finally:
        source.stop()


def test_a_program_that_ends_is_started_again_with_growing_delays(caplog):
    source = Command(program(f"print({line(2)!r})"), [SPEC], chance=lambda: 1.0)
    try:
        samples = gather(source, 3)
    finally:
        source.stop()
    assert [s.id for s in samples] == ["cam-2"] * 3
    assert source.starts >= 3
    delays = [float(r.getMessage().rpartition(" in ")[2][:-2]) for r in caplog.records if r.levelno == logging.WARNING]
    assert delays[:2] == [0.01, 0.02]


def test_a_program_that_does_not_exist_is_reported_and_tried_again():
    source = Command(CommandSource(command=("/nonexistent/camera",), restart_seconds=0.01), [SPEC])
    for _ in range(10):
        assert source.poll(0.02) == []
    assert source.starts >= 2
    assert "cannot be started: No such file" in source.last_error
    source.stop()


def test_stop_kills_the_program_and_what_it_started():
    text = (
        "import subprocess, sys, signal, time, json, os\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "print(json.dumps({'id': f'{os.getpid()} {child.pid}', 'values': [0] * 6}))\n"
        "time.sleep(60)\n"
    )
    source = Command(program(text), [SPEC])
    pids = [int(pid) for pid in gather(source, 1)[0].id.split()]
    source.stop()
    source.stop()
    for pid in pids:
        end = time.monotonic() + 10
        while _alive(pid):
            assert time.monotonic() < end, f"{pid} is still there"
            time.sleep(0.02)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii")
    return stat.rpartition(")")[2].split()[0] != "Z"  # an orphan waits for init to collect it


def test_standard_input_ends_with_its_last_line():
    reading, writing = os.pipe()
    source = Stdin([SPEC], reading)
    assert source.poll(0.01) == []
    os.write(writing, f"{line(1)}\n{line(2)}".encode())
    assert [s.id for s in source.poll(1)] == ["cam-1"]
    os.close(writing)
    assert [s.id for s in source.poll(1)] == ["cam-2"]
    assert source.ended
    assert source.poll(1) == []
    os.close(reading)


def test_a_line_without_end_is_skipped(monkeypatch):
    monkeypatch.setattr(lines, "LINE_MAX_BYTES", 1000)
    reading, writing = os.pipe()
    reader = LineReader(reading)
    found = []
    for piece in (b"x" * 900, b"y" * 900, b"z" * 10 + b"\nnext\n"):
        os.write(writing, piece)
        found += reader.read(1)
    assert found == [lines.OVERLONG, b"next"]
    os.close(writing)
    os.close(reading)


def test_npz_is_played_once_at_its_rate(tmp_path):
    path = tmp_path / "x.npz"
    np.savez(path, x=np.arange(30, dtype=np.uint8).reshape(5, 2, 3), ids=["a", "b", "c", "d", "e"])
    now = [100.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    source = Npz(NpzSource(path=str(path), rate_hz=10.0), clock=lambda: now[0], sleep=sleep)
    found = []
    while not source.ended:
        found += [(round(now[0] - 100.0, 6), s.id, s.data.tolist()) for s in source.poll(0.05)]
    assert [(when, name) for when, name, _ in found] == [(0.0, "a"), (0.1, "b"), (0.2, "c"), (0.3, "d"), (0.4, "e")]
    assert found[1][2] == [[6, 7, 8], [9, 10, 11]]


def test_npz_without_ids_leaves_them_to_the_engine(tmp_path):
    np.savez(tmp_path / "x.npz", x=np.zeros((2, 3), np.uint8))
    source = Npz(NpzSource(path=str(tmp_path / "x.npz"), rate_hz=1000.0))
    assert [sample.id for sample in gather(source, 2)] == [None, None]
    assert parse_line(b'{"values": [0, 0, 0, 0, 0, 0]}', SPEC).id is None


def test_npz_that_is_missing_or_wrong_is_one_clear_error(tmp_path):
    with pytest.raises(ConfigError, match=r"x\.npz: source: No such file"):
        Npz(NpzSource(path=str(tmp_path / "x.npz")))
    (tmp_path / "x.npz").write_bytes(b"no zip")
    with pytest.raises(ConfigError, match=r"expected an \.npz file with array x"):
        Npz(NpzSource(path=str(tmp_path / "x.npz")))
    np.savez(tmp_path / "y.npz", y=np.zeros(3))
    with pytest.raises(ConfigError, match=r"expected an \.npz file with array x"):
        Npz(NpzSource(path=str(tmp_path / "y.npz")))
    np.save(tmp_path / "z.npy", np.zeros(3))
    with pytest.raises(ConfigError, match=r"expected an \.npz file with array x"):
        Npz(NpzSource(path=str(tmp_path / "z.npy")))
    np.savez_compressed(tmp_path / "w.npz", x=np.zeros(3000))
    data = (tmp_path / "w.npz").read_bytes()
    (tmp_path / "w.npz").write_bytes(data[:40] + b"\xff" * 60 + data[100:])
    with pytest.raises(ConfigError, match=r"expected an \.npz file with array x"):
        Npz(NpzSource(path=str(tmp_path / "w.npz")))
    np.savez(tmp_path / "v.npz", x=np.float32(1))
    with pytest.raises(ConfigError, match="array x is a single number"):
        Npz(NpzSource(path=str(tmp_path / "v.npz")))


def test_a_program_runs_where_the_configuration_lies(tmp_path):
    (tmp_path / "camera.py").write_text(f"print({line(4)!r})")
    (tmp_path / "agent.toml").write_text(
        f'state = "s"\nmodel = "m"\n[source]\nkind = "command"\ncommand = ["{sys.executable}", "camera.py"]\n'
    )
    source = open_source(load_config(tmp_path / "agent.toml").source, [SPEC])
    try:
        assert gather(source, 1)[0].id == "cam-4"
    finally:
        source.stop()


def test_a_killed_program_is_started_again(caplog):
    source = Command(program(f"print({line(3)!r}, flush=True)\nimport time; time.sleep(60)"), [SPEC])
    try:
        gather(source, 1)
        os.kill(source._process.pid, signal.SIGKILL)
        gather(source, 1)
        assert source.starts == 2
        assert "exit code -9" in caplog.text
        assert (source.trouble, source.last_error) == ("", "")  # all is well again
    finally:
        source.stop()


def test_a_line_may_be_a_bare_list():
    reader = lines.LineSource([SPEC])
    (found,) = reader.parse([b"[[0, 1, 2], [3, 4, 5]]"])
    np.testing.assert_array_equal(found.data, np.arange(6).reshape(2, 3))
    assert reader.parse([b'"text"']) == []
    assert reader.bad == 1
