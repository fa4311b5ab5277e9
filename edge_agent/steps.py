"""The five steps of one variant: compiled into the backend's buffers where one input of fixed shape allows it, else
through named tensors.

Both kinds give the same rows and fields for the same samples; ``tests/edge_agent/test_steps.py`` holds them to it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from time import perf_counter_ns
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edge_agent.backends import Backend
from edge_agent.inputs import Sample
from shared.errors import BackendError, InputError, ManifestError, UsageError
from shared.manifest import Manifest, SampleSpec, TensorSpec, Variant
from shared.pipeline.bind import bind_arrays, bind_fields, run_arrays, run_fields
from shared.pipeline.columns import Parse
from shared.pipeline.spec import Pipeline, pipeline_needs_input

Array = NDArray[Any]
Row = dict[str, Any]
Fields = dict[str, Array]

CHUNK = 256
"""Rows that ``many`` runs at once: bounds memory and how long bulk work holds a backend."""
STEPS = ("preprocess", "encode", "forward", "decode", "postprocess")
TRIED = 2
"""Samples in the trial run that tells whether a model treats samples one by one."""


class Steps(Protocol):
    """From checked samples to rows."""

    @property
    def guard(self) -> AbstractContextManager[Any]:
        """Held around ``one``; it does nothing where calls do not get in each other's way."""
        ...

    def one(self, sample: Sample) -> Row:
        """The fields of one sample: arrays without the batch axis, single values as Python's own."""

    def many(self, samples: Sample, count: int) -> Fields:
        """The fields of ``count`` samples, batch axis first."""

    def stages(self, sample: Sample) -> dict[str, float]:
        """Microseconds of each step for one sample, and of a bare call of the runtime (``raw``)."""

    def reset(self) -> None:
        """Forget what is carried from call to call."""

    def close(self) -> None:
        """Free the runtime; later calls raise ``UsageError``."""


def make_steps(manifest: Manifest, variant: Variant, pipeline: Pipeline, backend: Backend) -> Steps:
    """The fastest kind that fits.

    Raises:
        ManifestError: pipeline, samples and model do not fit together.
    """
    where = f"release {manifest.name}/{manifest.version}, variant {variant.id}"
    bound = manifest.sample.fixed or _parsed_rows(manifest.sample, pipeline)
    direct = backend.direct and bound and not manifest.extra_inputs and not manifest.state
    try:
        if direct:
            return Direct(manifest, variant, pipeline, backend)
        return General(manifest, variant, pipeline, backend)
    except (KeyError, ValueError, TypeError, IndexError, InputError) as error:
        text = f"no field {error} after decode and postprocess" if isinstance(error, KeyError) else str(error)
        raise ManifestError(f"{where}: {text}") from error
    except MemoryError as error:
        raise BackendError(f"{where}: needs more memory than there is") from error


def _parsed_rows(sample: SampleSpec, pipeline: Pipeline) -> bool:
    """Whether samples are rows of text that the first operation makes numbers of."""
    first = next(iter((*pipeline.preprocess, *pipeline.encode)), None)
    return sample.dtype == "str" and len(sample.shape) == 1 and sample.shape[0] > 0 and isinstance(first, Parse)


class Direct:
    """One input of fixed shape: nothing is looked up or allocated per call that can be done once."""

    def __init__(self, manifest: Manifest, variant: Variant, pipeline: Pipeline, backend: Backend) -> None:
        sample = manifest.sample
        self._pipeline, self._backend = pipeline, backend
        self._input_name = variant.inputs[0].name
        self._wants_input = pipeline_needs_input(pipeline)
        self.guard = backend.lock
        text = sample.dtype == "str"
        zeros = np.full((1, *sample.shape), "", object) if text else np.zeros((1, *sample.shape), sample.dtype)
        self._preprocess, self._encode = bind_arrays(pipeline.preprocess, pipeline.encode, zeros, backend.input)
        self._decode, self._postprocess = bind_fields(pipeline.decode), bind_fields(pipeline.postprocess)
        self._prepare = (*self._preprocess, *self._encode)
        self._finish = (*self._decode, *self._postprocess)
        self._forward = backend.forward
        self._outputs = tuple((role, values.copy) for role, values in backend.outputs.items())
        check_row(self.one(zeros[0]), manifest.task)

    def one(self, sample: Sample) -> Row:
        """See :class:`Steps`; the caller holds ``guard``."""
        batch = sample[None]  # type: ignore[index]  # an array: there is one input
        for step in self._prepare:
            step(batch)
        self._forward()
        row: Row = {}
        for role, copy in self._outputs:
            row[role] = copy()
        if self._wants_input:
            row["input"] = self._backend.input[0].copy()
        for finish in self._finish:
            finish(row)
        return row

    def many(self, samples: Sample, count: int) -> Fields:
        """See :class:`Steps`."""
        pieces = []
        for start in range(0, max(count, 1), CHUNK):
            tensor = run_arrays(self._pipeline, samples[start : start + CHUNK])  # type: ignore[index]
            fields = self._backend.run({self._input_name: tensor})
            if self._wants_input:
                fields["input"] = tensor
            pieces.append(run_fields(self._pipeline, fields))
        return join(pieces)

    def stages(self, sample: Sample) -> dict[str, float]:
        """See :class:`Steps`."""
        batch: Array = sample[None]  # type: ignore[index]
        row: Row = {}
        with self.guard:
            marks = [perf_counter_ns()]
            for arrays in (self._preprocess, self._encode):
                for step in arrays:
                    step(batch)
                marks.append(perf_counter_ns())
            self._forward()
            row.update((role, copy()) for role, copy in self._outputs)
            marks.append(perf_counter_ns())
            if self._wants_input:
                row["input"] = self._backend.input[0].copy()
            for fields in (self._decode, self._postprocess):
                for finish in fields:
                    finish(row)
                marks.append(perf_counter_ns())
            tensor = self._backend.input.copy()
        return _durations(marks, self._backend.bare({self._input_name: tensor}))

    def reset(self) -> None:
        """See :class:`Steps`."""

    def close(self) -> None:
        """See :class:`Steps`."""
        with self.guard:
            backend, self._backend = self._backend, CLOSED
            self._prepare = self._preprocess = self._encode = ()
            self._outputs = ()
            self._forward = CLOSED.forward
        backend.close()


