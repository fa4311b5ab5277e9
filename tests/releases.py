"""A small but real release without torch: nearest-template classifier of ten seven-segment digits, 16 × 16 bytes.

::

    manifest = make_release(tmp_path / "digits" / "1")            # fp32 and int8, ONNX and (where installed) TFLite
    x, y = digits(100, seed=3)                                      # samples that it answers well
    x, y = digits(100, seed=3, contrast=0.4, noise=40)              # a camera gone bad

The model is two layers: ``embedding = relu(W1 x)`` are the similarities with the templates, and ``logits`` are minus
half the squared distances to them, times a sharpness. Everything is deterministic: same arguments, same bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from shared.files import sha256_bytes
from shared.manifest import (
    FORMAT,
    Baseline,
    DriftPolicy,
    Lineage,
    Manifest,
    SampleSpec,
    TensorSpec,
    Variant,
    reference_file,
    save_manifest,
)
from shared.pipeline.decode import Argmax, Softmax
from shared.pipeline.encode import AddChannel, Cast
from shared.pipeline.postprocess import Labels
from shared.pipeline.preprocess import Scale
from shared.pipeline.spec import Pipeline

LABELS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SIZE = 16
ALL_VARIANTS = ("fp32-onnx", "int8-onnx", "fp32-litert", "int8-litert")
SHARPNESS = 1.5
SIMILARITY = 1 / 16
SEGMENTS = {  # rows, columns
    "a": (slice(1, 3), slice(4, 12)),
    "b": (slice(2, 8), slice(10, 12)),
    "c": (slice(8, 14), slice(10, 12)),
    "d": (slice(13, 15), slice(4, 12)),
    "e": (slice(8, 14), slice(4, 6)),
    "f": (slice(2, 8), slice(4, 6)),
    "g": (slice(7, 9), slice(4, 12)),
}
DIGITS = ("abcdef", "bc", "abged", "abgcd", "fgbc", "afgcd", "afgecd", "abc", "abcdefg", "abfgcd")


def templates() -> NDArray[np.uint8]:
    """(10, 16, 16): the ten digits, 20 for background and 200 for ink."""
    images = np.full((10, SIZE, SIZE), 20, np.uint8)
    for image, segments in zip(images, DIGITS, strict=True):
        for segment in segments:
            image[SEGMENTS[segment]] = 200
    return images


def digits(
    n: int, *, seed: int = 0, noise: float = 25.0, contrast: float = 1.0, brightness: float = 1.0
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """``n`` fresh samples (n, 16, 16) and their classes (n,): templates seen through a seeded camera.

    Every call with the default camera draws from one and the same distribution; ``noise`` (standard deviation in grey
    levels), ``contrast`` and ``brightness`` (factors) make it another one.
    """
    random = np.random.default_rng(seed)
    y = random.integers(0, 10, n)
    x = templates()[y].astype(np.float64)
    x = (x - x.mean(axis=(1, 2), keepdims=True)) * contrast + x.mean(axis=(1, 2), keepdims=True)
    x = x * brightness * random.uniform(0.8, 1.2, (n, 1, 1)) + random.normal(0, noise, x.shape)
    return np.clip(np.rint(x), 0, 255).astype(np.uint8), y


def weights() -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """``w1`` (10, 256), ``w2`` (10, 10) and ``b2`` (10,) of the model, for inputs in 0..1."""
    p = templates().reshape(10, -1) / 255
    w1 = (p * SIMILARITY).astype(np.float32)
    w2 = (np.eye(10) * SHARPNESS / SIMILARITY).astype(np.float32)
    b2 = (-SHARPNESS * (p**2).sum(axis=1) / 2).astype(np.float32)
    return w1, w2, b2


def reference_answers(x: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
    """What the fp32 model answers, in plain numpy: ``embedding``, ``logits`` and ``scores``, each (n, 10)."""
    w1, w2, b2 = weights()
    flat = x.reshape(len(x), -1).astype(np.float32) * np.float32(1 / 255)
    embedding = np.maximum(flat @ w1.T, 0)
    logits = embedding @ w2.T + b2
    return {"embedding": embedding, "logits": logits, "scores": softmax(logits)}


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows that sum to one."""
    exp = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return exp / exp.sum(axis=-1, keepdims=True)


