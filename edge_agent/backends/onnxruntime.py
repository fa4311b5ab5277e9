"""ONNX Runtime on the CPU.

One sample goes through IO binding into preallocated numpy buffers (2.7 µs for a small MLP, against 4.2 µs of
``session.run`` and 32 µs of ``run_with_ort_values``); everything else through ``session.run``, which any number of
threads may call at once.

Without an arena each activation is an allocation of its own, aligned, whose holes glibc before 2.38 fills badly: a
small CNN grew by 1 to 38 MiB within some thousand samples, by chance. With one, the most that any sample has needed is
kept for ever, and what is needed may depend on values. So single samples of small files have a memory pattern: one
allocation a call for what their shapes foresee, freed after it. Since a pattern is kept for every shape, batches have a
session of their own without. It is made of the very bytes that were loaded, when a batch comes, and kept from the
second batch on.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from msgspec import structs
from numpy.typing import NDArray

from edge_agent.backends import files, tensors
from edge_agent.backends.inspect import FileSignature
from edge_agent.backends.onnx_weights import precision_of
from shared.errors import BackendError, one_line
from shared.manifest import TensorSpec, Variant

Array = NDArray[Any]

_DTYPES = {f"tensor({name})": name for name in tensors.DTYPES} | {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(string)": "str",
}
PROBED = 3
"""Samples in the run that tells what an output counts."""
APART_MAX_BYTES = 8 << 20
"""Largest file that is worth a second session: its weights are there twice while batches come."""
_SILENT = 4
"""Severity below which ONNX Runtime prints nothing: what it has to say is in the exception."""


class OnnxRuntimeBackend:
    """See :class:`edge_agent.backends.Backend`. ``run`` may be called by several threads at once, without ``lock``."""

    def __init__(self, variant: Variant, path: Path, *, threads: int = 1, memory_arena: bool = False) -> None:
        files.check(path, "onnxruntime")
        self._path, self._threads, self._where = path, threads, str(path)
        self.lock = threading.Lock()
        direct = tensors.direct(variant.inputs, variant.outputs)
        self._file = _small(path) if direct and not memory_arena else None
        self._session: Any = None
        if self._file is not None:
            try:
                self._session = _open(path, threads, pattern=True, data=self._file)
            except BackendError:  # its weights lie beside it, perhaps: they are found by its path only
                self._file = None
        if self._session is None:
            self._session = _open(path, threads, arena=memory_arena, pattern=memory_arena)
        self._bulk: Any = None
        self._bulk_lock = threading.Lock()
        self._batches = 0
        inputs = [_spec(node, "input", self._where) for node in self._session.get_inputs()]
        nodes = self._session.get_outputs()
        named = {spec.name for spec in variant.outputs}
        outputs = [
            _spec(node, "output", self._where)
            for node in nodes
            if node.type in _DTYPES or node.name in named or len(nodes) <= len(named)
        ]
        of_inputs = tensors.match(variant.inputs, inputs, self._where, "input")
        of_outputs = tensors.match(variant.outputs, outputs, self._where, "output")
        self._inputs = [tensors.narrowed(s, inputs[i]) for s, i in zip(variant.inputs, of_inputs, strict=True)]
        self._outputs = [tensors.narrowed(s, outputs[i]) for s, i in zip(variant.outputs, of_outputs, strict=True)]
        self._input_names = [inputs[i].name for i in of_inputs]
        self._output_names = [outputs[i].name for i in of_outputs]
        self._loops = any(s.batch and inputs[i].shape[0] == 1 for s, i in zip(self._inputs, of_inputs, strict=True))
        self.direct = tensors.direct(self._inputs, self._outputs)
        self.input: Array = np.empty(0)
        self.outputs: dict[str, Array] = {}
        self._dequantize: list[Any] = []
        self._quantize: Any = None
        self._bound: Callable[[], Any] | None = None
        if self.direct:
            self._bind()

    def _bind(self) -> None:
        spec = self._inputs[0]
        shape = tensors.single(spec)
        assert shape is not None
        self.input = np.zeros(shape, tensors.real_dtype(spec))
        self._stored_input = np.zeros(shape, spec.dtype) if spec.scale else self.input
        self._quantize = tensors.quantizer(spec, shape) if spec.scale else None
        binding = self._session.io_binding()
        binding.bind_input(
            self._input_names[0], "cpu", 0, self._stored_input.dtype, list(shape), self._stored_input.ctypes.data
        )
        self._stored_outputs = []
        for output, name in zip(self._outputs, self._output_names, strict=True):
            shape = tensors.single(output)
            assert shape is not None
            stored = np.zeros(shape, output.dtype)
            self._stored_outputs.append(stored)
            binding.bind_output(name, "cpu", 0, stored.dtype, list(shape), stored.ctypes.data)
            real = np.zeros(shape, np.float32) if output.scale else stored
            if output.scale:
                self._dequantize.append((tensors.dequantizer(output), stored, real))
            self.outputs[output.name] = real.reshape(real.shape[1:])
        self._bound = _bound(self._session, binding)

    def forward(self) -> None:
        """Run ``input`` into ``outputs``. The caller holds ``lock``."""
        if self._quantize is not None:
            self._quantize(self.input, self._stored_input)
        try:
            self._bound()  # type: ignore[misc]  # None after close, which _failed says
        except Exception as error:
            raise self._failed(error) from error
        for dequantize, stored, real in self._dequantize:
            dequantize(stored, real)

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Whole tensors by name, as in the protocol."""
        given, rows = tensors.gather(self._inputs, feeds, self._where)
        if rows is not None and self._loops:
            found = tensors.by_row(self._call, self._inputs, self._outputs, given, rows, self._where)
        else:
            call = self._call if self._file is None or rows in {None, 1} else self._call_bulk
            found = tensors.whole(call, self._inputs, given, rows)
        return tensors.scatter(self._outputs, found, rows, self._where)

    def bare(self, feeds: Mapping[str, Array]) -> Callable[[], object]:
        """``session.run``, as in the protocol."""
        given, _ = tensors.gather(self._inputs, feeds, self._where)
        ready = dict(zip(self._input_names, given, strict=True))
        return lambda: self._session.run(self._output_names, ready)

    def _call(self, given: list[Array]) -> list[Array]:
        return self._through(self._session, given)

    def _call_bulk(self, given: list[Array]) -> list[Array]:
        with self._bulk_lock:
            session = self._bulk
            if session is None and self._session is not None:
                session = _open(self._path, self._threads, data=self._file)
                self._batches += 1
                if self._batches > 1:  # the first may be the only one: that of the self-test
                    self._bulk = session
        return self._through(session, given)

    def _through(self, session: Any, given: list[Array]) -> list[Array]:
        try:
            found: list[Array] = session.run(self._output_names, dict(zip(self._input_names, given, strict=True)))
        except Exception as error:
            raise self._failed(error) from error
        return found

    def _failed(self, error: Exception) -> BackendError:
        if self._session is None:
            return BackendError(f"{self._where}: closed")
        return BackendError(f"{self._where}: onnxruntime failed: {_said(error)}")

    def close(self) -> None:
        """Free the sessions; a call of another thread that is under way ends first."""
        with self._bulk_lock, self.lock:
            self._bound = self._session = self._bulk = None


