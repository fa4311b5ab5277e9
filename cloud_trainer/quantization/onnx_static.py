"""int8 for ONNX Runtime: static, quantize-dequantize pairs, weights signed and one scale for each output channel.

Activations are unsigned for x86, whose U8S8 instructions are the fast ones, and signed for ARM. TFLite's int8 is made
by the exporter's worker.
"""

from __future__ import annotations

import logging
import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cloud_trainer.quantization.calibration import batches
from cloud_trainer.quantization.onnx_pooling import pool_means
from cloud_trainer.quantization.ranges import KEPT, Observed, Ranges, merge
from shared.errors import ExportError, one_line

Activations = Literal["uint8", "int8"]
LOWEST = "lowest_float32"
WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
STEM_CHANNELS, STEM_SHARE = 4, 0.02
"""Of a first convolution that stays in float on x86: input channels, and its share of all weights, at most."""


def quantize_onnx(
    fp32: Path,
    int8: Path,
    samples: NDArray[np.float32] | Mapping[str, NDArray[Any]],
    *,
    activations: Activations,
    input_name: str = "",
    ranges: Ranges | None = None,
    leave: Sequence[str] = (),
    reduce_range: bool = False,
) -> None:
    """Write ``int8`` from ``fp32``. Activation ranges are the smallest and largest values that ``samples`` (n, ...)
    cause in the model's only input ``input_name``, or, as a mapping, in each of its inputs; ``ranges`` overrides them.

    Args:
        leave: names of nodes that stay in float.
        reduce_range: weights of 7 bits, for x86 without VNNI, whose 16-bit sums overflow otherwise.

    Raises:
        ExportError: the quantizer cannot do it.
    """
    feeds = dict(samples) if isinstance(samples, Mapping) else {input_name: samples}
    with told(fp32, "int8"), tempfile.TemporaryDirectory() as directory:
        prepared = Path(directory) / "prepared.onnx"
        prepare(fp32, prepared)
        static(
            prepared,
            int8,
            ranges=ranges if ranges is not None else observe_extremes(prepared, feeds),
            activations=activations,
            leave=(*leave, *(stems(prepared) if activations == "uint8" else ())),
            reduce_range=reduce_range,
        )


def prepare(fp32: Path, prepared: Path) -> None:
    """Shapes inferred, constants folded, means over maps as pools: what the quantizer and :func:`observe` take."""
    import onnx
    from onnxruntime.quantization.shape_inference import quant_pre_process

    quant_pre_process(str(fp32), str(prepared), skip_symbolic_shape=True)
    model = onnx.load(str(prepared))
    if pool_means(model.graph):
        onnx.save(onnx.shape_inference.infer_shapes(model), str(prepared))


def static(
    prepared: Path,
    int8: Path,
    *,
    ranges: Ranges,
    activations: Activations,
    leave: Sequence[str] = (),
    reduce_range: bool = False,
) -> None:
    """:func:`quantize_onnx` for a file that is :func:`prepare`-d and whose ranges are known."""
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.calibrate import TensorsData, save_tensors_data

    found = {name: (np.float32(low), np.float32(high)) for name, (low, high) in ranges.items()}
    with tempfile.TemporaryDirectory() as directory:
        cache = Path(directory) / "ranges.json"
        save_tensors_data(TensorsData(CalibrationMethod.MinMax, found), cache)
        quantize_static(
            str(prepared),
            str(int8),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            reduce_range=reduce_range,
            weight_type=QuantType.QInt8,
            activation_type=QuantType.QUInt8 if activations == "uint8" else QuantType.QInt8,
            nodes_to_exclude=list(leave),
            calibration_cache_path=str(cache),
        )
    if leave:
        _keep_float(int8, set(leave))


def _keep_float(path: Path, leave: set[str]) -> None:
    """ONNX Runtime's WeightBiasQuantization would quantize the layers ``leave`` all the same when it loads the file,
    and with one scale for a whole weight (-8 instead of 7 dB were seen), wherever their input is dequantized and their
    output quantized. A maximum with the lowest float between them changes nothing and ends that pattern."""
    import onnx
    from onnx import helper, numpy_helper

    model = onnx.load(str(path))
    dequantized = {node.output[0] for node in model.graph.node if node.op_type == "DequantizeLinear"}
    nodes: list[Any] = []
    guarded: set[str] = set()
    for node in model.graph.node:
        if node.name in leave and node.op_type in WEIGHTED and node.input[0] in dequantized:
            plain = f"{node.input[0]}_float"
            if plain not in guarded:
                nodes.append(helper.make_node("Max", [node.input[0], LOWEST], [plain], name=f"{plain}_max"))
                guarded.add(plain)
            node.input[0] = plain
        nodes.append(node)
    if guarded:
        lowest = np.array(np.finfo(np.float32).min, np.float32)
        model.graph.initializer.append(numpy_helper.from_array(lowest, LOWEST))
        del model.graph.node[:]
        model.graph.node.extend(nodes)
        onnx.save(model, str(path))