def make_release(
    directory: Path,
    *,
    name: str = "digits",
    version: int = 1,
    variants: Sequence[str] | None = None,
    drift: DriftPolicy | None = None,
    baselines: Sequence[Baseline] = (Baseline("default"),),
    temperature: float = 1.0,
    seed: int = 0,
) -> Manifest:
    """Write a whole release into ``directory`` (made if missing) and return its manifest.

    ``variants`` are ids of :data:`ALL_VARIANTS`; by default all that this environment can write. ``seed`` draws the
    golden and reference samples. Every name in ``baselines`` gets the same reference.
    """
    if variants is None:
        variants = ALL_VARIANTS if find_spec("ai_edge_litert") else ALL_VARIANTS[:2]
    (directory / "variants").mkdir(parents=True, exist_ok=True)
    x, y = digits(600, seed=1000 + seed)
    golden_x = digits(32, seed=2000 + seed)[0]
    golden: dict[str, NDArray[Any]] = {"x": golden_x, "index": reference_answers(golden_x)["logits"].argmax(axis=-1)}
    made, outputs = [], {}
    for id_ in variants:
        file = f"variants/{id_}.{'onnx' if id_.endswith('onnx') else 'tflite'}"
        (directory / file).write_bytes(_write(id_))
        outputs[id_] = run_file(directory / file, x)
        golden[f"scores.{id_}"] = softmax(run_file(directory / file, golden_x)["logits"] / np.float32(temperature))
        made.append(_variant(directory, id_, file, float((outputs[id_]["logits"].argmax(-1) == y).mean()), temperature))
    np.savez(directory / "golden.npz", **golden)
    sample = SampleSpec(dtype="uint8", shape=(SIZE, SIZE), kind="image")
    _write_profile(directory / "profile.npz", sample, x, y, outputs, [b.name for b in baselines], temperature)
    manifest = Manifest(
        format=FORMAT,
        name=name,
        version=version,
        task="image-classification",
        sample=sample,
        pipeline=Pipeline(
            preprocess=(Scale(factor=1 / 255),),
            encode=(AddChannel(axis=1), Cast("float32")),
            decode=(Softmax(), Argmax()),
            postprocess=(Labels(names=LABELS),),
        ),
        labels=LABELS,
        variants=tuple(made),
        golden=reference_file(directory, "golden.npz"),
        profile=reference_file(directory, "profile.npz"),
        lineage=Lineage(
            data_sha256=sha256_bytes(x.tobytes()), config_sha256=sha256_bytes(b"templates"), code_version="0", seed=seed
        ),
        created="2026-01-01T00:00:00Z",
        drift=drift or DriftPolicy(),
        baselines=tuple(baselines),
    )
    save_manifest(manifest, directory)
    return manifest


def run_file(path: Path, x: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
    """``logits`` and ``embedding`` of raw samples, straight from the runtime: what the agent is checked against."""
    tensor = (x.astype(np.float32) * np.float32(1 / 255))[:, None]
    if path.suffix == ".onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        return dict(zip(("logits", "embedding"), session.run(["logits", "embedding"], {"image": tensor}), strict=True))
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path))
    runner = interpreter.get_signature_runner()
    details = {**runner.get_input_details(), **runner.get_output_details()}
    rows = [runner(args_0=_quantize(row[None], details["args_0"])) for row in tensor]
    return {
        role: _dequantize(np.concatenate([row[name] for row in rows]), details[name])
        for role, name in (("logits", "output_0"), ("embedding", "output_1"))
    }


def _quantize(values: NDArray[Any], detail: dict[str, Any]) -> NDArray[Any]:
    scale, zero_point = detail["quantization"]
    if not scale:
        return values
    return np.clip(np.rint(values / np.float32(scale)) + zero_point, -128, 127).astype(np.int8)


