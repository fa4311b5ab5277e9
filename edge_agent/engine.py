"""The public API: five steps around one backend.

::

    engine = Engine.load("releases/digits/7")       # or a bare model file: Engine.load("model.onnx")
    answer = engine.infer(sample)                   # -> Answer(id, label, score, scores, outputs, latency_us, value)
    answers = engine.infer_batch(samples)
    engine.feedback(answer.id, "seven")

Invariants, held by ``tests/edge_agent/test_engine.py``:

1. ``infer`` of a sample and its row of ``infer_batch`` or ``outputs`` agree.
2. Samples are checked before anything runs: ``InputError`` says what was expected and what came.
3. An answer shares no memory with the engine or with a later answer.
4. Any number of threads may call any method.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any, Self

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from edge_agent.answers import NO_SCORES, REMEMBERED, Answer, Memory, answer_of
from edge_agent.backends import RUNTIMES, open_backend
from edge_agent.health import Health
from edge_agent.inputs import Sample, Signature, length_of, sample_at
from edge_agent.steps import Fields, Steps, make_steps, plain
from shared.errors import BackendError, InputError, ManifestError, SanderlingError, UsageError, one_line
from shared.files import inside
from shared.manifest import Manifest, SampleSpec, Variant, load_manifest
from shared.messages import SelectionRow, TruthLabel
from shared.pipeline.decode import Sigmoid, Softmax
from shared.pipeline.spec import Pipeline, pipeline_takes_missing

if TYPE_CHECKING:
    from edge_agent.config import SelectionConfig
    from edge_agent.learning import Learning
    from edge_agent.monitor import Monitor
    from shared.drift import ProfileSet

__all__ = ["Answer", "Engine"]

Array = NDArray[Any]
Samples = ArrayLike | Mapping[str, ArrayLike]

LEARN = 2000
"""Answers from which a model without a reference learns its baseline."""
BARE_FILES = tuple(runtime.suffix for runtime in RUNTIMES.values())
"""How the files end that a backend runs."""
MOST_THREADS = 64
NAN = float("nan")


class Engine:
    """One variant of a release, ready to run. Make it with :meth:`load`; ``Engine(...)`` trusts its files."""

    def __init__(
        self,
        manifest: Manifest,
        release: Path,
        variant: Variant,
        *,
        threads: int = 1,
        memory_arena: bool = False,
        profiles: ProfileSet | None = None,
        device: str = "",
        remembered: int = REMEMBERED,
        learn: int = 0,
        learned: Path | None = None,
    ) -> None:
        """Load ``variant`` without verifying files; watch for drift if ``profiles`` are given, or a baseline is to be
        learned from the first ``learn`` answers (kept in the file ``learned``).

        Raises:
            BackendError: the runtime refuses the file.
            MissingExtraError: the runtime is not installed.
            ManifestError: pipeline, sample and model do not fit together.
            ProfileError: ``profiles`` lack the baseline or variant.
        """
        self.manifest = manifest
        self.release = release
        self.variant = variant
        self.baseline = manifest.baseline_of(device)
        self.health = Health()
        self.selection: list[SelectionRow] = []
        self.labels: tuple[str, ...] = manifest.labels
        """Names of the classes, by index."""
        self.signature: tuple[SampleSpec, ...] = manifest.signature
        """What ``infer`` takes: one input, or several by name."""
        pipeline = _with_temperature(manifest.pipeline, variant.temperature)
        checks = Signature(manifest.signature, missing=pipeline_takes_missing(pipeline))
        self.check_one: Callable[[Samples], Sample] = checks.one
        """A sample as the model takes it; ``InputError`` where it does not fit."""
        self.check_many = checks.many
        file = inside(release, variant.file.path)
        backend = open_backend(variant, file, threads=threads, memory_arena=memory_arena)
        try:
            self._steps: Steps = make_steps(manifest, variant, pipeline, backend)
        except BaseException:
            backend.close()
            raise
        self._guard, self._one = self._steps.guard, self._steps.one
        self._counting = threading.Lock()
        self._ids = itertools.count(1)
        self._prefix = os.urandom(4).hex()
        self._memory = Memory(remembered)
        self._timed, self._remember = self.health.latencies.append, self._memory.add
        self.monitor: Monitor | Learning | None = None
        if profiles is not None:
            self.monitor = self._watch(profiles)
        elif learn:
            self.monitor = self._learn(learn, learned)

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        variant: str | None = None,
        selection: SelectionConfig | None = None,
        threads: int = 1,
        memory_arena: bool = False,
        device: str = "",
        cache: Path | None = None,
        remembered: int = REMEMBERED,
        learn: int = LEARN,
        baseline: Path | None = None,
    ) -> Self:
        """Load a release directory or a bare model file: verify it, pick a variant, watch for drift.

        ``variant`` forces one; else all that can run here are measured (or their numbers read from ``cache``) and one
        is picked as ``selection`` says. ``device`` chooses among the release's baselines. A model without a reference
        learns its baseline from its first ``learn`` answers (0: it is not watched) and keeps it in the file
        ``baseline``. ``feedback`` finds the latest ``remembered`` answers.

        Raises:
            UsageError: there is no such file or variant, or no such number of ``threads`` (1 to 64).
            ManifestError: no release there, or a malformed one.
            DigestError: a file is damaged.
            NoVariantError: none can run here; the message says why for each.
            BackendError: the runtime refuses the file.
        """
        from edge_agent.config import SelectionConfig
        from edge_agent.selection import row_of, select
        from shared.drift import ProfileSet

        if not 1 <= threads <= MOST_THREADS:
            raise UsageError(f"threads must be 1 to {MOST_THREADS}, got {threads}")
        manifest, release = _opened(Path(path))
        profiles = None if manifest.profile is None else ProfileSet.load(manifest.profile.verify(release))
        config = selection or SelectionConfig()
        forced = variant or config.variant
        if forced is not None or manifest.golden is None:
            chosen = manifest.variants[0] if forced is None else _named(manifest, forced)
            if manifest.golden is not None:
                chosen.file.verify(release)
            rows = [row_of(chosen, chosen=True, why="the only one" if forced is None else "asked for by name")]
        else:
            chosen, rows = select(manifest, release, config, threads=threads, cache=cache)
        engine = cls(
            manifest,
            release,
            chosen,
            threads=threads,
            memory_arena=memory_arena,
            profiles=profiles,
            device=device,
            remembered=remembered,
            learn=learn,
            learned=baseline,
        )
        engine.selection = rows
        return engine

    def _sizes(self) -> tuple[int, int]:
        """Number of classes and of embedding values, as far as the file tells."""
        sizes = {spec.name: spec.shape[-1] if spec.shape else None for spec in self.variant.outputs}
        return sizes.get("logits") or len(self.labels), sizes.get("embedding") or 0

    def _watch(self, profiles: ProfileSet) -> Monitor:
        from edge_agent.monitor import Monitor

        profile = profiles.profile_for(self.baseline, self.variant.id)
        sizes = self._sizes()
        held_out = profiles.held_out_for(self.baseline, self.variant.id)
        return Monitor(profile, profiles.watch, self.manifest.drift, self.signature, *sizes, held_out=held_out)

    def _learn(self, learn: int, file: Path | None) -> Learning:
        from edge_agent.learning import Learning

        return Learning(self.manifest, self.variant, learn=learn, file=file)

    def infer(self, sample: Samples, id: str | None = None) -> Answer:  # noqa: A002  (the field's name)
        """Answer one sample: an array of the manifest's shape and dtype, or a dict of arrays by name where the model
        has several inputs. ``id`` is the source's, or made here.

        Raises:
            InputError: name, shape, dtype or values do not fit.
            BackendError: the runtime failed, or the model gave something that is no number.
        """
        start = perf_counter_ns()
        try:
            x = self.check_one(sample)
            with self._guard:
                row = self._one(x)
            field = row.get
            score, value = field("score", NAN), field("value")
            if score - score != 0 and "score" in row:  # NaN or infinite, without the cost of a call
                raise BackendError(f"variant {self.variant.id} gave NaN or an infinite score")
            if type(value) is float and value != value:  # noqa: PLR0124  (NaN)
                raise BackendError(f"variant {self.variant.id} gave NaN")
        except (SanderlingError, ValueError, MemoryError) as error:
            raise self._failed(error) from error
        latency = (perf_counter_ns() - start) / 1000
        if id is None:
            id = f"{self._prefix}-{next(self._ids)}"  # noqa: A001  (the field's name)
        elif type(id) is not str:
            raise InputError(f"an answer's id is text, got {type(id).__name__}")
        label = field("label", "")
        answer = Answer(id, label, score, field("scores", NO_SCORES), row, latency, value)
        with self._counting:
            self.health.samples += 1
        self._timed(latency)
        self._remember((id, label or value))
        monitor = self.monitor
        if monitor is not None:
            monitor.observe(x, row, latency)
        return answer

    def infer_batch(self, samples: Samples, ids: Sequence[str] | None = None) -> list[Answer]:
        """Answer many samples (n, *shape) in bulk, or a dict of such arrays; they count for drift and health like
        single ones. A model with state takes them as consecutive.

        Raises:
            InputError: name, shape, dtype or values do not fit, or ``ids`` are not one for each sample.
            BackendError: the runtime failed, or the model gave something that is no number.
        """
        start = perf_counter_ns()
        refused = length_of(samples)
        try:
            count, batch = self.check_many(samples)
            refused = 1  # what fails from here on fails as one call
            if ids is not None and len(ids) != count:
                raise InputError(f"{len(ids)} ids for {count} samples")
            if ids is not None and not all(isinstance(one, str) for one in ids):
                raise InputError("an answer's id is text")
            if not count:
                return []
            fields = self._steps.many(batch, count)
            if "score" in fields and not np.isfinite(fields["score"]).all():
                raise BackendError(f"variant {self.variant.id} gave NaN or an infinite score")
            values = fields.get("value")
            if values is not None and values.dtype.kind == "f" and values.ndim == 1 and np.isnan(values).any():
                raise BackendError(f"variant {self.variant.id} gave NaN")
        except (SanderlingError, ValueError, MemoryError) as error:
            raise self._failed(error, refused) from error
        latency = (perf_counter_ns() - start) / 1000 / count
        names = ids if ids is not None else [f"{self._prefix}-{next(self._ids)}" for _ in range(count)]
        answers = []
        for i, name in enumerate(names):
            row = {field: plain(values[i]) for field, values in fields.items()}
            answer = answer_of(name, row, row.get("score", NAN), latency)
            answers.append(answer)
            with self._counting:
                self.health.add(latency)
            self._remember((name, answer.label or answer.value))
            if self.monitor is not None:
                self.monitor.observe(sample_at(batch, i), row, latency)
        return answers

    def outputs(self, samples: Samples) -> Fields:
        """Every field of the pipeline for ``samples`` (n, *shape), each (n, ...): the model's outputs, and for a
        classifier ``scores``, ``index``, ``score``, ``label``. Touches neither monitor nor health: for evaluation and
        bulk work.

        Raises:
            InputError: name, shape, dtype or values do not fit.
        """
        count, batch = self.check_many(samples)
        try:
            return self._steps.many(batch, count)
        except (ValueError, MemoryError) as error:
            raise self._told_of(error) from error

    def feedback(self, id: str, truth: str | float) -> bool | float | None:  # noqa: A002  (the field's name)
        """The truth about an answer, whenever it is known: a label, or a number for a model that gives numbers. Told
        again it is sent on again, but counts once.

        Returns whether the answer was right, or how far off its number was, or ``None`` when the answer is too long
        ago to be remembered or says nothing that ``truth`` could be compared with.

        Raises:
            InputError: ``truth`` is none of the release's labels, or no number where one is needed.
        """
        if self.labels and truth not in self.labels:
            raise InputError(f"label {truth!r} is none of this release's: {', '.join(self.labels)}")
        said = self._memory.said(id)
        if isinstance(truth, str):
            if isinstance(said, float):
                raise InputError(f"answer {id} is a number, so its truth must be one, not {truth!r}")
            self._memory.told(TruthLabel(id=id, label=truth))
            if not isinstance(said, str):
                return None
            if self._memory.first_truth(id):
                with self._counting:
                    self.health.truth(correct=said == truth)
                if self.monitor is not None:
                    self.monitor.truth(said == truth)
            return said == truth
        try:
            value = float(truth)
        except (TypeError, ValueError, OverflowError) as error:
            raise InputError(f"truth must be a label or a number: {one_line(error)}") from error
        if not np.isfinite(value):
            raise InputError(f"truth must be a finite number, got {truth}")
        self._memory.told(TruthLabel(id=id, value=value))
        if not isinstance(said, float):
            return None
        if self._memory.first_truth(id):
            with self._counting:
                self.health.truth_value(error=abs(said - value))
            if self.monitor is not None:
                self.monitor.truth(abs(said - value))
        return abs(said - value)

    def take_feedback(self) -> list[TruthLabel]:
        """The truths given since the last call, oldest first; as many are kept as answers are remembered."""
        return self._memory.take()

    def stages(self, sample: Samples) -> dict[str, float]:
        """Microseconds of each of the five steps for one sample, and of a bare call of the runtime (``raw``) on the
        ready tensor. Touches neither monitor nor health.

        Raises:
            InputError: name, shape, dtype or values do not fit.
        """
        return self._steps.stages(self.check_one(sample))

    def reset(self) -> None:
        """Begin a new stream: what the model carries from call to call is zeros again."""
        self._steps.reset()

    def close(self) -> None:
        """Free the runtime. Waits for an inference that is under way; later ones raise ``UsageError``."""
        self._steps.close()

    def _told_of(self, error: Exception) -> SanderlingError:
        """What an operation of the pipeline refuses (a text, a length) is the sample's fault."""
        if isinstance(error, MemoryError):
            return BackendError(f"variant {self.variant.id} needs more memory than there is: {one_line(error)}")
        return error if isinstance(error, SanderlingError) else InputError(one_line(error))

    def _failed(self, error: Exception, samples: int = 1) -> SanderlingError:
        """Count the ``samples`` that got no answer, and say it as the caller knows it."""
        told = self._told_of(error)
        with self._counting:
            self.health.fail(told, samples)
        if self.monitor is not None:
            self.monitor.error(samples)
        return told


def _opened(path: Path) -> tuple[Manifest, Path]:
    """The manifest and the directory of its files."""
    if path.suffix.lower() in BARE_FILES and not path.is_dir():
        from edge_agent.bare import describe

        return describe(path), path.parent
    return load_manifest(path), path


def _named(manifest: Manifest, variant: str) -> Variant:
    try:
        return manifest.variant(variant)
    except ManifestError as error:  # the release is as it should be; what was asked for is not
        raise UsageError(str(error)) from error


def _with_temperature(pipeline: Pipeline, temperature: float) -> Pipeline:
    """The variant's calibration, folded into softmax or sigmoid."""
    decode = tuple(
        msgspec.structs.replace(op, temperature=op.temperature * temperature)
        if isinstance(op, Softmax | Sigmoid)
        else op
        for op in pipeline.decode
    )
    return msgspec.structs.replace(pipeline, decode=decode)
