"""Both command lines: exit codes, one line for a mistake, commands loaded when they are named."""

import json
import subprocess
import sys
import types

import pytest

from shared import cli
from shared.cli import DONE, FAILED, INTERRUPTED, USAGE
from shared.errors import ConfigError, LinkError, MissingExtraError
from shared.messages import TruthLabel


@pytest.fixture
def command(monkeypatch):
    """Make commands out of functions: command("fleet enroll", run) -> table of commands."""
    table = {}

    def add(name, run, configure=lambda parser: None):
        module = types.ModuleType(f"fake_{name.replace(' ', '_')}")
        module.__doc__ = f"What {name} does."
        module.run, module.configure = run, configure
        monkeypatch.setitem(sys.modules, module.__name__, module)
        table[name] = (module.__name__, f"help of {name}")
        return table

    return add


def main(table, *words):
    return cli.main("tool", "A tool.", table, words, version="1.2")


def fails(error):
    def run(args):
        raise error

    return run


def test_a_command_gets_its_arguments_and_its_code_is_the_exit_code(command):
    seen = []

    def run(args):
        seen.append(args.path)
        return 7

    table = command("go", run, lambda parser: parser.add_argument("path"))
    assert main(table, "go", "there") == 7
    assert seen == ["there"]


def test_commands_of_two_words(command, capsys):
    command("fleet enroll", lambda args: DONE)
    table = command("fleet list", lambda args: FAILED)
    assert main(table, "fleet", "enroll") == DONE
    assert main(table, "fleet", "list") == FAILED
    for words in (["fleet"], ["fleet", "fly"]):
        with pytest.raises(SystemExit) as caught:
            main(table, *words)
        assert caught.value.code == USAGE
        error = capsys.readouterr().err
        assert error.startswith("tool fleet: ")
        assert "enroll" in error
        assert "list (see tool fleet --help)" in error or "'list') (see tool fleet --help)" in error


@pytest.mark.parametrize("switch", ["-h", "--help"])
def test_help_of_a_group_lists_its_commands(command, capsys, switch):
    command("go", lambda args: DONE)
    command("fleet enroll", lambda args: DONE)
    table = command("fleet list", lambda args: DONE)
    with pytest.raises(SystemExit) as caught:
        main(table, "fleet", switch)
    assert caught.value.code == DONE
    out = capsys.readouterr().out
    assert "help of fleet enroll" in out
    assert "help of fleet list" in out
    assert "help of go" not in out
    assert "tool fleet COMMAND --help" in out


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("wrong", file="a.toml", line=3), USAGE),
        (MissingExtraError("tflite", "tflite"), USAGE),
        (LinkError("no broker at h:1883"), FAILED),
        (PermissionError(13, "Permission denied", "state"), FAILED),
        (KeyboardInterrupt(), INTERRUPTED),
    ],
)
def test_an_error_is_one_line_and_a_code(command, capsys, error, code, monkeypatch):
    monkeypatch.delenv("SANDERLING_DEBUG", raising=False)
    assert main(command("go", fails(error)), "go") == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == f"tool go: {error if str(error) else 'interrupted'}\n"


def test_a_full_disk_without_a_name_is_one_line_that_says_where_temporary_files_are(command, capsys, monkeypatch):
    monkeypatch.delenv("SANDERLING_DEBUG", raising=False)
    assert main(command("go", fails(OSError(28, "No space left on device"))), "go") == FAILED
    assert "TMPDIR" in capsys.readouterr().err
    assert main(command("go", fails(OSError(28, "No space left on device", "a.npz"))), "go") == FAILED
    assert capsys.readouterr().err == "tool go: [Errno 28] No space left on device: 'a.npz'\n"


def test_a_bug_is_not_hidden(command):
    with pytest.raises(ZeroDivisionError):
        main(command("go", fails(ZeroDivisionError())), "go")


def test_debug_shows_the_traceback(command, monkeypatch):
    monkeypatch.setenv("SANDERLING_DEBUG", "1")
    with pytest.raises(LinkError):
        main(command("go", fails(LinkError("x"))), "go")


def test_unknown_words_are_one_line(command, capsys):
    table = command("go", lambda args: DONE)
    for words in (["fly"], ["go", "--wings"]):
        with pytest.raises(SystemExit) as caught:
            main(table, *words)
        assert caught.value.code == USAGE
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert "--help" in error


def test_help_lists_commands_without_loading_them(capsys):
    table = {"go": ("module_that_does_not_exist", "help of go")}
    with pytest.raises(SystemExit) as caught:
        main(table, "--help")
    assert caught.value.code == DONE
    assert "help of go" in capsys.readouterr().out
    with pytest.raises(SystemExit) as caught:
        main(table, "--version")
    assert caught.value.code == DONE
    assert capsys.readouterr().out == "tool 1.2\n"


def test_no_words_show_the_help(command, capsys):
    assert main(command("go", lambda args: DONE)) == USAGE
    captured = capsys.readouterr()
    assert "help of go" in captured.err
    assert captured.out == ""


def test_json_is_one_document(capsys):
    cli.print_json({"labels": [TruthLabel(id="a", label="b")]})
    assert json.loads(capsys.readouterr().out) == {"labels": [{"id": "a", "label": "b"}]}


def test_tables_align_text_left_and_numbers_right():
    assert cli.table([["a", 1.5], ["bbb", 22]], ["name", "n"]).splitlines() == ["name    n", "a     1.5", "bbb    22"]
    assert cli.table([], ["name", "n"]) == "name  n"


def test_a_closed_pipe_ends_quietly():
    table = {"go": ("tests.shared.endless", "")}
    code = f"from shared import cli; import sys; sys.exit(cli.main('tool', '', {table}, ['go']))"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "line\n"
    process.stdout.close()
    error = process.stderr.read()
    process.stderr.close()
    assert process.wait(30) == FAILED
    assert error == ""
