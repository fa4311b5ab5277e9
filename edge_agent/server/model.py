"""One engine as the protocol sees it: its metadata; its requests and the bodies of its answers are made elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edge_agent.server.outputs import ID, Bodies
from edge_agent.server.request import Plans
from edge_agent.server.tensors import DATATYPES, DTYPES, Array, as_array, datatype_of
from shared.errors import SanderlingError

if TYPE_CHECKING:
    from edge_agent.engine import Engine

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
        self.body = Bodies(self.name, self.version, self._fields, engine.labels).body
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
