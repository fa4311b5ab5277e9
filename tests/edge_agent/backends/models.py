"""Small models with a numpy reference, as ONNX and as TFLite files.

``python -m tests.edge_agent.backends.models DIRECTORY`` writes all of them, for environments that can run them and not
write them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from shared.manifest import FileReference, TensorSpec, Variant

DTYPES = (
    "float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "bool",
    "str",
)  # fmt: skip
RUNTIMES = {".onnx": "onnxruntime", ".tflite": "litert"}

W1 = np.random.default_rng(1).normal(0, 0.4, (8, 16)).astype(np.float32)
B1 = np.random.default_rng(2).normal(0, 0.4, 8).astype(np.float32)
W2 = np.random.default_rng(3).normal(0, 0.4, (4, 8)).astype(np.float32)
B2 = np.random.default_rng(4).normal(0, 0.4, 4).astype(np.float32)
SCALES = {"x": (1 / 32, 5), "y": (1 / 16, -3)}
W_SCALE = float(np.abs(W1).max() / 127)
W_INT8 = np.rint(W1 / W_SCALE).astype(np.int8)

Feeds = dict[str, np.ndarray]


@dataclass(frozen=True)
class Model:
    """One model: what the manifest says about it, what it computes, how its files are made."""

    name: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    reference: Callable[[Feeds], Feeds]
    write: dict[str, Callable[[], bytes]]
    tolerance: float = 1e-5
    draw: dict[str, Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]] = field(default_factory=dict)
    open_sizes: int = 5

    def variant(self, suffix: str) -> Variant:
        return Variant(
            id="fp32-x",
            runtime=RUNTIMES[suffix],
            precision="fp32",
            student="",
            file=FileReference("model", 1, "0" * 64),
            inputs=self.inputs,
            outputs=self.outputs,
            macs=0,
            quality={},
        )

    def feeds(self, n: int, seed: int = 0) -> Feeds:
        """Inputs for ``n`` samples."""
        random = np.random.default_rng(seed)
        found = {}
        for spec in self.inputs:
            shape = tuple(self.open_sizes if size is None else size for size in spec.shape)
            shape = (n, *shape[1:]) if spec.batch else shape
            found[spec.name] = values(random, spec.dtype if spec.scale is None else "float32", shape)
        return found


def values(random: np.random.Generator, dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    if dtype == "str":
        words = np.array(["", "knot", "sanderling", "Möwe", "雨"], object)
        return words[random.integers(0, len(words), shape)]
    if dtype == "bool":
        return random.random(shape) < 0.5
    if dtype.startswith("float"):
        return random.normal(0, 1, shape).astype(dtype)
    limits = np.iinfo(dtype)
    return random.integers(max(limits.min, -1000), min(limits.max, 1000), shape, endpoint=True).astype(dtype)


def spec(name: str, shape: tuple[int | None, ...], dtype: str = "float32", *, batch: bool = True) -> TensorSpec:
    return TensorSpec(name, dtype, shape, batch=batch)


def int8_reference(feeds: Feeds) -> Feeds:
    """Quantized input, exact product, quantized output."""
    (si, zi), (so, zo) = SCALES["x"], SCALES["y"]
    x = (np.clip(np.rint(feeds["x"] / np.float32(si)) + zi, -128, 127) - zi) * si
    y = x.astype(np.float64) @ (W_INT8.astype(np.float64) * W_SCALE).T
    return {"y": ((np.clip(np.rint(y / so) + zo, -128, 127) - zo) * so).astype(np.float32)}


def mlp_reference(feeds: Feeds) -> Feeds:
    return {"y": np.maximum(feeds["x"] @ W1.T + B1, 0) @ W2.T + B2}


def state_reference(feeds: Feeds) -> Feeds:
    return {"y": (feeds["x"] + feeds["state"]) * feeds["gain"], "state_out": feeds["state"] * feeds["gain"]}


def pair_reference(feeds: Feeds) -> Feeds:
    return {"sum": feeds["a"] + feeds["b"], "product": feeds["a"] * feeds["b"]}


def copy_reference(feeds: Feeds) -> Feeds:
    return {"y": feeds["x"].reshape(-1, 6)}


def relu_reference(feeds: Feeds) -> Feeds:
    return {"y": np.maximum(feeds["x"], 0)}


def mlp_onnx(batch: int | str) -> bytes:
    nodes = [
        ("Gemm", ["x", "w1", "b1"], ["h"], {"transB": 1}),
        ("Relu", ["h"], ["r"], {}),
        ("Gemm", ["r", "w2", "b2"], ["y"], {"transB": 1}),
    ]
    constants = {"w1": W1, "b1": B1, "w2": W2, "b2": B2}
    return onnx_file(nodes, {"x": ("float32", [batch, 16])}, {"y": ("float32", [batch, 4])}, constants)


def pair_onnx(dtype: str) -> bytes:
    nodes = [("Mul", ["a", "b"], ["product"], {}), ("Add", ["a", "b"], ["sum"], {})]
    tensor = (dtype, ["n", 3])
    return onnx_file(nodes, {"b": tensor, "a": tensor}, {"product": tensor, "sum": tensor}, {})


def state_onnx() -> bytes:
    nodes = [
        ("Add", ["x", "state"], ["shifted"], {}),
        ("Mul", ["shifted", "gain"], ["y"], {}),
        ("Mul", ["state", "gain"], ["state_out"], {}),
    ]
    inputs = {"x": ("float32", ["n", 3]), "state": ("float32", [3]), "gain": ("float32", [])}
    return onnx_file(nodes, inputs, {"y": ("float32", ["n", 3]), "state_out": ("float32", [3])}, {})


def copy_onnx(dtype: str) -> bytes:
    nodes = [("Flatten", ["x"], ["y"], {})]
    return onnx_file(nodes, {"x": (dtype, ["n", 2, 3])}, {"y": (dtype, ["n", 6])}, {})


def relu_onnx(shape: list[int | str]) -> bytes:
    return onnx_file([("Relu", ["x"], ["y"], {})], {"x": ("float32", shape)}, {"y": ("float32", shape)}, {})


def int8_onnx() -> bytes:
    (si, zi), (so, zo) = SCALES["x"], SCALES["y"]
    nodes = [
        ("DequantizeLinear", ["x", "si", "zi"], ["real"], {}),
        ("DequantizeLinear", ["w", "sw"], ["weights"], {}),
        ("Gemm", ["real", "weights"], ["product"], {"transB": 1}),
        ("QuantizeLinear", ["product", "so", "zo"], ["y"], {}),
    ]
    constants = {
        "si": np.float32(si), "zi": np.int8(zi), "so": np.float32(so), "zo": np.int8(zo), "w": W_INT8,
        "sw": np.float32(W_SCALE),
    }  # fmt: skip
    return onnx_file(nodes, {"x": ("int8", ["n", 16])}, {"y": ("int8", ["n", 8])}, constants)


def onnx_file(
    nodes: list[tuple[str, list[str], list[str], dict[str, Any]]],
    inputs: dict[str, tuple[str, list[int | str]]],
    outputs: dict[str, tuple[str, list[int | str]]],
    constants: dict[str, Any],
    *,
    check: bool = True,
) -> bytes:
    """Bytes of an ONNX file; tensors are (dtype, shape)."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    def info(tensors: dict[str, tuple[str, list[int | str]]]) -> list[Any]:
        kinds = {name: helper.np_dtype_to_tensor_dtype(np.dtype(name)) for name in DTYPES if name != "str"}
        kinds["str"] = TensorProto.STRING
        return [helper.make_tensor_value_info(name, kinds[dtype], shape) for name, (dtype, shape) in tensors.items()]

    graph = helper.make_graph(
        [helper.make_node(op, takes, gives, **attributes) for op, takes, gives, attributes in nodes],
        "model",
        info(inputs),
        info(outputs),
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    if check:
        onnx.checker.check_model(model)
    return model.SerializeToString(deterministic=True)


class TfliteFile:
    """Writes a TFLite file with the schema that ai-edge-litert ships."""

    def __init__(self) -> None:
        from ai_edge_litert import schema_py_generated as tfl

        self.tfl = tfl
        self.buffers, self.tensors, self.codes, self.operators = [tfl.BufferT()], [], [], []
        self.names: dict[str, int] = {}

    def tensor(
        self,
        name: str,
        shape: tuple[int | None, ...],
        dtype: str = "float32",
        data: Any = None,
        quantization: tuple[float, int] | None = None,
    ) -> str:
        """``None`` in the shape is an open size, 1 until it is resized."""
        tfl = self.tfl
        tensor = tfl.TensorT()
        tensor.name, tensor.buffer = name, 0
        tensor.type = getattr(tfl.TensorType, {"str": "STRING"}.get(dtype, dtype.upper()))
        tensor.shape = [1 if size is None else size for size in shape]
        tensor.hasRank = True
        if None in shape:
            tensor.shapeSignature = [-1 if size is None else size for size in shape]
        if data is not None:
            buffer = tfl.BufferT()
            buffer.data = np.frombuffer(np.asarray(data).tobytes(), np.uint8)
            self.buffers.append(buffer)
            tensor.buffer = len(self.buffers) - 1
        if quantization is not None:
            tensor.quantization = tfl.QuantizationParametersT()
            tensor.quantization.scale, tensor.quantization.zeroPoint = [quantization[0]], [quantization[1]]
        self.names[name] = len(self.tensors)
        self.tensors.append(tensor)
        return name

    def operator(
        self, name: str, inputs: list[str], outputs: list[str], *, version: int = 1, custom: str = "", **options: Any
    ) -> None:
        tfl = self.tfl
        code = tfl.OperatorCodeT()
        code.builtinCode = getattr(tfl.BuiltinOperator, name)
        code.deprecatedBuiltinCode = min(code.builtinCode, 127)
        code.version = version
        code.customCode = custom or None
        self.codes.append(code)
        operator = tfl.OperatorT()
        operator.opcodeIndex = len(self.codes) - 1
        operator.inputs, operator.outputs = ([self.names[n] for n in side] for side in (inputs, outputs))
        kind = {"FULLY_CONNECTED": "FullyConnected", "ADD": "Add", "MUL": "Mul", "CONV_2D": "Conv2D"}.get(name)
        if kind:
            operator.builtinOptionsType = getattr(tfl.BuiltinOptions, kind + "Options")
            operator.builtinOptions = getattr(tfl, kind + "OptionsT")()
            for option, value in options.items():
                setattr(operator.builtinOptions, option, value)
        self.operators.append(operator)

    def finish(self, inputs: list[str], outputs: list[str], signature: dict[str, str] | None = None) -> bytes:
        """``signature``: name in the signature → name of the tensor; a file without one is made without."""
        import flatbuffers

        tfl = self.tfl
        graph = tfl.SubGraphT()
        graph.name, graph.tensors, graph.operators = "main", self.tensors, self.operators
        graph.inputs, graph.outputs = [self.names[n] for n in inputs], [self.names[n] for n in outputs]
        model = tfl.ModelT()
        model.version, model.operatorCodes, model.subgraphs, model.buffers = 3, self.codes, [graph], self.buffers
        if signature is not None:
            definition = tfl.SignatureDefT()
            definition.signatureKey, definition.subgraphIndex = "serving_default", 0
            definition.inputs, definition.outputs = [], []
            for name, tensor in signature.items():
                entry = tfl.TensorMapT()
                entry.name, entry.tensorIndex = name, self.names[tensor]
                (definition.inputs if tensor in inputs else definition.outputs).append(entry)
            model.signatureDefs = [definition]
        builder = flatbuffers.Builder(1024)
        builder.Finish(model.Pack(builder), b"TFL3")
        return bytes(builder.Output())


def mlp_tflite(batch: int | None) -> bytes:
    file = TfliteFile()
    file.tensor("x", (batch, 16))
    for name, array in (("w1", W1), ("b1", B1), ("w2", W2), ("b2", B2)):
        file.tensor(name, array.shape, data=array)
    file.tensor("h", (batch, 8))
    file.tensor("y", (batch, 4))
    file.operator("FULLY_CONNECTED", ["x", "w1", "b1"], ["h"], fusedActivationFunction=1)
    file.operator("FULLY_CONNECTED", ["h", "w2", "b2"], ["y"])
    return file.finish(["x"], ["y"])


def pair_tflite(dtype: str) -> bytes:
    file = TfliteFile()
    for name in ("t_b", "t_a", "t_product", "t_sum"):
        file.tensor(name, (None, 3), dtype)
    file.operator("MUL", ["t_a", "t_b"], ["t_product"], version=2)
    file.operator("ADD", ["t_a", "t_b"], ["t_sum"], version=2)
    signature = {name: f"t_{name}" for name in ("a", "b", "product", "sum")}
    return file.finish(["t_b", "t_a"], ["t_product", "t_sum"], signature)


def state_tflite() -> bytes:
    file = TfliteFile()
    shapes = {"x": (None, 3), "state": (3,), "gain": (), "shifted": (None, 3), "y": (None, 3), "state_out": (3,)}
    for name, shape in shapes.items():
        file.tensor(name, shape)
    file.operator("ADD", ["x", "state"], ["shifted"])
    file.operator("MUL", ["shifted", "gain"], ["y"])
    file.operator("MUL", ["state", "gain"], ["state_out"])
    return file.finish(["x", "state", "gain"], ["y", "state_out"])


def copy_tflite(dtype: str, target: tuple[int, ...] = (-1, 6)) -> bytes:
    file = TfliteFile()
    file.tensor("x", (None, 2, 3), dtype)
    file.tensor("target", (2,), "int32", np.array(target, np.int32))
    file.tensor("y", (None, 6), dtype)
    file.operator("RESHAPE", ["x", "target"], ["y"])
    return file.finish(["x"], ["y"])


def relu_tflite(shape: tuple[int | None, ...]) -> bytes:
    file = TfliteFile()
    file.tensor("x", shape)
    file.tensor("y", shape)
    file.operator("RELU", ["x"], ["y"])
    return file.finish(["x"], ["y"])


def int8_tflite(batch: int | None) -> bytes:
    file = TfliteFile()
    file.tensor("x", (batch, 16), "int8", quantization=SCALES["x"])
    file.tensor("w", W_INT8.shape, "int8", W_INT8, (W_SCALE, 0))
    file.tensor("b", (8,), "int32", np.zeros(8, np.int32), (W_SCALE * SCALES["x"][0], 0))
    file.tensor("y", (batch, 8), "int8", quantization=SCALES["y"])
    file.operator("FULLY_CONNECTED", ["x", "w", "b"], ["y"], version=4)
    return file.finish(["x"], ["y"])


def hybrid_tflite() -> bytes:
    """Dynamic-range quantization: float32 activations, int8 weights."""
    file = TfliteFile()
    file.tensor("x", (1, 16))
    file.tensor("w", W_INT8.shape, "int8", W_INT8, (W_SCALE, 0))
    file.tensor("b", (8,), data=B1)
    file.tensor("y", (1, 8))
    file.operator("FULLY_CONNECTED", ["x", "w", "b"], ["y"], version=3)
    return file.finish(["x"], ["y"])


def custom_tflite() -> bytes:
    """An operator that no runtime knows."""
    file = TfliteFile()
    file.tensor("x", (1, 3))
    file.tensor("y", (1, 3))
    file.operator("CUSTOM", ["x"], ["y"], custom="SandPiper")
    return file.finish(["x"], ["y"])


def _int8_specs(batch: int | None) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    return (TensorSpec("x", "int8", (batch, 16), *SCALES["x"]),), (TensorSpec("y", "int8", (batch, 8), *SCALES["y"]),)


TFLITE_DTYPES = {"float32", "float64", "float16", "int8", "uint8", "int16", "int32", "int64", "bool", "str"}

MODELS = {
    model.name: model
    for model in (
        Model(
            "mlp", (spec("x", (None, 16)),), (spec("y", (None, 4)),), mlp_reference,
            {".onnx": partial(mlp_onnx, "n"), ".tflite": partial(mlp_tflite, None)},
        ),
        Model(
            "mlp-static", (spec("x", (1, 16)),), (spec("y", (1, 4)),), mlp_reference,
            {".onnx": partial(mlp_onnx, 1), ".tflite": partial(mlp_tflite, 1)},
        ),
        Model(
            "state",
            (spec("state", (3,), batch=False), spec("x", (None, 3)), spec("gain", (), batch=False)),
            (spec("y", (None, 3)), spec("state_out", (3,), batch=False)),
            state_reference,
            {".onnx": state_onnx, ".tflite": state_tflite},
        ),
        Model(
            "no-batch", (spec("x", (3, 4), batch=False),), (spec("y", (3, 4), batch=False),), relu_reference,
            {".onnx": partial(relu_onnx, [3, 4]), ".tflite": partial(relu_tflite, (3, 4))},
        ),
        Model(
            "open-sizes", (spec("x", (None, None, 2)),), (spec("y", (None, None, 2)),), relu_reference,
            {".onnx": partial(relu_onnx, ["n", "t", 2]), ".tflite": partial(relu_tflite, (None, None, 2))},
        ),
        Model(
            "open-length", (spec("x", (1, None)),), (spec("y", (1, None)),), relu_reference,
            {".onnx": partial(relu_onnx, [1, "t"]), ".tflite": partial(relu_tflite, (1, None))},
        ),
        Model(
            "numbers", (spec("x", (None,)),), (spec("y", (None,)),), relu_reference,
            {".onnx": partial(relu_onnx, ["n"]), ".tflite": partial(relu_tflite, (None,))},
        ),
        Model(
            "int8", *_int8_specs(None), int8_reference,
            {".onnx": int8_onnx, ".tflite": partial(int8_tflite, None)}, tolerance=SCALES["y"][0] * 1.01,
        ),
        Model(
            "int8-static", *_int8_specs(1), int8_reference, {".tflite": partial(int8_tflite, 1)},
            tolerance=SCALES["y"][0] * 1.01,
        ),
        *(
            Model(
                f"pair-{dtype}",
                (spec("a", (None, 3), dtype), spec("b", (None, 3), dtype)),
                (spec("sum", (None, 3), dtype), spec("product", (None, 3), dtype)),
                pair_reference,
                {".onnx": partial(pair_onnx, dtype)}
                | ({} if dtype == "float64" else {".tflite": partial(pair_tflite, dtype)}),
            )
            for dtype in ("float32", "float64", "int32", "int64")
        ),
        *(
            Model(
                f"copy-{dtype}", (spec("x", (None, 2, 3), dtype),), (spec("y", (None, 6), dtype),), copy_reference,
                {".onnx": partial(copy_onnx, dtype)}
                | ({".tflite": partial(copy_tflite, dtype)} if dtype in TFLITE_DTYPES else {}),
            )
            for dtype in DTYPES
        ),
    )
}  # fmt: skip
"""Name → model, in every runtime that can."""

BIG = np.zeros((1000, 1000), np.float32)


def big_onnx() -> bytes:
    nodes = [("MatMul", ["x", "w"], ["y"], {})]
    return onnx_file(nodes, {"x": ("float32", ["n", 1000])}, {"y": ("float32", ["n", 1000])}, {"w": BIG})


def big_tflite() -> bytes:
    file = TfliteFile()
    file.tensor("x", (None, 1000))
    file.tensor("w", BIG.shape, data=BIG)
    file.tensor("b", (1000,), data=BIG[0])
    file.tensor("y", (None, 1000))
    file.operator("FULLY_CONNECTED", ["x", "w", "b"], ["y"])
    return file.finish(["x"], ["y"])


EXTRAS = {
    "hybrid.tflite": hybrid_tflite,
    "custom.tflite": custom_tflite,
    "stuck.tflite": partial(copy_tflite, "float32", (1, 6)),
    "big.onnx": big_onnx,
    "big.tflite": big_tflite,
}
"""What tests need beside these: files that a runtime refuses, can't resize, or holds much memory for."""


def write_all(directory: Path) -> Path:
    """Write every file as ``NAME.SUFFIX``."""
    directory.mkdir(parents=True, exist_ok=True)
    for model in MODELS.values():
        for suffix, write in model.write.items():
            (directory / (model.name + suffix)).write_bytes(write())
    for name, write in EXTRAS.items():
        (directory / name).write_bytes(write())
    return directory


if __name__ == "__main__":
    write_all(Path(sys.argv[1]))
