"""What is watched: the same numbers, from the same code, in the trainer and on the device.

Inputs are watched as the sensor gives them, before preprocessing. An image becomes brightness (mean), contrast
(standard deviation), sharpness (mean absolute Laplacian), noise (Immerkaer 1996, "Fast noise variance estimation",
CVIU 64(2)) and, in colour, saturation; a short vector is watched column by column; anything longer by its mean, std,
min and max. Outputs are watched as confidence, predicted class, and projections of the embedding on its principal
directions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from shared.drift.arrays import Arrays, take
from shared.drift.bins import CATEGORY, VALUE, Floats
from shared.errors import InputError, ProfileError
from shared.manifest import SampleSpec

FORMAT = 1
MOST_COLUMNS = 64
IMAGE_STATISTICS = ("brightness", "contrast", "sharpness", "noise")
SUMMARY = ("mean", "std", "min", "max")
CHUNK_VALUES = 1 << 14
"""Input values worked on at a time: temporary arrays that stay in the processor's cache, a quarter of the time."""


class WatchSpec:
    """Which scalars a release watches, and how they are computed.

    >>> spec = WatchSpec.fit(SampleSpec("uint8", (8, 8), kind="image"), classes=10, embedding=None)
    >>> spec.input_names, spec.output_names
    (('brightness', 'contrast', 'sharpness', 'noise'), ('confidence', 'class'))
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        statistics: str,
        columns: tuple[str, ...],
        classes: int,
        center: Floats,
        directions: Floats,
    ) -> None:
        """``statistics``: "image", "columns" or "summary"; ``center`` (E,) and ``directions`` (P, E) of the
        embedding, P may be 0."""
        self.shape = shape
        self.statistics = statistics
        self.classes = classes
        self.center = center
        self.directions = directions
        self._columns = columns
        projections = tuple(f"embedding{k}" for k in range(len(directions)))
        self.input_names = columns
        self.input_families = ("inputs",) * len(columns)
        self.input_kinds = (VALUE,) * len(columns)
        self.output_names = ("confidence", "class", *projections)
        self.output_families = ("confidence", "classes", *("embedding" for _ in projections))
        self.output_kinds = (VALUE, CATEGORY, *(VALUE for _ in projections))

    @classmethod
    def fit(
        cls, sample: SampleSpec, classes: int, embedding: NDArray[np.floating] | None, projections: int = 8
    ) -> WatchSpec:
        """Choose what to watch.

        Args:
            sample: what ``Engine.infer`` takes.
            classes: number of scores of an answer.
            embedding: (n, E) of samples that the model was not trained on, or None if it has none.
            projections: principal directions to watch; fewer where the embedding has fewer that vary.

        Raises:
            ProfileError: the embedding is no finite table.
        """
        shape = tuple(sample.shape)
        size = math.prod(shape)
        if sample.kind == "image" and len(shape) in {2, 3} and min(shape[:2]) >= 3:
            colour = len(shape) == 3 and shape[2] >= 3
            statistics, columns = "image", (*IMAGE_STATISTICS, *(("saturation",) if colour else ()))
        elif size <= MOST_COLUMNS:
            named = sample.columns if len(sample.columns) == size else tuple(f"x{k}" for k in range(size))
            statistics, columns = "columns", tuple(named)
        else:
            statistics, columns = "summary", SUMMARY
        center, directions = _principal(embedding, projections)
        return cls(shape, statistics, columns, classes, center, directions)

    def inputs(self, x: NDArray[np.generic]) -> Floats:
        """Watched numbers (n, Fi) of raw samples ``x`` (n, *shape) of any numeric dtype.

        Raises:
            InputError: another shape, or not numbers.
        """
        x = np.asarray(x)
        if x.shape[1:] != self.shape or x.dtype.kind not in "fiub":
            raise InputError(
                f"samples of shape {x.shape} and dtype {x.dtype}; "
                f"expected numbers of shape (n, {', '.join(map(str, self.shape))})"
            )
        step = max(1, CHUNK_VALUES // max(1, math.prod(self.shape)))
        parts = [self._statistics(x[at : at + step]) for at in range(0, len(x), step)]
        return np.concatenate(parts) if parts else np.empty((0, len(self.input_names)))

    def _statistics(self, x: NDArray[np.generic]) -> Floats:
        if self.statistics == "columns":
            return x.reshape(len(x), -1).astype(np.float64)
        if self.statistics == "image":
            return image_statistics(x)
        flat = x.reshape(len(x), -1).astype(np.float64)
        return np.stack((flat.mean(1), flat.std(1), flat.min(1), flat.max(1)), axis=1)

    def outputs(self, scores: NDArray[np.generic], embedding: NDArray[np.generic] | None = None) -> Floats:
        """Watched numbers (n, Fo) of answers: ``scores`` (n, C), ``embedding`` (n, E) where the spec has projections.

        An answer whose scores are not all numbers counts as missing.

        Raises:
            InputError: shapes differ from the spec.
        """
        scores = np.asarray(scores)
        if scores.ndim != 2 or scores.shape[1] != self.classes:
            raise InputError(f"scores of shape {scores.shape}; expected (n, {self.classes})")
        found = np.empty((len(scores), len(self.output_names)))
        found[:, 0] = scores.max(axis=1)
        found[:, 1] = scores.argmax(axis=1)
        found[np.isnan(found[:, 0]), 1] = np.nan
        if len(self.directions):
            wanted = (len(scores), len(self.center))
            if embedding is None or np.shape(embedding) != wanted:
                raise InputError(
                    f"embedding of shape {np.shape(embedding) if embedding is not None else None}; expected {wanted}"
                )
            found[:, 2:] = (np.asarray(embedding, dtype=np.float64) - self.center) @ self.directions.T
        return found

    def to_arrays(self) -> Arrays:
        """The spec as arrays."""
        return {
            "format": np.array([FORMAT]),
            "shape": np.array(self.shape, dtype=np.int64),
            "statistics": np.array([self.statistics]),
            "columns": np.array(self._columns),
            "classes": np.array([self.classes]),
            "center": self.center,
            "directions": self.directions,
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[np.generic]]) -> WatchSpec:
        """The spec that :meth:`to_arrays` took apart.

        Raises:
            ProfileError: arrays are missing, malformed, or of another version.
        """
        found = take(arrays, "format", "i")
        if found.tolist() != [FORMAT]:
            raise ProfileError(
                f"watch spec: format {found.tolist()}, but this version of sanderling reads format {FORMAT}"
            )
        shape, classes = take(arrays, "shape", "i"), take(arrays, "classes", "i")
        statistics, columns = take(arrays, "statistics", "U"), tuple(take(arrays, "columns", "U").tolist())
        center, directions = take(arrays, "center", "f"), take(arrays, "directions", "f", 2)
        what = str(statistics[0]) if len(statistics) == 1 else ""
        size = math.prod(int(side) for side in shape)
        colour = len(shape) == 3 and int(shape[2]) >= 3
        widths = {
            "image": len(IMAGE_STATISTICS) + colour if len(shape) in {2, 3} and shape[:2].min() >= 3 else -1,
            "columns": size,
            "summary": len(SUMMARY),
        }
        finite = bool(np.isfinite(center).all() and np.isfinite(directions).all())
        if widths.get(what) != len(columns) or (shape < 0).any() or len(classes) != 1 or classes[0] < 1 or not finite:
            raise ProfileError("watch spec: shape, statistics, columns or classes are malformed")
        if directions.shape[1] != len(center):
            raise ProfileError("watch spec: embedding center and directions differ in length")
        return cls(
            tuple(int(side) for side in shape),
            what,
            columns,
            int(classes[0]),
            center.astype(np.float64),
            directions.astype(np.float64),
        )


def image_statistics(x: NDArray[np.generic]) -> Floats:
    """Brightness, contrast, sharpness, noise and, with at least three channels, saturation (n, 4 or 5) of images
    ``x`` (n, H, W) or (n, H, W, C), H and W >= 3, in the units of ``x``; saturation is (max - min) / max of the first
    three channels, averaged."""
    pixels = x.astype(np.float64)
    grey = pixels if pixels.ndim == 3 else pixels.mean(axis=3)
    across = grey[:, :, :-2] - 2 * grey[:, :, 1:-1] + grey[:, :, 2:]
    down = grey[:, :-2] - 2 * grey[:, 1:-1] + grey[:, 2:]
    laplacian = across[:, 1:-1] + down[:, :, 1:-1]
    both = across[:, :-2] - 2 * across[:, 1:-1] + across[:, 2:]  # [1 -2 1]ᵀ[1 -2 1], blind to edges and gradients
    columns = [
        grey.mean((1, 2)),
        grey.std((1, 2)),
        np.abs(laplacian).mean((1, 2)),
        math.sqrt(math.pi / 2) / 6 * np.abs(both).mean((1, 2)),
    ]
    if pixels.ndim == 4 and pixels.shape[3] >= 3:
        most, least = pixels[..., :3].max(-1), pixels[..., :3].min(-1)
        share = np.divide(most - least, most, out=np.zeros_like(most), where=most > 0)
        columns.append(share.mean((1, 2)))
    return np.stack(columns, axis=1)


def _principal(embedding: NDArray[np.floating] | None, projections: int) -> tuple[Floats, Floats]:
    """Center (E,) and principal directions (P, E), scaled to give projections of unit variance; each has its largest
    entry positive, so that the same data gives the same signs."""
    if embedding is None:
        return np.zeros(0), np.zeros((0, 0))
    table = np.asarray(embedding, dtype=np.float64)
    if table.ndim != 2 or len(table) < 2 or not np.isfinite(table).all():
        raise ProfileError(f"embedding of shape {table.shape}; expected a finite table of at least 2 rows")
    center = table.mean(0)
    _, singular, directions = np.linalg.svd(table - center, full_matrices=False)
    deviation = singular / math.sqrt(len(table) - 1)
    kept = int(np.count_nonzero(deviation[:projections] > 1e-6 * max(float(deviation[0]), 1e-300)))
    directions, deviation = directions[:kept], deviation[:kept]
    signs = np.sign(directions[np.arange(kept), np.abs(directions).argmax(1)])
    return center, directions * (signs / deviation)[:, None]
