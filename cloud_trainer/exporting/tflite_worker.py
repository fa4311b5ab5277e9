"""Runs in the TFLite exporter's environment: torch, litert_torch, ai_edge_quantizer, and nothing of Sanderling.

Started as a program. It imports (seconds), says ``{"ready": true}``, then answers each line of standard input with
``{"done": true, ...}`` or ``{"error": "..."}``, and ends when standard input does. Requests:

    {"program": "student.pt2", "fp32": "fp32.tflite"}
        converts a torch.export program of a static batch of one
    {"fp32": "fp32.tflite", "out": "int8.tflite", "recipe": "static", "calibration": "calibration.npz",
     "ranges": {tensor: [low, high]} or null, "leave": [output tensor of an operation, ...]}
        quantizes; recipes: static, dynamic, fp16, weight8, weight4. "leave": operations that stay in float.
    {"fp32": "fp32.tflite", "calibration": "calibration.npz", "observe": "observed.npz"}
        what each tensor held, for ranges: arrays "name", "low", "high", "values" (tensors, k), NaN where fewer
    {"fp32": "fp32.tflite", "layers": true}
        {"done": true, "layers": [output tensor, ...]} of the operations that have weights, in order

``calibration.npz`` has ``x`` (n, *input). Every answer is one line on standard output; whatever libraries print goes
to standard error.
"""

from __future__ import annotations

import json
import os
import re
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

KEPT = 1 << 16
SMALL_FILE = 256 << 10
WEIGHTED = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "CONV_3D", "TRANSPOSE_CONV", "BATCH_MATMUL")


def main() -> int:
    """Answer requests until there are no more."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)

    def answer(document: dict[str, Any]) -> None:
        answers.write(json.dumps(document) + "\n")

    try:
        import ai_edge_quantizer  # noqa: F401  (slow: while the caller still trains)
        import litert_torch  # noqa: F401
        import torch

        torch.set_num_threads(1)
    except ImportError as error:
        answer({"error": f"{sys.executable} lacks the TFLite exporter: {error}"})
        return 1
    answer({"ready": True})
    for line in sys.stdin:
        try:
            found = handle(json.loads(line))
        except Exception as error:  # whatever the converter raises is the caller's to show
            lines = [text.strip() for text in str(error).splitlines() if text.strip()]
            answer({"error": f"{type(error).__name__}: {lines[-1] if lines else 'no message'}"})
        else:
            answer({"done": True} | found)
    return 0


def handle(request: dict[str, Any]) -> dict[str, Any]:
    """One request, by what stands in it."""
    if "program" in request:
        convert(request["program"], request["fp32"])
    elif "observe" in request:
        observe(request["fp32"], request["calibration"], request["observe"])
    elif "layers" in request:
        return {"layers": layers(request["fp32"])}
    else:
        quantize(request)
    return {}


def convert(program_file: str, fp32: str) -> None:
    """A program to fp32, called with zeros of the shapes and types that it was captured with."""
    import litert_torch
    import torch

    program = torch.export.load(program_file)
    samples = tuple(torch.zeros_like(one) for one in program.example_inputs[0])
    litert_torch.convert(program.module(), samples).export(fp32)


def quantize(request: dict[str, Any]) -> None:
    """Per-channel weights; ranges of ``static`` are those given, else the smallest and largest of all samples."""
    from ai_edge_quantizer import quantizer

    rules = recipe_of(request["recipe"], request.get("leave") or ())
    made = quantizer.Quantizer(request["fp32"])
    made.load_quantization_recipe(rules)
    found = None
    if request["recipe"] == "static":
        found = calibrated(request["fp32"], request["calibration"], Path(request["fp32"]).stat().st_mtime_ns)
        found = with_ranges(found, request.get("ranges") or {})
    made.quantize(found, enable_progress_report=False).export_model(request["out"], overwrite=True)
    drop_names(request["out"])


def drop_names(path: str) -> None:
    """Without the names of tensors between input and output, each of which tells the layer's Python class: a twentieth
    of a small network's file. Large files, whose weights lie outside the flatbuffer, stay as they are."""
    from ai_edge_litert.tools import flatbuffer_utils

    if Path(path).stat().st_size >= SMALL_FILE:
        return
    model = flatbuffer_utils.read_model(path)
    for graph in model.subgraphs:
        ends = {int(index) for index in (*graph.inputs, *graph.outputs)}
        for index, tensor in enumerate(graph.tensors):
            if index not in ends:
                tensor.name = b""
    Path(path).write_bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def recipe_of(name: str, leave: Any) -> Any:
    """Rules for every operation, then those that keep some in float; the last that fits an operation wins."""
    from ai_edge_quantizer import algorithm_manager, qtyping, recipe, recipe_manager

    manager = recipe_manager.RecipeManager()
    every = qtyping.TFLOperationName.ALL_SUPPORTED
    names = algorithm_manager.AlgorithmName
    if name == "fp16":
        manager.add_weight_only_config(".*", every, 16, algorithm_key=names.FLOAT_CASTING)
    else:
        make = {
            "static": recipe.static_wi8_ai8,
            "dynamic": recipe.dynamic_wi8_afp32,
            "weight8": recipe.weight_only_wi8_afp32,
            "weight4": recipe.weight_only_wi4_afp32,
        }[name]
        manager.load_quantization_recipe(make())
    for tensor in leave:
        manager.add_quantization_config(f"(^|;){re.escape(tensor)}(;|$)", every, algorithm_key=names.NO_QUANTIZE)
    return manager.get_quantization_recipe()


