"""What is watched: the same numbers, from the same code, in the trainer and on the device.

Inputs are watched as the sensor gives them, before preprocessing. An image becomes brightness (mean), contrast
(standard deviation), sharpness (mean absolute Laplacian), noise (Immerkaer 1996, "Fast noise variance estimation", CVIU
64(2)) and, in colour, saturation; a signal becomes mean, level, crest factor, crossings and, where it has no more than
four channels, the shares of its power in four bands of each; a short vector is watched column by column, and so
is a row of text of which the pipeline makes numbers and categories; other text by its length, words, the share of signs
beyond ASCII and of words that the release's vocabulary lacks; arrays of any size by their length too; anything longer
by its mean, std, min and max. Answers are watched as confidence, predicted class, and
projections of the embedding on its principal directions (random ones, where there was no reference to find these in);
or as the number, the numbers or the boxes that they are. NaN is missing, and counted as such.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct, structs
from numpy.typing import NDArray

from shared.drift.arrays import Arrays, take
from shared.drift.bins import Floats
from shared.drift.watch_inputs import InputWatch, watch_further, watch_input
from shared.drift.watch_outputs import MOST_NUMBERS, ClassWatch, FieldWatch, OutputWatch, principal, watch_outputs
from shared.errors import UNREADABLE, InputError, ProfileError
from shared.manifest import SampleSpec
from shared.pipeline.spec import Pipeline

FORMAT = 2
"""Format 1 is one input and classes; what can be written as format 1 still is."""
MOST_SCALARS = 64
"""Scalars that :meth:`WatchSpec.choose` picks, at most."""
PLAIN = ("image", "columns", "summary")


class _Parts(Struct, frozen=True, forbid_unknown_fields=True):
    inputs: tuple[InputWatch, ...]
    classes: int
    fields: tuple[FieldWatch, ...]
    dropped: tuple[str, ...]


class WatchSpec:
    """Which scalars a release watches, and how they are computed. ``names``, ``families`` and ``kinds`` are those of
    all scalars, inputs first.

    >>> spec = WatchSpec.fit(SampleSpec("uint8", (8, 8), kind="image"), classes=10, embedding=None)
    >>> spec.input_names, spec.output_names
    (('brightness', 'contrast', 'sharpness', 'noise'), ('confidence', 'class'))
    """

    def __init__(
        self, inputs: Sequence[InputWatch], outputs: Sequence[OutputWatch], dropped: Sequence[str] = ()
    ) -> None:
        """``inputs``: at least one, the first is ``Manifest.sample``. ``dropped`` are scalars left out after all."""
        self.parts = tuple(inputs)
        self.answers = tuple(outputs)
        self.dropped = tuple(dropped)
        self.input_names = tuple(name for part in inputs for name in part.names)
        self.output_names = tuple(name for part in outputs for name in part.names)
        self.input_families = ("inputs",) * len(self.input_names)
        self.input_kinds = tuple(kind for part in inputs for kind in part.kinds)
        self.output_families = tuple(family for part in outputs for family in part.families)
        self.output_kinds = tuple(kind for part in outputs for kind in part.kinds)
        every = (*self.input_names, *self.output_names)
        self.kept = np.array([k for k, name in enumerate(every) if name not in self.dropped], dtype=np.intp)
        self.names = tuple(every[k] for k in self.kept)
        self.families = tuple((*self.input_families, *self.output_families)[k] for k in self.kept)
        self.kinds = tuple((*self.input_kinds, *self.output_kinds)[k] for k in self.kept)

    @classmethod
    def fit(
        cls,
        sample: SampleSpec,
        classes: int,
        embedding: NDArray[np.floating] | None,
        projections: int = 8,
        *,
        pipeline: Pipeline | None = None,
    ) -> WatchSpec:
        """Choose what to watch of a classifier.

        Args:
            sample: what ``Engine.infer`` takes.
            classes: number of scores of an answer.
            embedding: (n, E) of samples that the model was not trained on, or None if it has none.
            projections: principal directions to watch; fewer where the embedding has fewer that vary.
            pipeline: ``Manifest.pipeline``, for the vocabulary of a model that takes text.

        Raises:
            ProfileError: the embedding is no finite table.
        """
        answers = ClassWatch(classes, *principal(embedding, projections))
        return cls((watch_input(sample, pipeline=pipeline),), (answers,))

    @classmethod
    def choose(
        cls,
        signature: Sequence[SampleSpec],
        row: Mapping[str, Any],
        task: str = "",
        *,
        pipeline: Pipeline | None = None,
    ) -> WatchSpec:
        """Choose what to watch of any model, 64 scalars at most.

        Args:
            signature: its inputs, ``Manifest.signature``.
            row: the fields of one answer, as the pipeline gives them for one sample.
            task: ``Manifest.task``; "detection" tells an empty list of boxes from other empty lists.
            pipeline: ``Manifest.pipeline``, for what text means.
        """
        outputs = watch_outputs(row, task)
        room = MOST_SCALARS - max(MOST_NUMBERS, sum(len(part.names) for part in outputs))
        first = watch_input(signature[0], most_columns=room, pipeline=pipeline)
        used = len(first.names) + sum(len(part.names) for part in outputs)
        taken = {name for part in outputs for name in part.names}
        if not taken.isdisjoint(first.names):
            first = structs.replace(first, names=tuple(f"{first.input}.{name}" for name in first.names))
        taken |= {*first.names}
        further = watch_further(signature[1:], MOST_SCALARS - used)
        return cls((first, *(part for part in further if taken.isdisjoint(part.names))), outputs)

    def without(self, names: Sequence[str]) -> WatchSpec:
        """The same but for some scalars."""
        return WatchSpec(self.parts, self.answers, tuple(dict.fromkeys((*self.dropped, *names))))

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the first input's samples; -1 is any size."""
        return self.parts[0].shape

    @property
    def statistics(self) -> str:
        """How the first input is watched."""
        return self.parts[0].statistics

    @property
    def of_classes(self) -> ClassWatch | None:
        """How a classifier's answers are watched."""
        return next((part for part in self.answers if isinstance(part, ClassWatch)), None)

    def inputs(self, x: NDArray[Any] | Mapping[str, NDArray[Any]]) -> Floats:
        """Watched numbers (n, Fi) of raw samples ``x`` (n, *shape), or of such arrays by input.

        Raises:
            InputError: another shape, or not numbers, or an input is missing.
        """
        named = x if isinstance(x, Mapping) else {self.parts[0].input: x}
        absent = [part.input for part in self.parts if part.input not in named]
        if absent:
            raise InputError(f"samples without {', '.join(absent)}, which the profile watches")
        return np.concatenate([part.of(named[part.input]) for part in self.parts], axis=1)

    def outputs(self, scores: NDArray[Any], embedding: NDArray[Any] | None = None) -> Floats:
        """Watched numbers (n, Fo) of a classifier's answers: ``scores`` (n, C), ``embedding`` (n, E) where the spec
        has projections. An answer whose scores are not all numbers counts as missing.

        Raises:
            InputError: shapes differ from the spec.
        """
        return self.outputs_of({"scores": scores, "embedding": embedding})

    def outputs_of(self, fields: Mapping[str, Any]) -> Floats:
        """Watched numbers (n, Fo) of answers, given the pipeline's ``fields``, each (n, ...).

        Raises:
            InputError: a field is missing, or has another shape.
        """
        found = []
        for part in self.answers:
            key = "scores" if isinstance(part, ClassWatch) else part.field
            if fields.get(key) is None:
                raise InputError(f"answers without the field {key!r}, which the profile watches")
            values = fields[key]
            found.append(part.of(values, fields.get("embedding")) if isinstance(part, ClassWatch) else part.of(values))
        if not found:
            count = len(next(iter(fields.values()))) if fields else 0
            return np.empty((count, 0))
        return np.concatenate(found, axis=1)

    def to_arrays(self) -> Arrays:
        """The spec as arrays."""
        first, classes = self.parts[0], self.of_classes
        plain = len(self.parts) == len(self.answers) == 1 and first.statistics in PLAIN and not self.dropped
        if classes is not None and plain and first.input == "input":
            return {
                "format": np.array([1]),
                "shape": np.array(first.shape, dtype=np.int64),
                "statistics": np.array([first.statistics]),
                "columns": np.array(first.names),
                "classes": np.array([classes.classes]),
                "center": classes.center,
                "directions": classes.directions,
            }
        fields = tuple(part for part in self.answers if isinstance(part, FieldWatch))
        parts = _Parts(self.parts, classes.classes if classes else 0, fields, self.dropped)
        return {
            "format": np.array([FORMAT]),
            "parts": np.array([msgspec.json.encode(parts).decode()]),
            "center": classes.center if classes else np.zeros(0),
            "directions": classes.directions if classes else np.zeros((0, 0)),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[np.generic]]) -> WatchSpec:
        """The spec that :meth:`to_arrays` took apart.

        Raises:
            ProfileError: arrays are missing, malformed, or of another version.
        """
        found = take(arrays, "format", "i").tolist()
        if found not in ([1], [FORMAT]):
            raise ProfileError(f"watch spec: format {found}, but this version of sanderling reads formats 1 and 2")
        parts = _parts(arrays) if found == [1] else _decoded(arrays)
        center, directions = take(arrays, "center", "f"), take(arrays, "directions", "f", 2)
        finite = bool(np.isfinite(center).all() and np.isfinite(directions).all())
        valid = all(part.valid() for part in parts.inputs) and all(part.valid() for part in parts.fields)
        if not parts.inputs or not valid or parts.classes < 0 or not finite:
            raise ProfileError("watch spec: shape, statistics, columns or classes are malformed")
        if directions.shape[1] != len(center):
            raise ProfileError("watch spec: embedding center and directions differ in length")
        outputs: tuple[OutputWatch, ...] = parts.fields
        if parts.classes:
            of_classes = ClassWatch(parts.classes, center.astype(np.float64), directions.astype(np.float64))
            outputs = (of_classes, *outputs)
        return cls(parts.inputs, outputs, parts.dropped)


def _parts(arrays: Mapping[str, NDArray[np.generic]]) -> _Parts:
    shape, classes = take(arrays, "shape", "i"), take(arrays, "classes", "i")
    statistics, columns = take(arrays, "statistics", "U"), tuple(take(arrays, "columns", "U").tolist())
    what = str(statistics[0]) if len(statistics) == 1 else ""
    if what not in PLAIN or (shape < 0).any() or len(classes) != 1 or classes[0] < 1:
        raise ProfileError("watch spec: shape, statistics, columns or classes are malformed")
    return _Parts((InputWatch("input", tuple(map(int, shape)), what, columns),), int(classes[0]), (), ())


def _decoded(arrays: Mapping[str, NDArray[np.generic]]) -> _Parts:
    text = take(arrays, "parts", "U")
    try:
        return msgspec.json.decode("".join(text.tolist()), type=_Parts)
    except UNREADABLE as error:
        raise ProfileError(f"watch spec: {error}") from error
