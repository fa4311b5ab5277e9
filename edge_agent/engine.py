"""The public API: five steps around one backend.

::

    engine = Engine.load("releases/digits/7")
    answer = engine.infer(sample)                   # -> Answer(id, label, score, scores, outputs, latency_us)
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
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any, Self

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import ArrayLike, NDArray

from edge_agent.backends import Backend, open_backend
from edge_agent.health import Health
from edge_agent.inputs import Inputs
from shared.errors import BackendError, InputError, ManifestError, SanderlingError, UsageError
from shared.files import inside
from shared.manifest import Manifest, Variant, load_manifest
from shared.messages import SelectionRow, TruthLabel
from shared.pipeline.bind import bind_arrays, bind_fields, run_arrays, run_fields
from shared.pipeline.decode import Softmax
from shared.pipeline.spec import Pipeline

if TYPE_CHECKING:
    from edge_agent.config import SelectionConfig
    from edge_agent.monitor import Monitor
    from shared.drift import ProfileSet

Array = NDArray[Any]

REMEMBERED = 4096
"""Answers whose truth may still come."""
CHUNK = 256
"""Rows that ``outputs`` runs at once: bounds memory and how long bulk work holds a backend."""
BARE_FILES = (".onnx", ".tflite")


class Answer(Struct, frozen=True, eq=False):
    """What the model says about one sample.

    ``score`` is the probability of ``label``; ``scores`` (classes,) float32 those of all classes. ``outputs`` has every
    field that the pipeline gave, e.g. ``logits`` and ``embedding``. ``latency_us`` is the time inside ``infer``, for a
    batch the batch's time over its size.
    """

    id: str
    label: str
    score: float
    scores: NDArray[np.float32]
    outputs: dict[str, Any]
    latency_us: float


class Engine:
    """One variant of a release, ready to run. Make it with :meth:`load`; ``Engine(...)`` trusts its files."""

    def __init__(
        self,
        manifest: Manifest,
        release: Path,
        variant: Variant,
        *,
        threads: int = 1,
        profiles: ProfileSet | None = None,
        device: str = "",
    ) -> None:
        """Load ``variant`` without verifying files; watch for drift only if ``profiles`` are given.

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
        self._pipeline = _with_temperature(manifest.pipeline, variant.temperature)
        inputs = Inputs(manifest.sample)
        self._checked, self._checked_batch = inputs.one, inputs.many
        self._backend: Backend = open_backend(variant, inside(release, variant.file.path), threads=threads)
        self._lock = self._backend.lock
        self._compile()
        self.monitor: Monitor | None = self._watch(profiles) if profiles is not None else None
        self._ids = itertools.count(1)
        self._prefix = os.urandom(4).hex()
        self._answered: deque[tuple[str, str]] = deque(maxlen=REMEMBERED)
        self._truths: deque[TruthLabel] = deque(maxlen=REMEMBERED)

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        variant: str | None = None,
        selection: SelectionConfig | None = None,
        threads: int = 1,
        device: str = "",
        cache: Path | None = None,
    ) -> Self:
        """Load a release directory: verify its files, pick a variant, load the drift reference.

        ``variant`` forces one; else all that can run here are measured (or their numbers read from ``cache``) and one
        is picked as ``selection`` says. ``device`` chooses among the release's baselines.

        Raises:
            ManifestError: no release there, or a malformed one.
            DigestError: a file is damaged.
            NoVariantError: none can run here; the message says why for each.
            UsageError: ``path`` is a bare model file, or there is no such ``variant``.
        """
        from edge_agent.config import SelectionConfig
        from edge_agent.selection import row_of, select
        from shared.drift import ProfileSet

        release = Path(path)
        if release.suffix in BARE_FILES and not release.is_dir():
            raise UsageError(
                f"{release}: a bare model file cannot be run yet; make a release of it first: cloud-trainer package"
            )
        manifest = load_manifest(release)
        profiles = ProfileSet.load(manifest.profile.verify(release))
        config = selection or SelectionConfig()
        forced = variant or config.variant
        if forced is None:
            chosen, rows = select(manifest, release, config, threads=threads, cache=cache)
        else:
            chosen = _named(manifest, forced)
            chosen.file.verify(release)
            rows = [row_of(chosen, chosen=True, why="asked for by name")]
        engine = cls(manifest, release, chosen, threads=threads, profiles=profiles, device=device)
        engine.selection = rows
        return engine

    def _compile(self) -> None:
        """Bind the five steps to the backend's buffers, and try them on zeros."""
        pipeline, zeros = self._pipeline, np.zeros((1, *self.manifest.sample.shape), self.manifest.sample.dtype)
        where = f"release {self.manifest.name}/{self.manifest.version}, variant {self.variant.id}"
        try:
            self._preprocess, self._encode = bind_arrays(
                pipeline.preprocess, pipeline.encode, zeros, self._backend.input
            )
            self._decode = bind_fields(pipeline.decode)
            self._postprocess = bind_fields(pipeline.postprocess)
            self._prepare = (*self._preprocess, *self._encode)
            self._finish = (*self._decode, *self._postprocess)
            self._outputs = tuple(self._backend.outputs.items())
            row = self._run(zeros[0])
            label, score, scores = row["label"], row["score"], row["scores"]
        except (KeyError, ValueError, TypeError, IndexError) as error:
            text = f"no field {error} after decode and postprocess" if isinstance(error, KeyError) else str(error)
            raise ManifestError(f"{where}: {text}") from error
        if not isinstance(label, str) or not isinstance(score, float) or np.ndim(scores) != 1:
            raise ManifestError(f"{where}: the pipeline must give label (text), score (number) and scores (classes,)")

    def _watch(self, profiles: ProfileSet) -> Monitor:
        from edge_agent.monitor import Monitor

        profile = profiles.profile_for(self.baseline, self.variant.id)
        outputs = self._backend.outputs
        classes = outputs["logits"].shape[-1] if "logits" in outputs else len(self.labels)
        embedding = outputs["embedding"].size if "embedding" in outputs else 0
        return Monitor(profile, profiles.watch, self.manifest.drift, self.manifest.sample, classes, embedding)

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the classes, by index."""
        return self.manifest.labels

    def infer(self, sample: ArrayLike, id: str | None = None) -> Answer:  # noqa: A002  (the field's name)
        """Answer one sample of the manifest's shape and dtype; ``id`` is the source's, or made here.

        Raises:
            InputError: shape, dtype or values do not fit.
            BackendError: the runtime failed, or the model gave something that is no number.
        """
        start = perf_counter_ns()
        try:
            x = self._checked(sample)
            with self._lock:
                row = self._run(x)
                score, label = row["score"], row["label"]
                if score != score:  # noqa: PLR0124  (NaN, without the cost of a call)
                    raise BackendError(f"variant {self.variant.id} gave NaN")
                latency = (perf_counter_ns() - start) / 1000
                if id is None:
                    id = f"{self._prefix}-{next(self._ids)}"  # noqa: A001  (the field's name)
                self.health.add(latency)
                self._answered.append((id, label))
        except SanderlingError as error:
            self._failed(error)
            raise
        answer = Answer(id, label, score, row["scores"], row, latency)
        if self.monitor is not None:
            self.monitor.observe(x, answer.scores, row.get("embedding"), score, latency)
        return answer

    def infer_batch(self, samples: ArrayLike, ids: Sequence[str] | None = None) -> list[Answer]:
        """Answer many samples (n, *shape) in bulk; they count for drift and health like single ones.

        Raises:
            InputError: shape, dtype or values do not fit, or ``ids`` are not one for each sample.
        """
        start = perf_counter_ns()
        try:
            batch = self._checked_batch(samples)
            if ids is not None and len(ids) != len(batch):
                raise InputError(f"{len(ids)} ids for {len(batch)} samples")
            if not len(batch):
                return []
            fields = self._outputs_of(batch)
            if not np.isfinite(fields["score"]).all():
                raise BackendError(f"variant {self.variant.id} gave NaN")
        except SanderlingError as error:
            self._failed(error)
            raise
        latency = (perf_counter_ns() - start) / 1000 / len(batch)
        names = ids if ids is not None else [f"{self._prefix}-{next(self._ids)}" for _ in batch]
        answers = []
        for i, name in enumerate(names):
            row = {field: _plain(values[i]) for field, values in fields.items()}
            answer = Answer(name, row["label"], row["score"], row["scores"], row, latency)
            answers.append(answer)
            with self._lock:
                self.health.add(latency)
                self._answered.append((name, answer.label))
            if self.monitor is not None:
                self.monitor.observe(batch[i], answer.scores, row.get("embedding"), answer.score, latency)
        return answers

    def outputs(self, batch: ArrayLike) -> dict[str, Array]:
        """Every field of the pipeline for ``batch`` (n, *shape): ``logits``, ``embedding``, ``scores``, ``index``,
        ``score``, ``label``, ..., each (n, ...). Touches neither monitor nor health: for evaluation.

        Raises:
            InputError: shape, dtype or values do not fit.
        """
        return self._outputs_of(self._checked_batch(batch))

    def feedback(self, id: str, truth: str) -> bool | None:  # noqa: A002  (the field's name)
        """The truth about an answer, whenever it is known.

        Returns whether the answer was right, or ``None`` when it is too long ago to be remembered.

        Raises:
            InputError: ``truth`` is none of the release's labels.
        """
        if truth not in self.labels:
            raise InputError(f"label {truth!r} is none of this release's: {', '.join(self.labels)}")
        label = next((label for known, label in tuple(self._answered) if known == id), None)
        self._truths.append(TruthLabel(id=id, label=truth))
        if label is None:
            return None
        with self._lock:
            self.health.truth(correct=label == truth)
        return label == truth

    def take_feedback(self) -> list[TruthLabel]:
        """The truths given since the last call, oldest first; at most 4,096 are kept."""
        taken = []
        while self._truths:
            taken.append(self._truths.popleft())
        return taken

    def stages(self, sample: ArrayLike) -> dict[str, float]:
        """Microseconds of each of the five steps for one sample, and of a bare call of the runtime (``raw``) on the
        ready tensor. Touches neither monitor nor health.

        Raises:
            InputError: shape, dtype or values do not fit.
        """
        x = self._checked(sample)[None]
        row: dict[str, Any] = {}
        with self._lock:
            marks = [perf_counter_ns()]
            for arrays in (self._preprocess, self._encode):
                for step in arrays:
                    step(x)
                marks.append(perf_counter_ns())
            self._backend.forward()
            row.update((role, values.copy()) for role, values in self._outputs)
            marks.append(perf_counter_ns())
            for fields in (self._decode, self._postprocess):
                for finish in fields:
                    finish(row)
                marks.append(perf_counter_ns())
            tensor = self._backend.input.copy()
        start = perf_counter_ns()
        self._backend.run(tensor)
        raw = perf_counter_ns() - start
        steps = ("preprocess", "encode", "forward", "decode", "postprocess")
        durations = zip(steps, np.diff(marks), strict=True)
        return {**{step: float(ns) / 1000 for step, ns in durations}, "raw": raw / 1000}

    def close(self) -> None:
        """Free the runtime. Waits for an inference that is under way; later ones raise ``UsageError``."""
        with self._lock:
            backend, self._backend = self._backend, _Closed()
            self._prepare = self._preprocess = self._encode = ()
            self._outputs = ()
            backend.close()

    def _run(self, x: Array) -> dict[str, Any]:
        """The five steps for one checked sample. The caller holds the lock."""
        batch = x[None]
        for step in self._prepare:
            step(batch)
        self._backend.forward()
        row: dict[str, Any] = {role: values.copy() for role, values in self._outputs}
        for finish in self._finish:
            finish(row)
        return row

    def _outputs_of(self, batch: Array) -> dict[str, Array]:
        pieces = []
        for start in range(0, max(len(batch), 1), CHUNK):
            tensor = run_arrays(self._pipeline, batch[start : start + CHUNK])
            pieces.append(run_fields(self._pipeline, self._backend.run(tensor)))
        if len(pieces) == 1:
            return pieces[0]
        return {field: np.concatenate([piece[field] for piece in pieces]) for field in pieces[0]}

    def _failed(self, error: SanderlingError) -> None:
        with self._lock:
            self.health.fail(error)
        if self.monitor is not None:
            self.monitor.error()


class _Closed:
    """Stands in for the backend of an engine that was closed."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.input: Array = np.empty(0)
        self.outputs: dict[str, Array] = {}

    def forward(self) -> None:
        raise UsageError("this engine is closed; load the release again")

    def run(self, batch: Array) -> dict[str, Array]:
        raise UsageError(f"this engine is closed; load the release again for these {len(batch)} samples")

    def close(self) -> None:
        """Closing twice is harmless."""


def _named(manifest: Manifest, variant: str) -> Variant:
    try:
        return manifest.variant(variant)
    except ManifestError as error:  # the release is as it should be; what was asked for is not
        raise UsageError(str(error)) from error


def _plain(value: Any) -> Any:
    """A single number or text as Python's own, as ``infer`` gives it; arrays as they are."""
    return value.item() if isinstance(value, np.generic) else value


def _with_temperature(pipeline: Pipeline, temperature: float) -> Pipeline:
    """The variant's calibration, folded into softmax."""
    decode = tuple(
        msgspec.structs.replace(op, temperature=op.temperature * temperature) if isinstance(op, Softmax) else op
        for op in pipeline.decode
    )
    return msgspec.structs.replace(pipeline, decode=decode)
