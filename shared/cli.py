"""What both command lines share: lazy sub-commands, ``--json``, exit codes, errors in one line.

A sub-command is a module with ``HELP`` (one line), ``configure(parser)`` and ``run(args) -> int``. It is imported when
it is named, so ``--help`` and start-up stay fast.
"""

from __future__ import annotations

import argparse
import errno
import importlib
import json
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from shared.errors import SanderlingError

DONE, FAILED, USAGE = 0, 1, 2
INTERRUPTED = 130


class Parser(argparse.ArgumentParser):
    """argparse, with the error in one line and a pointer to the help."""

    def error(self, message: str) -> Any:
        """One line on stderr, exit code 2."""
        self.exit(USAGE, f"{self.prog}: {message} (see {self.prog} --help)\n")


def main(
    prog: str,
    description: str,
    commands: Mapping[str, tuple[str, str]],
    arguments: Sequence[str] | None = None,
    *,
    version: str = "",
) -> int:
    """Parse, run, and turn errors into one line and an exit code.

    ``commands`` maps a command's words (``"fleet enroll"``) to (module, one line of help).
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    name = _command(words, commands)
    if name is not None:
        return _run(prog, name, commands[name], words[len(name.split()) :])
    group = _group(words, commands)
    if group:
        parser = _overview(f"{prog} {words[0]}", "", group)
        parser.parse_args(words[1:2])
        parser.error("needs one of: " + ", ".join(group))
    parser = _overview(prog, description, commands)
    parser.add_argument("--version", action="version", version=f"%(prog)s {version}")
    parser.parse_args(words[:1])
    parser.print_help(sys.stderr)
    return USAGE


def _command(words: Sequence[str], commands: Mapping[str, tuple[str, str]]) -> str | None:
    for length in (2, 1):
        name = " ".join(words[:length])
        if len(words) >= length and name in commands:
            return name
    return None


def _group(words: Sequence[str], commands: Mapping[str, tuple[str, str]]) -> dict[str, tuple[str, str]]:
    """The commands of two words that begin with ``words[0]``, by their second word."""
    parts = [(*command.split(), "")[:2] for command in commands]
    return {second: commands[f"{first} {second}"] for first, second in parts if second and first in words[:1]}


def _overview(prog: str, description: str, commands: Mapping[str, tuple[str, str]]) -> Parser:
    width = max(map(len, commands)) + 2
    lines = [f"  {name:<{width}}{text}" for name, (_, text) in commands.items()]
    parser = Parser(
        prog=prog,
        description=description,
        epilog="commands:\n" + "\n".join(lines) + f"\n\n{prog} COMMAND --help tells more.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "command", nargs="?", metavar="COMMAND", choices=list(dict.fromkeys(c.split()[0] for c in commands))
    )
    return parser


def _run(prog: str, name: str, command: tuple[str, str], words: Sequence[str]) -> int:
    try:
        module = importlib.import_module(command[0])
        parser = Parser(
            prog=f"{prog} {name}",
            description=module.__doc__,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.configure(parser)
        return int(module.run(parser.parse_args(words)))
    except SanderlingError as error:
        print(f"{prog} {name}: {error}", file=sys.stderr)
        if os.environ.get("SANDERLING_DEBUG"):
            raise
        return error.exit_code
    except KeyboardInterrupt:
        print(f"{prog} {name}: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except OSError as error:  # a directory without rights, a full disk: the system's own words name the file
        print(f"{prog} {name}: {_told(error)}", file=sys.stderr)
        if os.environ.get("SANDERLING_DEBUG"):
            raise
        return FAILED


def _told(error: OSError) -> str:
    """Who writes to an open file does not learn its name: on a full disk that is mostly a temporary one."""
    if error.errno == errno.ENOSPC and error.filename is None:
        return f"{error.strerror}; temporary files are written to {tempfile.gettempdir()} (set TMPDIR to another place)"
    return str(error)


def add_json(parser: argparse.ArgumentParser) -> None:
    """The ``--json`` switch: one JSON document on stdout instead of text for people."""
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of text")


def print_json(value: Any) -> None:
    """Print builtins or Structs as one indented JSON document."""
    print(json.dumps(msgspec.to_builtins(value), indent=2, sort_keys=False))


def table(rows: Sequence[Sequence[Any]], header: Sequence[str]) -> str:
    """Columns aligned for reading: text left, numbers right.

    >>> print(table([["a", 1], ["bb", 22]], ["name", "n"]))
    name   n
    a      1
    bb    22
    """
    cells = [[str(cell) for cell in row] for row in rows]
    width = [max(map(len, column)) for column in zip(header, *cells, strict=True)]
    right = [bool(rows) and all(isinstance(row[i], int | float) for row in rows) for i in range(len(header))]
    lines = []
    for line in [list(header), *cells]:
        parts = [c.rjust(w) if r else c.ljust(w) for c, w, r in zip(line, width, right, strict=True)]
        lines.append("  ".join(parts).rstrip())
    return "\n".join(lines)
