"""One engine as the protocol sees it: its metadata, its requests and the bodies of its answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from edge_agent.server.request import Plan, Plans, Wanted
from edge_agent.server.tensors import DATATYPES, DTYPES, Array, as_array, datatype_of, to_binary, to_json
from shared.errors import InputError, SanderlingError

if TYPE_CHECKING:
    from edge_agent.answers import Answer
    from edge_agent.engine import Engine

ID = "id"
"""An output of ours: the ids of the answers, which ``feedback`` takes. Given where it is asked for."""
KEPT_PREFIXES = 256

_encode = msgspec.json.Encoder().encode
_PLATFORMS = {"onnxruntime": "onnx_onnxv1", "litert": "tensorflow_lite"}


class Model:
    """What ``engine`` takes and gives. Made once for an engine: it runs it on zeros to see what comes out."""

    def __init__(self, engine: Engine, *, max_batch: int) -> None:
        manifest = engine.manifest
        self.engine = engine
        self.name, self.version = manifest.name, str(manifest.version)
        self.max_batch = max_batch
        self._fields = _probed(engine)
        self._specs = {spec.name: spec for spec in engine.variant.outputs}
        self._labels = engine.labels
        self._start = b'{"model_name":%b,"model_version":%b,"id":' % (_encode(self.name), _encode(self.version))
        self._prefixes: dict[tuple[Any, ...], bytes] = {}
        self.plans = Plans(engine.signature, max_batch=max_batch)
        if self._fields:
            self.plans.outputs = frozenset((*self._fields, ID))
        self.read = self.plans.read

    @property
    def platform(self) -> str:
        """Name of the file format, as other servers of the protocol call it."""
        return _PLATFORMS.get(self.engine.variant.runtime, self.engine.variant.runtime)

    def inputs(self) -> list[dict[str, Any]]:
        """Metadata of the inputs; -1 is any size, the first axis is the batch."""
        return [
            {"name": spec.name, "datatype": datatype_of(spec.dtype), "shape": [-1, *spec.shape]}
            for spec in self.engine.signature
        ]

    def outputs(self) -> list[dict[str, Any]]:
        """Metadata of the outputs: the model's, then those that the pipeline makes of them."""
        found = []
        for name, (dtype, shape) in self._fields.items():
            spec = self._specs.get(name)
            sizes = shape
            if spec is not None and len(spec.shape) == len(shape) + 1:
                sizes = tuple(-1 if size is None else size for size in spec.shape[1:])
            found.append({"name": name, "datatype": DATATYPES[dtype], "shape": [-1, *sizes]})
        if ID not in self._fields:
            found.append({"name": ID, "datatype": "BYTES", "shape": [-1]})
        return found

    def configuration(self) -> dict[str, Any]:
        """What Triton's model configuration extension tells, as far as it means something here."""
        return {
            "name": self.name,
            "platform": self.platform,
            "backend": self.engine.variant.runtime,
            "max_batch_size": self.max_batch,
            "input": [_configured(tensor) for tensor in self.inputs()],
            "output": [_configured(tensor) for tensor in self.outputs()],
        }

    def works(self) -> bool:
        """Whether the engine answers a sample of zeros."""
        return not self.engine.manifest.state and bool(_outputs_of_zeros(self.engine))

    def body(self, plan: Plan, answers: Sequence[Answer]) -> tuple[bytes, list[bytes]]:
        """The JSON and the binary tensors of a response.

        Raises:
            InputError: an output is asked for that there is not, or that is no list of scores.
        """
        rows = [answer.outputs for answer in answers]
        first = rows[0]
        jsons: list[bytes] = []
        binaries: list[bytes] = []
        if plan.outputs:
            for wanted in plan.outputs:
                if wanted.name in first:
                    array = self._array(wanted.name, rows)
                elif wanted.name == ID:
                    array = as_array([answer.id for answer in answers])
                else:
                    raise InputError(f"no output {wanted.name[:64]!r}; there are {', '.join(first)}, {ID}")
                if wanted.classes:
                    array = self._classified(wanted, array)
                jsons.append(self._tensor(wanted.name, array, binary=wanted.binary, binaries=binaries))
        else:
            jsons = [
                self._tensor(name, self._array(name, rows), binary=plan.binary, binaries=binaries) for name in first
            ]
        id_ = answers[0].id if len(answers) == 1 else plan.id or ""
        return b'%b%b,"outputs":[%b]}' % (self._start, _encode(id_), b",".join(jsons)), binaries

    def _array(self, name: str, rows: Sequence[dict[str, Any]]) -> Array:
        known = self._fields.get(name)
        if len(rows) == 1:
            value = rows[0][name]
            if type(value) is np.ndarray and value.dtype in DATATYPES and value.dtype.kind != "O":
                return value[None]
            return as_array((value,), known[0] if known else None)
        return as_array([row[name] for row in rows], known[0] if known else None)

    def _tensor(self, name: str, array: Array, *, binary: bool, binaries: list[bytes]) -> bytes:
        size = -1
        if binary:
            data = to_binary(array)
            binaries.append(data)
            size = len(data)
        key = (name, array.shape, array.dtype, size)
        prefix = self._prefixes.get(key)
        if prefix is None:
            prefix = b'{"name":%b,"datatype":"%b","shape":%b,' % (
                _encode(name),
                DATATYPES[array.dtype].encode(),
                _encode(array.shape),
            )
            prefix += b'"parameters":{"binary_data_size":%d}}' % size if binary else b'"data":'
            if len(self._prefixes) >= KEPT_PREFIXES:
                self._prefixes.clear()
            self._prefixes[key] = prefix
        return prefix if binary else b"%b%b}" % (prefix, to_json(array))

    def _classified(self, wanted: Wanted, array: Array) -> Array:
        """https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_classification.md"""
        if array.dtype.kind not in "iuf" or array.ndim != 2:
            raise InputError(f"output {wanted.name} is no list of scores; classification needs one")
        labels = self._labels if len(self._labels) == array.shape[1] else ()
        order = np.argsort(-array.astype(np.float64), axis=1, kind="stable")[:, : wanted.classes]
        texts = np.empty(order.shape, object)
        for (row, rank), index in np.ndenumerate(order):
            label = f":{labels[index]}" if labels else ""
            texts[row, rank] = f"{array[row, index]:f}:{index}{label}"
        return texts