def observe(prepared: Path, samples: Mapping[str, NDArray[Any]]) -> dict[str, Observed]:
    """What every float tensor of the model held while it answered ``samples``."""
    found: dict[str, Observed] = {}
    total = len(next(iter(samples.values())))
    for rows, tensors in _run_all(prepared, samples):
        for name, values in tensors.items():
            if values.size:
                found[name] = merge(found.get(name), values, max(1, KEPT * rows // total))
    return found


def observe_extremes(prepared: Path, samples: Mapping[str, NDArray[Any]]) -> Ranges:
    """The smallest and largest value of every float tensor, without looking further."""
    found: Ranges = {}
    for _, tensors in _run_all(prepared, samples):
        for name, values in tensors.items():
            if values.size:
                low, high = found.get(name, (np.inf, -np.inf))
                found[name] = min(low, float(values.min())), max(high, float(values.max()))
    return found


def _run_all(prepared: Path, samples: Mapping[str, NDArray[Any]]) -> Iterator[tuple[int, dict[str, NDArray[Any]]]]:
    """(rows, every float tensor that is no constant) for each batch of ``samples``."""
    import onnx
    import onnxruntime

    model = onnx.load(str(prepared))
    constants = {one.name for one in model.graph.initializer}
    typed = {v.name: v for v in (*model.graph.value_info, *model.graph.input, *model.graph.output)}
    known = {v.name for v in model.graph.output}
    floats = [
        name
        for name, value in typed.items()
        if name not in constants and value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    ]
    inputs = {v.name for v in model.graph.input}
    model.graph.output.extend(typed[name] for name in floats if name not in known and name not in inputs)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    wanted = [name for name in floats if name not in inputs]
    whole = any(not isinstance(one.shape[0] if one.shape else 1, str) for one in session.get_inputs())
    for feed in batches(dict(samples), 1 if whole else 64):
        values = dict(zip(wanted, session.run(wanted, feed), strict=True))
        values |= {name: feed[name] for name in floats if name in inputs and name in feed}
        yield len(next(iter(feed.values()))), values


def onnx_layers(path: Path) -> tuple[str, ...]:
    """Names of the nodes with weights, in order."""
    import onnx

    graph = onnx.load(str(path), load_external_data=False).graph
    constants = {one.name for one in graph.initializer}
    return tuple(n.name for n in graph.node if n.op_type in WEIGHTED and constants & set(n.input[1:]))


def stems(path: Path) -> tuple[str, ...]:
    """Names of the convolutions that see the input itself, of few channels, and have few of the weights.

    ONNX Runtime's int8 convolutions make blocks of channels, which one or three hardly fill, while its float ones have
    a kernel for just that: with the stem in float every network of the zoo was faster on x86, by 2 to 9 %, with a stem
    of stride 1 by 16 to 24 % (Zen 4, one thread).
    """
    import onnx

    graph = onnx.load(str(path), load_external_data=False).graph
    weights = {one.name: one for one in graph.initializer}
    total = sum(math.prod(one.dims) for one in graph.initializer)
    inputs = {value.name for value in graph.input} - set(weights)
    found = []
    for node in graph.node:
        if node.op_type in _LAYOUT and node.input[0] in inputs:
            inputs.update(node.output)
        elif node.op_type == "Conv" and node.input[0] in inputs and node.input[1] in weights:
            dims = weights[node.input[1]].dims
            if dims[1] <= STEM_CHANNELS and math.prod(dims) <= STEM_SHARE * total:
                found.append(node.name)
    return tuple(found)


_LAYOUT = ("Transpose", "Reshape", "Unsqueeze", "Cast")


@contextmanager
def told(fp32: Path, what: str) -> Iterator[None]:
    """Whatever a quantizer raises becomes one line: what was made of which file.

    Raises:
        ExportError: instead of anything else.
    """
    logger = logging.getLogger("onnxruntime")
    level = logger.level
    logger.setLevel(logging.WARNING)  # its quantizers tell of every node
    try:
        yield
    except ExportError:
        raise
    except Exception as error:  # the quantizer raises whatever its passes raise
        logging.getLogger(__name__).debug("quantization failed", exc_info=True)
        raise ExportError(f"{what} quantization of {fp32.name} failed: {one_line(error, last=True)}") from error
    finally:
        logger.setLevel(level)