def _dequantize(stored: NDArray[Any], detail: dict[str, Any]) -> NDArray[np.float32]:
    scale, zero_point = detail["quantization"]
    return (stored.astype(np.float32) - zero_point) * np.float32(scale) if scale else stored


def _variant(release: Path, id_: str, file: str, accuracy: float, temperature: float) -> Variant:
    precision, runtime = id_.split("-")
    onnx_ = runtime == "onnx"
    batch = None if onnx_ else 1
    int8 = not onnx_ and precision == "int8"
    quantized = TFLITE_SCALES if int8 else {}
    dtype = "int8" if int8 else "float32"

    def tensor(role: str, shape: tuple[int | None, ...]) -> TensorSpec:
        scale, zero_point = quantized.get(role, (None, None))
        return TensorSpec(role, dtype, shape, scale, zero_point)

    return Variant(
        id=id_,
        runtime="onnxruntime" if onnx_ else "litert",
        precision=precision,
        student="templates",
        file=reference_file(release, file),
        inputs=(tensor("input", (batch, 1, SIZE, SIZE)),),
        outputs=(tensor("logits", (batch, 10)), tensor("embedding", (batch, 10))),
        macs=10 * SIZE * SIZE + 100,
        quality={"accuracy": accuracy},
        temperature=temperature,
    )


def _write_profile(
    path: Path,
    sample: SampleSpec,
    x: NDArray[np.uint8],
    y: NDArray[np.int64],
    outputs: dict[str, dict[str, NDArray[np.float32]]],
    baselines: Sequence[str],
    temperature: float,
) -> None:
    from shared.drift import HeldOut, ProfileSet, ReferenceProfile, WatchSpec

    watch = WatchSpec.fit(sample, len(LABELS), next(iter(outputs.values()))["embedding"])
    spec: dict[str, tuple[str, ...]] = {"families": watch.input_families, "kinds": watch.input_kinds}
    one = {"inputs": ReferenceProfile.fit(watch.inputs(x), watch.input_names, **spec)}
    spec = {"families": watch.output_families, "kinds": watch.output_kinds}
    held_out = {}
    for id_, out in outputs.items():
        scores = softmax(out["logits"] / np.float32(temperature))
        one[id_] = ReferenceProfile.fit(watch.outputs(scores, out["embedding"]), watch.output_names, **spec)
        held_out[id_] = HeldOut.of_classes(scores.argmax(axis=1) == y, scores.max(axis=1))
    ProfileSet(watch, dict.fromkeys(baselines, one), dict.fromkeys(baselines, held_out)).save(path)


def _write(id_: str) -> bytes:
    return {
        "fp32-onnx": lambda: _onnx(int8=False),
        "int8-onnx": lambda: _onnx(int8=True),
        "fp32-litert": lambda: _tflite(int8=False),
        "int8-litert": lambda: _tflite(int8=True),
    }[id_]()


def _onnx(*, int8: bool) -> bytes:
    w1, w2, b2 = weights()
    nodes = [helper.make_node("Flatten", ["image"], ["flat"])]
    constants = [numpy_helper.from_array(b2, "b2")]
    for name, w in (("w1", w1), ("w2", w2)):
        if int8:
            scale = np.float32(np.abs(w).max() / 127)
            constants.append(numpy_helper.from_array(np.rint(w / scale).astype(np.int8), name + "_int8"))
            constants.append(numpy_helper.from_array(np.asarray(scale), name + "_scale"))
            nodes.append(helper.make_node("DequantizeLinear", [name + "_int8", name + "_scale"], [name]))
        else:
            constants.append(numpy_helper.from_array(w, name))
    nodes += [
        helper.make_node("Gemm", ["flat", "w1"], ["similarity"], transB=1),
        helper.make_node("Relu", ["similarity"], ["embedding"]),
        helper.make_node("Gemm", ["embedding", "w2", "b2"], ["logits"], transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "templates",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 1, SIZE, SIZE])],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["batch", 10]) for n in ("logits", "embedding")],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model.SerializeToString(deterministic=True)


TFLITE_SCALES = {"input": (1 / 255, -128), "embedding": (6 / 255, -128), "logits": (150 / 255, 0)}