def _configured(tensor: dict[str, Any]) -> dict[str, Any]:
    datatype = "TYPE_STRING" if tensor["datatype"] == "BYTES" else f"TYPE_{tensor['datatype']}"
    return {"name": tensor["name"], "data_type": datatype, "dims": tensor["shape"][1:]}


def _outputs_of_zeros(engine: Engine) -> dict[str, Any]:
    zeros: dict[str, Array] = {}
    for spec in engine.signature:
        shape = (1, *(max(size, 1) for size in spec.shape))
        zeros[spec.name] = np.full(shape, "", object) if spec.dtype == "str" else np.zeros(shape, spec.dtype)
    try:
        return engine.outputs(zeros if len(zeros) > 1 else next(iter(zeros.values())))
    except SanderlingError:
        return {}


def _probed(engine: Engine) -> dict[str, tuple[np.dtype[Any], tuple[int, ...]]]:
    """Name, dtype and shape of each field that the engine gives. A model with state is not run: it would remember."""
    fields = {} if engine.manifest.state else _outputs_of_zeros(engine)
    if fields:
        arrays = {name: as_array(list(values)) for name, values in fields.items() if len(values) == 1}
        return {name: (array.dtype, array.shape[1:]) for name, array in arrays.items()}
    hidden = {pair.output for pair in engine.manifest.state}
    outputs = [spec for spec in engine.variant.outputs if spec.name not in hidden]
    sizes = {spec.name: tuple(-1 if size is None else size for size in spec.shape[spec.batch :]) for spec in outputs}
    return {spec.name: (DTYPES[datatype_of(spec.dtype)], sizes[spec.name]) for spec in outputs}


def server_metadata() -> dict[str, Any]:
    """Answer of ``GET /v2``."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        own = version("sanderling")
    except PackageNotFoundError:
        own = "0"
    extensions = ["binary_tensor_data", "classification", "model_repository", "model_configuration", "feedback"]
    return {"name": "sanderling", "version": own, "extensions": extensions}
