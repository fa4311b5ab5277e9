"""LiteRT (``ai_edge_litert``), or its predecessor ``tflite_runtime`` on 32-bit ARM.

Files have a fixed batch of one (XNNPACK refuses to resize these), so a batch is a loop. Inputs and outputs are written
and read where the interpreter keeps them: its tensors of fixed shape stay where they are once allocated.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.backends import tensors
from shared.errors import BackendError, one_line
from shared.manifest import TensorSpec, Variant

try:
    from ai_edge_litert.interpreter import Interpreter
except ImportError:
    from tflite_runtime.interpreter import Interpreter

Array = NDArray[Any]

ROWS_PER_LOCK = 16
"""A bulk run gives way to single samples after so many rows."""


class LiteRtBackend:
    """See :class:`edge_agent.backends.Backend`. Everything that runs the interpreter holds ``lock``."""

    def __init__(self, variant: Variant, path: Path, *, threads: int = 1) -> None:
        self._where = str(path)
        self.lock = threading.Lock()
        if len(variant.inputs) != 1:
            raise BackendError(f"{path}: the manifest names {len(variant.inputs)} inputs; one is supported")
        try:
            self._interpreter = Interpreter(model_path=str(path), num_threads=threads)
            self._interpreter.allocate_tensors()
            inputs, outputs = self._details()
        except (ValueError, RuntimeError, KeyError) as error:
            raise BackendError(f"{path}: LiteRT refuses it: {one_line(error)}") from error
        if len(inputs) < 1 or len(outputs) < len(variant.outputs):
            raise BackendError(
                f"{path}: has {len(inputs)} inputs and {len(outputs)} outputs, but the manifest names "
                f"{len(variant.inputs)} and {len(variant.outputs)}"
            )
        self._input_spec = self._checked(variant.inputs[0], inputs[0])
        self._output_specs = [self._checked(s, d) for s, d in zip(variant.outputs, outputs, strict=False)]
        self._invoke = self._interpreter.invoke
        self._allocate(inputs[0]["index"], [d["index"] for d in outputs])

    def _details(self) -> tuple[list[Any], list[Any]]:
        """Details of inputs and outputs in the signature's order; a file without a signature keeps the graph's."""
        signatures = self._interpreter.get_signature_list()
        if not signatures:
            return self._interpreter.get_input_details(), self._interpreter.get_output_details()
        key = next(iter(signatures))
        runner = self._interpreter.get_signature_runner(key)
        by_name = (runner.get_input_details(), runner.get_output_details())
        inputs, outputs = (
            [details[name] for name in sorted(signatures[key][side], key=_natural)]
            for details, side in zip(by_name, ("inputs", "outputs"), strict=True)
        )
        return inputs, outputs

    def _checked(self, spec: TensorSpec, detail: Any) -> TensorSpec:
        tensors.check(spec, detail["dtype"], tuple(int(size) for size in detail["shape"]), self._where)
        scale, zero_point = detail["quantization"]
        if spec.scale is not None:
            if not np.isclose(spec.scale, scale, rtol=1e-5) or (spec.zero_point or 0) != zero_point:
                raise BackendError(
                    f"{self._where}: {spec.name} is quantized with scale {scale:g}, zero point {zero_point} in the "
                    f"file, but the manifest says {spec.scale}, {spec.zero_point}"
                )
            return spec
        return TensorSpec(spec.name, spec.dtype, spec.shape, float(scale) or None, int(zero_point))

    def _allocate(self, input_index: int, output_indices: Sequence[int]) -> None:
        self._stored_input = self._direct(input_index)
        shape = self._stored_input.shape
        self._stored_input[...] = 0
        self._run()  # outputs may move once, when the first run plans memory
        spec = self._input_spec
        self.input = np.zeros(shape, np.float32) if spec.scale else self._stored_input
        self._quantize = tensors.quantizer(spec, shape) if spec.scale else None
        self.outputs: dict[str, Array] = {}
        self._dequantize = []
        for output, index in zip(self._output_specs, output_indices, strict=False):
            stored = self._direct(index)
            if output.scale:
                real = np.zeros(stored.shape, np.float32)
                self._dequantize.append((tensors.dequantizer(output), stored, real))
                self.outputs[output.name] = real[0]
            else:
                self.outputs[output.name] = stored[0]

    def _direct(self, index: int) -> Array:
        """The interpreter's own memory of a tensor, as an array that it does not count as a reference: it refuses to
        run while a view made by ``tensor()`` is alive."""
        view = self._interpreter.tensor(index)()
        address, shape, dtype, size = view.ctypes.data, view.shape, view.dtype, view.nbytes
        del view
        memory = (ctypes.c_char * size).from_address(address)
        return np.frombuffer(memory, dtype=dtype).reshape(shape)

    def _run(self) -> None:
        try:
            self._invoke()
        except (ValueError, RuntimeError) as error:
            raise BackendError(f"{self._where}: LiteRT failed: {one_line(error)}") from error

    def forward(self) -> None:
        """Run ``input`` into ``outputs``. The caller holds ``lock``."""
        if self._quantize is not None:
            self._quantize(self.input, self._stored_input)
        self._run()
        for dequantize, stored, real in self._dequantize:
            dequantize(stored, real)

    def run(self, batch: Array) -> dict[str, Array]:
        """(n, ...) → role → (n, ...)."""
        found = {role: np.empty((len(batch), *row.shape), row.dtype) for role, row in self.outputs.items()}
        for start in range(0, len(batch), ROWS_PER_LOCK):
            with self.lock:
                for i in range(start, min(start + ROWS_PER_LOCK, len(batch))):
                    self.input[0] = batch[i]
                    self.forward()
                    for role, row in self.outputs.items():
                        found[role][i] = row
        return found

    def close(self) -> None:
        """Free the interpreter; arrays that point into it go first."""
        self.outputs = {}
        self._dequantize = []
        self.input = self._stored_input = np.empty(0)
        del self._invoke, self._interpreter


def _natural(name: str) -> tuple[str, int]:
    """``output_10`` after ``output_9``."""
    stem = name.rstrip("0123456789")
    return stem, int(name[len(stem) :] or -1)
