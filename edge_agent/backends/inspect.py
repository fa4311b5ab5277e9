"""What is in a model file, by the runtime that runs it and nothing else."""

from __future__ import annotations

from pathlib import Path

from msgspec import Struct

from edge_agent.backends import RUNTIMES, load_runtime
from shared.errors import BackendError
from shared.manifest import TensorSpec


class FileSignature(Struct, frozen=True):
    """Inputs and outputs of a model file under the file's own names.

    A tensor has a batch axis when its first size is open, or is 1 and others follow. ``precision`` is that of most of
    the weights: ``fp32``, ``fp16``, ``int8`` (also where activations stay float32), ``fp64``.
    """

    runtime: str
    precision: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


def runtime_of(path: Path) -> str:
    """Name of the runtime that runs files with this suffix.

    Raises:
        BackendError: none does.
    """
    for name, runtime in RUNTIMES.items():
        if path.suffix.lower() == runtime.suffix:
            return name
    known = " or ".join(runtime.suffix for runtime in RUNTIMES.values())
    raise BackendError(f"{path}: not a model file by its name; it must end with {known}")


def inspect_file(path: Path) -> FileSignature:
    """Load ``path`` in its runtime and tell what it takes and gives.

    Known weakness: the runtimes parse the file in this process, and LiteRT trusts some of what it reads. Of damaged
    files nearly all are refused, but one whose operators carry each other's options can still crash the process.
    Packaging tries a file in a child first.

    Raises:
        MissingExtraError: its runtime is not installed.
        BackendError: no runtime has such files, or the runtime refuses this one; the message names the operator or
            type where the runtime tells it.
    """
    signature: FileSignature = load_runtime(runtime_of(path), str(path)).signature_of(path)
    return signature
