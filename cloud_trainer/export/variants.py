"""Every file that a student becomes: fp32 and int8, for ONNX Runtime and LiteRT."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray
from torch import nn

from cloud_trainer.export.environment import exporter_python, unsupported
from cloud_trainer.export.fold import folded
from cloud_trainer.export.specs import onnx_specs, tflite_specs
from cloud_trainer.export.to_onnx import INPUT, OUTPUTS, export_onnx
from cloud_trainer.export.to_tflite import TfliteWorker, save_calibration, save_program
from cloud_trainer.progress import Progress
from cloud_trainer.quantize import quantize_onnx
from edge_agent.backends import available
from shared.errors import ExportError
from shared.manifest import TensorSpec, Variant, reference_file

ARM = ("aarch64", "arm64")


class Student(Struct, frozen=True, eq=False):
    """What is exported: the network, its input (without the batch), MACs, name, and samples to find ranges with."""

    model: nn.Module
    input: tuple[int, ...]
    macs: int
    name: str
    calibration: NDArray[np.float32]


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
    student: Student, runtimes: Sequence[str], release: Path, worker: TfliteWorker | None, progress: Progress
) -> list[Variant]:
    """Write ``release/variants/*``; both runtimes at once, for the TFLite worker is a process of its own. The variants
    have no quality yet.

    Raises:
        ExportError: a file could not be made.
    """
    model = folded(student.model)
    variants: list[Variant] = []
    with tempfile.TemporaryDirectory() as directory, ThreadPoolExecutor(1) as pool:
        tflite: Future[list[Variant]] | None = None
        if worker is not None:
            program, calibration = Path(directory) / "student.pt2", Path(directory) / "calibration.npz"
            save_program(model, student.input, program)
            save_calibration(student.calibration, calibration)
            tflite = pool.submit(_tflite, student, release, worker, program, calibration)
        if "onnxruntime" in runtimes:
            progress("export", 0.3, "ONNX")
            variants += _onnx(student, model, release)
        if tflite is not None:
            progress("export", 0.6, "TFLite")
            variants += tflite.result()
    progress("export", 1.0, ", ".join(variant.id for variant in variants))
    return variants


def _onnx(student: Student, model: nn.Module, release: Path) -> list[Variant]:
    fp32 = release / "variants" / "fp32.onnx"
    export_onnx(model, student.input, fp32)
    made = [_variant(student, "fp32-onnx", "onnxruntime", "fp32", release, fp32, onnx_specs(fp32))]
    kinds: tuple[tuple[str, Literal["uint8", "int8"], tuple[str, ...]], ...] = (
        ("int8-onnx", "uint8", ()),
        ("int8-arm-onnx", "int8", ARM),
    )
    for id_, activations, meant_for in kinds:
        path = release / "variants" / f"{id_.removesuffix('-onnx')}.onnx"
        quantize_onnx(fp32, path, student.calibration, activations=activations, input_name=INPUT)
        made.append(_variant(student, id_, "onnxruntime", "int8", release, path, onnx_specs(path), meant_for))
    return made


def _tflite(student: Student, release: Path, worker: TfliteWorker, program: Path, calibration: Path) -> list[Variant]:
    fp32, int8 = (release / "variants" / f"{precision}.tflite" for precision in ("fp32", "int8"))
    worker.convert(
        {
            "program": str(program),
            "shape": [1, *student.input],
            "calibration": str(calibration),
            "fp32": str(fp32),
            "int8": str(int8),
        }
    )
    return [
        _variant(student, "fp32-litert", "litert", "fp32", release, fp32, tflite_specs(fp32)),
        _variant(student, "int8-litert", "litert", "int8", release, int8, tflite_specs(int8)),
    ]


def _variant(
    student: Student,
    id_: str,
    runtime: str,
    precision: str,
    release: Path,
    path: Path,
    specs: tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]],
    meant_for: tuple[str, ...] = (),
) -> Variant:
    return Variant(
        id=id_,
        runtime=runtime,
        precision=precision,
        student=student.name,
        file=reference_file(release, path.relative_to(release).as_posix()),
        inputs=_renamed(specs[0], (INPUT,)),
        outputs=_renamed(specs[1], OUTPUTS),
        macs=student.macs,
        quality={},
        meant_for=meant_for,
    )


def _renamed(specs: Sequence[TensorSpec], roles: Sequence[str]) -> tuple[TensorSpec, ...]:
    """Roles instead of the file's own names; backends go by position where they differ."""
    if len(specs) != len(roles):
        raise ExportError(f"the exported file has {len(specs)} tensors where {', '.join(roles)} were expected")
    return tuple(msgspec.structs.replace(spec, name=role) for spec, role in zip(specs, roles, strict=True))
