"""TFLite files, made by a worker process in the exporter's own environment (``tflite_worker.py``)."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from cloud_trainer.exporting.to_onnx import quiet, zeros
from shared.errors import ExportError, one_line

WORKER = Path(__file__).with_name("tflite_worker.py")
READY_SECONDS = 180.0  # imports, on a cold disk
CONVERT_SECONDS = 900.0
_PRIVATE = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")


class TfliteWorker:
    """A worker that imports while the caller still trains: start it early, then :meth:`convert`, then :meth:`close`.

    Raises:
        ExportError: ``python`` cannot be started.
    """

    def __init__(self, python: Path) -> None:
        environment = {name: value for name, value in os.environ.items() if name not in _PRIVATE}
        environment |= {"OMP_NUM_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "2", "CUDA_VISIBLE_DEVICES": ""}
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  (closed by close())
        self._answers = b""
        self._ready = False
        try:
            # -I: neither our folders nor the user's site-packages may shadow what the worker imports
            self._process = subprocess.Popen(
                [str(python), "-I", str(WORKER)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                env=environment,
            )
        except OSError as error:
            self._log.close()
            raise ExportError(f"{python}: the TFLite exporter cannot be started: {error.strerror}") from error

    def convert(self, request: dict[str, Any]) -> dict[str, Any]:
        """Send one request (see ``tflite_worker.py``), wait until its files are written, and return its answer.

        Raises:
            ExportError: with the last meaningful line of what the worker said.
        """
        if not self._ready:
            self._expect("ready", READY_SECONDS)
            self._ready = True
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
        except OSError as error:
            raise ExportError(f"the TFLite exporter ended early: {self._last_words()}") from error
        return self._expect("done", CONVERT_SECONDS)

    def close(self) -> None:
        """End the worker. Its files are whole once :meth:`convert` returned, and its own way out takes seconds."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.kill()
        self._process.wait()
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        self._process.stdout.close()
        self._log.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _expect(self, key: str, seconds: float) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self._line(seconds))
        if "error" in document:
            raise ExportError(f"TFLite export failed: {document['error']}")
        if key not in document:
            raise ExportError(f"the TFLite exporter said {document}; expected {key!r}")
        return document

    def _line(self, seconds: float) -> bytes:
        assert self._process.stdout is not None
        deadline = time.monotonic() + seconds
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while b"\n" not in self._answers:
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    raise ExportError(f"the TFLite exporter gave no answer for {seconds:.0f} s: {self._last_words()}")
                block = os.read(self._process.stdout.fileno(), 1 << 16)
                if not block:
                    raise ExportError(f"the TFLite exporter ended early: {self._last_words()}")
                self._answers += block
        line, _, self._answers = self._answers.partition(b"\n")
        return line

    def _last_words(self) -> str:
        self._log.seek(0, os.SEEK_END)
        self._log.seek(max(0, self._log.tell() - 8192))
        lines = [line.strip() for line in self._log.read().decode("utf-8", "replace").splitlines() if line.strip()]
        return lines[-1] if lines else "it said nothing"


def save_program(model: nn.Module, shape: tuple[int, ...], path: Path, *, tokens: bool = False) -> None:
    """``model`` as a ``torch.export`` program with a static batch of one, which is what the worker reads.

    Raises:
        ExportError: torch cannot capture the model.
    """
    try:
        with quiet("torch.export"):
            torch.export.save(torch.export.export(model, (zeros(shape, 1, tokens=tokens),)), path)
    except Exception as error:  # torch.export raises whatever tracing raises
        raise ExportError(f"torch.export failed: {one_line(error)}") from error


def save_calibration(x: NDArray[Any], path: Path) -> None:
    """Encoded samples (n, *input shape) for the worker."""
    np.savez(path, x=x)
