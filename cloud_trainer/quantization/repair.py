"""An int8 variant that misses its gate, repaired: other ranges, quantization-aware training, then mixed precision.

In this order, each step only where the one before it was not enough:

1. the other ways to choose ranges, and corrected biases: seconds, no training;
2. quantization-aware training, where the caller can train;
3. the layers that int8 hurts most stay in float, more and more of them.

Every try is measured by the caller's score and told in the story, whether it helped or not.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from msgspec import Struct
from torch import nn

from cloud_trainer.config import ExportConfig
from cloud_trainer.exporting.fold import folded
from cloud_trainer.exporting.recipes import Recipe, recipes
from cloud_trainer.exporting.to_onnx import export_onnx
from cloud_trainer.exporting.to_tflite import TfliteWorker, save_calibration, save_program
from cloud_trainer.exporting.variants import Sources, Student, make_onnx, make_tflite, observe_tflite
from cloud_trainer.progress import Progress, silent
from cloud_trainer.quantization.agreement import answers_of, sqnr
from cloud_trainer.quantization.bias import corrected
from cloud_trainer.quantization.onnx_static import observe, onnx_layers, prepare
from cloud_trainer.quantization.qat import Aware, Finetune, aware
from cloud_trainer.quantization.ranges import METHODS, Observed, Ranges, range_of, ranges
from cloud_trainer.quantization.sensitivity import Sensitivity, counts, rank
from cloud_trainer.quantization.story import Trial, in_float, text_of
from shared.errors import BackendError, ExportError
from shared.manifest import Variant

LEARNED = "training"
"""Ranges that quantization-aware training learned, beside the methods of :mod:`cloud_trainer.quantization.ranges`."""
MEASURED_SAMPLES = 128
CLOSE = 1e-9


class Repaired(Struct, frozen=True, eq=False):
    """``variant``: the first that reached the goal, in the failed one's place; ``None``: none did, and the best one
    lies there. ``trials``: the story, in order; ``sensitivities``: where layers were ranked."""

    variant: Variant | None
    trials: tuple[Trial, ...]
    sensitivities: tuple[Sensitivity, ...] = ()
    in_float: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The story in one line."""
        return text_of(self.trials)


