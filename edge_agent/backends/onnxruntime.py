"""ONNX Runtime on the CPU.

One sample goes through IO binding into preallocated numpy buffers (2.7 µs for a small MLP, against 4.2 µs of
``session.run`` and 32 µs of ``run_with_ort_values``); batches of another size go through ``session.run``.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from edge_agent.backends import tensors
from shared.errors import BackendError, one_line
from shared.manifest import TensorSpec, Variant

Array = NDArray[Any]

_DTYPES = {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(float16)": "float16",
    "tensor(int8)": "int8",
    "tensor(uint8)": "uint8",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
}


class OnnxRuntimeBackend:
    """See :class:`edge_agent.backends.Backend`. ``run`` may be called by several threads at once."""

    def __init__(self, variant: Variant, path: Path, *, threads: int = 1) -> None:
        self._where = str(path)
        self.lock = threading.Lock()
        self._session = self._open(path, threads)
        if len(variant.inputs) != 1:
            raise BackendError(f"{path}: the manifest names {len(variant.inputs)} inputs; one is supported")
        self._input_spec = variant.inputs[0]
        self._output_specs = variant.outputs
        (self._input_name,) = self._match(variant.inputs, self._session.get_inputs(), "input")
        self._output_names = self._match(variant.outputs, self._session.get_outputs(), "output")
        shape = tensors.single(self._input_spec)
        output_shapes = [tensors.single(spec) for spec in self._output_specs]
        if shape is None or None in output_shapes:
            raise BackendError(f"{path}: only the first dimension, the batch, may be dynamic")
        self._bind(shape, [s for s in output_shapes if s is not None])

    def _open(self, path: Path, threads: int) -> Any:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.enable_cpu_mem_arena = False  # an arena keeps the largest batch's memory for ever
        options.log_severity_level = 3
        try:
            return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise BackendError(f"{path}: onnxruntime {ort.__version__} refuses it: {one_line(error)}") from error

    def _match(self, specs: Sequence[TensorSpec], found: Sequence[Any], what: str) -> list[str]:
        """Names in the file of ``specs``, by name if all are there, else by position."""
        by_name = {node.name: node for node in found}
        if len(found) < len(specs):
            raise BackendError(f"{self._where}: has {len(found)} {what}s, but the manifest names {len(specs)}")
        nodes = [by_name[s.name] for s in specs] if all(s.name in by_name for s in specs) else found[: len(specs)]
        for spec, node in zip(specs, nodes, strict=True):
            if node.type not in _DTYPES:
                raise BackendError(f"{self._where}: {what} {node.name} of type {node.type} is not supported")
            shape = tuple(size if isinstance(size, int) else None for size in node.shape)
            tensors.check(spec, _DTYPES[node.type], shape, self._where)
        return [node.name for node in nodes]

    def _bind(self, shape: tuple[int, ...], output_shapes: Sequence[tuple[int, ...]]) -> None:
        spec = self._input_spec
        self.input = np.zeros(shape, tensors.real_dtype(spec))
        self._stored_input = np.zeros(shape, spec.dtype) if spec.scale else self.input
        self._quantize = tensors.quantizer(spec, shape) if spec.scale else None
        self._binding = self._session.io_binding()
        self._binding.bind_input(
            self._input_name, "cpu", 0, self._stored_input.dtype, list(shape), self._stored_input.ctypes.data
        )
        self.outputs: dict[str, Array] = {}
        self._dequantize = []
        self._stored_outputs = []
        for spec, name, output_shape in zip(self._output_specs, self._output_names, output_shapes, strict=True):
            stored = np.zeros(output_shape, spec.dtype)
            self._stored_outputs.append(stored)
            self._binding.bind_output(name, "cpu", 0, stored.dtype, list(output_shape), stored.ctypes.data)
            real = np.zeros(output_shape, np.float32) if spec.scale else stored
            if spec.scale:
                self._dequantize.append((tensors.dequantizer(spec), stored, real))
            self.outputs[spec.name] = real[0]

    def forward(self) -> None:
        """Run ``input`` into ``outputs``. The caller holds ``lock``."""
        if self._quantize is not None:
            self._quantize(self.input, self._stored_input)
        try:
            self._session.run_with_iobinding(self._binding)
        except Exception as error:
            raise BackendError(f"{self._where}: onnxruntime failed: {one_line(error)}") from error
        for dequantize, stored, real in self._dequantize:
            dequantize(stored, real)

    def run(self, batch: Array) -> dict[str, Array]:
        """(n, ...) → role → (n, ...)."""
        spec = self._input_spec
        if spec.scale:
            stored = np.empty(batch.shape, spec.dtype)
            tensors.quantizer(spec, batch.shape)(batch, stored)
            batch = stored
        try:
            found = self._session.run(self._output_names, {self._input_name: batch})
        except Exception as error:
            raise BackendError(f"{self._where}: onnxruntime failed: {one_line(error)}") from error
        outputs: dict[str, Array] = {}
        for output, values in zip(self._output_specs, found, strict=True):
            if output.scale:
                real = np.empty(values.shape, np.float32)
                tensors.dequantizer(output)(values, real)
                outputs[output.name] = real
            else:
                outputs[output.name] = values
        return outputs

    def close(self) -> None:
        """Free the session."""
        del self._binding, self._session
