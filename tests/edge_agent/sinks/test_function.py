"""Answers handed to a function of the user's."""

from __future__ import annotations

import sys

import pytest

from edge_agent.config import PythonSink
from edge_agent.sinks import open_sink
from shared.errors import ConfigError
from shared.messages import AnswerRecord

PROGRAM = """
got = []
def take(answer):
    if answer.label == "bad":
        raise KeyError("no such label")
    got.append(answer.id)
nothing = 7
"""


def answer(number: int, label: str = "good") -> AnswerRecord:
    return AnswerRecord(id=str(number), label=label, score=0.5, release=1, variant="v")


def open_function(folder, function: str):
    return open_sink(PythonSink(function=function, directory=str(folder)), lambda _: True)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "takes_answers", raising=False)
    (tmp_path / "takes_answers.py").write_text(PROGRAM)
    (tmp_path / "breaks_off.py").write_text("1 / 0\n")
    (tmp_path / "lacks.py").write_text("import never_installed\n")
    (tmp_path / "misspelt.py").write_text("def f(:\n")
    (tmp_path / "leaves.py").write_text("import sys; sys.exit(3)\n")
    return tmp_path


def test_each_answer_is_given_once_and_in_order(folder):
    sink = open_function(folder, "takes_answers:take")
    got = sys.modules["takes_answers"].got
    for number in range(5):
        sink.write(answer(number))
    assert got == []
    sink.flush()
    sink.write(answer(5))
    sink.close()
    sink.close()
    assert got == ["0", "1", "2", "3", "4", "5"]
    assert (sink.lost, sink.trouble) == (0, "")


def test_a_function_that_raises_is_told_once_and_gets_the_next_answers(folder, caplog):
    sink = open_function(folder, "takes_answers:take")
    for number, label in enumerate(["good", "bad", "bad", "good"]):
        sink.write(answer(number, label))
    sink.flush()
    assert sys.modules["takes_answers"].got == ["0", "3"]
    assert (sink.lost, sink.trouble) == (2, "")  # it works again
    sink.write(answer(9, "bad"))
    sink.flush()
    assert sink.trouble == "KeyError: 'no such label'"
    assert len(caplog.records) == 1
    assert "takes_answers:take failed on answer 1" in caplog.text
    sink.close()


@pytest.mark.parametrize(
    ("function", "text"),
    [
        ("not_there:take", "not_there:take: no module 'not_there' in "),
        ("takes_answers:missing", "takes_answers:missing: module 'takes_answers' has no attribute 'missing'"),
        ("takes_answers:nothing", "takes_answers:nothing: nothing is a int; expected a function"),
        ("breaks_off:f", "breaks_off:f: importing breaks_off fails: ZeroDivisionError: division by zero"),
        ("lacks:f", "lacks:f: no module 'never_installed', which lacks imports"),
        ("misspelt:f", "misspelt:f: importing misspelt fails: SyntaxError"),
        ("leaves:f", "leaves:f: importing leaves fails: SystemExit: 3"),
    ],
)
def test_a_function_that_is_not_there_is_one_clear_line(folder, function, text):
    with pytest.raises(ConfigError) as failed:
        open_function(folder, function)
    assert text in str(failed.value)
    assert "\n" not in str(failed.value)