def signature_of(path: Path) -> FileSignature:
    """See :func:`edge_agent.backends.inspect.inspect_file`."""
    session = _open(path, 1)
    where = str(path)
    inputs = tuple(_spec(node, "input", where) for node in session.get_inputs())
    outputs = tuple(_spec(node, "output", where) for node in session.get_outputs())
    counting = _counting_something_else(session, inputs, outputs)
    return FileSignature(
        runtime="onnxruntime",
        precision=precision_of(path),
        inputs=inputs,
        outputs=tuple(structs.replace(s, batch=s.batch and s.name not in counting) for s in outputs),
    )


def _counting_something_else(
    session: Any, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]
) -> frozenset[str]:
    """Outputs whose open first size is not the number of samples, but e.g. that of the boxes found.

    Exporters give the batch one name in inputs and outputs, or every open size a name of its own: then a run of zeros
    tells, where the other sizes are known.
    """
    batch_names = {node.shape[0] for node in session.get_inputs() if node.shape and not isinstance(node.shape[0], int)}
    doubtful = frozenset(
        node.name
        for node in session.get_outputs()
        if node.shape and not isinstance(node.shape[0], int) and (not node.shape[0] or node.shape[0] not in batch_names)
    )
    if not doubtful or not batch_names:
        return doubtful
    if any(spec.dtype == "str" or None in spec.shape[spec.batch :] for spec in inputs):
        return frozenset()
    zeros = {s.name: np.zeros([PROBED if size is None else size for size in s.shape], s.dtype) for s in inputs}
    names = [spec.name for spec in outputs]
    try:
        found = dict(zip(names, session.run(names, zeros), strict=True))
    except Exception:  # zeros mean nothing to it; the first real sample will tell what is wrong
        return frozenset()
    return frozenset(name for name in doubtful if len(found[name]) != PROBED)


