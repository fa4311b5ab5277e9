"""Write a commented task.toml to begin with.

  cloud-trainer init --list
  cloud-trainer init keywords --recipe keywords
  cloud-trainer init spam --data sms_spam.tsv

--data looks at a file or folder of data and fills in its format, target, groups and times as far as they can be
guessed; without --recipe the kind of task is guessed, too. Read what it wrote before you train.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from cloud_trainer.config import TaskConfig
from cloud_trainer.recipes import read_recipe, recipes
from shared.cli import DONE, add_json, print_json, table
from shared.config import parse_toml
from shared.errors import UsageError
from shared.files import reason, write_atomic
from shared.topics import NAME_PATTERN

TASK = "task.toml"
COLUMNS = ("target", "text", "group", "time", "user", "item", "columns", "ignore", "categorical", "names")
"""Keys of a recipe that are about its own example: without a guess for other data they are commented out."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments."""
    parser.add_argument(
        "directory", metavar="DIR", type=Path, nargs="?", help="where task.toml is written; made if new"
    )
    parser.add_argument("--recipe", metavar="NAME", help="what to begin with; --list shows all")
    parser.add_argument("--data", metavar="PATH", type=Path, help="a file or folder of data to look at")
    parser.add_argument("--list", action="store_true", help="show the recipes")
    parser.add_argument("--force", action="store_true", help="overwrite a task.toml that is there")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Write it and say what was guessed."""
    if args.list:
        return _list(as_json=args.json)
    if args.directory is None:
        raise UsageError("DIR is missing: where shall task.toml be written? (--list shows the recipes)")
    if args.recipe is None and args.data is None:
        raise UsageError("needs --recipe NAME or --data PATH; --list shows the recipes")
    path = args.directory / TASK
    if path.exists() and not args.force:
        raise UsageError(f"{path}: exists already; --force overwrites it")
    recipe, guessed, notes = _choose(args.recipe, args.data)
    text = read_recipe(recipe)
    name = re.sub(r"[^a-z0-9_-]+", "-", args.directory.resolve().name.lower()).strip("-")
    if re.fullmatch(NAME_PATTERN, name):
        text = fill(text, {"name": name}, section="")
    if args.data is not None:
        unknown: dict[str, Any] = dict.fromkeys(COLUMNS)
        text = fill(text, unknown | guessed | {"path": _path(args.data, args.directory)})
    task = parse_toml(text, TaskConfig, file=str(path))
    try:
        args.directory.mkdir(parents=True, exist_ok=True)
        write_atomic(path, text.encode())
    except OSError as error:
        raise UsageError(f"{path}: cannot be written: {reason(error)}") from error
    if args.json:
        print_json({"path": str(path), "recipe": recipe, "kind": task.kind, "data": task.data, "notes": notes})
        return DONE
    for note in notes:
        print(note)
    print(f"{path}: a task of kind {task.kind}, from recipe {recipe}")
    print(f"next: read it, then cloud-trainer train {path} --out releases/{task.name}/1")
    return DONE


def fill(text: str, values: dict[str, Any], section: str = "data") -> str:
    r"""``text`` of a TOML file with ``values`` set in a ``section`` ("": before all): in place of a line that sets the
    key, commented out or not, else at the section's end; ``None`` comments the line out. A comment behind stays, unless
    it is about what was there: of format and path.

    >>> lines = ["[data]", 'path = "a"   # here', '# group = "g"', 'time = "t"']
    >>> fill("\n".join(lines), {"path": "b", "group": "user", "time": None}).splitlines()
    ['[data]', 'path = "b"', 'group = "user"', '# time = "t"']
    """
    lines = text.split("\n")
    header = lines.index(f"[{section}]") if section else -1
    end = next((i for i in range(header + 1, len(lines)) if lines[i].startswith("[")), len(lines))
    while end > header + 1 and not lines[end - 1].strip():
        end -= 1
    for key, value in values.items():
        shown = msgspec.json.encode(value).decode().replace('","', '", "')
        at, comment = _line_of(lines[:end], header + 1, key)
        if value is None:
            if at is not None and not lines[at].startswith("#"):
                lines[at] = f"# {lines[at]}"
        elif at is None:
            lines.insert(end, f"{key} = {shown}")
            end += 1
        else:
            comment = "" if key in {"format", "path"} else comment
            lines[at] = f"{f'{key} = {shown}':<32} {comment}" if comment else f"{key} = {shown}"
    return "\n".join(lines)


def _line_of(lines: Sequence[str], start: int, key: str) -> tuple[int | None, str]:
    """Which line sets ``key``, commented out or not, and the comment behind it."""
    for i in range(start, len(lines)):
        found = re.match(rf'(?:# )?{key} = (?:"[^"]*"|\[[^\]]*\]|[^\s#]+)\s*(#.*)?$', lines[i])
        if found:
            return i, found[1] or ""
    return None, ""


def _choose(recipe: str | None, data: Path | None) -> tuple[str, dict[str, Any], tuple[str, ...]]:
    """The recipe, what was guessed for ``[data]``, and notes."""
    kind = parse_toml(read_recipe(recipe), TaskConfig).kind if recipe else ""
    if data is None:
        assert recipe is not None
        return recipe, {}, ()
    from cloud_trainer.data.look import look

    seen = look(data, kind)
    if recipe:
        return recipe, seen.data, seen.notes
    if not seen.kind:
        raise UsageError(f"{data}: cannot tell what kind of task this is; say --recipe ({', '.join(recipes())})")
    chosen = "next-item" if "item" in seen.data else seen.kind
    return chosen, seen.data, seen.notes


def _path(data: Path, directory: Path) -> str:
    """How task.toml names the data: relative where it lies beside it or below."""
    data, directory = data.resolve(), directory.resolve()
    return str(data.relative_to(directory)) if data.is_relative_to(directory) else str(data)


def _list(*, as_json: bool) -> int:
    found = recipes()
    kinds = {name: parse_toml(read_recipe(name), TaskConfig).kind for name in found}
    if as_json:
        print_json([{"name": name, "kind": kinds[name], "text": text} for name, text in found.items()])
    else:
        print(table([[name, kinds[name], text] for name, text in found.items()], ["recipe", "kind", "for"]))
    return DONE