def _tflite(*, int8: bool) -> bytes:
    """Two FULLY_CONNECTED operations, written with the schema that ai-edge-litert ships."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as tfl

    w1, w2, b2 = weights()
    buffers, tensors = [tfl.BufferT()], []

    def add(name: str, shape: list[int], data: NDArray[Any] | None, kind: int, scale: float = 0, zero: int = 0) -> int:
        tensor = tfl.TensorT()
        tensor.name, tensor.shape, tensor.type, tensor.buffer = name, shape, kind, 0
        if data is not None:
            buffer = tfl.BufferT()
            buffer.data = np.frombuffer(data.tobytes(), np.uint8)
            buffers.append(buffer)
            tensor.buffer = len(buffers) - 1
        if scale:
            tensor.quantization = tfl.QuantizationParametersT()
            tensor.quantization.scale, tensor.quantization.zeroPoint = [scale], [zero]
        tensors.append(tensor)
        return len(tensors) - 1

    if int8:
        (si, zi), (se, ze), (sl, zl) = (TFLITE_SCALES[role] for role in ("input", "embedding", "logits"))
        s1, s2 = float(np.abs(w1).max() / 127), float(np.abs(w2).max() / 127)
        t, b = tfl.TensorType.INT8, tfl.TensorType.INT32
        x = add("args_0", [1, 1, SIZE, SIZE], None, t, si, zi)
        p1 = add("w1", [10, SIZE * SIZE], np.rint(w1 / s1).astype(np.int8), t, s1)
        c1 = add("b1", [10], np.zeros(10, np.int32), b, si * s1)
        e = add("output_1", [1, 10], None, t, se, ze)
        p2 = add("w2", [10, 10], np.rint(w2 / s2).astype(np.int8), t, s2)
        c2 = add("b2", [10], np.rint(b2 / (se * s2)).astype(np.int32), b, se * s2)
        out = add("output_0", [1, 10], None, t, sl, zl)
    else:
        t = tfl.TensorType.FLOAT32
        x = add("args_0", [1, 1, SIZE, SIZE], None, t)
        p1, c1 = add("w1", [10, SIZE * SIZE], w1, t), add("b1", [10], np.zeros(10, np.float32), t)
        e = add("output_1", [1, 10], None, t)
        p2, c2 = add("w2", [10, 10], w2, t), add("b2", [10], b2, t)
        out = add("output_0", [1, 10], None, t)

    def dense(inputs: list[int], output: int, activation: int) -> Any:
        operator = tfl.OperatorT()
        operator.opcodeIndex, operator.inputs, operator.outputs = 0, inputs, [output]
        operator.builtinOptionsType = tfl.BuiltinOptions.FullyConnectedOptions
        operator.builtinOptions = tfl.FullyConnectedOptionsT()
        operator.builtinOptions.fusedActivationFunction = activation
        return operator

    code = tfl.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = tfl.BuiltinOperator.FULLY_CONNECTED
    code.version = 4 if int8 else 1
    graph = tfl.SubGraphT()
    graph.name, graph.tensors = "main", tensors
    # listed embedding first: whoever reads outputs by their order in the graph and not by the signature gets it wrong
    graph.inputs, graph.outputs = [x], [e, out]
    relu, none = tfl.ActivationFunctionType.RELU, tfl.ActivationFunctionType.NONE
    graph.operators = [dense([x, p1, c1], e, relu), dense([e, p2, c2], out, none)]
    signature = tfl.SignatureDefT()
    signature.signatureKey, signature.subgraphIndex = "serving_default", 0
    signature.inputs = [_named(tfl, "args_0", x)]
    signature.outputs = [_named(tfl, "output_0", out), _named(tfl, "output_1", e)]
    model = tfl.ModelT()
    model.version, model.operatorCodes, model.subgraphs, model.buffers = 3, [code], [graph], buffers
    model.description, model.signatureDefs = "templates", [signature]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _named(tfl: Any, name: str, index: int) -> Any:
    entry = tfl.TensorMapT()
    entry.name, entry.tensorIndex = name, index
    return entry
