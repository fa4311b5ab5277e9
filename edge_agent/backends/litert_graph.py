"""One interpreter of LiteRT (``ai_edge_litert``), or of its predecessor ``tflite_runtime`` on 32-bit ARM."""

from __future__ import annotations

import ctypes
from collections import Counter
from collections.abc import Iterator, Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.backends import files
from edge_agent.backends.tensors import DTYPES, TEXT, bounded
from shared.errors import BackendError, one_line
from shared.manifest import TensorSpec

try:
    from ai_edge_litert.interpreter import Interpreter
except ImportError:
    from tflite_runtime.interpreter import Interpreter

Array = NDArray[Any]

LEGACY = Interpreter.__module__.startswith("tflite_runtime")
"""Whether this is ``tflite_runtime``."""
REFUSALS = (ValueError, RuntimeError, KeyError, MemoryError, OverflowError, TypeError)
"""What an interpreter raises for a file or a call that it can't run."""


class Graph:
    """The first subgraph of a file with its memory, for one thread at a time.

    ``inputs`` and ``outputs`` are under the names and in the order of the file's signature; a file without one keeps
    the graph's.
    """

    def __init__(self, path: Path, threads: int) -> None:
        self._where = str(path)
        files.check(path, "litert")
        try:
            self._interpreter = Interpreter(model_path=str(path), num_threads=threads)
            operators = list(_operators(self._interpreter))
            if LEGACY:
                _refuse_hybrid(operators, self._where)
            self.precision = _precision(operators)
            _refuse_huge(self._interpreter.get_tensor_details(), self._where)
            self._interpreter.allocate_tensors()
            inputs, outputs = self._details()
        except REFUSALS as error:
            raise BackendError(f"{path}: LiteRT refuses it: {said(error)}") from error
        self.inputs = [self._spec(name, detail) for name, detail in inputs]
        self.outputs = [self._spec(name, detail) for name, detail in outputs]
        self._input_indices = [detail["index"] for _, detail in inputs]
        self._output_indices = [detail["index"] for _, detail in outputs]
        self._shapes = [tuple(int(size) for size in detail["shape"]) for _, detail in inputs]
        self.invoke = self._interpreter.invoke

    def _details(self) -> tuple[list[tuple[str, Any]], list[tuple[str, Any]]]:
        plain = (self._interpreter.get_input_details(), self._interpreter.get_output_details())
        for key, names in self._interpreter.get_signature_list().items():
            runner = self._interpreter.get_signature_runner(key)
            by_name = (runner.get_input_details(), runner.get_output_details())
            found = [
                [(name, details[name]) for name in sorted(names[side], key=_natural)]
                for details, side in zip(by_name, ("inputs", "outputs"), strict=True)
            ]
            # a signature of another subgraph has tensors of its own
            if all({_key(d) for _, d in a} <= {_key(d) for d in b} for a, b in zip(found, plain, strict=True)):
                return found[0], found[1]
        return [(d["name"], d) for d in plain[0]], [(d["name"], d) for d in plain[1]]

    def _spec(self, name: str, detail: Any) -> TensorSpec:
        dtype = np.dtype(detail["dtype"])
        kind = TEXT if dtype.kind in "SUO" else dtype.name
        if kind not in DTYPES:
            raise BackendError(f"{self._where}: {name} is a {kind} tensor, which is not supported")
        signature = detail.get("shape_signature", detail["shape"])
        sizes = signature if len(signature) == len(detail["shape"]) else detail["shape"]
        shape = tuple(None if size < 0 else int(size) for size in sizes)
        batch = bool(shape) and (shape[0] is None or (shape[0] == 1 and len(shape) > 1))
        scale, zero_point = detail["quantization"]
        if not scale or kind not in {"int8", "uint8", "int16"}:
            return bounded(TensorSpec(name, kind, shape, batch=batch), self._where)
        return bounded(TensorSpec(name, kind, shape, float(scale), int(zero_point), batch=batch), self._where)

    def select(self, inputs: Sequence[int], outputs: Sequence[int]) -> None:
        """Take and give these tensors, by position, in this order from now on."""
        self.inputs, self.outputs = [self.inputs[i] for i in inputs], [self.outputs[i] for i in outputs]
        self._input_indices = [self._input_indices[i] for i in inputs]
        self._output_indices = [self._output_indices[i] for i in outputs]
        self._shapes = [self._shapes[i] for i in inputs]

    def fit(self, shapes: Sequence[tuple[int, ...]]) -> None:
        """Make the inputs, in order, of these shapes; does nothing where they are so already.

        Raises:
            ValueError, RuntimeError: the interpreter can't; it is of no use any more.
        """
        if list(shapes) == self._shapes:
            return
        self._shapes = []
        for index, shape in zip(self._input_indices, shapes, strict=True):
            self._interpreter.resize_tensor_input(index, shape)
        self._interpreter.allocate_tensors()
        self._shapes = list(shapes)

    def call(self, given: Sequence[Array]) -> list[Array]:
        """Set the inputs, run, and copy the outputs, all in order. ``fit`` it first.

        Raises:
            ValueError, RuntimeError: the interpreter can't.
        """
        for index, values in zip(self._input_indices, given, strict=True):
            self._interpreter.set_tensor(index, np.asarray(values, np.str_) if values.dtype == object else values)
        self.invoke()
        return [_decoded(self._interpreter.get_tensor(index)) for index in self._output_indices]

    def memory(self) -> tuple[list[Array], list[Array]]:
        """Where the inputs and outputs lie, valid while shapes are the same; outputs may move in the first run."""
        return [self._memory(i) for i in self._input_indices], [self._memory(i) for i in self._output_indices]

    def _memory(self, index: int) -> Array:
        """The interpreter's own memory of a tensor, as an array that it does not count as a reference: it refuses to
        run while a view made by ``tensor()`` is alive."""
        view = self._interpreter.tensor(index)()
        address, shape, dtype, size = view.ctypes.data, view.shape, view.dtype, view.nbytes
        del view
        memory = (ctypes.c_char * size).from_address(address)
        return np.frombuffer(memory, dtype=dtype).reshape(shape)


