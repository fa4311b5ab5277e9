"""An inference request: bytes to samples. No I/O and no engine; what does not fit is an ``InputError``.

Requests differ from call to call in their values only, so what they say beside them is kept (:class:`Plans`) and found
again by its bytes: the JSON header of the binary extension, or the JSON text before and behind the only list of data.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import msgspec
import numpy as np
from msgspec import Meta, Struct

from edge_agent.server.tensors import DTYPES, Array, datatype_of, from_binary, from_json
from shared.errors import UNREADABLE, InputError
from shared.manifest import SampleSpec

KEPT_PLANS = 64
KEPT_BYTES = 2048
"""Longer headers are rare and are read each time."""
DATA = b'"data":'
MAX_ID = 256
NO_DATA = msgspec.Raw(b"")

Dimension = Annotated[int, Meta(ge=0, le=1 << 31)]
Size = Annotated[int, Meta(ge=0)]


class Parameters(Struct):
    """The parameters that mean something here; others are ignored."""

    binary_data_size: Size | None = None
    binary_data: bool | None = None
    binary_data_output: bool = False
    classification: Annotated[int, Meta(ge=0)] = 0
    timeout: Annotated[float, Meta(ge=0)] | None = None  # microseconds, like Triton's
    shared_memory_region: str | None = None


class InputTensor(Struct):
    """One of ``inputs``."""

    name: str
    datatype: str
    shape: Annotated[list[Dimension], Meta(max_length=32)]
    data: msgspec.Raw = NO_DATA
    parameters: Parameters = msgspec.field(default_factory=Parameters)


class OutputTensor(Struct):
    """One of ``outputs``."""

    name: str
    parameters: Parameters = msgspec.field(default_factory=Parameters)


class InferenceRequest(Struct):
    """The JSON of an inference request."""

    inputs: Annotated[list[InputTensor], Meta(max_length=1024)]
    id: Annotated[str, Meta(max_length=MAX_ID)] = ""
    outputs: Annotated[list[OutputTensor], Meta(max_length=1024)] = msgspec.field(default_factory=list)
    parameters: Parameters = msgspec.field(default_factory=Parameters)


class Wanted(Struct, frozen=True):
    """An output that is asked for. ``classes`` > 0: its so many largest values, as ``value:index:label``."""

    name: str
    binary: bool
    classes: int = 0


class Part(Struct, frozen=True):
    """Where one input's values are: in ``data`` (JSON), or ``size`` bytes at ``offset`` behind the header."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: msgspec.Raw | None
    offset: int
    size: int


class Plan(Struct, frozen=True):
    """What a request says about itself. ``outputs`` empty: all fields, in binary if ``binary``."""

    id: str | None
    count: int
    parts: tuple[Part, ...]
    outputs: tuple[Wanted, ...]
    binary: bool
    deadline_ms: float | None
    total: int  # bytes behind the header
    flat: Flat | None = None


class Flat(Struct, frozen=True):
    """The only input, in numbers: how they are read without another look at the plan. ``shape``: of the only sample,
    or of all."""

    dtype: np.dtype[Any]
    values: int
    shape: tuple[int, ...]


_request = msgspec.json.Decoder(InferenceRequest)


