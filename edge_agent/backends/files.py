"""Which file is whose, by its first bytes: a swapped, empty or foreign file is named before a runtime chokes on it."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

from shared.errors import BackendError
from shared.manifest import FILE_MAX_BYTES

_TFLITE = b"TFL3"  # the file identifier of the flatbuffer schema, at offset 4
_SUBGRAPHS = 8  # bytes into the root's table of field offsets: two sizes, version, operator_codes, subgraphs
_FOREIGN = {
    b"PK\x03\x04": "a zip archive (a PyTorch checkpoint, a Keras file?)",
    b"\x89HDF": "an HDF5 file (Keras?)",
    b"\x80\x02": "a pickle",
    b"\x80\x04": "a pickle",
    b"\x80\x05": "a pickle",
    b"\x93NUMPY": "a numpy array",
    b"\x1f\x8b": "a gzip archive",
    b"GGUF": "a GGUF file",
    b"version https://git-lfs": "a pointer of git LFS; fetch the file itself (git lfs pull)",
}


def check(path: Path, runtime: str) -> None:
    """``path`` must be a file that could be ``runtime``'s.

    Raises:
        BackendError: it is missing, empty, too big, another runtime's or no model at all.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(32)
            whole = runtime != "litert" or head[4:8] != _TFLITE or _has_graph(file, head)
    except OSError as error:
        raise BackendError(f"{path}: cannot be read: {error.strerror or error}") from error
    if not size:
        raise BackendError(f"{path}: the file is empty")
    if size > FILE_MAX_BYTES:
        raise BackendError(f"{path}: {size} bytes; models of at most {FILE_MAX_BYTES} bytes are supported")
    kind = next((name for magic, name in _FOREIGN.items() if head.startswith(magic)), None)
    if kind is not None:
        raise BackendError(f"{path}: {runtime} refuses it: it is {kind}, no model of this runtime")
    is_tflite = head[4:8] == _TFLITE
    if runtime == "onnxruntime" and is_tflite:
        raise BackendError(f"{path}: onnxruntime refuses it: it is a TFLite model; name it .tflite")
    if runtime == "litert" and not is_tflite:
        other = "it looks like an ONNX model; name it .onnx" if _onnx(head) else "it is no TFLite model"
        raise BackendError(f"{path}: LiteRT refuses it: {other}")
    if not whole:
        raise BackendError(f"{path}: LiteRT refuses it: the file is damaged or cut short: it has no graph")


def identity(path: Path) -> tuple[int, int, int] | None:
    """What changes when a file is written again or replaced; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def _onnx(head: bytes) -> bool:
    """A protobuf message whose first field is ``ir_version`` (1, a small number)."""
    return len(head) > 2 and head[0] == 0x08 and 1 <= head[1] <= 20


def _has_graph(file: BinaryIO, head: bytes) -> bool:
    """Whether the root table has a vector of subgraphs: interpreters take for granted that it has, and crash.

    Layout as in flatbuffers.dev, Internals: the root's offset, at the root minus the distance to its table of field
    offsets, ``subgraphs`` the third of them.
    """
    try:
        (root,) = struct.unpack_from("<I", head)
        (distance,) = _read(file, root, "<i")
        (length,) = _read(file, root - distance, "<H")
        if length < _SUBGRAPHS + 2:
            return False
        (field,) = _read(file, root - distance + _SUBGRAPHS, "<H")
        (vector,) = _read(file, root + field, "<I")
        (count,) = _read(file, root + field + vector, "<I")
    except (struct.error, OSError, ValueError):
        return False
    return bool(field and count)


def _read(file: BinaryIO, offset: int, layout: str) -> tuple[int, ...]:
    file.seek(offset)
    return struct.unpack(layout, file.read(struct.calcsize(layout)))
