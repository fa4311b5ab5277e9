"""Precision of an ONNX file's weights, from the file itself: a runtime tells only its inputs and outputs.

Reads the protobuf wire format (protobuf.dev, Encoding) of ``ModelProto`` as far as the initializers, skipping over
everything else; field numbers are those of ``onnx.proto3``.
"""

from __future__ import annotations

import mmap
from collections import Counter
from collections.abc import Iterator
from math import prod
from pathlib import Path

_PRECISIONS = {1: "fp32", 2: "int8", 3: "int8", 10: "fp16", 11: "fp64", 16: "bf16", 17: "fp8", 18: "fp8", 21: "int4"}
"""TensorProto.DataType → precision. Integers of 32 and 64 bits are shapes, indices and biases."""
_PRECISIONS |= {19: "fp8", 20: "fp8", 22: "int4"}

_GRAPH, _NODE, _INITIALIZER = 7, 1, 5
_ATTRIBUTE, _ATTRIBUTE_TENSOR = 5, 5
_DIMS, _DATA_TYPE = 1, 2
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5


def precision_of(path: Path) -> str:
    """``fp32``, ``fp16``, ``int8``, ...: what most weights of the file are; ``fp32`` without any."""
    elements: Counter[str] = Counter()
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            for start, end in _tensors(data):
                kind, size = _tensor(data, start, end)
                elements[_PRECISIONS.get(kind, "")] += size
        except (IndexError, ValueError):  # a runtime that took it knows better than this reader
            pass
    del elements[""]
    return max(elements, key=lambda name: elements[name]) if elements else "fp32"


def _tensors(data: mmap.mmap) -> Iterator[tuple[int, int]]:
    """Where initializers and the tensors of constants lie."""
    for graph in _messages(data, 0, len(data), _GRAPH):
        yield from _messages(data, *graph, _INITIALIZER)
        for node in _messages(data, *graph, _NODE):
            for attribute in _messages(data, *node, _ATTRIBUTE):
                yield from _messages(data, *attribute, _ATTRIBUTE_TENSOR)


def _messages(data: mmap.mmap, start: int, end: int, number: int) -> Iterator[tuple[int, int]]:
    for field, wire, value, stop in _fields(data, start, end):
        if field == number and wire == _LENGTH:
            yield value, stop


def _tensor(data: mmap.mmap, start: int, end: int) -> tuple[int, int]:
    """Data type and number of elements."""
    kind, dims = 0, []
    for field, wire, value, stop in _fields(data, start, end):
        if field == _DATA_TYPE:
            kind = value
        elif field == _DIMS and wire == _LENGTH:
            while value < stop:
                size, value = _varint(data, value)  # noqa: PLW2901
                dims.append(size)
        elif field == _DIMS:
            dims.append(value)
    return kind, prod(dims)


def _fields(data: mmap.mmap, start: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """(field, wire type, value or start, end) of each field of a message."""
    while start < end:
        key, start = _varint(data, start)
        wire = key & 7
        if wire == _VARINT:
            value, start = _varint(data, start)
            yield key >> 3, wire, value, start
            continue
        if wire == _LENGTH:
            size, start = _varint(data, start)
        elif wire in {_FIXED64, _FIXED32}:
            size = 8 if wire == _FIXED64 else 4
        else:
            raise ValueError(f"wire type {wire}")
        yield key >> 3, wire, start, start + size
        start += size


def _varint(data: mmap.mmap, start: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[start]
        start += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, start
        shift += 7
        if shift > 63:
            raise ValueError("varint without end")