class Plans:
    """Reads requests for one model. ``outputs``: the names that may be asked for, ``None`` if they are not known."""

    def __init__(self, signature: Sequence[SampleSpec], *, max_batch: int) -> None:
        self.outputs: frozenset[str] | None = None
        self._specs = {spec.name: (spec, datatype_of(spec.dtype)) for spec in signature}
        self._max_batch = max_batch
        self._kept: dict[bytes, Plan] = {}
        self._texts: dict[bytes, tuple[bytes, Plan, Part]] = {}  # before the data: behind it, and what both say

    def read(self, data: bytes, header: int | None, begin: int = 0) -> tuple[Plan, Any]:
        """The plan of the request that ``data`` has from ``begin`` on, and its samples: each input (n, *shape), or the
        only sample as the engine takes it. ``header``: length of the JSON in front of binary tensors, ``None`` where
        all is JSON.

        Raises:
            InputError: the request is malformed, or not for this model.
        """
        if header is None:
            return self._read_json(data, begin)
        end, size = begin + header, len(data) - begin
        if header > size:
            raise InputError(f"Inference-Header-Content-Length is {header}, but the body has {size} bytes")
        json = data[begin:end]
        plan = self._kept.get(json)
        if plan is None:
            plan = self._plan(json)
            if header <= KEPT_BYTES and all(part.data is None for part in plan.parts):
                if len(self._kept) >= KEPT_PLANS:
                    self._kept.clear()
                self._kept[json] = plan
        if plan.total != size - header:
            raise InputError(f"the inputs' binary_data_size add up to {plan.total}, but {size - header} bytes came")
        flat = plan.flat
        if flat is None:
            return plan, self._samples(plan, data, end)
        array: Array = np.frombuffer(data, flat.dtype, flat.values, end)
        if not array.flags.aligned:  # see from_binary
            array = array.copy()
        return plan, array.reshape(flat.shape)

    def _read_json(self, data: bytes, begin: int) -> tuple[Plan, Any]:
        at = data.find(DATA, begin) + len(DATA)
        kept = self._texts.get(data[begin:at]) if at - begin <= KEPT_BYTES else None
        if kept is not None:
            rest, plan, part = kept
            stop = len(data) - len(rest)
            if stop > at and data.endswith(rest):
                try:
                    array = from_json(memoryview(data)[at:stop], part.datatype, part.shape)
                    return plan, array[0] if plan.count == 1 else array
                except InputError:
                    pass  # whatever it is, reading all of it will tell
        json = data[begin:]
        plan = self._plan(json)
        if plan.total:
            raise InputError(f"the inputs' binary_data_size add up to {plan.total}, but 0 bytes came")
        samples = self._samples(plan, json, len(json))
        self._keep_text(json, at - begin, plan)
        return plan, samples

    def _keep_text(self, json: bytes, at: int, plan: Plan) -> None:
        """``json``, which was read, has ``DATA`` before ``at``. If that is the key of the only data, then any other
        list of numbers may stand there: what is before and behind it keeps its meaning."""
        if len(plan.parts) != 1 or plan.id is not None or at < len(DATA):
            return
        part = plan.parts[0]
        if part.data is None or DTYPES[part.datatype].kind not in "iuf":
            return
        raw = bytes(memoryview(part.data))
        begin = at
        while json[begin : begin + 1] in {b" ", b"\t", b"\r", b"\n"}:
            begin += 1
        before, rest = json[:at], json[begin + len(raw) :]
        if len(before) + len(rest) > KEPT_BYTES or not json.startswith(raw, begin):
            return
        around = before + rest
        if b"\\" in around or around.count(b'"data"') != 1:  # the same key again, perhaps written otherwise
            return
        if len(self._texts) >= KEPT_PLANS:
            self._texts.clear()
        part = msgspec.structs.replace(part, data=None)
        self._texts[before] = rest, msgspec.structs.replace(plan, parts=(part,)), part

    def _samples(self, plan: Plan, data: bytes, end: int) -> Any:
        if len(plan.parts) == 1 == len(self._specs):
            samples: Array | dict[str, Array] = _values(plan.parts[0], data, end)
        else:
            samples = {part.name: _values(part, data, end) for part in plan.parts}
        return first_of(samples) if plan.count == 1 else samples

    def _plan(self, json: bytes) -> Plan:
        try:
            request = _request.decode(json)
        except UNREADABLE as error:
            raise InputError(f"not an inference request: {error}") from error
        names = [tensor.name for tensor in request.inputs]
        if len(names) != len(self._specs) or set(names) != set(self._specs):
            told = ", ".join(name[:64] for name in names[:8]) or "none"
            raise InputError(f"the model takes the inputs {', '.join(self._specs)}, got {told}")
        counts, parts, offset = [], [], 0
        for tensor in request.inputs:
            count, part = self._part(tensor, offset)
            counts.append(count)
            parts.append(part)
            offset += part.size
        if len(set(counts)) > 1:
            told = ", ".join(f"{name} {count}" for name, count in zip(names, counts, strict=True))
            raise InputError(f"inputs differ in the number of samples: {told}")
        timeout = request.parameters.timeout
        return Plan(
            id=request.id or None,
            count=counts[0],
            parts=tuple(parts),
            outputs=self._wanted(request),
            binary=request.parameters.binary_data_output,
            deadline_ms=timeout / 1000 if timeout else None,
            total=offset,
            flat=self._flat(parts[0]) if len(parts) == 1 else None,
        )

    def _flat(self, part: Part) -> Flat | None:
        dtype, values, spec = DTYPES[part.datatype], math.prod(part.shape), self._specs[part.name][0]
        if part.data is not None or dtype.kind not in "iuf" or part.size != values * dtype.itemsize or not spec.shape:
            return None
        return Flat(dtype, values, part.shape[1:] if part.shape[0] == 1 else part.shape)

    def _part(self, tensor: InputTensor, offset: int) -> tuple[int, Part]:
        spec, datatype = self._specs[tensor.name]
        where = f"input {tensor.name}"
        if tensor.datatype not in DTYPES:
            raise InputError(f"{where}: no datatype {tensor.datatype[:32]!r}; there are {', '.join(DTYPES)}")
        if tensor.datatype != datatype:
            raise InputError(f"{where}: expected {datatype}, got {tensor.datatype}")
        shape = tuple(tensor.shape)
        if len(shape) == len(spec.shape):  # a lone sample without the batch axis
            shape = (1, *shape)
        if len(shape) != len(spec.shape) + 1 or any(
            w not in {-1, s} for w, s in zip(spec.shape, shape[1:], strict=True)
        ):
            raise InputError(f"{where}: expected shape {[-1, *spec.shape]}, got {tensor.shape[:16]}")
        if not math.prod(shape):
            raise InputError(f"{where}: shape {tensor.shape} holds no values")
        if shape[0] > self._max_batch:
            raise InputError(f"{where}: {shape[0]} samples in one request; at most {self._max_batch} are allowed")
        if tensor.parameters.shared_memory_region is not None:
            raise InputError(f"{where}: shared memory is not supported; send the values")
        size = tensor.parameters.binary_data_size
        data = tensor.data if memoryview(tensor.data).nbytes else None
        if (size is None) == (data is None):
            both = "both data and" if size is not None else "neither data nor"
            raise InputError(f"{where}: {both} binary_data_size; expected one of them")
        return shape[0], Part(tensor.name, datatype, shape, data, offset, size or 0)

    def _wanted(self, request: InferenceRequest) -> tuple[Wanted, ...]:
        wanted = {}
        for output in request.outputs:
            if self.outputs is not None and output.name not in self.outputs:
                raise InputError(f"no output {output.name[:64]!r}; there are {', '.join(sorted(self.outputs))}")
            asked = output.parameters
            if asked.shared_memory_region is not None:
                raise InputError(f"output {output.name[:64]}: shared memory is not supported")
            binary = asked.binary_data if asked.binary_data is not None else request.parameters.binary_data_output
            wanted[output.name] = Wanted(output.name, binary, asked.classification)
        return tuple(wanted.values())


def _values(part: Part, body: bytes, end: int) -> Array:
    try:
        if part.data is None:
            return from_binary(body, end + part.offset, part.size, part.datatype, part.shape)
        return from_json(memoryview(part.data), part.datatype, part.shape)
    except InputError as error:
        raise InputError(f"input {part.name}: {error}") from error


def first_of(samples: Array | Mapping[str, Array]) -> Any:
    """The only sample of a batch of one, as the engine takes it."""
    if isinstance(samples, Mapping):
        return {name: values[0] for name, values in samples.items()}
    return samples[0]
