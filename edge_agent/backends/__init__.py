"""Runtimes behind one small protocol.

A backend is made for one variant: ``run`` takes every input as a whole tensor, for any number of samples. Where a model
has one input and nothing about a sample is dynamic, it also has a fixed buffer for a single one, so that the hot path
allocates nothing. Invariants, held by ``tests/edge_agent/backends/test_conformance.py`` for every backend:

1. Values on both sides are real numbers (float32 or the file's own dtype): quantized files are dequantized here.
2. ``forward`` and ``run`` of the same sample agree; ``run`` gives arrays that nobody overwrites later.
3. What a runtime raises becomes ``BackendError`` with the file's name, in one line.
4. A runtime is imported when a variant needs it and not before.

To add a backend, write one file and add its line to :data:`RUNTIMES`. The file has the class, made with ``(variant,
path, *, threads, memory_arena)`` and raising ``BackendError`` for a file that it can't run, and a function
``signature_of(path)`` that gives what :func:`edge_agent.backends.inspect.inspect_file` does. :mod:`tensors` has what
all of them need: checks against the manifest, quantization, the loop over rows for files with a batch of one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from msgspec import Struct
from numpy.typing import NDArray

from shared.errors import BackendError, MissingExtraError
from shared.manifest import Variant

Array = NDArray[Any]


class Backend(Protocol):
    """One variant, loaded. ``lock`` guards ``input``, ``forward`` and ``outputs`` together."""

    lock: threading.Lock
    direct: bool
    """One input and any outputs, all numbers of fixed shape with a batch axis: ``input``, ``forward`` and ``outputs``
    may be used. Otherwise there is ``run`` alone."""
    input: Array
    """(1, ...) buffer: fill it, then call ``forward``."""
    outputs: dict[str, Array]
    """Name of an output → buffer of one row, without the batch axis; ``forward`` overwrites it."""

    def forward(self) -> None:
        """Run the model on ``input`` into ``outputs``. The caller holds ``lock``.

        Raises:
            BackendError: the runtime failed.
        """

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Name of each input → its whole tensor; gives name of each output → its whole tensor, in the manifest's order.

        Inputs with a batch axis are (n, ...) with one n, which may be 0; so are such outputs. The others go in and come
        out as they are; a file that takes one sample a call gives those of its last call. Real values in the file's
        dtypes (float32 for quantized tensors, objects that are ``str`` for text), in arrays that nobody else has. Takes
        ``lock`` itself where the runtime needs it, so the caller must not hold it.

        Raises:
            BackendError: an input is missing or of another dtype or shape, or the runtime failed.
        """

    def bare(self, feeds: Mapping[str, Array]) -> Callable[[], object]:
        """The runtime's own call on ``feeds`` of one sample, checked and converted once: what a user of the runtime
        alone would time. The caller must not hold ``lock``."""

    def close(self) -> None:
        """Free what the runtime holds; closing twice is harmless. Later calls raise ``BackendError``."""


class Runtime(Struct, frozen=True):
    """A line of the registry: where the backend is, how its files end, and what installs it."""

    module: str
    class_name: str
    suffix: str
    extra: str
    packages: tuple[tuple[str, str], ...]
    """(import name, distribution) of each package that serves, the best first."""


RUNTIMES = {
    "onnxruntime": Runtime(
        "edge_agent.backends.onnxruntime", "OnnxRuntimeBackend", ".onnx", "onnx", (("onnxruntime", "onnxruntime"),)
    ),
    "litert": Runtime(
        "edge_agent.backends.litert",
        "LiteRtBackend",
        ".tflite",
        "tflite",
        (("ai_edge_litert", "ai-edge-litert"), ("tflite_runtime", "tflite-runtime")),
    ),
}
EXTRA = {name: runtime.extra for name, runtime in RUNTIMES.items()}
"""Runtime → the extra that installs it."""


def available() -> dict[str, str]:
    """Runtime → ``package version`` of those that are installed; nothing is imported."""
    found = {}
    for name, runtime in RUNTIMES.items():
        for module, package in runtime.packages:
            if find_spec(module) is not None:
                found[name] = f"{package} {_version(module, package) or '(unknown version)'}"
                break
    return found


def _version(module: str, package: str) -> str | None:
    """Of an installed package, by the name of its folder: ``importlib.metadata`` would read a mail header for it, and
    is 3 MiB for good. It is asked where there is no such folder beside the module."""
    spec = find_spec(module)
    for place in (spec and spec.submodule_search_locations) or ():
        for folder in Path(place).parent.glob(f"{package.replace('-', '_')}-*.dist-info"):
            return folder.name.removesuffix(".dist-info").rpartition("-")[2]
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return None


def load_runtime(name: str, what: str) -> Any:
    """The module of the runtime called ``name``, imported now; ``what`` needs it, for the message.

    Raises:
        MissingExtraError: the runtime is not installed.
        BackendError: the runtime is unknown or can't be imported.
    """
    if name not in RUNTIMES:
        raise BackendError(f"{what}: unknown runtime {name!r}; known: {', '.join(RUNTIMES)}")
    if name not in available():
        raise MissingExtraError(f"{what} ({name})", RUNTIMES[name].extra)
    try:
        return import_module(RUNTIMES[name].module)
    except (ImportError, OSError) as error:  # installed, but for another system or another numpy
        raise BackendError(f"{name} is installed but cannot be imported: {error}") from error


def open_backend(variant: Variant, path: Path, *, threads: int = 1, memory_arena: bool = False) -> Backend:
    """Load ``path`` in the runtime that ``variant`` names.

    ``memory_arena``: let the runtime keep the memory of the largest call for the next one, where it can. Saves some
    allocations, and never gives memory back.

    Raises:
        MissingExtraError: the runtime is not installed.
        BackendError: the runtime is unknown, can't be imported, or refuses the file.
    """
    module = load_runtime(variant.runtime, f"variant {variant.id}")
    class_ = getattr(module, RUNTIMES[variant.runtime].class_name)
    try:
        backend: Backend = class_(variant, path, threads=threads, memory_arena=memory_arena)
    except MemoryError as error:
        raise BackendError(f"{path}: needs more memory than there is") from error
    return backend
