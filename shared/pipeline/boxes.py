"""Boxes: detections decoded, and those that overlap a better one of their class dropped."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from shared.pipeline.base import Array, FieldOperation, Fields, Floats, check_size, number_field, objects, refuse

Share = Annotated[float, Meta(ge=0, le=1)]


class Boxes(FieldOperation, frozen=True, tag="boxes"):
    """Boxes and scores of a detector → a list of detections, best first.

    ``layout`` of ``source`` (n, boxes, 4): "xyxy" (corners), "yxyx" (corners as TensorFlow has them), "cxcywh" (centre
    and size), or "ssd" (offsets from ``anchors``, which are cxcywh, times ``variances``: Liu et al. 2016, section 2.2).
    ``scores`` is a field (n, boxes, classes), or (n, boxes) together with ``classes`` (n, boxes) of indices. Without
    ``scores``, each row of ``source`` is a box followed by ``objectness`` (if set; it multiplies the rest) and the
    classes' scores, as the YOLO family writes them; ``transposed`` where rows are the last axis.

    Of each box's classes every one of at least ``threshold`` counts, or with ``one_class`` the best alone. Greedy
    non-maximum suppression within each class: a box goes when its intersection over union with a better one is more
    than ``overlap`` (1 keeps all). ``limit`` are kept. ``scale`` multiplies x and y, e.g. into pixels.
    """

    source: str = "boxes"
    scores: str = "scores"
    classes: str = ""
    layout: Literal["xyxy", "yxyx", "cxcywh", "ssd"] = "xyxy"
    anchors: tuple[tuple[float, float, float, float], ...] = ()
    variances: tuple[float, float, float, float] = (0.1, 0.1, 0.2, 0.2)
    objectness: bool = False
    transposed: bool = False
    background: int | None = None
    one_class: bool = False
    threshold: Share = 0.5
    overlap: Share = 0.5
    candidates: Annotated[int, Meta(ge=1, le=100_000)] = 1000
    limit: Annotated[int, Meta(ge=1, le=1000)] = 100
    scale: tuple[float, float] = (1.0, 1.0)
    names: tuple[str, ...] = ()
    target: str = "detections"

    def __post_init__(self) -> None:
        if (self.layout == "ssd") != bool(self.anchors):
            raise ValueError("boxes: layout ssd needs anchors, and no other layout has them")
        if self.scores and (self.objectness or self.transposed):
            raise ValueError('boxes: objectness and transposed are for rows that hold their scores (scores = "")')
        check_size(self, 4 * len(self.anchors))

    def apply(self, fields: Mapping[str, Array]) -> Fields:
        """Sets, with k = ``limit`` and what is missing 0 (class -1): ``target`` (n, k, 4) float32 of x0, y0, x1, y1,
        ``target_class`` (n, k) int64, ``target_score`` (n, k) float32; ``count`` (n,), ``score`` (n,) the best or 0;
        and ``value`` (n,), lists of ``{"box": [x0, y0, x1, y1], "index": ..., "label": ..., "score": ...}``."""
        boxes, scores, classes = self._parts(fields)
        n, k = len(boxes), self.limit
        found, values = np.zeros((n, k, 4), np.float32), []
        found_class, found_score = np.full((n, k), -1, np.int64), np.zeros((n, k), np.float32)
        count = np.zeros(n, np.int64)
        for i in range(n):
            box, index, score = self._row(boxes[i], scores[i], None if classes is None else classes[i])
            count[i] = kept = len(box)
            found[i, :kept], found_class[i, :kept], found_score[i, :kept] = box, index, score
            values.append([self._detection(*one) for one in zip(box, index, score, strict=True)])
        return {
            self.target: found,
            f"{self.target}_class": found_class,
            f"{self.target}_score": found_score,
            "count": count,
            "score": found_score[:, 0].astype(np.float64),
            "value": objects(values),
        }

    def _parts(self, fields: Mapping[str, Array]) -> tuple[Floats, Floats, NDArray[np.int64] | None]:
        """Boxes (n, boxes, 4), scores (n, boxes, classes or 1), and classes (n, boxes) where the model gives them."""
        rows = np.ascontiguousarray(number_field(self, fields, self.source), np.float32)
        if rows.ndim != 3:
            raise refuse(self, f"(n, boxes, ...) in field {self.source!r}", rows)
        if not self.scores:
            if self.transposed:
                rows = np.ascontiguousarray(rows.transpose(0, 2, 1))
            first = 5 if self.objectness else 4
            if rows.shape[2] <= first:
                raise refuse(self, f"rows of a box and scores ({first + 1} numbers or more)", rows)
            scores = rows[..., first:] * rows[..., 4:5] if self.objectness else rows[..., first:]
            return self._checked(rows[..., :4]), np.ascontiguousarray(scores), None
        scores = np.ascontiguousarray(number_field(self, fields, self.scores), np.float32)
        if scores.ndim not in {2, 3} or scores.shape[:2] != rows.shape[:2] or (self.classes and scores.ndim != 2):
            raise refuse(self, f"scores for {rows.shape[1]} boxes in field {self.scores!r}", scores)
        if not self.classes:
            return self._checked(rows), scores.reshape(*rows.shape[:2], -1 if scores.size else 1), None
        classes = number_field(self, fields, self.classes)
        if classes.shape != scores.shape:
            raise refuse(self, f"{scores.shape} classes in field {self.classes!r}", classes)
        return self._checked(rows), scores[..., None], np.rint(classes).astype(np.int64)

    def _checked(self, rows: Floats) -> Floats:
        if rows.shape[2] != 4 or (self.anchors and rows.shape[1] != len(self.anchors)):
            count = len(self.anchors) or "boxes"
            raise refuse(self, f"(n, {count}, 4) in field {self.source!r}", rows)
        return rows

    def _row(
        self, boxes: Floats, scores: Floats, classes: NDArray[np.int64] | None
    ) -> tuple[Floats, NDArray[np.int64], Floats]:
        """One sample's detections: boxes (k, 4), classes (k,), scores (k,)."""
        passed = scores >= np.float32(self.threshold)
        if self.background is not None and classes is None and 0 <= self.background < scores.shape[1]:
            passed[:, self.background] = False
        some = np.flatnonzero(passed.any(axis=1))  # of thousands of boxes, few hold anything
        scores, passed = scores[some], passed[some]
        if self.one_class and scores.shape[1] > 1:
            best = np.where(passed, scores, -np.inf).argmax(axis=1)
            passed &= np.arange(scores.shape[1]) == best[:, None]
        row, column = np.nonzero(passed)
        place, score = some[row], scores[row, column]
        order = np.argsort(-score, kind="stable")[: self.candidates]
        place, score = place[order], score[order]
        index = (column if classes is None else classes[:])[order if classes is None else place].astype(np.int64)
        if classes is not None and self.background is not None:
            inside = index != self.background
            place, score, index = place[inside], score[inside], index[inside]
        anchors = np.array(self.anchors, np.float32)[place] if self.anchors else None
        corner = self._corners(np.ascontiguousarray(boxes[place]), anchors)
        kept = suppress(corner, index, self.overlap, self.limit)
        return corner[kept] * np.array(self.scale * 2, np.float32), index[kept], score[kept]

    def _corners(self, boxes: Floats, anchors: Floats | None) -> Floats:
        """(k, 4) in the model's layout -> (k, 4) of x0, y0, x1, y1."""
        if self.layout == "xyxy":
            return boxes
        if self.layout == "yxyx":
            return boxes[:, [1, 0, 3, 2]]
        centre, size = boxes[:, :2], boxes[:, 2:]
        if anchors is not None:
            variances = np.array(self.variances, np.float32)
            centre = anchors[:, :2] + centre * variances[:2] * anchors[:, 2:]
            with np.errstate(over="ignore"):  # an absurd offset is an endless box
                size = anchors[:, 2:] * np.exp(np.ascontiguousarray(size * variances[2:]))
        half = size * np.float32(0.5)
        return np.concatenate([centre - half, centre + half], axis=1)

    def _detection(self, box: Floats, index: np.int64, score: np.float32) -> dict[str, Any]:
        detection: dict[str, Any] = {"box": box.tolist(), "index": int(index), "score": float(score)}
        if self.names:
            detection["label"] = self.names[index] if 0 <= index < len(self.names) else str(index)
        return detection


