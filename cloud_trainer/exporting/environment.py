"""The Python that the TFLite exporter runs in: its pins clash with everything else (docs/adr/0001).

Looked for in this order:

1. ``SANDERLING_TFLITE_PYTHON``, an interpreter;
2. ``.venv-tflite/bin/python`` beside the running environment (what ``scripts/demo`` makes);
3. a virtual environment in the user's cache, made on first use: about 2 GB, a minute or two.
"""

from __future__ import annotations

import fcntl
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cloud_trainer.progress import Progress
from shared.errors import ExportError
from shared.files import sha256_bytes, write_atomic

VARIABLE = "SANDERLING_TFLITE_PYTHON"
REQUIREMENTS = Path(__file__).with_name("requirements-tflite.txt")
STAMP = ".complete"
NEWEST = (3, 13)


def unsupported(machine: str | None = None, version: tuple[int, int] | None = None) -> str | None:
    """Why this machine cannot export TFLite, in one line; ``None`` if it can. An interpreter that
    ``SANDERLING_TFLITE_PYTHON`` names is believed."""
    machine = machine or platform.machine()
    version = version or sys.version_info[:2]
    if os.environ.get(VARIABLE):
        return None
    if machine not in {"x86_64", "AMD64"} or sys.maxsize < 1 << 32:
        return f"the TFLite exporter has no build for {machine}: exporting ONNX only"
    if version > NEWEST:
        return f"the TFLite exporter has no build for Python {version[0]}.{version[1]}: exporting ONNX only"
    return None


def existing_python(cache: Path | None = None) -> Path | None:
    """An exporter's Python that is there already.

    Raises:
        ExportError: ``SANDERLING_TFLITE_PYTHON`` names something that is no program.
    """
    named = os.environ.get(VARIABLE)
    if named:
        path = shutil.which(named)
        if path is None:
            raise ExportError(f"{VARIABLE}={named}: no such program; name the exporter's Python or unset it")
        return Path(path)
    beside = Path(sys.prefix).parent / ".venv-tflite" / "bin" / "python"
    if beside.exists():
        return beside
    home = _cached(cache)
    return home / "bin" / "python" if (home / STAMP).exists() else None


def exporter_python(progress: Progress, cache: Path | None = None) -> Path:
    """The exporter's Python; its environment is made in the user's cache where there is none.

    Raises:
        ExportError: it cannot be made: no network, no disk, no venv module.
    """
    found = existing_python(cache)
    if found is not None:
        return found
    home = _cached(cache)
    home.parent.mkdir(parents=True, exist_ok=True)
    with _only_one(home.with_suffix(".lock")):
        if not (home / STAMP).exists():  # else somebody made it while we waited
            _make(home, progress)
    return home / "bin" / "python"


def _cached(cache: Path | None) -> Path:
    base = cache or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sanderling"
    wanted = sha256_bytes(REQUIREMENTS.read_bytes() + sys.version.encode())[:12]
    return base / f"tflite-{wanted}"


@contextmanager
def _only_one(lock: Path) -> Iterator[None]:
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _make(home: Path, progress: Progress) -> None:
    progress("environment", 0.0, f"making the TFLite exporter's environment in {home}: about 2 GB, a minute or two")
    try:
        _run([sys.executable, "-m", "venv", "--clear", str(home)], progress)
        python = str(home / "bin" / "python")
        _run([python, "-m", "pip", "install", "--no-input", "--progress-bar=off", "-r", str(REQUIREMENTS)], progress)
        write_atomic(home / STAMP, b"")
    except BaseException:
        shutil.rmtree(home, ignore_errors=True)
        raise


def _run(command: list[str], progress: Progress) -> None:
    """Run one step; pip's "Collecting" lines are shown."""
    errors: list[str] = []
    last = ""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            last = line.strip() or last
            if last.startswith("Collecting "):
                progress("environment", 0.0, last)
            if last.startswith("ERROR"):
                errors.append(last)
    if process.returncode:
        reason = (errors or [last])[0]
        raise ExportError(
            f"the TFLite exporter's environment could not be made: {reason} "
            f"(set {VARIABLE}, or leave 'litert' out of export.runtimes)"
        )
