from __future__ import annotations

import os

import msgspec
import pytest

from edge_agent.config import FileSink, PredictionSink, StdoutSink
from edge_agent.sinks import GROUP, open_sink
from edge_agent.sinks.stdout import Stdout
from shared.errors import ConfigError
from shared.messages import AnswerRecord


def answer(number: int) -> AnswerRecord:
    return AnswerRecord(id=str(number), label="seven", score=0.5, release=1, variant="v")


def read(path) -> list[str]:
    return [msgspec.json.decode(line, type=AnswerRecord).id for line in path.read_bytes().splitlines()]


def open_file(path, max_bytes: int = 1 << 16):
    return open_sink(FileSink(path=str(path), max_bytes=max_bytes), lambda _: True)


def test_file_gets_whole_groups_and_the_rest_when_flushed(tmp_path):
    path = tmp_path / "answers.jsonl"
    sink = open_file(path)
    for number in range(GROUP + 3):
        sink.write(answer(number))
    assert len(read(path)) == GROUP
    sink.flush()
    assert read(path) == [str(n) for n in range(GROUP + 3)]
    sink.close()
    sink.close()
    again = open_file(path)
    again.write(answer(999))
    again.close()
    assert read(path)[-1] == "999"


def test_file_is_rotated_before_it_grows_too_large(tmp_path):
    path = tmp_path / "answers.jsonl"
    sink = open_file(path)
    for number in range(2000):
        sink.write(answer(number))
    sink.close()
    old = tmp_path / "answers.jsonl.1"
    assert path.stat().st_size <= 1 << 16
    assert old.stat().st_size <= 1 << 16
    both = read(old) + read(path)
    assert both == [str(n) for n in range(2000 - len(both), 2000)]


def test_file_that_cannot_be_opened_is_one_clear_error(tmp_path):
    with pytest.raises(ConfigError, match=r"missing/a.jsonl: sink: cannot be written: No such file"):
        open_file(tmp_path / "missing" / "a.jsonl")


def test_full_disk_is_told_once_and_counted(caplog):
    sink = open_file("/dev/full")
    for _ in range(3):
        sink.write(answer(1))
        sink.flush()
    assert sink.lost == 3
    assert len(caplog.records) == 1
    assert "No space left" in caplog.text
    sink.close()


def test_closed_pipe_is_told_once_and_counted(caplog):
    reading, writing = os.pipe()
    sink = Stdout(writing)
    sink.write(answer(1))
    sink.flush()
    assert os.read(reading, 1000).endswith(b"}\n")
    os.close(reading)
    for _ in range(2):
        sink.write(answer(2))
        sink.flush()
    assert sink.lost == 2
    assert len(caplog.records) == 1
    sink.close()
    os.close(writing)


def test_standard_output_is_the_default(capfd):
    sink = open_sink(StdoutSink(), lambda _: True)
    sink.write(answer(5))
    sink.close()
    assert msgspec.json.decode(capfd.readouterr().out, type=AnswerRecord).id == "5"


def test_predictions_go_in_batches_and_are_counted_when_there_is_no_connection():
    sent: list[list[str]] = []
    connected = [True]

    def send(answers: list[AnswerRecord]) -> bool:
        sent.append([one.id for one in answers])
        return connected[0]

    sink = open_sink(PredictionSink(batch=3), send)
    for number in range(4):
        sink.write(answer(number))
    assert sent == [["0", "1", "2"]]
    sink.flush()
    sink.flush()
    assert sent == [["0", "1", "2"], ["3"]]
    connected[0] = False
    sink.write(answer(9))
    sink.close()
    assert sink.lost == 1