class General:
    """Any number of inputs, of any shape; tensors that are carried from call to call; models without a batch axis."""

    def __init__(self, manifest: Manifest, variant: Variant, pipeline: Pipeline, backend: Backend) -> None:
        self._pipeline, self._backend = pipeline, backend
        self._wants_input = pipeline_needs_input(pipeline)
        self._variant = variant
        self._tensors = _tensors_of(manifest, variant)
        self._state_specs = _state_of(manifest, variant)
        self._carried: dict[str, Array] = {}
        self._one_at_a_time = threading.Lock() if self._state_specs else None
        self.guard: AbstractContextManager[Any] = self._one_at_a_time or nullcontext()
        self._first = manifest.sample.name
        self._whole = {spec.name for spec in variant.outputs if not spec.batch}
        self._batches = False
        self.reset()
        if all(spec.fixed for spec in manifest.signature):
            self._try(manifest)

    def _try(self, manifest: Manifest) -> None:
        """Run zeros. Samples are run together later only if the model gives one row for each of several."""
        zeros = {spec.name: np.zeros((TRIED, *spec.shape), spec.dtype) for spec in manifest.signature}
        check_row(self.one({name: values[0] for name, values in zeros.items()}), manifest.task)
        self.reset()
        if self._state_specs or self._whole or not all(tensor.batch for tensor in self._tensors.values()):
            return
        try:
            found = self._run(zeros)
        except BackendError:  # made for one sample, whatever the file's shapes say
            return
        self._whole |= {name for name, values in found.items() if not np.ndim(values) or len(values) != TRIED}
        self._batches = not self._whole

    def one(self, sample: Sample) -> Row:
        """See :class:`Steps`; the caller holds ``guard``."""
        fields = self._finished(self._run(self._rows(sample)), one=True)
        return {name: plain(values[0]) for name, values in fields.items()}

    def many(self, samples: Sample, count: int) -> Fields:
        """See :class:`Steps`."""
        named = samples if isinstance(samples, dict) else {self._first: samples}
        pieces = []
        size = CHUNK if self._batches else 1
        for start in range(0, count, size):
            rows = {name: values[start : start + size] for name, values in named.items()}
            with self.guard:
                found = self._run(rows)
            pieces.append(self._finished(found, one=not self._batches))
        if not pieces:  # nothing to do, but in the right shape where that is known
            return join([run_fields(self._pipeline, self._nothing())])
        return join(pieces)

    def _nothing(self) -> Fields:
        shapes = {spec.name: tuple(size or 0 for size in spec.shape[spec.batch :]) for spec in self._variant.outputs}
        return {spec.name: np.empty((0, *shapes[spec.name]), _real(spec)) for spec in self._variant.outputs}

    def _rows(self, sample: Sample) -> dict[str, Array]:
        named = sample if isinstance(sample, dict) else {self._first: sample}
        return {name: values[None] for name, values in named.items()}

    def _run(self, rows: dict[str, Array]) -> Fields:
        feeds = self._feeds(rows)
        found = self._backend.run({**feeds, **self._carried} if self._carried else feeds)
        for name, (source, _) in self._state_specs.items():
            self._carried[name] = found.pop(source)
        if self._wants_input:
            found["input"] = feeds[self._tensors[self._first].name]
        return found

    def _feeds(self, rows: dict[str, Array]) -> dict[str, Array]:
        feeds = {}
        for name, values in rows.items():
            tensor = self._tensors[name]
            ready = run_arrays(self._pipeline, values) if name == self._first else values
            feeds[tensor.name] = ready if tensor.batch else ready[0]
        return feeds

    def _finished(self, found: Fields, *, one: bool) -> Fields:
        if one:
            # a first dimension of another size counts something else than samples, e.g. the boxes that were found
            found = {
                name: values[None] if name in self._whole or not np.ndim(values) or len(values) != 1 else values
                for name, values in found.items()
            }
        return run_fields(self._pipeline, found)

    def stages(self, sample: Sample) -> dict[str, float]:
        """See :class:`Steps`."""
        rows = self._rows(sample)
        with self.guard:
            kept = dict(self._carried)
            marks = [perf_counter_ns()]
            first = rows[self._first]
            for step in (self._pipeline.preprocess, self._pipeline.encode):
                for operation in step:
                    first = operation(first)
                marks.append(perf_counter_ns())
            found = self._run(rows)
            marks.append(perf_counter_ns())
            fields = self._finished(found, one=True)
            marks += [perf_counter_ns(), perf_counter_ns()]
            self._carried = kept
            feeds = {**self._feeds(rows), **kept}
        assert fields is not None
        return _durations(marks, self._backend.bare(feeds))

    def reset(self) -> None:
        """See :class:`Steps`."""
        self._carried = {
            name: np.zeros([size or 1 for size in spec.shape], _real(spec))
            for name, (_, spec) in self._state_specs.items()
        }

    def close(self) -> None:
        """See :class:`Steps`."""
        with self.guard:
            backend, self._backend = self._backend, CLOSED
        backend.close()


