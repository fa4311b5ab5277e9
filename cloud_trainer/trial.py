"""A model file tried in a process of its own before this one opens it.

The runtimes trust some of what they read: a damaged file can end the process that loads it, without a word. Here that
is a child, and the user gets a line.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from shared.errors import BackendError

COMMAND = [
    sys.executable,
    "-P",
    "-c",
    "import sys; from edge_agent import Engine; Engine.load(sys.argv[1], learn=0).close()",
]
"""Loads the file and, where its shapes are fixed, runs zeros through it. -P: what lies in the working directory, a
downloaded model's perhaps, is not imported."""
SECONDS = 300.0


def try_file(path: Path, *, seconds: float = SECONDS) -> None:
    """Load ``path`` in a child. What a runtime refuses in words is left to the caller, who gets the same words.

    Raises:
        BackendError: the child was ended by a signal, or still loads after ``seconds``.
    """
    try:
        ended = subprocess.run(
            [*COMMAND, str(path)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise BackendError(f"{path}: its runtime was still loading it after {seconds:g} s; it was stopped") from error
    if ended.returncode < 0:
        name = signal.Signals(-ended.returncode).name
        why = "there is too little memory, or somebody ended it" if name == "SIGKILL" else "the file is damaged"
        raise BackendError(f"{path}: its runtime crashed on it ({name}): {why}")
