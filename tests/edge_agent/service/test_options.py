"""Sources and sinks as words of a command line."""

from __future__ import annotations

import pytest

from edge_agent.config import CommandSource, DirectorySource, FileSink, MqttSource, PythonSink, ReplaySource
from edge_agent.service.options import parse_sink, parse_source
from shared.errors import UsageError


def test_words_name_sources(tmp_path):
    (tmp_path / "x.npz").write_bytes(b"")
    assert parse_source(f"{tmp_path}/") == DirectorySource(path=str(tmp_path))
    assert parse_source(str(tmp_path), loop=True) == ReplaySource(path=str(tmp_path), loop=True)
    assert parse_source(f"{tmp_path}/x.npz", rate=7.0) == ReplaySource(path=str(tmp_path / "x.npz"), rate_hz=7.0)
    assert parse_source(f"{tmp_path}/", resize=True) == DirectorySource(path=str(tmp_path), resize=True)
    assert parse_source(f"{tmp_path}/x.npz", resize=True).resize
    assert parse_source("command:program 'two words' -x") == CommandSource(command=("program", "two words", "-x"))
    assert parse_source("mqtts://h/a/#") == MqttSource(topic="a/#", host="h", port=8883, tls=True)


def test_words_name_sinks():
    assert parse_sink("file:stdout") == FileSink(path="stdout")
    assert parse_sink("python:plant.door:answered") == PythonSink(function="plant.door:answered")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("nowhere", "source nowhere: no such file or directory, and none of stdin"),
        ("command:", "no such file or directory, and none of"),
        ("command:echo 'open", "No closing quotation; expected a command as for a shell"),
        ("python:door", "expected MODULE:FUNCTION"),
        ("mqtt://host", "expected mqtt://HOST"),
        ("mqtt://me:secret@host/x", "a password belongs into a configuration file"),
        ("mqtt://host:99999999/x", "Port out of range"),
    ],
)
def test_words_that_name_no_source_are_one_line(text, expected):
    with pytest.raises(UsageError) as failed:
        parse_source(text)
    assert expected in str(failed.value)
    assert "\n" not in str(failed.value)


@pytest.mark.parametrize(("text", "expected"), [("/", "a directory"), ("http://", "url"), ("python:x", "MODULE:FUNC")])
def test_words_that_name_no_sink_are_one_line(text, expected):
    with pytest.raises(UsageError, match=expected):
        parse_sink(text)
