"""Each task has the pipeline that its outputs need; what doesn't fit is said in words."""

import numpy as np
import pytest

from edge_agent.roles import name_outputs, sample_of
from edge_agent.tasks import TASKS, Options, fit_into, pipeline_for
from shared.manifest import SampleSpec, TensorSpec
from shared.pipeline.bind import bind_fields, run_arrays, run_fields

TABLE = TensorSpec("x", "float32", (None, 4))
SAMPLE = sample_of(TABLE)


def made(task, *outputs, labels=(), **options):
    """The pipeline and the outputs' names."""
    specs = [TensorSpec(name, "float32", (None, *shape)) for name, shape in outputs]
    named = name_outputs(task, specs, probabilities=options.get("probabilities", False))
    return pipeline_for(task, SAMPLE, TABLE, named, labels, Options(**options)), [spec.name for spec in named]


def answered(pipeline, **fields):
    """What a batch gives, after checking that its rows one by one give the same."""
    fields = {name: np.asarray(values, np.float32) for name, values in fields.items()}
    found = run_fields(pipeline, dict(fields))
    for i in range(len(next(iter(fields.values())))):
        row = {name: values[i] for name, values in fields.items()}
        for step in bind_fields((*pipeline.decode, *pipeline.postprocess)):
            step(row)
        for name in found:
            np.testing.assert_array_equal(np.asarray(row[name]), np.asarray(found[name][i]))
    return found


def test_a_classifier_has_scores_and_the_embedding_beside_them():
    pipeline, names = made("classification", ("y", (2,)), ("z", (7,)), labels=("a", "b"))
    assert names == ["logits", "embedding"]
    found = answered(pipeline, logits=[[0, np.log(3)]])
    np.testing.assert_allclose(found["scores"], [[0.25, 0.75]], rtol=1e-6)
    assert found["label"].tolist() == ["b"]


def test_one_number_decides_between_two_classes():
    pipeline, _ = made("classification", ("y", (1,)), labels=("no", "yes"))
    assert answered(pipeline, logits=[[-1], [2]])["label"].tolist() == ["no", "yes"]
    pipeline, _ = made("classification", ("y", (1,)), labels=("no", "yes"), probabilities=True, threshold=0.8)
    assert answered(pipeline, logits=[[0.7], [0.9]])["label"].tolist() == ["no", "yes"]


def test_regression_and_forecasts_give_numbers_in_their_unit():
    pipeline, _ = made("regression", ("power", (1,)), unit="kW")
    found = answered(pipeline, power=[[1.5], [2.5]])
    assert found["value"].tolist() == [1.5, 2.5]
    assert found["unit"].tolist() == ["kW", "kW"]
    pipeline, _ = made("forecast", ("y", (3,)))
    assert answered(pipeline, y=[[1, 2, 3]])["value"].tolist() == [[1, 2, 3]]


def test_anomalies_by_score_and_by_reconstruction():
    pipeline, _ = made("anomaly", ("a", (1,)), threshold=0.5)
    found = answered(pipeline, a=[[0.4], [0.6]])
    assert found["label"].tolist() == ["normal", "anomaly"]
    pipeline, _ = made("anomaly", ("back", (4,)))
    found = answered(pipeline, back=[[1, 1, 1, 1]], input=[[1, 1, 1, 3]])
    assert found["value"].tolist() == [1.0]  # mean of 0, 0, 0, 4


def test_embeddings_have_length_one_and_ranking_orders_items():
    pipeline, names = made("embedding", ("vector", (2,)))
    assert names == ["embedding"]
    np.testing.assert_allclose(answered(pipeline, embedding=[[3, 4]])["value"], [[0.6, 0.8]], rtol=1e-6)
    pipeline, _ = made("ranking", ("y", (3,)), labels=("a", "b", "c"))
    assert [one["id"] for one in answered(pipeline, scores=[[1, 3, 2]])["value"][0]] == ["b", "c", "a"]


def test_boxes_as_tensorflow_writes_them():
    outputs = [("boxes", (2, 4)), ("classes", (2,)), ("scores", (2,)), ("count", ())]
    pipeline, names = made("detection", *outputs, labels=("cat", "dog"))
    assert names == ["boxes", "classes", "scores", "count"]
    fields = {"boxes": [[[0.1, 0.2, 0.3, 0.4], [0, 0, 1, 1]]], "classes": [[1, 0]], "scores": [[0.9, 0.1]]}
    (found,) = run_fields(pipeline, {k: np.asarray(v, np.float32) for k, v in fields.items()})["value"][0]
    np.testing.assert_allclose(found["box"], [0.2, 0.1, 0.4, 0.3], rtol=1e-6)  # yxyx in, xyxy out
    assert found["label"] == "dog"