def said(error: Exception) -> str:
    """What the interpreter said; where memory is short it raises an error without a word."""
    return one_line(error) if str(error) else "it gives no reason; most likely there is too little memory"


def _operators(interpreter: Any) -> Iterator[tuple[str, list[Any], list[Any], set[int]]]:
    """(name, inputs, outputs, indices of all constants) of each operator of the main graph, with tensor details."""
    details = {detail["index"]: detail for detail in interpreter.get_tensor_details()}
    operators = interpreter._get_ops_details()  # noqa: SLF001  (there is no public way to the operators)
    made = {int(i) for operator in operators for i in operator["outputs"]}
    made |= {int(detail["index"]) for detail in interpreter.get_input_details()}
    constant = set(details) - made
    for operator in operators:
        sides = [[details[int(i)] for i in operator[side] if int(i) in details] for side in ("inputs", "outputs")]
        yield operator["op_name"], sides[0], sides[1], constant


def _refuse_hybrid(operators: Sequence[tuple[str, list[Any], list[Any], set[int]]], where: str) -> None:
    """tflite_runtime 2.14 computes operators with float32 activations and int8 weights wrong, and says nothing."""
    for name, inputs, outputs, constant in operators:
        weights = any(
            detail["index"] in constant
            and np.dtype(detail["dtype"]) in (np.int8, np.uint8)
            and len(detail["quantization_parameters"]["scales"])
            for detail in inputs
        )
        activations = any(np.dtype(d["dtype"]) == np.float32 and d["index"] not in constant for d in inputs)
        if weights and activations and any(np.dtype(detail["dtype"]) == np.float32 for detail in outputs):
            raise BackendError(
                f"{where}: {name} has int8 weights but float32 activations (dynamic-range quantization), which "
                "tflite_runtime computes wrong; use ai-edge-litert, or a float32 or fully quantized file"
            )


def _refuse_huge(details: Sequence[Any], where: str) -> None:
    """Before memory is planned for all of them."""
    for detail in details:
        shape = tuple(int(size) for size in detail["shape"])
        bounded(TensorSpec(str(detail["name"]), np.dtype(detail["dtype"]).name, shape), where)


def _precision(operators: Sequence[tuple[str, list[Any], list[Any], set[int]]]) -> str:
    names = {"float32": "fp32", "float16": "fp16", "float64": "fp64", "int8": "int8", "uint8": "int8"}
    weights = {
        detail["index"]: (names.get(np.dtype(detail["dtype"]).name, ""), prod(int(n) for n in detail["shape"]))
        for _, inputs, _, constant in operators
        for detail in inputs
        if detail["index"] in constant
    }
    elements: Counter[str] = Counter()
    for name, size in weights.values():
        elements[name] += size
    del elements[""]
    return max(elements, key=lambda name: elements[name]) if elements else "fp32"


def _decoded(values: Array) -> Array:
    if values.dtype.kind not in "SO":
        return values
    flat = [item.decode() if isinstance(item, bytes) else str(item) for item in values.ravel()]
    return np.array(flat, object).reshape(values.shape)


def _key(detail: Any) -> tuple[int, str]:
    return int(detail["index"]), str(detail["name"])


def _natural(name: str) -> tuple[str, int]:
    """``output_10`` after ``output_9``."""
    stem = name.rstrip("0123456789")
    return stem, int(name[len(stem) :] or -1)
