"""A file to go on from after a kill, a power cut or Ctrl-C.

1. It is whole or not there: written aside, synced, renamed. A kill at any time leaves the one before.
2. It begins with the digest of what follows: a damaged one is noticed, and reported as unusable, never half read.
3. It names what it belongs to: configuration, data, teacher, first weights. One of another training is not used.
4. It is data: tensors, numbers and text, read with ``weights_only=True``.
"""

from __future__ import annotations

import glob
import hashlib
import io
import pickle
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from shared.errors import TrainingError
from shared.files import reason, write_atomic

MAGIC = b"sanderling-checkpoint-1\n"
DIGEST = hashlib.sha256().digest_size


class Unusable(Exception):  # noqa: N818  # no error: training starts afresh
    """Why a checkpoint can't be gone on from, in words that follow its name."""


def dump(document: dict[str, Any], identity: str) -> bytes:
    """The file's bytes. ``document``: tensors, numbers, text, lists, tuples and dicts of them."""
    buffer = io.BytesIO()
    torch.save(document | {"identity": identity}, buffer)
    body = buffer.getvalue()
    return MAGIC + hashlib.sha256(body).digest() + body


def parse(data: bytes, identity: str) -> dict[str, Any]:
    """What :func:`dump` was given.

    Raises:
        Unusable: the bytes are damaged, or of another training.
    """
    head, body = data[: len(MAGIC) + DIGEST], data[len(MAGIC) + DIGEST :]
    if not head.startswith(MAGIC):
        raise Unusable("is not a checkpoint of this version")
    if head[len(MAGIC) :] != hashlib.sha256(body).digest():
        raise Unusable("is damaged")
    try:
        document = torch.load(io.BytesIO(body), weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise Unusable("cannot be read") from error
    if not isinstance(document, dict) or document.get("identity") != identity:
        raise Unusable("belongs to another training (its data, configuration or teacher differ)")
    return document


def write(path: Path, data: bytes) -> None:
    """Replace ``path``, and make its directory where there is none.

    Raises:
        TrainingError: the disk is full or not writable; what stood there before still does.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, data)
    except OSError as error:
        raise TrainingError(
            f"{path}: the checkpoint of {len(data) / 1e6:.1f} MB cannot be written: {reason(error)}; "
            "free some space and start again: training goes on from the checkpoint before"
        ) from error


def read(path: Path) -> bytes | None:
    """The bytes, or ``None`` where there is no such file. What a kill in the middle of :func:`write` left is removed.

    Raises:
        Unusable: it is there, but cannot be read.
    """
    try:
        for aside in path.parent.glob(f".{glob.escape(path.name)}.*"):
            aside.unlink(missing_ok=True)
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Unusable(f"cannot be read: {reason(error)}") from error


def digest(parts: Iterable[Tensor | str | None]) -> str:
    """Hex SHA-256 over tensors (their dtypes, shapes and bytes) and texts, in order."""
    found = hashlib.sha256()
    for part in parts:
        if isinstance(part, Tensor):
            values = part.detach().cpu().contiguous()
            found.update(f"tensor {values.dtype} {tuple(values.shape)}\n".encode())
            found.update(values.reshape(-1).view(torch.uint8).numpy().data)
        else:
            found.update(f"text {part!r}\n".encode())
    return found.hexdigest()
