"""What was wrong with a value in a file, in words for the person who wrote it. Imported when something is wrong."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from msgspec import inspect

from shared.topics import NAME_PATTERN, NAME_WORDS

PATTERNS = {
    NAME_PATTERN: NAME_WORDS,
    r"^.+:[0-9]{1,5}$": "HOST:PORT, like 127.0.0.1:8700",
    r"^https?://[^/\s]+": "a URL, like http://127.0.0.1:9000/answers",
    r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$": "MODULE:FUNCTION, like plant.door:answered",
}
"""What a pattern of ours means, in words: a regular expression tells most people nothing."""


def explain(error: msgspec.ValidationError, type_: Any) -> tuple[str, list[str]]:
    """What is wrong with a value that should have been a ``type_``, in one sentence, and the path of keys to it.

    >>> explain(msgspec.ValidationError("Expected `int`, got `str` - at `$.broker.port`"), dict)
    ('broker.port: expected `int`, got `str`', ['broker', 'port'])
    """
    message = str(error)
    found = re.search(r" - at `(?:key in )?\$?([^`]*)`$", message)
    keys = re.findall(r"[A-Za-z0-9_-]+", found.group(1)) if found else []
    text = message[: found.start()] if found else message
    if unknown := re.search(r"unknown field `([^`]+)`", text):
        path = ".".join([*keys, unknown.group(1)])
        return f"unknown key {path!r}; {_closest(unknown.group(1), type_, keys)}", [*keys, unknown.group(1)]
    if missing := re.search(r"missing required field `([^`]+)`", text):
        return f"missing key {'.'.join([*keys, missing.group(1)])!r}", keys
    if invalid := re.match(r"Invalid (?:enum )?value (.+)$", text):
        text = f"expected {_choices(type_, keys) or 'another value'}, got {invalid.group(1)}"
    for pattern, words in PATTERNS.items():
        text = text.replace(f"`str` matching regex {pattern!r}", words)
    text = text[:1].lower() + text[1:]
    return f"{'.'.join(keys)}: {text}" if keys else text, keys


def _closest(key: str, type_: Any, keys: Sequence[str]) -> str:
    valid = [field.encode_name for struct in _structs(type_, keys) for field in struct.fields]
    close = difflib.get_close_matches(key, [name for name in valid if name != key], 1)
    return f"did you mean {close[0]!r}?" if close else "check the spelling"


def _choices(type_: Any, keys: Sequence[str]) -> str:
    """What may stand at ``keys``: the values of a Literal, or the tags of the structs around it."""
    literals = [node for node in _at(inspect.type_info(type_), keys) if isinstance(node, inspect.LiteralType)]
    values = [value for literal in literals for value in literal.values]
    tags = [struct.tag for struct in _structs(type_, keys[:-1]) if struct.tag_field == keys[-1]] if keys else []
    return " or ".join(f'"{choice}"' for choice in values or tags)


def _structs(type_: Any, keys: Sequence[str]) -> Iterable[inspect.StructType]:
    return (node for node in _at(inspect.type_info(type_), keys) if isinstance(node, inspect.StructType))


def _at(node: inspect.Type, keys: Sequence[str]) -> list[inspect.Type]:
    """What may stand where ``keys`` lead: several types where there is a choice, none where the way is not known."""
    if isinstance(node, inspect.UnionType):
        return [found for part in node.types for found in _at(part, keys)]
    if not keys:
        return [node]
    if isinstance(node, inspect.StructType):
        return [found for field in node.fields if field.encode_name == keys[0] for found in _at(field.type, keys[1:])]
    if isinstance(node, inspect.VarTupleType | inspect.ListType):
        return _at(node.item_type, keys[1:])
    return []