def suppress(boxes: Floats, classes: NDArray[np.int64], overlap: float, limit: int) -> NDArray[np.intp]:
    """Greedy non-maximum suppression within each class: places of the kept among ``boxes`` (k, 4) of x0, y0, x1, y1,
    which stand best first; at most ``limit``."""
    x0, x1 = np.minimum(boxes[:, 0], boxes[:, 2]), np.maximum(boxes[:, 0], boxes[:, 2])
    y0, y1 = np.minimum(boxes[:, 1], boxes[:, 3]), np.maximum(boxes[:, 1], boxes[:, 3])
    with np.errstate(over="ignore", invalid="ignore"):
        area = (x1 - x0) * (y1 - y0)
        alive = np.ones(len(boxes), dtype=bool)
        kept: list[int] = []
        while len(kept) < limit:
            start = kept[-1] + 1 if kept else 0
            step = int(alive[start:].argmax()) if start < len(boxes) else 0
            if start >= len(boxes) or not alive[start + step]:
                break
            i = start + step
            kept.append(i)
            rest = slice(i + 1, None)
            width = np.minimum(x1[rest], x1[i]) - np.maximum(x0[rest], x0[i])
            height = np.minimum(y1[rest], y1[i]) - np.maximum(y0[rest], y0[i])
            common = np.maximum(width, 0) * np.maximum(height, 0)
            worse = (common > np.float32(overlap) * (area[rest] + area[i] - common)) & (classes[rest] == classes[i])
            alive[rest] &= ~worse
    return np.array(kept, np.intp)