def check_row(row: Row, task: str) -> None:
    """What an answer is made of must have the right form, and for a classifier be there.

    Raises:
        KeyError, ValueError: it is not.
    """
    if task.endswith("classification") and (row["label"], row["score"], np.ndim(row["scores"]))[2] != 1:
        raise ValueError("scores must be (classes,)")
    if not isinstance(row.get("label", ""), str) or not isinstance(row.get("score", 0.0), float):
        raise ValueError("label must be text, and score one number")  # noqa: TRY004  (make_steps catches one kind)


def join(pieces: Sequence[Fields]) -> Fields:
    """Fields of consecutive batches as one. Rows of different shapes become an array of arrays."""
    if len(pieces) == 1:
        return pieces[0]
    joined = {}
    for field in pieces[0]:
        values = [piece[field] for piece in pieces]
        if len({piece.shape[1:] for piece in values}) == 1:
            joined[field] = np.concatenate(values)
        else:
            rows = [row for piece in values for row in piece]
            joined[field] = np.empty(len(rows), object)
            joined[field][:] = rows
    return joined


def plain(value: Any) -> Any:
    """A single number or text as Python's own, as ``one`` gives it; arrays as they are."""
    return value.item() if isinstance(value, np.generic) else value


def _tensors_of(manifest: Manifest, variant: Variant) -> dict[str, TensorSpec]:
    """Input of the caller → tensor of the model. The first input may have another name than its tensor."""
    carried = {pair.input for pair in manifest.state}
    given = {spec.name: spec for spec in variant.inputs if spec.name not in carried}
    names = [spec.name for spec in manifest.signature]
    found = {name: given[name] for name in names if name in given}
    left = [spec for name, spec in given.items() if name not in found]
    if names[0] not in found and len(left) == 1:
        found = {names[0]: left.pop(), **found}
    if left or found.keys() != set(names):
        raise ManifestError(f"the model takes {', '.join(given)}, but the manifest's samples are {', '.join(names)}")
    return {name: found[name] for name in names}


def _state_of(manifest: Manifest, variant: Variant) -> dict[str, tuple[str, TensorSpec]]:
    """Carried input → the output that it comes from, and its tensor."""
    inputs = {spec.name: spec for spec in variant.inputs}
    outputs = {spec.name for spec in variant.outputs}
    for pair in manifest.state:
        if pair.input not in inputs or pair.output not in outputs:
            raise ManifestError(
                f"state {pair.input}={pair.output}: the model has inputs {', '.join(inputs)} "
                f"and outputs {', '.join(sorted(outputs))}"
            )
    return {pair.input: (pair.output, inputs[pair.input]) for pair in manifest.state}


def _real(spec: TensorSpec) -> np.dtype[Any]:
    if spec.dtype == "str":
        return np.dtype(object)
    return np.dtype(np.float32) if spec.scale else np.dtype(spec.dtype)


def _durations(marks: Sequence[int], bare: Callable[[], object]) -> dict[str, float]:
    start = perf_counter_ns()
    bare()
    raw = perf_counter_ns() - start
    return {**{step: float(ns) / 1000 for step, ns in zip(STEPS, np.diff(marks), strict=True)}, "raw": raw / 1000}


class _Closed:
    """Stands in for the backend of an engine that was closed."""

    direct = False

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.input: Array = np.empty((1, 0))
        self.outputs: dict[str, Array] = {}

    def forward(self) -> None:
        raise UsageError("this engine is closed; load the release again")

    def run(self, feeds: Any) -> dict[str, Array]:
        raise UsageError(f"this engine is closed; load the release again for these {len(feeds)} inputs")

    def bare(self, feeds: Any) -> Callable[[], object]:
        return lambda: self.run(feeds)

    def close(self) -> None:
        """Closing twice is harmless."""


CLOSED = _Closed()