class Repairs:
    """The repairs of one student's variants, which share what is slow: one quantization-aware training for all of
    them. Use it in a ``with`` statement, for it keeps files in a temporary directory.

    Args:
        finetune: trains a network in place; ``None``: there is no training code, so step 2 is left out.
        score: of a variant whose file lies in ``release``; at most 1, higher is better.
    """

    def __init__(
        self,
        student: Student,
        config: ExportConfig,
        release: Path,
        worker: TfliteWorker | None,
        *,
        score: Callable[[Variant], float],
        finetune: Finetune | None = None,
        progress: Progress = silent,
    ) -> None:
        self._student, self._config, self._release, self._worker = student, config, release, worker
        self._score, self._finetune, self._progress = score, finetune, progress
        self._directory = tempfile.TemporaryDirectory()
        self._networks: dict[str, nn.Module | Aware | str] = {"trained": folded(student.model)}
        self._sources: dict[str, Sources] = {}
        self._observed: dict[tuple[str, str], dict[str, Observed]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._directory.cleanup()

    def repair(self, failed: Variant, goal: float) -> Repaired:
        """Make ``failed``, a static int8 variant, score at least ``goal``. Its file is replaced by the best that was
        found.

        Raises:
            ExportError: a file can't be made that could be made before.
        """
        attempt = _Attempt(self, failed, goal)
        if attempt.begin():
            return attempt.end()
        for step in (self._ranges, self._biases, self._aware, self._mixed):
            if step(attempt):
                break
        return attempt.end()

    # steps: each returns whether the goal is reached

    def _ranges(self, attempt: _Attempt) -> bool:
        if attempt.recipe.scheme == "dynamic":
            return False
        return any(attempt.make("trained", method) for method in METHODS[1:])

    def _biases(self, attempt: _Attempt) -> bool:
        if attempt.recipe.scheme == "dynamic" or self._student.tokens:
            return False
        if "corrected" not in self._networks:
            calibration = torch.from_numpy(self._student.calibration)
            self._networks["corrected"] = corrected(self._student.model, calibration)
        return attempt.make("corrected", attempt.method)

    def _aware(self, attempt: _Attempt) -> bool:
        if not self._config.qat or self._finetune is None or attempt.recipe.scheme == "dynamic":
            return False
        if "aware" not in self._networks:
            self._progress("repair", 0.2, f"{attempt.failed.id} misses its gate: quantization-aware training")
            try:
                self._networks["aware"] = aware(
                    self._student.model,
                    self._student.input,
                    torch.from_numpy(self._student.calibration),
                    self._finetune,
                    tokens=self._student.tokens,
                )
            except ExportError as error:
                self._networks["aware"] = str(error)
        told = self._networks["aware"]
        if isinstance(told, str):
            attempt.trials.append(Trial(told, None))
            return False
        return any(attempt.make("aware", method) for method in (LEARNED, *METHODS[:2]))

    def _mixed(self, attempt: _Attempt) -> bool:
        if not self._config.mixed:
            return False
        # of the network as it was trained: one that learned under int8's ranges, or whose biases make up for
        # rounded weights, is not right where it is not rounded
        network, method = "trained", attempt.method
        layers = self._layers(attempt.recipe, network)
        wanted = self._reference(network)

        def quality(leave: tuple[str, ...]) -> float:
            variant = self.file(attempt.recipe, network, method, leave)
            return sqnr(wanted, self._answers(variant))

        def seen(done: int) -> None:
            self._progress("repair", 0.5 + 0.4 * done / len(layers), f"{attempt.failed.id}: layer {done} measured")

        attempt.ranked = rank(layers, quality, seen)
        for count in counts(len(layers)):
            leave = tuple(one.layer for one in attempt.ranked[:count])
            if attempt.make(network, method, leave):
                return True
        return False

    # files

    def file(self, recipe: Recipe, network: str, method: str, leave: Sequence[str] = ()) -> Variant:
        """The variant of ``recipe`` made from a network, ranges by ``method``, ``leave`` in float."""
        sources = self._source(network)
        found: Ranges | None = None
        if recipe.scheme.startswith("static") and method != "min-max":
            held = self._held(network, recipe.runtime)
            trained = self._networks[network]
            if method == LEARNED and isinstance(trained, Aware):
                found = trained.ranges({name: range_of(one, "min-max") for name, one in held.items()})
            else:
                found = ranges(held, method)
        if recipe.runtime == "onnxruntime":
            return make_onnx(self._student, recipe, sources.onnx, self._release, ranges=found, leave=leave)
        worker = self._needed()
        return make_tflite(self._student, recipe, sources, self._release, worker, ranges=found, leave=leave)

    def _source(self, network: str) -> Sources:
        if network not in self._sources:
            directory = Path(self._directory.name) / network
            directory.mkdir()
            sources = Sources(directory, directory / "fp32.onnx")
            model, student = self._network(network), self._student
            export_onnx(model, student.input, sources.onnx, tokens=student.tokens, outputs=student.outputs())
            if self._worker is not None:
                save_program(model, student.input, sources.program, tokens=student.tokens)
                save_calibration(student.calibration, sources.calibration)
                self._worker.convert({"program": str(sources.program), "fp32": str(sources.tflite)})
            self._sources[network] = sources
        return self._sources[network]

    def _network(self, network: str) -> nn.Module:
        found = self._networks[network]
        assert not isinstance(found, str)
        return found.model if isinstance(found, Aware) else found

    def _held(self, network: str, runtime: str) -> dict[str, Observed]:
        key = network, runtime
        if key not in self._observed:
            sources = self._source(network)
            if runtime == "onnxruntime":
                prepared = sources.directory / "prepared.onnx"
                prepare(sources.onnx, prepared)
                self._observed[key] = observe(prepared, {"input": self._student.calibration})
            else:
                self._observed[key] = observe_tflite(self._needed(), sources)
        return self._observed[key]

    def _layers(self, recipe: Recipe, network: str) -> tuple[str, ...]:
        """Everything with weights, by the name that ``leave`` takes in the recipe's runtime."""
        sources = self._source(network)
        if recipe.runtime == "litert":
            return tuple(self._needed().convert({"fp32": str(sources.tflite), "layers": True})["layers"])
        return onnx_layers(sources.onnx)

    def _needed(self) -> TfliteWorker:
        if self._worker is None:
            raise ExportError("a TFLite variant can't be repaired without the TFLite exporter")
        return self._worker

    def _reference(self, network: str) -> Any:
        x = torch.from_numpy(self._student.calibration[:MEASURED_SAMPLES])
        with torch.no_grad():
            found = self._network(network)(x)
        return (found if isinstance(found, torch.Tensor) else found[0]).numpy()

    def _answers(self, variant: Variant) -> Any:
        x = self._student.calibration[:MEASURED_SAMPLES]
        return answers_of(variant, self._release, x)[variant.outputs[0].name]

    def measured(self, variant: Variant) -> float:
        """The caller's score."""
        return self._score(variant)

    @property
    def release(self) -> Path:
        """Where the variants lie."""
        return self._release

    def recipe_of(self, variant: Variant) -> Recipe:
        """How ``variant`` was made."""
        precisions = (*self._config.precisions, "int8", "int8-reduced")
        tokens = self._student.tokens and variant.runtime == "litert"
        for transformer in (True, False) if tokens else (False, True):
            for recipe in recipes(precisions, variant.runtime, transformer=transformer):
                if recipe.id == variant.id and recipe.precision == "int8":
                    return recipe
        raise ExportError(f"{variant.id} is no int8 variant; only those can be repaired")


class _Attempt:
    """The tries at one variant, and the best of them so far."""

    def __init__(self, repairs: Repairs, failed: Variant, goal: float) -> None:
        self.repairs, self.failed, self.goal = repairs, failed, goal
        self.recipe = repairs.recipe_of(failed)
        self.trials: list[Trial] = []
        self.ranked: tuple[Sensitivity, ...] = ()
        self.method: str = METHODS[0]
        """The best way to choose ranges of the network as it was trained."""
        self._best = failed
        self._best_score = -np.inf
        self._left: tuple[str, ...] = ()
        self._kept = (repairs.release / failed.file.path).read_bytes()
        self._done = False

    def begin(self) -> bool:
        """The failed one itself, for whatever is tried must be better."""
        self._best_score = self.repairs.measured(self.failed)
        self.trials.append(Trial("as it was", round(self._best_score, 6), self.failed.file.bytes))
        self._done = self._best_score >= self.goal - CLOSE
        return self._done

    def make(self, network: str, method: str, leave: tuple[str, ...] = ()) -> bool:
        """One try; whether it reached the goal."""
        what = _told(network, method, leave)
        try:
            variant = self.repairs.file(self.recipe, network, method, leave)
            score = self.repairs.measured(variant)
        except (ExportError, BackendError) as error:
            self.trials.append(Trial(f"{what} failed: {error}", None))
            return False
        self.trials.append(Trial(what, round(float(score), 6), variant.file.bytes))
        if score > self._best_score:
            self._best, self._best_score, self._left = variant, float(score), leave
            if network == "trained":
                self.method = method
            self._kept = (self.repairs.release / variant.file.path).read_bytes()
        self._done = score >= self.goal - CLOSE
        return self._done

    def end(self) -> Repaired:
        """The best file back in its place."""
        (self.repairs.release / self._best.file.path).write_bytes(self._kept)
        return Repaired(self._best if self._done else None, tuple(self.trials), self.ranked, self._left)


def _told(network: str, method: str, leave: tuple[str, ...]) -> str:
    parts = [f"ranges by {method}"]
    if network == "corrected":
        parts.insert(0, "biases corrected")
    if network == "aware":
        parts.insert(0, "quantization-aware training")
    if leave:
        parts.append(in_float(leave))
    return ", ".join(parts)


def repair(
    student: Student,
    failed: Variant,
    config: ExportConfig,
    release: Path,
    worker: TfliteWorker | None,
    *,
    score: Callable[[Variant], float],
    goal: float,
    finetune: Finetune | None = None,
    progress: Progress = silent,
) -> Repaired:
    """:meth:`Repairs.repair` for one variant alone."""
    with Repairs(student, config, release, worker, score=score, finetune=finetune, progress=progress) as repairs:
        return repairs.repair(failed, goal)
