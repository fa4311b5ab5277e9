"""The trainer as a library: five functions, each usable alone.

    from cloud_trainer import train, distill, quantize, export, package

All of them raise the errors of :mod:`shared.errors` (``edge_agent.errors``), with one line that says what was wrong and
what would be right; whatever they write appears whole or not at all.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from cloud_trainer.config import ExportConfig, TaskConfig, load_task
from cloud_trainer.progress import Progress, silent
from shared.errors import DataError, TrainingError, UsageError
from shared.manifest import Manifest, Variant

if TYPE_CHECKING:
    from torch import nn

    from cloud_trainer.data import Labelled
    from cloud_trainer.distillation import Teacher
    from cloud_trainer.fit import Curve
    from cloud_trainer.objectives import Objective
    from cloud_trainer.training import TrainedRelease

__all__ = ["distill", "export", "package", "quantize", "train"]

Pair = tuple[ArrayLike, ArrayLike]
"""Samples (n, *input) as the network reads them, and their truth (n,) or (n, outputs)."""


def train(
    task: TaskConfig | Path | str,
    out: Path | str,
    *,
    version: int = 1,
    parent: Path | str | None = None,
    labelled: Sequence[Labelled] = (),
    workers: int = 1,
    engine: str = "local",
    progress: Progress = silent,
    stop: Callable[[], bool] | None = None,
) -> TrainedRelease:
    """From data to a release directory ``out``: what ``cloud-trainer train`` does.

    ``task``: a ``task.toml``, or the same as a Struct. ``workers`` processes train together; ``engine`` "ray" trains on
    a Ray cluster. ``progress`` is called with (stage, fraction, text); ``stop`` is asked before every batch.

    >>> trained = train("task.toml", "releases/digits/1")                      # doctest: +SKIP
    >>> trained.manifest.variants[0].quality["accuracy"]                       # doctest: +SKIP
    0.9889

    Raises:
        ConfigError: the task file is wrong.
        DataError: the data cannot be used.
        TrainingError: it could not be trained or exported; ``StoppedError`` where ``stop`` said so.
    """
    from cloud_trainer.engines import engine_of
    from cloud_trainer.training import train_release

    if engine not in {"local", "ray"}:
        raise UsageError(f"engine {engine!r}: expected 'local' or 'ray'")
    if version < 1:
        raise UsageError(f"version {version}: must be at least 1")
    found = task if isinstance(task, TaskConfig) else load_task(Path(task))
    with engine_of(engine, workers) as where:  # type: ignore[arg-type]  # checked above
        return train_release(
            found,
            Path(out),
            version=version,
            parent=None if parent is None else Path(parent),
            labelled=labelled,
            progress=progress,
            stop=stop,
            engine=where,
        )


def distill(
    student: nn.Module,
    teachers: Teacher | Sequence[Teacher],
    data: Pair,
    validation: Pair,
    *,
    objective: Objective | None = None,
    epochs: int = 20,
    batch: int = 128,
    learning_rate: float = 3e-3,
    weight_decay: float = 1e-4,
    temperature: float = 4.0,
    teacher_weight: float = 0.7,
    feature_weight: float = 0.0,
    patience: int = 0,
    seed: int = 0,
    checkpoint: Path | str | None = None,
    progress: Progress = silent,
) -> Curve:
    """Train ``student`` in place beside ``teachers`` (a network or a function of numpy arrays, or a list of them, which
    is averaged); with an empty list on the truth alone. It is left in evaluation mode; the curve says how it went.

    ``student(x)`` gives the answer (n, outputs), or that and an embedding (n, e). The truth of classes is int (n,),
    that of numbers float (n, outputs); ``objective`` is chosen by it (:mod:`cloud_trainer.objectives`).

    >>> curve = distill(small, [big], (x, y), (x_held_out, y_held_out))        # doctest: +SKIP
    >>> curve.validation_score[curve.best_epoch]                               # doctest: +SKIP
    0.9812

    Raises:
        DataError: shapes don't fit, or classes that the student has no output for.
        UsageError: numbers that make no sense.
        TrainingError: a loss that is no number, or a teacher's answers that don't fit.
    """
    from cloud_trainer.distillation import teach
    from cloud_trainer.fit import Encoded, Plan
    from cloud_trainer.fit import train as fit
    from cloud_trainer.given import above, fitting, outputs_of
    from cloud_trainer.objectives import Classes, Numbers

    # a Sequential would be taken for its layers
    asked: Sequence[Teacher] = teachers if isinstance(teachers, Sequence) else [teachers]
    above(epochs=epochs, batch=batch, learning_rate=learning_rate, temperature=temperature)
    x, y = _pair(data, "data")
    held_x, held_y = _pair(validation, "validation")
    if x.shape[1:] != held_x.shape[1:]:
        raise DataError(f"data has samples of shape {x.shape[1:]}, validation of {held_x.shape[1:]}")
    known, held = Encoded.of(x, y), Encoded.of(held_x, held_y)
    outputs = outputs_of(student, x[:2], "the student")
    if objective is None:
        fitting(y, outputs, "data")
        fitting(held_y, outputs, "validation")
        if y.dtype.kind == "i":
            objective = Classes(outputs, temperature=temperature, teacher_weight=teacher_weight)
        else:
            objective = Numbers(teacher_weight=teacher_weight)
    teaching = teach(asked, known.x, feature_weight=feature_weight) if asked else None
    if teaching is not None and teaching.answers.shape[1] != outputs:
        raise TrainingError(f"the teachers give {teaching.answers.shape[1]} outputs, the student {outputs}")
    return fit(
        student,
        known,
        held,
        Plan(
            epochs=epochs,
            batch=batch,
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            seed=seed,
            patience=patience,
        ),
        objective=objective,
        teaching=teaching,
        checkpoint=None if checkpoint is None else Path(checkpoint),
        name="student",
        progress=progress,
    )


def export(
    model: nn.Module,
    out: Path | str,
    *,
    calibration: ArrayLike,
    runtimes: Sequence[str] = ("onnxruntime", "litert"),
    precisions: Sequence[str] = ("int8",),
    answer: str = "logits",
    name: str = "model",
    progress: Progress = silent,
) -> list[Variant]:
    """Write ``model`` as ONNX and TFLite files, fp32 and ``precisions`` (int8, fp16, weight8, weight4), into
    ``out/variants/``; the result says what each file is. ``calibration`` (n, *input): samples as the network reads
    them, from which int8 takes its ranges. ``answer``: what the first output is called; the second is ``embedding``.

    >>> [one.id for one in export(model, "files", calibration=x[:256])]         # doctest: +SKIP
    ['fp32-onnx', 'int8-onnx', 'int8-arm-onnx', 'fp32-litert', 'int8-litert']

    Raises:
        DataError: samples that ``model`` does not take, or that are not finite.
        ExportError: a file could not be made.
        UsageError: ``out`` exists already and is not empty; an unknown runtime or precision.
    """
    import torch

    from cloud_trainer.exporting.variants import Student, export_all, open_worker
    from cloud_trainer.given import samples_of, tried
    from cloud_trainer.models import count_macs
    from cloud_trainer.packaging import staging

    samples = samples_of(calibration, "calibration")
    if not np.isfinite(samples).all():
        raise DataError("calibration has NaN or infinite values; leave such samples out")
    try:
        config = msgspec.convert({"runtimes": list(runtimes), "precisions": list(precisions)}, ExportConfig)
    except msgspec.ValidationError as error:
        raise UsageError(f"export: {error}") from error
    tokens = samples.dtype.kind == "i"
    tried(model, samples[:1], "the model")
    student = Student(
        model=model,
        input=tuple(samples.shape[1:]),
        macs=count_macs(model, torch.from_numpy(samples[:1])),
        name=name,
        calibration=samples,
        tokens=tokens,
        answer=answer,
    )
    with staging(Path(out)) as directory:
        worker = open_worker(config.runtimes, progress)
        try:
            return export_all(student, config, directory, worker, progress)
        finally:
            if worker is not None:
                worker.close()


def quantize(
    model: Path | str, calibration: Path | str, out: Path | str, *, progress: Progress = silent, **options: Any
) -> Manifest:
    """Smaller variants of an ONNX file from elsewhere, measured and gated, as a release directory ``out``: what
    ``cloud-trainer quantize`` does. ``options`` are that command's, with underscores: ``labels="cat,dog"``,
    ``precisions="int8,fp16"``, ``gate_points=1.0``, ``input_scale="1/255"``, ...

    >>> quantize("model.onnx", "data.npz", "releases/pets/1", labels="cat,dog").variants   # doctest: +SKIP

    Raises:
        UsageError: an unknown option, or files that don't fit together.
        DataError: the samples cannot be used.
        ExportError: the file cannot be quantized.
    """
    from cloud_trainer.commands import quantize as command

    given = {"model": Path(model), "calibration": Path(calibration), "out": Path(out), **options}
    return command.make(_arguments("quantize", command.configure, given), progress)[1]


def package(models: Path | str | Sequence[Path | str], out: Path | str, **options: Any) -> Manifest:
    """A release directory ``out`` of model files that exist already: what ``cloud-trainer package`` does, no torch.
    ``options`` are that command's, with underscores: ``labels="cat,dog"``, ``reference="held_out.npz"``, ...

    >>> package(["model.onnx", "model_int8.tflite"], "releases/model/1").task              # doctest: +SKIP
    'raw'

    Raises:
        UsageError: an unknown option, or files that don't fit together.
        BackendError: a runtime refuses a file.
    """
    from cloud_trainer.commands import package as command

    files = [models] if isinstance(models, str | Path) else models
    given = {"model": [Path(one) for one in files], "out": Path(out), **options}
    return command.make(_arguments("package", command.configure, given))[0]


def _pair(pair: Pair, what: str) -> tuple[NDArray[Any], NDArray[Any]]:
    from cloud_trainer.given import samples_of, truth_of

    x, y = samples_of(pair[0], what), truth_of(pair[1], what)
    if len(x) != len(y):
        raise DataError(f"{what}: {len(x)} samples and {len(y)} truths")
    return x, y


def _arguments(
    what: str, configure: Callable[[argparse.ArgumentParser], None], given: dict[str, Any]
) -> argparse.Namespace:
    """The command's arguments: its defaults, and what was ``given``."""
    parser = argparse.ArgumentParser(add_help=False)
    configure(parser)
    known = {action.dest: action.default for action in parser._actions}  # noqa: SLF001  (no public way to defaults)
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise UsageError(f"{what}: unknown option {unknown[0]!r}; there are {', '.join(sorted(known))}")
    paths = {action.dest for action in parser._actions if action.type is Path}  # noqa: SLF001
    for name in paths & set(given):
        if isinstance(given[name], str):
            given[name] = Path(given[name])
    return argparse.Namespace(**known | given)
