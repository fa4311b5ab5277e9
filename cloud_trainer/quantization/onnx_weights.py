"""What else ONNX Runtime runs: fp16, weights alone in 8 or 4 bits, and int8 whose activations are scaled as they come.

- ``dynamic``: MatMul and Gemm with int8 weights; each call scales its activations itself. For transformers, whose
  activations differ too much from token to token for ranges fixed beforehand.
- ``weights``: matrices as MatMulNBits, in blocks of 32; embedding tables row by row; convolutions by output channel
  in 8 bits always. Computed in float: smaller files and less memory, not faster arithmetic.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cloud_trainer.quantization.onnx_static import prepare, told

BLOCK = 32
FLOAT16_MAX = 65504.0


def attends(path: Path) -> bool:
    """Whether a model multiplies activations with activations, as attention does: a transformer."""
    import onnx

    graph = onnx.load(str(path), load_external_data=False).graph
    constants = {one.name for one in graph.initializer} | {
        out for node in graph.node if node.op_type == "Constant" for out in node.output
    }
    return any(
        node.op_type == "Attention" or (node.op_type == "MatMul" and not (set(node.input) & _made_of(graph, constants)))
        for node in graph.node
    )


def _made_of(graph: Any, constants: set[str]) -> set[str]:
    """``constants``, and what Transpose, Reshape and the like make of constants alone."""
    found = set(constants)
    for node in graph.node:
        if node.input and all(name in found for name in node.input if name):
            found.update(node.output)
    return found


def quantize_dynamic(fp32: Path, int8: Path, *, leave: Sequence[str] = ()) -> None:
    """Write ``int8``: signed weights, one scale for each output channel; activations scaled call by call.

    Raises:
        ExportError: the quantizer cannot do it.
    """
    from onnxruntime.quantization import QuantType
    from onnxruntime.quantization import quantize_dynamic as make

    with told(fp32, "dynamic int8"), tempfile.TemporaryDirectory() as directory:
        prepared = Path(directory) / "prepared.onnx"
        prepare(fp32, prepared)
        make(
            str(prepared),
            str(int8),
            op_types_to_quantize=["MatMul", "Gemm", "Gather"],
            per_channel=True,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=list(leave),
        )


def to_fp16(fp32: Path, fp16: Path) -> None:
    """Write ``fp16``: weights and arithmetic in half precision, inputs and outputs in float32 as before.

    Raises:
        ExportError: a weight is above 65,504, or the converter cannot do it.
    """
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16

    with told(fp32, "fp16"):
        model = onnx.load(str(fp32))
        for one in model.graph.initializer:
            if one.data_type == onnx.TensorProto.FLOAT:
                most = np.abs(onnx.numpy_helper.to_array(one)).max(initial=0.0)
                if most > FLOAT16_MAX:
                    raise ValueError(f"{one.name} has {most:g}; half precision ends at 65,504")
        onnx.save(convert_float_to_float16(model, keep_io_types=True), str(fp16))


def quantize_weights(fp32: Path, out: Path, bits: Literal[4, 8], *, leave: Sequence[str] = ()) -> None:
    """Write ``out``: weights in ``bits`` bits, arithmetic in float32.

    Raises:
        ExportError: the quantizer cannot do it, or the model has no weights to quantize.
    """
    import onnx
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer
    from onnxruntime.quantization.onnx_model import ONNXModel

    with told(fp32, f"{bits}-bit weight"), tempfile.TemporaryDirectory() as directory:
        prepared = Path(directory) / "prepared.onnx"
        prepare(fp32, prepared)
        wrapped = ONNXModel(onnx.load(str(prepared)))
        wrapped.replace_gemm_with_matmul()
        matrices = MatMulNBitsQuantizer(
            wrapped.model,
            bits=bits,
            block_size=BLOCK,
            is_symmetric=True,
            nodes_to_exclude=list(leave),
            op_types_to_quantize=("MatMul",),
        )
        matrices.process()
        model = matrices.model.model
        count = sum(node.op_type == "MatMulNBits" for node in model.graph.node)
        count += _store_small(model.graph, set(leave))
        if not count:
            raise ValueError("no matrix, convolution or embedding table in it has constant weights")
        onnx.save(model, str(out))


def _store_small(graph: Any, leave: set[str]) -> int:
    """Convolutions' weights and embedding tables as int8 with a scale for each output channel or row."""
    from onnx import helper

    tables = {one.name: one for one in graph.initializer}
    users: dict[str, int] = {}
    for node in graph.node:
        for name in node.input:
            users[name] = users.get(name, 0) + 1
    done = 0
    nodes = []
    for node in graph.node:
        at = {"Conv": 1, "ConvTranspose": 1, "Gather": 0}.get(node.op_type)
        name = "" if at is None or len(node.input) <= at else node.input[at]
        if name not in tables or users[name] > 1 or node.name in leave or not _worth(tables[name], node):
            nodes.append(node)
            continue
        done += 1
        axis = 1 if node.op_type == "ConvTranspose" else 0
        scales = _replace(graph, tables[name], axis)
        if node.op_type == "Gather":
            nodes += _rows(node, name, scales)
            continue
        nodes.append(helper.make_node("DequantizeLinear", [f"{name}_int8", scales], [f"{name}_real"], axis=axis))
        node.input[at] = f"{name}_real"
        nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
    return done


def _worth(table: Any, node: Any) -> bool:
    import onnx

    if table.data_type != onnx.TensorProto.FLOAT or int(np.prod(table.dims)) < 4 * BLOCK:
        return False
    if node.op_type != "Gather":
        return True
    return len(table.dims) == 2 and all(one.name != "axis" or one.i == 0 for one in node.attribute)


def _replace(graph: Any, table: Any, axis: int) -> str:
    """int8 and scales in place of ``table``; the scales' name."""
    from onnx import numpy_helper

    values: NDArray[np.float32] = numpy_helper.to_array(table)
    others = tuple(i for i in range(values.ndim) if i != axis)
    scale = np.maximum(np.abs(values).max(others, keepdims=True) / 127, 1e-12).astype(np.float32)
    stored = np.clip(np.round(values / scale), -127, 127).astype(np.int8)
    name = table.name
    graph.initializer.remove(table)
    flat = scale if values.ndim == 2 and axis == 0 and len(others) == 1 else scale.ravel()
    graph.initializer.append(numpy_helper.from_array(stored, f"{name}_int8"))
    graph.initializer.append(numpy_helper.from_array(flat, f"{name}_scale"))
    return f"{name}_scale"


def _rows(node: Any, name: str, scales: str) -> list[Any]:
    """Rows of a table: gathered as int8 with their scales, then multiplied."""
    from onnx import TensorProto, helper

    ids = node.input[1]
    return [
        helper.make_node("Gather", [f"{name}_int8", ids], [f"{name}_rows"], axis=0),
        helper.make_node("Cast", [f"{name}_rows"], [f"{name}_float"], to=TensorProto.FLOAT),
        helper.make_node("Gather", [scales, ids], [f"{name}_row_scale"], axis=0),
        helper.make_node("Mul", [f"{name}_float", f"{name}_row_scale"], list(node.output)),
    ]
