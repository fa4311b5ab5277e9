"""TOML files checked into msgspec Structs: a wrong key, type or range is an error with file and line."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import TypeVar

import msgspec

from shared.errors import ConfigError
from shared.files import reason

T = TypeVar("T")


def load_toml(path: Path, type_: type[T]) -> T:
    """Read ``path`` and convert it to ``type_``.

    Raises:
        ConfigError: the file is missing, is no TOML, or has a wrong key, type or value. The message names the key and
            what was expected; ``file`` and ``line`` say where.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError("no such file", file=str(path)) from None
    except OSError as error:
        raise ConfigError(f"cannot be read: {reason(error)}", file=str(path)) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"cannot be read: {error}", file=str(path)) from error
    return parse_toml(text, type_, file=str(path))


def parse_toml(text: str, type_: type[T], *, file: str = "<string>") -> T:
    """Like :func:`load_toml`, from a string."""
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = re.search(r"line (\d+)", str(error))
        line = int(found.group(1)) if found else None
        raise ConfigError(f"not valid TOML: {error}", file=file, line=line) from None
    try:
        return msgspec.convert(data, type_, strict=True)
    except msgspec.ValidationError as error:
        from shared.explain import explain

        message, keys = explain(error, type_)
        raise ConfigError(message, file=file, line=_line_of(text, keys)) from None


def _line_of(text: str, keys: list[str]) -> int | None:
    """The line where ``keys`` is set: tomllib keeps no positions, so sections are followed by hand."""
    best: int | None = None
    section: list[str] = []
    entries: dict[str, int] = {}  # [[name]] headers seen so far: msgspec counts their entries from 0
    for number, line in enumerate(text.splitlines(), 1):
        header = re.match(r"\s*\[{1,2}\s*([^\]]+?)\s*\]{1,2}", line)
        if header:
            section = [part.strip().strip("\"'") for part in header.group(1).split(".")]
            if line.lstrip().startswith("[["):
                name = ".".join(section)
                entries[name] = entries.get(name, -1) + 1
                section.append(str(entries[name]))
            path = section
        else:
            key = re.match(r"\s*([A-Za-z0-9_.\"'-]+)\s*=", line)
            if not key:
                continue
            path = section + [part.strip("\"'") for part in key.group(1).split(".")]
        if path and path == keys[: len(path)]:
            best = number
            if len(path) == len(keys):
                return number
    return best
