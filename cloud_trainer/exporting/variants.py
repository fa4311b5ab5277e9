"""Every file that a student becomes, for ONNX Runtime and LiteRT."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from msgspec import Struct
from numpy.typing import NDArray
from torch import nn

from cloud_trainer.config import ExportConfig
from cloud_trainer.exporting.environment import exporter_python, unsupported
from cloud_trainer.exporting.fold import folded
from cloud_trainer.exporting.recipes import Recipe, recipes
from cloud_trainer.exporting.specs import onnx_specs, tflite_specs
from cloud_trainer.exporting.to_onnx import INPUT, export_onnx, zeros
from cloud_trainer.exporting.to_tflite import TfliteWorker, save_calibration, save_program
from cloud_trainer.progress import Progress
from cloud_trainer.quantization.onnx_files import write_onnx
from cloud_trainer.quantization.onnx_weights import attends
from cloud_trainer.quantization.ranges import Observed, Ranges
from edge_agent.backends import available
from shared.errors import ExportError
from shared.manifest import TensorSpec, Variant, reference_file

EMBEDDING = "embedding"


class Student(Struct, frozen=True, eq=False):
    """What is exported: the network, its input (without the batch), MACs, name, and encoded samples (n, *input) to find
    ranges with. ``tokens``: they are int64 ids instead of float32. ``answer``: what the first output is called; the
    second, where there is one, is ``embedding``."""

    model: nn.Module
    input: tuple[int, ...]
    macs: int
    name: str
    calibration: NDArray[Any]
    tokens: bool = False
    answer: str = "logits"

    def outputs(self) -> tuple[str, ...]:
        """Names of what the network gives, in its order: the answer, ``embedding``, then ``output2``, ..."""
        was = self.model.training
        try:
            with torch.no_grad():
                found = self.model.eval()(zeros(self.input, 2, tokens=self.tokens))
        finally:
            self.model.train(was)
        count = 1 if isinstance(found, torch.Tensor) else len(found)
        return (self.answer, EMBEDDING, *(f"output{i}" for i in range(2, count)))[:count]


def open_worker(runtimes: Sequence[str], progress: Progress) -> TfliteWorker | None:
    """The TFLite exporter, started; ``None`` where the task does not ask for it or the machine has none.

    Raises:
        ExportError: the task asks for TFLite alone and this machine cannot export it.
    """
    if "litert" not in runtimes:
        return None
    reason = unsupported()
    if reason is None and "litert" not in available():
        reason = "LiteRT is not installed, so .tflite files could not be measured: exporting ONNX only"
    if reason is None:
        return TfliteWorker(exporter_python(progress))
    if tuple(runtimes) == ("litert",):
        raise ExportError(f"{reason.split(':')[0]}, and export.runtimes asks for nothing else")
    progress("export", 0.0, reason)
    return None


def export_all(
    student: Student, config: ExportConfig, release: Path, worker: TfliteWorker | None, progress: Progress
) -> list[Variant]:
    """Write ``release/variants/*``; both runtimes at once, for the TFLite worker is a process of its own. The variants
    have no quality yet.

    Raises:
        ExportError: a file could not be made.
    """
    with tempfile.TemporaryDirectory() as directory, ThreadPoolExecutor(1) as pool:
        # the graph says whether it is a transformer, so ONNX is made even where only TFLite is asked for
        probe = Path(directory) / "probe.onnx"
        model = folded(student.model)
        export_onnx(model, student.input, probe, tokens=student.tokens, outputs=student.outputs())
        transformer = attends(probe)
        sources = Sources(Path(directory), probe)
        made: list[Variant] = []
        tflite: Future[list[Variant]] | None = None
        if worker is not None:
            save_program(model, student.input, sources.program, tokens=student.tokens)
            save_calibration(student.calibration, sources.calibration)
            # a table of embeddings stays in float beside static ranges, and is most of a small network
            wanted = recipes(config.precisions, "litert", transformer=transformer or student.tokens)
            tflite = pool.submit(_all_tflite, student, wanted, sources, release, worker)
        if "onnxruntime" in config.runtimes:
            progress("export", 0.3, "ONNX")
            wanted = recipes(config.precisions, "onnxruntime", transformer=transformer)
            made.extend(make_onnx(student, recipe, probe, release) for recipe in wanted)
        if tflite is not None:
            progress("export", 0.6, "TFLite")
            made += tflite.result()
    progress("export", 1.0, ", ".join(variant.id for variant in made))
    return made


class Sources(Struct, frozen=True):
    """Files that the variants of one network are made from, in a working directory."""

    directory: Path
    onnx: Path

    @property
    def program(self) -> Path:
        """What the TFLite worker converts."""
        return self.directory / "student.pt2"

    @property
    def calibration(self) -> Path:
        """What it finds ranges with."""
        return self.directory / "calibration.npz"

    @property
    def tflite(self) -> Path:
        """What it made."""
        return self.directory / "fp32.tflite"


def make_onnx(
    student: Student,
    recipe: Recipe,
    fp32: Path,
    release: Path,
    *,
    ranges: Ranges | None = None,
    leave: Sequence[str] = (),
) -> Variant:
    """One file for ONNX Runtime from ``fp32``, the network's ONNX file. ``ranges`` of a static recipe (none: extremes);
    ``leave``: nodes that stay in float.

    Raises:
        ExportError: it could not be made.
    """
    path = release / "variants" / recipe.file
    write_onnx(recipe, fp32, path, {INPUT: student.calibration}, ranges=ranges, leave=leave)
    return describe(student, recipe, release, onnx_specs(path))


def _all_tflite(
    student: Student, wanted: Sequence[Recipe], sources: Sources, release: Path, worker: TfliteWorker
) -> list[Variant]:
    worker.convert({"program": str(sources.program), "fp32": str(sources.tflite)})
    return [make_tflite(student, recipe, sources, release, worker) for recipe in wanted]


def make_tflite(
    student: Student,
    recipe: Recipe,
    sources: Sources,
    release: Path,
    worker: TfliteWorker,
    *,
    ranges: Ranges | None = None,
    leave: Sequence[str] = (),
) -> Variant:
    """One file for LiteRT from ``sources.tflite``; like :func:`make_onnx`, ``leave`` being operations' output tensors.

    Raises:
        ExportError: it could not be made.
    """
    path = release / "variants" / recipe.file
    if recipe.scheme == "float":
        path.write_bytes(sources.tflite.read_bytes())
    else:
        worker.convert(
            {
                "fp32": str(sources.tflite),
                "out": str(path),
                "recipe": recipe.scheme,
                "calibration": str(sources.calibration),
                "ranges": ranges,
                "leave": list(leave),
            }
        )
    return describe(student, recipe, release, tflite_specs(path))


def observe_tflite(worker: TfliteWorker, sources: Sources) -> dict[str, Observed]:
    """What every tensor of the TFLite file held."""
    out = sources.directory / "observed.npz"
    worker.convert({"fp32": str(sources.tflite), "calibration": str(sources.calibration), "observe": str(out)})
    with np.load(out, allow_pickle=False) as file:
        rows = zip(file["name"].tolist(), file["low"], file["high"], file["values"], strict=True)
        return {name: Observed(float(a), float(b), v[~np.isnan(v)]) for name, a, b, v in rows}


def describe(
    student: Student,
    recipe: Recipe,
    release: Path,
    specs: tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]],
) -> Variant:
    """The manifest's entry of a file that lies in ``release``, under roles instead of the file's own names.

    Raises:
        ExportError: the file has other tensors than the network.
    """
    return Variant(
        id=recipe.id,
        runtime=recipe.runtime,
        precision=recipe.precision,
        student=student.name,
        file=reference_file(release, f"variants/{recipe.file}"),
        inputs=_renamed(specs[0], (INPUT,)),
        outputs=_renamed(specs[1], student.outputs()),
        macs=student.macs,
        quality={},
        meant_for=recipe.meant_for,
    )


def _renamed(specs: Sequence[TensorSpec], roles: Sequence[str]) -> tuple[TensorSpec, ...]:
    """Roles instead of the file's own names; backends go by position where they differ."""
    if len(specs) != len(roles):
        raise ExportError(f"the exported file has {len(specs)} tensors where {', '.join(roles)} were expected")
    return tuple(msgspec.structs.replace(spec, name=role) for spec, role in zip(specs, roles, strict=True))