def _bound(session: Any, binding: Any) -> Callable[[], Any]:
    """``session.run_with_iobinding(binding)``, where possible without what its Python part does for other devices at
    each call: that is a fifth of the time of a small network. The names that it goes by are private, so it is tried
    once, and the public way taken where they are others."""
    direct, inner = getattr(session, "_sess", None), getattr(binding, "_iobinding", None)
    if direct is not None and inner is not None:
        call = partial(direct.run_with_iobinding, inner, None)
        try:
            call()
        except (TypeError, AttributeError):  # another signature
            return partial(session.run_with_iobinding, binding)
        except Exception:  # the network's own: zeros mean nothing to it
            return call
        return call
    return partial(session.run_with_iobinding, binding)


def _small(path: Path) -> bytes | None:
    """The bytes of a file that is worth a second session."""
    try:
        return path.read_bytes() if path.stat().st_size <= APART_MAX_BYTES else None
    except OSError:
        return None  # opening it will say what is wrong


def _open(path: Path, threads: int, *, arena: bool = False, pattern: bool = False, data: bytes | None = None) -> Any:
    """A session of the file, or of its ``data`` as they were read."""
    if data is None:
        files.check(path, "onnxruntime")
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.enable_cpu_mem_arena = arena  # it keeps the largest batch's memory for ever
    options.enable_mem_pattern = pattern  # one for every shape it has seen, also without an arena
    options.log_severity_level = _SILENT
    try:
        return ort.InferenceSession(
            str(path) if data is None else data,
            options,
            providers=["CPUExecutionProvider"],
            enable_fallback=0,  # it would print, and try the same again
        )
    except Exception as error:
        raise BackendError(f"{path}: onnxruntime {ort.__version__} refuses it: {_said(error)}") from error


def _spec(node: Any, side: str, where: str) -> TensorSpec:
    if node.type not in _DTYPES:
        advice = "convert the model again without it"
        if node.type.startswith("seq(map("):
            advice = "convert the classifier again with options={'zipmap': False}"
        raise BackendError(f"{where}: {side} {node.name} is a {node.type}, and only tensors are supported; {advice}")
    shape = tuple(size if isinstance(size, int) else None for size in node.shape)
    batch = bool(shape) and (shape[0] is None or (shape[0] == 1 and len(shape) > 1))
    return tensors.bounded(TensorSpec(node.name, _DTYPES[node.type], shape, batch=batch), where)


def _said(error: Exception) -> str:
    """What ONNX Runtime said, without its codes and the path, which stands in front already."""
    text = re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", one_line(error))
    return re.sub(r"^Load model from .*? failed:", "", text)
