"""Detections against a brute-force reference and onnxruntime's NonMaxSuppression."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.pipeline.boxes import suppress
from shared.pipeline.decode import Boxes


def scene(seed: int, n: int = 40, classes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    corner = random.random((1, n, 2)) * 2
    boxes = np.concatenate([corner, corner + random.random((1, n, 2)) + 0.05], axis=2).astype(np.float32)
    return boxes, random.random((1, n, classes)).astype(np.float32)


def iou(a: list[float], b: list[float]) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    common = width * height
    return common / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common)


def reference(boxes: list, scores: list, threshold: float, overlap: float) -> list[tuple[int, int]]:
    """(box, class) kept, best first: each pair is compared with every better one of its class that was kept."""
    pairs = [(s, b, c) for b, row in enumerate(scores) for c, s in enumerate(row) if s >= threshold]
    kept: list[tuple[int, int]] = []
    for _, b, c in sorted(pairs, key=lambda pair: -pair[0]):
        if all(other != c or iou(boxes[b], boxes[a]) <= overlap for a, other in kept):
            kept.append((b, c))
    return kept


@given(st.integers(0, 999), st.sampled_from([0.0, 0.3, 0.5, 0.9]), st.sampled_from([0.0, 0.2, 0.45, 1.0]))
def test_boxes_are_those_of_the_brute_force_reference(seed: int, threshold: float, overlap: float) -> None:
    boxes, scores = scene(seed)
    kept = reference(boxes[0].tolist(), scores[0].tolist(), threshold, overlap)
    fields = Boxes(threshold=threshold, overlap=overlap, limit=200)({"boxes": boxes, "scores": scores})
    count = int(fields["count"][0])
    assert count == len(kept)
    np.testing.assert_array_equal(fields["detections"][0, :count], boxes[0, [b for b, _ in kept]].reshape(-1, 4))
    assert fields["detections_class"][0, :count].tolist() == [c for _, c in kept]
    assert fields["detections_score"][0, :count].tolist() == [scores[0, b, c] for b, c in kept]
    assert not fields["detections"][0, count:].any()
    assert set(fields["detections_class"][0, count:].tolist()) <= {-1}
    assert len(fields["value"][0]) == count


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("layout", ["yxyx", "cxcywh"])
def test_boxes_are_those_of_onnxruntimes_non_max_suppression(seed: int, layout: str) -> None:
    onnx = pytest.importorskip("onnx")
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    boxes, scores = scene(seed)
    if layout == "cxcywh":
        boxes = np.concatenate([boxes[..., :2], boxes[..., 2:] - boxes[..., :2]], axis=2)
    node = helper.make_node(
        "NonMaxSuppression", ["b", "s", "most", "iou", "least"], ["y"], center_point_box=int(layout == "cxcywh")
    )
    graph = helper.make_graph(
        [node],
        "nms",
        [
            helper.make_tensor_value_info("b", TensorProto.FLOAT, boxes.shape),
            helper.make_tensor_value_info("s", TensorProto.FLOAT, [1, 3, 40]),
        ],
        [helper.make_tensor_value_info("y", TensorProto.INT64, [None, 3])],
        [
            numpy_helper.from_array(np.array([1000]), "most"),
            numpy_helper.from_array(np.array([0.4], np.float32), "iou"),
            numpy_helper.from_array(np.array([0.3], np.float32), "least"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    picked = session.run(None, {"b": boxes, "s": scores.transpose(0, 2, 1)})[0]
    expected = sorted(((scores[0, b, c], c) for _, c, b in picked.tolist()), key=lambda pair: -pair[0])
    found = Boxes(layout=layout, threshold=0.3, overlap=0.4, limit=500)({"boxes": boxes, "scores": scores})
    count = int(found["count"][0])
    pairs = zip(
        found["detections_score"][0, :count].tolist(), found["detections_class"][0, :count].tolist(), strict=True
    )
    assert list(pairs) == [(float(s), c) for s, c in expected]


def test_ssd_offsets_by_the_formula_of_the_paper() -> None:
    anchors = ((0.5, 0.5, 0.2, 0.4), (0.3, 0.2, 0.1, 0.1))
    offsets = np.array([[[1.0, -2.0, 0.5, 0.0], [0.0, 0.0, 0.0, 1.0]]], np.float32)
    scores = np.array([[[0.0, 0.9], [0.0, 0.8]]], np.float32)
    found = Boxes(layout="ssd", anchors=anchors, background=0)({"boxes": offsets, "scores": scores})
    for k, (a, o) in enumerate(zip(anchors, offsets[0].tolist(), strict=True)):
        x, y = a[0] + 0.1 * o[0] * a[2], a[1] + 0.1 * o[1] * a[3]
        w, h = a[2] * math.exp(0.2 * o[2]), a[3] * math.exp(0.2 * o[3])
        np.testing.assert_allclose(found["detections"][0, k], [x - w / 2, y - h / 2, x + w / 2, y + h / 2], rtol=1e-5)
    assert found["detections_class"][0, :2].tolist() == [1, 1]


def test_yolo_rows_with_and_without_objectness() -> None:
    row = [10.0, 20.0, 4.0, 6.0, 0.9, 0.2, 0.8]
    five = Boxes("rows", "", layout="cxcywh", objectness=True, names=("cat", "dog"))({"rows": np.array([[row]])})
    (detection,) = five["value"][0]
    assert detection["box"] == [8.0, 17.0, 12.0, 23.0]
    assert detection["label"] == "dog"
    assert detection["score"] == pytest.approx(0.72)
    eight = np.array([[row[:4] + row[5:]]]).transpose(0, 2, 1)
    (other,) = Boxes("rows", "", layout="cxcywh", transposed=True, scale=(2.0, 0.5))({"rows": eight})["value"][0]
    assert other["box"] == [16.0, 8.5, 24.0, 11.5]
    assert other["score"] == pytest.approx(0.8)


def test_the_output_of_tensorflows_detection_operator() -> None:
    fields = {
        "boxes": np.array([[[0.1, 0.2, 0.5, 0.6], [0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 1.0, 1.0]]], np.float32),
        "classes": np.array([[3.0, 1.0, 0.0]], np.float32),
        "scores": np.array([[0.9, 0.6, 0.1]], np.float32),
    }
    operation = Boxes(layout="yxyx", classes="classes", overlap=1.0, scale=(100.0, 10.0))
    found = operation(fields)["value"][0]
    assert [d["index"] for d in found] == [3, 1]
    np.testing.assert_allclose(found[0]["box"], [20, 1, 60, 5], rtol=1e-6)


def test_one_class_a_box_is_its_best() -> None:
    boxes = np.array([[[0, 0, 1, 1.0]]])
    scores = np.array([[[0.6, 0.9, 0.7]]])
    found = Boxes(one_class=True)({"boxes": boxes, "scores": scores})
    assert found["detections_class"][0, :2].tolist() == [1, -1]
    assert int(Boxes()({"boxes": boxes, "scores": scores})["count"][0]) == 3


def test_the_limits_bound_the_work() -> None:
    boxes, scores = scene(1, n=500, classes=5)
    found = Boxes(threshold=0.0, overlap=1.0, candidates=50, limit=20)({"boxes": boxes, "scores": scores})
    assert found["count"].tolist() == [20]
    assert found["detections_score"][0].tolist() == sorted(scores.reshape(-1).tolist(), reverse=True)[:20]


def test_nothing_found_is_an_empty_list() -> None:
    boxes, scores = scene(2)
    found = Boxes(threshold=1.0)({"boxes": boxes, "scores": scores})
    assert found["value"].tolist() == [[]]
    assert found["score"].tolist() == [0.0]


def test_boxes_without_an_area_or_with_nan_do_no_harm() -> None:
    boxes = np.array([[0, 0, 0, 0], [0, 0, 0, 0], [np.nan, 0, 1, 1], [np.inf, 0, -np.inf, 1]], np.float32)
    assert len(suppress(boxes, np.zeros(4, np.int64), 0.5, 10)) >= 2
    fields = {"boxes": boxes[None], "scores": np.array([[[np.nan], [0.9], [0.8], [0.7]]], np.float32)}
    assert int(Boxes()(fields)["count"][0]) >= 1


@pytest.mark.parametrize(
    "text", ['{"layout": "ssd"}', '{"anchors": [[0, 0, 1, 1]]}', '{"objectness": true}', '{"threshold": 2}']
)
def test_contradictions_are_refused(text: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(text.replace("{", '{"op": "boxes", ', 1), type=Boxes)
