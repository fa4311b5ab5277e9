"""Scores, anomaly scores and forecasts against scipy and scikit-learn."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from shared.manifest import MANIFEST_MAX_BYTES
from shared.pipeline.bind import bind_fields
from shared.pipeline.decode import AnomalyScore, Argmax, Inverse, Normalize, Sigmoid, Softmax, Threshold, TopK
from shared.pipeline.preprocess import Scale, Standardize
from shared.pipeline.spec import Pipeline, pipeline_needs_input, pipeline_takes_missing

special = pytest.importorskip("scipy.special")
logits = arrays(np.float32, st.tuples(st.integers(1, 4), st.integers(1, 40)), elements=st.floats(-80, 80, width=32))


@given(logits, st.sampled_from([1.0, 0.3, 4.0]))
def test_softmax_is_scipys(values: np.ndarray, temperature: float) -> None:
    expected = special.softmax(values.astype(np.float64) / temperature, axis=1)
    found = Softmax(temperature=temperature)({"logits": values})["scores"]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-7)


@given(logits, st.sampled_from([1.0, 0.3]))
def test_softmax_and_argmax_as_one_function_are_the_two(values: np.ndarray, temperature: float) -> None:
    softmax, argmax = Softmax(temperature=temperature), Argmax()
    (fused,) = bind_fields([softmax, argmax])
    whole = argmax(softmax({"logits": values}))
    for i, one in enumerate(values):
        row = {"logits": one}
        fused(row)
        apart = {"logits": one}
        softmax.bind()(apart)
        argmax.bind()(apart)
        for found in (row, apart):
            assert found["scores"].tobytes() == whole["scores"][i].tobytes()
            assert found["index"] == whole["index"][i]
            assert found["score"] == whole["score"][i].item()
        assert list(row) == list(apart)


@pytest.mark.parametrize("values", [[np.nan, 1.0], [1.0, np.nan], [np.inf, 1.0], [-np.inf, -np.inf], [-0.0, 0.0]])
@pytest.mark.filterwarnings("ignore:invalid value")
def test_softmax_of_what_is_no_number_is_the_same_on_both_paths(values: list[float]) -> None:
    for count in (2, 40):
        x = np.resize(np.array(values, np.float32), count)
        row = {"logits": x}
        Softmax().bind()(row)
        np.testing.assert_array_equal(row["scores"], Softmax()({"logits": x[None]})["scores"][0])


@given(logits)
def test_sigmoid_is_scipys_expit(values: np.ndarray) -> None:
    found = Sigmoid()({"logits": values})["scores"]
    np.testing.assert_allclose(found, special.expit(values.astype(np.float64)), rtol=1e-5, atol=1e-37)


def test_sigmoid_never_overflows() -> None:
    found = Sigmoid()({"logits": np.array([[1e30, -1e30, 0]], np.float32)})["scores"]
    assert found.tolist() == [[1, 0, 0.5]]


def test_top_k_of_bytes_and_of_the_smallest_integers() -> None:
    scores = np.array([[0, 255, 3, 255]], np.uint8)
    assert TopK(3)({"scores": scores})["top"].tolist() == [[1, 3, 2]]
    smallest = np.array([[-128, 127, 0]], np.int8)
    assert TopK(3)({"scores": smallest})["top"].tolist() == [[1, 2, 0]]


def test_a_score_at_the_threshold_is_yes() -> None:
    fields = Threshold(0.5, ("good", "bad"))({"score": np.array([0.4999, 0.5, np.nan])})
    assert fields["label"].tolist() == ["good", "bad", "good"]
    assert fields["flag"].tolist() == [False, True, False]


def test_many_labels_may_be_true_at_once() -> None:
    scores = np.array([[0.9, 0.1, 0.6], [0.1, 0.2, 0.3]])
    fields = Threshold(0.5, ("wet", "cold", "dark"), source="scores", otherwise="none")({"scores": scores})
    assert fields["label"].tolist() == ["wet, dark", "none"]
    assert fields["score"].tolist() == [0.9, 0.3]


def test_a_fitted_threshold_flags_the_share_that_was_asked_for() -> None:
    scores = np.random.default_rng(0).normal(size=10_000)
    flags = Threshold.fit(scores, 0.99)({"score": scores})["flag"]
    assert 90 <= flags.sum() <= 110


def test_a_float32_score_is_judged_alike_in_a_batch_and_alone() -> None:
    score = np.array([0.7], np.float32)  # a little less than 0.7
    batch = Threshold(0.7)({"score": score})["flag"][0]
    row = {"score": score.item(0)}
    Threshold(0.7).bind()(row)
    assert batch == row["flag"] == False  # noqa: E712


def test_normalize_is_scikit_learns() -> None:
    preprocessing = pytest.importorskip("sklearn.preprocessing")
    x = np.random.default_rng(0).normal(size=(5, 8)).astype(np.float32)
    x[2] = 0
    np.testing.assert_allclose(Normalize()({"embedding": x})["embedding"], preprocessing.normalize(x), rtol=1e-6)


@pytest.mark.parametrize(
    "operation", [Scale(0.5, offset=-3.0), Standardize((4.0,), (2.5,)), Standardize((1, 2), (3, 4))]
)
def test_inverse_undoes_what_was_done_to_the_targets(operation: Scale | Standardize) -> None:
    y = np.random.default_rng(0).normal(size=(6, 3, 2)) * 9
    found = Inverse.of(operation, source="y")({"y": operation(y)})["value"]
    np.testing.assert_allclose(found, y, rtol=1e-5, atol=1e-5)


def test_inverse_of_one_column_of_many() -> None:
    operation = Standardize((1.0, 20.0), (3.0, 7.0))
    found = Inverse.of(operation, source="y", columns=(1,))({"y": np.array([[0.0, 1.0]])})["value"]
    assert found.tolist() == [[20.0, 27.0]]
    fitted = Inverse.fit(np.array([[1.0], [5.0]]), source="y")
    assert fitted.mean == (3.0,)
    assert fitted.std == (2.0,)


def embeddings(n: int = 200, size: int = 6) -> np.ndarray:
    random = np.random.default_rng(5)
    return (random.normal(size=(n, size)) @ random.normal(size=(size, size)) + 3).astype(np.float32)


def test_distance_is_scikit_learns_mahalanobis() -> None:
    covariance = pytest.importorskip("sklearn.covariance")
    x = embeddings()
    peer = covariance.EmpiricalCovariance().fit(x)
    found = AnomalyScore.fit(x, shrink=0.0)({"embedding": x})["score"]
    np.testing.assert_allclose(found**2, peer.mahalanobis(x), rtol=1e-3)


def test_shrinking_is_scikit_learns_shrunk_covariance() -> None:
    covariance = pytest.importorskip("sklearn.covariance")
    x = embeddings(2000)
    peer = covariance.ShrunkCovariance(shrinkage=0.1).fit(x)
    found = AnomalyScore.fit(x, shrink=0.1)({"embedding": x})["score"]
    np.testing.assert_allclose(found**2, peer.mahalanobis(x), rtol=1e-3)


def test_distance_of_few_samples_and_constant_columns_is_finite() -> None:
    x = np.ones((3, 10), np.float32)
    x[:, 0] = [1, 2, 3]
    found = AnomalyScore.fit(x)({"embedding": x + 5})["score"]
    assert np.isfinite(found).all()
    assert found.min() > 1


@pytest.mark.parametrize("k", [1, 3])
def test_neighbours_are_scikit_learns(k: int) -> None:
    neighbours = pytest.importorskip("sklearn.neighbors")
    x = embeddings()
    operation = AnomalyScore.fit(x, "neighbours", prototypes=40, k=k)
    assert len(set(operation.prototypes)) == 40
    peer = neighbours.NearestNeighbors(n_neighbors=k).fit(np.array(operation.prototypes))
    expected = peer.kneighbors(x.astype(np.float64))[0].mean(axis=1)
    np.testing.assert_allclose(operation({"embedding": x})["score"], expected, rtol=1e-6, atol=1e-6)


def test_prototypes_cover_the_data_better_than_the_first_samples() -> None:
    x = embeddings()
    chosen = AnomalyScore.fit(x, "neighbours", prototypes=20)({"embedding": x})["score"].max()
    first = AnomalyScore("neighbours", prototypes=tuple(map(tuple, x[:20].tolist())))({"embedding": x})["score"].max()
    assert chosen < first


def test_reconstruction_is_the_mean_square_error_against_the_models_input() -> None:
    random = np.random.default_rng(0)
    given_, made = random.normal(size=(2, 4, 3, 5)).astype(np.float32)
    operation = AnomalyScore("reconstruction", "decoded")
    found = operation({"decoded": made.reshape(4, 15), "input": given_})["score"]
    np.testing.assert_allclose(found, ((given_ - made) ** 2).mean(axis=(1, 2)), rtol=1e-5)


def test_a_pipeline_says_whether_it_needs_the_models_input() -> None:
    assert pipeline_needs_input(Pipeline(decode=(AnomalyScore("reconstruction", "decoded"),)))
    assert not pipeline_needs_input(Pipeline(decode=(AnomalyScore("distance", centre=(0.0,)), Argmax())))
    assert not pipeline_takes_missing(Pipeline())


@pytest.mark.parametrize("shape", [(12, 14), (1, 12, 14), (12, 14, 3)])
def test_a_grid_sees_what_the_embedding_does_not(shape: tuple[int, ...]) -> None:
    random = np.random.default_rng(3)
    normal, strange = random.normal(size=(200, *shape)), random.normal(size=(50, *shape))
    at = (
        (slice(None), slice(None), slice(3, 6), slice(3, 6))
        if len(shape) == 3 and shape[0] == 1
        else (slice(None), slice(3, 6), slice(3, 6))
    )
    strange[at] += 3
    blind = random.normal(size=(250, 4))
    operation = AnomalyScore.fit(blind[:200], grid=4, pictures=normal, shrink=0.05)
    assert operation.needs_input
    found = operation({"embedding": blind[200:], "input": strange})["score"]
    usual = operation({"embedding": blind[:200], "input": normal})["score"]
    assert np.median(found) > np.quantile(usual, 0.99)
    scaled = AnomalyScore.fit(1000 * blind[:200], grid=4, pictures=normal, shrink=0.05)
    again = scaled({"embedding": 1000 * blind[200:], "input": strange})["score"]
    np.testing.assert_allclose(again, found, rtol=1e-3)


@pytest.mark.parametrize(
    "text",
    [
        '{"method": "distance"}',
        '{"method": "distance", "centre": [1, 2], "precision": [[1, 2]]}',
        '{"method": "distance", "centre": [1, 2], "precision": [[1], [2]]}',
        '{"method": "neighbours"}',
        '{"method": "neighbours", "prototypes": [[1, 2], [1]]}',
        '{"method": "neighbours", "prototypes": [[1, 2]], "k": 2}',
        '{"method": "guess"}',
    ],
)
def test_an_anomaly_score_without_what_it_needs_is_refused(text: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(text.replace("{", '{"op": "anomaly_score", ', 1), type=AnomalyScore)


def test_the_largest_anomaly_scores_leave_the_manifest_below_its_limit() -> None:
    random = np.random.default_rng(0)
    for operation in (
        AnomalyScore.fit(random.normal(size=(300, 155))),
        AnomalyScore.fit(random.normal(size=(300, 96)), "neighbours", prototypes=256),
    ):
        pipeline = Pipeline(decode=(operation,))
        assert len(msgspec.json.format(msgspec.json.encode(pipeline), indent=2)) < MANIFEST_MAX_BYTES
    with pytest.raises(ValueError, match="at most 155"):
        AnomalyScore.fit(random.normal(size=(3, 156)))
    with pytest.raises(ValueError, match="a manifest has room for"):
        AnomalyScore.fit(random.normal(size=(300, 400)), "neighbours", prototypes=256)
