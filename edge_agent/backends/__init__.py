"""Runtimes behind one small protocol.

A backend is made for one variant. It has a fixed buffer for a single sample, so that the hot path allocates nothing,
and ``run`` for batches. Invariants, held by ``tests/edge_agent/backends``:

1. Values on both sides are real numbers (float32 or the file's own dtype): quantized files are dequantized here.
2. ``forward`` and ``run`` of the same sample agree; ``run`` gives arrays that nobody overwrites later.
3. What a runtime raises becomes ``BackendError`` with the file's name.
4. A runtime is imported when a variant needs it and not before.
"""

from __future__ import annotations

import threading
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from shared.errors import BackendError, MissingExtraError
from shared.manifest import Variant

Array = NDArray[Any]


class Backend(Protocol):
    """One variant, loaded. ``lock`` guards ``input``, ``forward`` and ``outputs`` together."""

    lock: threading.Lock
    input: Array
    """(1, ...) buffer: fill it, then call ``forward``."""
    outputs: dict[str, Array]
    """Role (``logits``, ``embedding``) → buffer of one row, without the batch axis; ``forward`` overwrites it."""

    def forward(self) -> None:
        """Run the model on ``input`` into ``outputs``. The caller holds ``lock``."""

    def run(self, batch: Array) -> dict[str, Array]:
        """(n, ...) → role → (n, ...), fresh arrays. Takes ``lock`` itself where it has to.

        Raises:
            BackendError: the runtime failed.
        """

    def close(self) -> None:
        """Free what the runtime holds. The backend is unusable afterwards."""


EXTRA = {"onnxruntime": "onnx", "litert": "tflite"}
"""Runtime → the extra that installs it."""

_PACKAGES = {
    "onnxruntime": (("onnxruntime", "onnxruntime"),),
    "litert": (("ai_edge_litert", "ai-edge-litert"), ("tflite_runtime", "tflite-runtime")),
}
_CLASSES = {
    "onnxruntime": ("edge_agent.backends.onnxruntime", "OnnxRuntimeBackend"),
    "litert": ("edge_agent.backends.litert", "LiteRtBackend"),
}


def available() -> dict[str, str]:
    """Runtime → ``package version`` of those that are installed; nothing is imported."""
    found = {}
    for runtime, packages in _PACKAGES.items():
        for module, package in packages:
            if find_spec(module) is not None:
                try:
                    found[runtime] = f"{package} {version(package)}"
                except PackageNotFoundError:
                    found[runtime] = f"{package} (unknown version)"
                break
    return found


def open_backend(variant: Variant, path: Path, *, threads: int = 1) -> Backend:
    """Load ``path`` in the runtime that ``variant`` names.

    Raises:
        MissingExtraError: the runtime is not installed.
        BackendError: the runtime is unknown, can't be imported, or refuses the file.
    """
    if variant.runtime not in _CLASSES:
        raise BackendError(f"variant {variant.id}: unknown runtime {variant.runtime!r}; known: {', '.join(_CLASSES)}")
    if variant.runtime not in available():
        raise MissingExtraError(f"variant {variant.id} ({variant.runtime})", EXTRA[variant.runtime])
    module, name = _CLASSES[variant.runtime]
    try:
        class_ = getattr(import_module(module), name)
    except (ImportError, OSError) as error:  # installed, but for another system or another numpy
        raise BackendError(f"{variant.runtime} is installed but cannot be imported: {error}") from error
    backend: Backend = class_(variant, path, threads=threads)
    return backend