@lru_cache(maxsize=2)
def calibrated(fp32: str, calibration: str, changed: int) -> dict[str, Any]:
    """Extremes of every tensor; ``changed`` only tells one file from the next of its name.

    ``Quantizer.calibrate`` would follow the samples with a moving average, so that the last few dozen decide (4.8
    points of accuracy lost on a mix of clean and foggy digits), and with 16 threads. So its calibrator is used itself.
    """
    from ai_edge_quantizer import calibrator, recipe, recipe_manager
    from ai_edge_quantizer.utils import qsv_utils

    del changed
    manager = recipe_manager.RecipeManager()
    manager.load_quantization_recipe(recipe.static_wi8_ai8())
    ranges = calibrator.Calibrator(fp32, num_threads=1, qsv_update_func=qsv_utils.min_max_update)
    name = input_of(fp32)
    ranges.calibrate({"serving_default": [{name: sample[None]} for sample in samples_of(calibration)]}, manager)
    found: dict[str, Any] = ranges.get_model_qsvs()
    return found


def with_ranges(found: dict[str, Any], ranges: dict[str, Any]) -> dict[str, Any]:
    """``found`` with other extremes for the tensors of ``ranges``."""
    import numpy as np

    changed = dict(found)
    for name, (low, high) in ranges.items():
        if name in found and np.size(found[name]["min"]) == 1:
            old = found[name]
            changed[name] = old | {
                "min": np.full_like(old["min"], low),
                "max": np.full_like(old["max"], high),
            }
    return changed


def observe(fp32: str, calibration: str, out: str) -> None:
    """An even sample of what each float tensor held."""
    import numpy as np

    interpreter = interpreter_of(fp32, keep=True)
    at = interpreter.get_input_details()[0]["index"]
    details = {
        d["index"]: d["name"] for d in interpreter.get_tensor_details() if d["name"] and d["dtype"] == np.float32
    }
    held: dict[str, list[Any]] = {name: [] for name in details.values()}
    samples = samples_of(calibration)
    share = max(1, KEPT // len(samples))
    extremes = {name: [np.inf, -np.inf] for name in held}
    for sample in samples:
        interpreter.set_tensor(at, sample[None])
        interpreter.invoke()
        for index, name in details.items():
            try:
                values = np.ravel(interpreter.get_tensor(index))
            except ValueError:  # a tensor that no step fills
                continue
            if values.size:
                # evenly spread, but in no step with channels (golden ratio)
                places = (np.arange(share) * 0.6180339887498949 % 1 * values.size).astype(np.int64)
                held[name].append(values[places] if values.size > share else values)
                low, high = extremes[name]
                extremes[name] = [min(low, float(values.min())), max(high, float(values.max()))]
    names = [name for name, parts in held.items() if parts]
    rows = [np.concatenate(held[name]) for name in names]
    values = np.full((len(rows), max(map(len, rows), default=1)), np.nan, np.float32)
    for row, into in zip(rows, values, strict=True):
        into[: len(row)] = row
    ends = np.array([extremes[name] for name in names]).reshape(-1, 2)
    np.savez(out, name=np.array(names), low=ends[:, 0], high=ends[:, 1], values=values)


def layers(fp32: str) -> list[str]:
    """Output tensors of the operations with weights."""
    interpreter = interpreter_of(fp32)
    names = {d["index"]: d["name"] for d in interpreter.get_tensor_details()}
    operators = interpreter._get_ops_details()  # noqa: SLF001  (no public way)
    return [names[int(op["outputs"][0])] for op in operators if op["op_name"] in WEIGHTED]


def interpreter_of(fp32: str, *, keep: bool = False) -> Any:
    """LiteRT without XNNPACK, whose fused operations hide tensors."""
    from ai_edge_litert import interpreter

    made = interpreter.Interpreter(
        fp32,
        num_threads=1,
        experimental_preserve_all_tensors=keep,
        experimental_op_resolver_type=interpreter.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    made.allocate_tensors()
    return made


def input_of(fp32: str) -> str:
    """The name of the signature's first input."""
    signature = next(iter(interpreter_of(fp32).get_signature_list().values()))
    return str(signature["inputs"][0])


def samples_of(calibration: str) -> Any:
    """``x`` of the file; token ids as the converted file takes them, int32."""
    import numpy as np

    with np.load(calibration, allow_pickle=False) as file:
        x = file["x"]
    return x.astype(np.int32) if x.dtype == np.int64 else x


if __name__ == "__main__":
    sys.exit(main())
