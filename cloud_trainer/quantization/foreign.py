"""ONNX files made elsewhere: opened, quantized, and repaired without training code. No torch here."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from cloud_trainer.exporting.recipes import Recipe
from cloud_trainer.progress import Progress, silent
from cloud_trainer.quantization.agreement import sqnr
from cloud_trainer.quantization.calibration import batches
from cloud_trainer.quantization.onnx_files import write_onnx
from cloud_trainer.quantization.onnx_static import observe, onnx_layers, prepare
from cloud_trainer.quantization.onnx_weights import attends
from cloud_trainer.quantization.ranges import METHODS, Observed, Ranges, ranges
from cloud_trainer.quantization.sensitivity import Sensitivity, counts, rank
from cloud_trainer.quantization.story import Trial, in_float
from shared.errors import ExportError, UsageError, one_line

Feeds = Mapping[str, NDArray[Any]]
OPSET = 17
PER_CHANNEL_OPSET = 13
MEASURED_SAMPLES = 128
CLOSE = 1e-9
IN_BETWEEN = ("Identity", "Constant", "Shape", "Cast", "Dropout", "Relu", "Clip")
"""Operators that are no arithmetic, or go into the layer before them."""


class Model(Struct, frozen=True):
    """A float model as one file of a new enough version, with a name for every node. ``inputs``: those a caller gives;
    ``floats``: operators that no int8 form is known of, with how often they occur."""

    path: Path
    inputs: tuple[str, ...]
    transformer: bool
    layers: tuple[str, ...]
    floats: tuple[tuple[str, int], ...]


class Outcome(Struct, frozen=True):
    """``passed``: the file that lies there reached the goal; ``trials``: what was tried, in order; ``in_float``: layers
    that stayed in float."""

    passed: bool
    score: float
    trials: tuple[Trial, ...]
    sensitivities: tuple[Sensitivity, ...] = ()
    in_float: tuple[str, ...] = ()


def open_model(path: Path, directory: Path) -> Model:
    """Read ``path`` and write what the quantizers take into ``directory``.

    Raises:
        UsageError: it is no ONNX file, keeps its weights in a file that is not there, or is quantized already.
        ExportError: its version is too old and can't be raised.
    """
    import onnx
    from onnx import version_converter
    from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

    if path.suffix.lower() != ".onnx":
        hint = "; quantize a TFLite file where it is made from its network" if path.suffix.lower() == ".tflite" else ""
        raise UsageError(f"{path}: expected a .onnx file{hint}")
    if not path.is_file():
        raise UsageError(f"{path}: no such file")
    try:
        model = onnx.load(str(path))
    except Exception as error:  # protobuf's and onnx's errors have no common base
        logging.getLogger(__name__).debug("onnx.load failed", exc_info=True)
        raise UsageError(f"{path}: no ONNX model that can be read: {one_line(error)}") from error
    if not model.graph.node:
        raise UsageError(f"{path}: no ONNX model that can be read: it has no operators")
    operators = Counter(node.op_type for node in model.graph.node)
    if operators["QuantizeLinear"] or operators["DequantizeLinear"] or operators["QLinearConv"]:
        raise UsageError(f"{path}: is quantized already; give the float32 file")
    version = next((one.version for one in model.opset_import if one.domain in {"", "ai.onnx"}), 0)
    if version < PER_CHANNEL_OPSET:
        try:
            model = version_converter.convert_version(model, OPSET)
        except Exception as error:  # the converter's errors have no common base
            raise ExportError(f"{path}: opset {version} is too old to quantize: {one_line(error)}") from error
    _name_nodes(model.graph)
    whole = directory / "fp32.onnx"
    onnx.save(model, str(whole))
    constants = {one.name for one in model.graph.initializer}
    known = set(QDQRegistry) | set(QLinearOpsRegistry) | set(IN_BETWEEN)
    return Model(
        path=whole,
        inputs=tuple(one.name for one in model.graph.input if one.name not in constants),
        transformer=attends(whole),
        layers=onnx_layers(whole),
        floats=tuple(sorted((name, count) for name, count in operators.items() if name not in known)),
    )


def _name_nodes(graph: Any) -> None:
    taken: set[str] = set()
    for at, node in enumerate(graph.node):
        if not node.name or node.name in taken:
            node.name = f"{node.op_type}_{at}"
        taken.add(node.name)


def quantize_to_goal(
    model: Model,
    recipe: Recipe,
    out: Path,
    feeds: Feeds,
    *,
    score: Callable[[], float],
    goal: float,
    mixed: bool = True,
    progress: Progress = silent,
) -> Outcome:
    """Write ``out`` by ``recipe``; where ``score()`` of it misses ``goal``, with other ranges, then with the layers
    that int8 hurts most in float. The best that was found stays.

    Args:
        feeds: each of the model's inputs (n, ...), as it reads them.

    Raises:
        ExportError: the first, plain file could not be made.
    """
    tries = _Tries(model, recipe, out, feeds, score, goal)
    if tries.make("ranges by min-max", None):
        return tries.end()
    int8 = recipe.precision == "int8"
    held: dict[str, Observed] = {}
    best: Ranges | None = None
    if int8 and recipe.scheme != "dynamic":
        progress("repair", 0.0, f"{recipe.id} misses its gate: other ranges")
        prepared = model.path.with_name("prepared.onnx")
        prepare(model.path, prepared)
        held = observe(prepared, feeds)
        for method in METHODS[1:]:
            found = ranges(held, method)
            before = tries.best
            if tries.make(f"ranges by {method}", found):
                return tries.end()
            best = found if tries.best > before else best
    if not (int8 and mixed):
        return tries.end()
    few = {name: values[:MEASURED_SAMPLES] for name, values in feeds.items()}
    wanted = first_output(model.path, few)

    def quality(leave: tuple[str, ...]) -> float:
        tries.write(best, leave)
        return sqnr(wanted, first_output(out, few))

    def seen(done: int) -> None:
        progress("repair", done / len(model.layers), f"{recipe.id}: {done} of {len(model.layers)} layers measured")

    ranked = rank(model.layers, quality, seen)
    for count in counts(len(ranked)):
        leave = tuple(one.layer for one in ranked[:count])
        if tries.make(in_float(leave), best, leave):
            break
    return tries.end(ranked)


class _Tries:
    def __init__(
        self, model: Model, recipe: Recipe, out: Path, feeds: Feeds, score: Callable[[], float], goal: float
    ) -> None:
        self.model, self.recipe, self.out, self.feeds = model, recipe, out, feeds
        self.score, self.goal = score, goal
        self.best = -np.inf
        self.passed = False
        self.trials: list[Trial] = []
        self._kept = b""
        self._left: tuple[str, ...] = ()

    def write(self, found: Ranges | None, leave: Sequence[str] = ()) -> None:
        write_onnx(self.recipe, self.model.path, self.out, self.feeds, ranges=found, leave=leave)

    def make(self, what: str, found: Ranges | None, leave: tuple[str, ...] = ()) -> bool:
        self.write(found, leave)
        score = self.score()
        plain = self.recipe.precision != "int8" or self.recipe.scheme == "dynamic"
        what = self.recipe.scheme if plain and not leave else what
        self.trials.append(Trial(what, round(score, 6), self.out.stat().st_size))
        if score > self.best:
            self.best, self._kept, self._left = score, self.out.read_bytes(), leave
        self.passed = self.passed or score >= self.goal - CLOSE
        return self.passed

    def end(self, ranked: tuple[Sensitivity, ...] = ()) -> Outcome:
        self.out.write_bytes(self._kept)
        return Outcome(self.passed, float(self.best), tuple(self.trials), ranked, self._left)


def first_output(path: Path, feeds: Feeds) -> NDArray[np.float64]:
    """The model's first output for ``feeds`` (n, ...): (n, ...), by ONNX Runtime alone."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    one_by_one = any(isinstance((one.shape or [1])[0], int) for one in session.get_inputs())
    name = session.get_outputs()[0].name
    rows = [session.run([name], feed)[0] for feed in batches(dict(feeds), 1 if one_by_one else 64)]
    return np.concatenate(rows).astype(np.float64)
