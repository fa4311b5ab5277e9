"""Files: a folder that is watched, a file that is played."""

from __future__ import annotations

import os
import time

import numpy as np
import pytest

from edge_agent.config import DirectorySource, ReplaySource
from edge_agent.sources import check_source, open_source
from edge_agent.sources.directory import Directory
from edge_agent.sources.replay import Replay
from shared.errors import ConfigError
from shared.manifest import SampleSpec

ROW = SampleSpec("float32", (2,))


class Clock:
    """Time that passes only when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def watch(folder, clock: Clock, memory=None, **values) -> Directory:
    return Directory(DirectorySource(path=str(folder), **values), [ROW], memory, clock=clock, sleep=clock.sleep)


def put(folder, name: str, *numbers: int) -> None:
    """As a careful program does it: written aside, renamed into place, and older than the rename."""
    aside = folder / f".{name}"
    aside.write_text("".join(f"{n},{n}\n" for n in numbers))
    os.utime(aside, (1_000_000 + numbers[0], 1_000_000 + numbers[0]))
    aside.rename(folder / name)


def gather(source, polls: int = 40) -> list[int]:
    return [int(sample.data[0]) for _ in range(polls) for sample in source.poll(0.1)]


def test_files_are_answered_once_oldest_first_with_ids_that_name_them(tmp_path):
    source = watch(tmp_path, Clock())
    put(tmp_path, "b.csv", 1, 2)
    put(tmp_path, "a.csv", 3)
    found = [sample for _ in range(40) for sample in source.poll(0.1)]
    assert [int(one.data[0]) for one in found] == [1, 2, 3]
    assert all(one.id is not None and one.id.startswith(name) for one, name in zip(found, "bba", strict=True))
    assert gather(source) == []
    put(tmp_path, "a.csv", 4)  # another file of that name
    assert gather(source) == [4]
    source.stop()
    source.stop()


def test_a_file_that_is_still_written_is_waited_for(tmp_path):
    clock = Clock()
    source = watch(tmp_path, clock, settle_seconds=1.0, every_seconds=0.1)
    path = tmp_path / "slow.csv"
    for number in range(5):
        with path.open("a") as file:
            file.write(f"{number},0\n")
        assert gather(source, 5) == []
    assert gather(source) == [0, 1, 2, 3, 4]
    source.stop()


def test_hidden_and_unfinished_files_and_other_patterns_are_left_alone(tmp_path):
    source = watch(tmp_path, Clock(), pattern="*.csv")
    for name in ("x.csv.part", "x.tmp", "x.txt"):
        put(tmp_path, name, 7)
    (tmp_path / ".hidden.csv").write_text("8,8\n")
    (tmp_path / "folder.csv").mkdir()
    put(tmp_path, "good.csv", 9)
    assert gather(source) == [9]
    assert source.bad == 0
    source.stop()


def test_what_was_answered_is_remembered_across_restarts(tmp_path):
    folder, memory = tmp_path / "in", tmp_path / "state"
    folder.mkdir()
    memory.mkdir()
    put(folder, "one.csv", 1)
    first = watch(folder, Clock(), memory)
    assert gather(first) == [1]
    first.stop()
    put(folder, "two.csv", 2)
    second = watch(folder, Clock(), memory)
    assert gather(second) == [2]
    second.stop()
    (memory / "directory-source.json").write_text("{broken")
    third = watch(folder, Clock(), memory)
    assert gather(third) == [1, 2]  # rather twice than never
    third.stop()


def test_answered_files_are_moved_and_never_over_an_earlier_one(tmp_path):
    folder, done = tmp_path / "in", tmp_path / "done"
    folder.mkdir()
    source = watch(folder, Clock(), done=str(done))
    for number in (1, 2, 3):
        put(folder, "x.csv", number)
        assert gather(source) == [number]
    source.stop()
    assert sorted(path.name for path in done.iterdir()) == ["x.1.csv", "x.2.csv", "x.csv"]
    assert not list(folder.iterdir())


def test_a_file_that_cannot_be_read_is_counted_and_the_next_one_answered(tmp_path, caplog):
    source = watch(tmp_path, Clock())
    (tmp_path / ".bad").write_bytes(b"\x93NUMPY rubbish")
    (tmp_path / ".bad").rename(tmp_path / "bad.npy")
    put(tmp_path, "rows.csv", 5)
    (tmp_path / "rows.csv").write_text("5,5\nno,number\n6,6\n")
    assert gather(source) == [5, 6]
    assert source.bad == 2
    assert "bad.npy cannot be read, it is left out" in caplog.text
    assert source.trouble == ""
    source.stop()


def test_a_folder_that_goes_away_is_trouble_until_it_is_back(tmp_path, caplog):
    caplog.set_level("INFO")
    folder = tmp_path / "stick"
    folder.mkdir()
    clock = Clock()
    source = watch(folder, clock)
    put(folder, "a.csv", 1)
    assert gather(source) == [1]
    folder.rename(tmp_path / "unplugged")
    assert gather(source, 100) == []
    assert "No such file or directory" in source.trouble
    (tmp_path / "unplugged").rename(folder)
    put(folder, "b.csv", 2)
    assert gather(source, 2000) == [2]
    assert source.trouble == ""
    assert caplog.text.count("trying again") == 1
    assert "goes on" in caplog.text
    source.stop()


@pytest.mark.parametrize(
    ("config", "text"),
    [
        (DirectorySource(path="missing"), "no such directory"),
        (DirectorySource(path="file"), "is a file; expected a directory"),
        (ReplaySource(path="missing"), "no such file"),
    ],
)
def test_what_is_not_there_is_said_at_the_start(tmp_path, monkeypatch, config, text):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=text):
        check_source(config)


def play(path, clock: Clock, **values) -> Replay:
    return Replay(ReplaySource(path=str(path), **values), [ROW], clock=clock, sleep=clock.sleep)


def table(path, count: int) -> None:
    path.write_text("".join(f"{n},{n}\n" for n in range(count)))


@pytest.mark.parametrize("rate", [5.0, 40.0])
def test_a_file_is_played_at_its_rate_and_then_has_ended(tmp_path, rate):
    path, clock = tmp_path / "rows.csv", Clock()
    table(path, 20)
    source = play(path, clock, rate_hz=rate)
    began, got = clock.now, []
    while not source.ended:
        before = clock.now
        got += [int(sample.data[0]) for sample in source.poll(0.05)]
        assert clock.now - before <= 0.05 + 1e-9
        assert len(got) <= (clock.now - began) * rate + 2
    assert got == list(range(20))
    assert clock.now - began == pytest.approx(20 / rate, rel=0.15)
    source.stop()
    source.stop()


def test_a_loop_starts_over_with_ids_of_its_own(tmp_path):
    path, clock = tmp_path / "rows.npz", Clock()
    np.savez(path, x=np.arange(6, dtype=np.float32).reshape(3, 2), ids=np.array(["a", "b", "c"]))
    source = play(path, clock, loop=True, rate_hz=100.0)
    found: list = []
    while len(found) < 7:
        found += source.poll(0.05)
    assert [one.id for one in found[:7]] == ["a", "b", "c", None, None, None, None]
    assert [float(one.data[0]) for one in found[:7]] == [0, 2, 4, 0, 2, 4, 0]
    source.stop()


def test_rows_that_are_no_samples_are_counted_and_left_out(tmp_path):
    path, clock = tmp_path / "rows.csv", Clock()
    path.write_text("1,1\nno,number\n2,2\n")
    source = play(path, clock, rate_hz=100.0)
    assert gather(source) == [1, 2]
    assert source.bad == 1
    assert source.ended
    source.stop()


def test_a_loop_of_nothing_usable_ends(tmp_path):
    path, clock = tmp_path / "rows.csv", Clock()
    path.write_text("no,number\nnor,this\n")
    source = play(path, clock, rate_hz=100.0, loop=True)
    assert gather(source) == []
    assert source.ended
    source.stop()


def test_a_file_that_goes_away_is_trouble_and_played_when_it_is_back(tmp_path):
    path, clock = tmp_path / "rows.csv", Clock()
    source = play(path, clock, rate_hz=100.0)
    assert gather(source, 5) == []
    assert source.trouble
    table(path, 3)
    assert gather(source, 2000) == [0, 1, 2]
    assert source.trouble == ""
    source.stop()


def test_the_real_clock_plays_too(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((2, 2), np.float32))
    source = open_source(ReplaySource(path=str(tmp_path / "a.npy"), rate_hz=1000.0), [ROW])
    got: list = []
    end = time.monotonic() + 20
    while not source.ended:
        assert time.monotonic() < end
        got += source.poll(0.05)
    assert len(got) == 2
    source.stop()
