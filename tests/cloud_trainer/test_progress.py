"""What is shown of long work: on a terminal, in a log, to a program."""

from __future__ import annotations

import io
import json
import re

import pytest

from cloud_trainer.progress import WARNING, JsonLines, Lines, within


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def work(progress, clock, *, epochs=100, seconds=0.1):
    """Two stages with a warning between them."""
    for stage in ("teacher", "student"):
        for epoch in range(epochs):
            clock.now += seconds
            progress(stage, epoch / epochs, f"epoch {epoch + 1} of {epochs}")
        if stage == "teacher":
            progress(WARNING, 0.5, "x is float")
            progress(WARNING, 0.5, "and small")
    progress.close()


def screen(written, width=80):
    """What is left on a terminal."""
    return [line.rsplit("\r\x1b[K", 1)[-1] for line in written.split("\n")]


def test_on_a_terminal_each_stage_is_one_line_and_warnings_stay():
    stream, clock = Terminal(), Clock()
    work(Lines(stream, clock), clock)
    lines = screen(stream.getvalue())
    assert [line.split("] ")[-1] for line in lines] == [
        "teacher: epoch 100 of 100",
        "warning: x is float",
        "warning: and small",
        "student: epoch 100 of 100",
        "",
    ]
    assert stream.getvalue().count("\r") > 200


def test_live_lines_are_no_wider_than_the_terminal_but_warnings_are_whole(monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    stream = Terminal()
    progress = Lines(stream, Clock())
    progress("teacher", 0.5, "long " * 30)
    progress(WARNING, 0.5, "long " * 30)
    progress.close()
    live, warning, _ = screen(stream.getvalue())
    assert len(live) == 39
    assert len(warning) > 150


def test_without_a_terminal_a_line_every_two_seconds_and_the_last_of_each_stage():
    stream, clock = io.StringIO(), Clock()
    work(Lines(stream, clock), clock)
    lines = stream.getvalue().splitlines()
    assert "\r" not in stream.getvalue()
    assert len(lines) <= 20 / 2 + 4 + 1  # 20 seconds; 2 warnings, 2 last lines
    assert lines[0].endswith("teacher: epoch 1 of 100")
    ends = [i for i, line in enumerate(lines) if "epoch 100 of 100" in line]
    assert "warning: x is float" in lines[ends[0] + 1]
    assert "warning: and small" in lines[ends[0] + 2]
    assert ends[1] == len(lines) - 1
    times = [float(re.search(r"([\d.]+)s\]", line)[1]) for line in lines]
    assert times == sorted(times)


def test_json_lines_are_a_few_a_second():
    stream, clock = io.StringIO(), Clock()
    work(JsonLines(stream, clock), clock, epochs=1000, seconds=0.01)
    documents = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert 60 < len(documents) <= 20 * 4 + 5
    assert {"stage": "warning", "fraction": 0.5, "text": "x is float"} in documents
    assert documents[-1] == {"stage": "student", "fraction": 0.999, "text": "epoch 1000 of 1000"}


@pytest.mark.parametrize("kind", [Lines, JsonLines])
def test_closing_before_anything_was_shown_shows_nothing(kind):
    stream = Terminal()
    kind(stream).close()
    assert not stream.getvalue()


def test_part_of_the_work_has_part_of_the_fractions():
    found = []
    inner = within(lambda *line: found.append(line), 0.2, 0.6)
    inner("teacher", 0.5, "half")
    assert found == [("teacher", pytest.approx(0.4), "half")]
