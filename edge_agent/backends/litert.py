"""LiteRT, or its predecessor ``tflite_runtime``, on the CPU.

A single sample is written and read where the interpreter keeps it: tensors of fixed shape stay where they are once
allocated. Files with an open batch axis are resized for a batch, in an interpreter of its own where single samples use
the first one's memory; it is made when a batch comes, kept from the second batch on, and keeps the last size. Files
with a batch of one, and those that can't be resized after all (XNNPACK refuses some; others have the batch of one in a
constant), are run row by row.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_agent.backends import files, tensors
from edge_agent.backends.inspect import FileSignature
from edge_agent.backends.litert_graph import REFUSALS, Graph, said
from shared.errors import BackendError
from shared.manifest import TensorSpec, Variant

Array = NDArray[Any]

ROWS_PER_LOCK = 16
"""A bulk run gives way to single samples after so many rows."""


class LiteRtBackend:
    """See :class:`edge_agent.backends.Backend`. An interpreter runs one call at a time: ``lock`` is held meanwhile, but
    not for batches of a file that has an interpreter for them."""

    def __init__(self, variant: Variant, path: Path, *, threads: int = 1, memory_arena: bool = False) -> None:
        del memory_arena  # LiteRT plans its memory once for each shape and frees what it had before
        self._path, self._threads, self._where = path, threads, str(path)
        self.lock = threading.Lock()
        self._graph: Graph | None = None
        self._bulk: Graph | None = None
        self._bulk_lock = threading.Lock()
        self._batches = 0
        self._identity = files.identity(path)
        graph = Graph(path, threads)
        of_inputs = tensors.match(variant.inputs, graph.inputs, self._where, "input")
        of_outputs = tensors.match(variant.outputs, graph.outputs, self._where, "output")
        self._order = (of_inputs, of_outputs)
        graph.select(*self._order)
        self._inputs = [self._merged(*pair) for pair in zip(variant.inputs, graph.inputs, strict=True)]
        self._outputs = [self._merged(*pair) for pair in zip(variant.outputs, graph.outputs, strict=True)]
        open_axes = [
            found.shape[0] is None for spec, found in zip(self._inputs, graph.inputs, strict=True) if spec.batch
        ]
        self._resizable = bool(open_axes) and all(open_axes)
        self._graph = graph
        self.direct = tensors.direct(self._inputs, self._outputs)
        self.input: Array = np.empty(0)
        self.outputs: dict[str, Array] = {}
        self._dequantize: list[Any] = []
        self._quantize: Any = None
        if self.direct:
            self._bind(graph)

    def _merged(self, spec: TensorSpec, found: TensorSpec) -> TensorSpec:
        """What the manifest says, with what only the file knows."""
        zero_point = found.zero_point or 0
        if spec.scale is not None and (
            not np.isclose(spec.scale, found.scale or 0, rtol=1e-5) or (spec.zero_point or 0) != zero_point
        ):
            raise BackendError(
                f"{self._where}: {spec.name} is quantized with scale {found.scale or 0:g}, zero point {zero_point} in "
                f"the file, but the manifest says {spec.scale}, {spec.zero_point}"
            )
        narrowed = tensors.narrowed(spec, found)
        return msgspec.structs.replace(narrowed, scale=spec.scale or found.scale, zero_point=zero_point)

    def _bind(self, graph: Graph) -> None:
        spec = self._inputs[0]
        shape = tensors.single(spec)
        assert shape is not None
        try:
            graph.fit([shape])
            (self._stored_input,), _ = graph.memory()
            self._stored_input[...] = 0
            graph.invoke()  # outputs may move once, when the first run plans memory
            _, stored_outputs = graph.memory()
        except REFUSALS as error:
            raise self._failed(error) from error
        if any(stored.shape != tensors.single(s) for s, stored in zip(self._outputs, stored_outputs, strict=True)):
            self.direct = False  # the file's shapes are no promise: an output takes its size from the values
            self._stored_input = np.empty(0)
            return
        self.input = np.zeros(shape, np.float32) if spec.scale else self._stored_input
        self._quantize = tensors.quantizer(spec, shape) if spec.scale else None
        for output, stored in zip(self._outputs, stored_outputs, strict=True):
            real = np.zeros(stored.shape, np.float32) if output.scale else stored
            if output.scale:
                self._dequantize.append((tensors.dequantizer(output), stored, real))
            self.outputs[output.name] = real.reshape(real.shape[1:])
        self._invoke = graph.invoke

    def forward(self) -> None:
        """Run ``input`` into ``outputs``. The caller holds ``lock``."""
        if self._quantize is not None:
            self._quantize(self.input, self._stored_input)
        try:
            self._invoke()
        except (ValueError, RuntimeError) as error:
            raise self._failed(error) from error
        for dequantize, stored, real in self._dequantize:
            dequantize(stored, real)

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Whole tensors by name, as in the protocol."""
        given, rows = tensors.gather(self._inputs, feeds, self._where)
        if rows is not None and rows > 1 and self._resizable:
            found = self._batch(given, rows)
        else:
            found = self._rows(given, rows)
        return tensors.scatter(self._outputs, found, rows, self._where)

    def bare(self, feeds: Mapping[str, Array]) -> Callable[[], object]:
        """``set_tensor``, ``invoke``, ``get_tensor``, as in the protocol."""
        given, _ = tensors.gather(self._inputs, feeds, self._where)

        def call() -> object:
            with self.lock:
                if self._graph is None:
                    raise self._failed()
                return _through(self._graph, given)

        return call

    def _rows(self, given: list[Array], rows: int | None) -> list[Array]:
        if rows is None:
            return self._call(given)
        if not self.direct:
            return tensors.by_row(self._call, self._inputs, self._outputs, given, rows, self._where)
        (batch,) = given
        with self.lock:
            if self._graph is None:
                raise self._failed()
            stored = self._graph.memory()
            found = [np.empty((rows, *values.shape[1:]), values.dtype) for values in stored[1]]
        for start in range(0, rows, ROWS_PER_LOCK):
            with self.lock:
                if self._graph is None:
                    raise self._failed()
                for i in range(start, min(start + ROWS_PER_LOCK, rows)):
                    stored[0][0][0] = batch[i]
                    try:
                        self._invoke()
                    except (ValueError, RuntimeError) as error:
                        raise self._failed(error) from error
                    for values, row in zip(found, stored[1], strict=True):
                        values[i] = row[0]
        return found

    def _call(self, given: list[Array]) -> list[Array]:
        """Once through the first interpreter."""
        with self.lock:
            if self._graph is None:
                raise self._failed()
            try:
                return _through(self._graph, given)
            except REFUSALS as error:
                self._graph = self._reopened()  # half-resized, it would refuse everything from now on
                raise self._failed(error) from error

    def _batch(self, given: list[Array], rows: int) -> list[Array]:
        """A whole batch at once, or row by row where the file can't do that after all."""
        try:
            found = self._call(given) if not self.direct else self._call_bulk(given)
            if all(len(values) == rows for s, values in zip(self._outputs, found, strict=True) if s.batch):
                return found
        except BackendError:
            if self._graph is None:
                raise
        found = self._rows(given, rows)
        self._resizable, self._bulk = False, None
        return found

    def _call_bulk(self, given: list[Array]) -> list[Array]:
        with self._bulk_lock:
            if self._graph is None:
                raise self._failed()
            graph = self._bulk or self._reopened()
            self._batches += 1
            if self._batches > 1:  # the first may be the only one: that of the self-test
                self._bulk = graph
            try:
                return _through(graph, given)
            except REFUSALS as error:
                self._bulk = None
                raise self._failed(error) from error

    def _reopened(self) -> Graph:
        if files.identity(self._path) != self._identity:
            raise BackendError(f"{self._where}: is gone or another file than the one that was loaded; load it again")
        graph = Graph(self._path, self._threads)
        graph.select(*self._order)
        return graph

    def _failed(self, error: Exception | None = None) -> BackendError:
        if error is None or self._graph is None:
            return BackendError(f"{self._where}: closed")
        return BackendError(f"{self._where}: LiteRT failed: {said(error)}")

    def close(self) -> None:
        """Free the interpreters; arrays that point into them go first."""
        with self._bulk_lock, self.lock:
            self.outputs = {}
            self._dequantize = []
            self.input = self._stored_input = np.empty(0)
            self._invoke = self._refused
            self._graph = self._bulk = None

    def _refused(self) -> None:
        raise RuntimeError("closed")


def _through(graph: Graph, given: list[Array]) -> list[Array]:
    graph.fit([values.shape for values in given])
    return graph.call(given)


def signature_of(path: Path) -> FileSignature:
    """See :func:`edge_agent.backends.inspect.inspect_file`."""
    graph = Graph(path, 1)
    return FileSignature("litert", graph.precision, tuple(graph.inputs), tuple(graph.outputs))