@pytest.mark.parametrize("shape", [(84, 6), (6, 84)])
def test_boxes_as_yolo_writes_them(shape):
    rows = np.zeros((84, 6), np.float32)
    rows[5] = [10, 20, 4, 8, 0.1, 0.8]
    pipeline, _ = made("detection", ("out", shape), labels=("cat", "dog"))
    values = rows if shape == (84, 6) else rows.T
    (found,) = run_fields(pipeline, {"out": values[None]})["value"][0]
    assert (found["box"], found["label"]) == ([8, 16, 12, 24], "dog")


def test_boxes_with_objectness_and_with_other_layouts():
    pipeline, _ = made("detection", ("out", (84, 7)), labels=("cat", "dog"))
    assert pipeline.decode[0].objectness
    pipeline, _ = made("detection", ("b", (9, 4)), ("s", (9, 3)), layout="cxcywh", overlap=0.3, threshold=0.1)
    assert (pipeline.decode[0].layout, pipeline.decode[0].overlap, pipeline.decode[0].scores) == ("cxcywh", 0.3, "s")


@pytest.mark.parametrize(
    ("task", "outputs", "labels", "message"),
    [
        ("classification", [("y", (3,))], ("a", "b"), "2 labels need"),
        ("classification", [("y", (3,))], (), "at least two classes"),
        ("detection", [("y", (3,))], (), "no boxes among the outputs"),
        ("detection", [("y", (84, 9))], ("a", "b"), "rows of 9 numbers"),
        ("ranking", [("y", (3,))], ("a", "b"), "scores 3 items; 2 labels"),
        ("anomaly", [("y", (1,))], ("a", "b", "c"), "an anomaly task has two"),
        ("anomaly", [("y", (3,))], (), "needs one score a sample, or the reconstructed input"),
        ("cooking", [("y", (1,))], (), "expected one of classification"),
    ],
)
def test_what_does_not_fit_is_said(task, outputs, labels, message):
    with pytest.raises(ValueError, match=message):
        made(task, *outputs, labels=labels)


def test_raw_outputs_are_a_value_only_where_somebody_could_read_it():
    assert made("raw", ("y", (3,)))[0].postprocess
    assert not made("raw", ("y", (300, 300)))[0].postprocess
    assert set(TASKS) >= {"raw", "ranking"}


@pytest.mark.parametrize(
    ("dtype", "shape", "tensor"),
    [
        ("uint8", (8, 6), ("float32", (None, 1, 8, 6))),
        ("uint8", (8, 6), ("float32", (None, 8, 6, 1))),
        ("uint8", (8, 6, 3), ("uint8", (None, 3, 8, 6))),
        ("float32", (3, 8, 6), ("float16", (None, 8, 6, 3))),
        ("float32", (8, 6, 3), ("float32", (1, None, None, 3))),
    ],
)
def test_samples_are_brought_into_the_tensor(dtype, shape, tensor):
    spec = TensorSpec("x", *tensor)
    sample = SampleSpec(dtype, shape)
    pipeline = pipeline_for("raw", sample, spec, [TensorSpec("y", "float32", (None, 1))])
    x = np.arange(2 * np.prod(shape)).reshape(2, *shape).astype(dtype)
    found = run_arrays(pipeline, x)
    assert found.dtype == tensor[0]
    assert all(want in {None, 1, size} or want == size for want, size in zip(tensor[1], found.shape, strict=True))
    assert sorted(found.ravel().tolist()) == sorted(x.ravel().tolist())


def test_samples_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"samples have shape \(5\), but the model takes \(4\)"):
        fit_into(SampleSpec("float32", (5,)), TABLE, "float32")


def test_names_that_mean_something_else_are_changed():
    specs = [TensorSpec("label", "int64", (None,)), TensorSpec("probabilities", "float32", (None, 3))]
    assert [s.name for s in name_outputs("classification", specs, probabilities=True)] == ["output_label", "scores"]
    assert [s.name for s in name_outputs("raw", specs)] == ["output_label", "probabilities"]
    cube = [TensorSpec("scores", "float32", (None, 9, 3)), TensorSpec("label", "str", (None,))]
    assert [s.name for s in name_outputs("raw", cube)] == ["output_scores", "label"]
