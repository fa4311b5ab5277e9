"""``task.toml`` files to begin with, one for every kind of task and some for a purpose; line one says which."""

from __future__ import annotations

from importlib.resources import files

from shared.errors import UsageError

SUFFIX = ".toml"


def recipes() -> dict[str, str]:
    """Name -> what it is for, in the order of names.

    >>> recipes()["keywords"]
    'Spoken commands of a second, by speaker.'
    """
    found = sorted(
        entry.name.removesuffix(SUFFIX) for entry in files(__name__).iterdir() if entry.name.endswith(SUFFIX)
    )
    return {name: read_recipe(name).partition("\n")[0].lstrip("# ") for name in found}


def read_recipe(name: str) -> str:
    """The text of one.

    Raises:
        UsageError: there is none of this name.
    """
    entry = files(__name__) / f"{name}{SUFFIX}"
    if "/" in name or not entry.is_file():
        raise UsageError(f"--recipe {name}: there is none of this name; cloud-trainer init --list shows all")
    return entry.read_text(encoding="utf-8")
