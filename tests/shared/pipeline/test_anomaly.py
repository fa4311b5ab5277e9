"""AnomalyScore beside scikit-learn, and what it is refused without."""

from __future__ import annotations

from itertools import pairwise

import msgspec
import numpy as np
import pytest

from shared.manifest import MANIFEST_MAX_BYTES
from shared.pipeline import anomaly, clusters
from shared.pipeline.anomaly import AnomalyScore, fields_of
from shared.pipeline.decode import Argmax
from shared.pipeline.spec import Pipeline, pipeline_needs_input, pipeline_takes_missing


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


def test_distance_from_prototypes_is_that_from_the_nearest() -> None:
    random = np.random.default_rng(1)
    near = np.array([[0, 0, 0], [40, 0, 0], [0, 40, 0]])[np.arange(300) % 3] + embeddings(300, 3)
    operation = AnomalyScore.fit(near, prototypes=3, shrink=0.0)
    assert len(operation.prototypes) == 3
    assert not operation.centre
    x = random.uniform(-10, 50, (50, 3))
    precision = np.array(operation.precision)
    expected = [min(np.sqrt((row - c) @ precision @ (row - c)) for c in np.array(operation.prototypes)) for row in x]
    np.testing.assert_allclose(operation({"embedding": x})["score"], expected, rtol=1e-9)
    groups = near.reshape(100, 3, 3)
    within = np.cov((groups - groups.mean(axis=0)).reshape(300, 3), rowvar=False, bias=True)
    np.testing.assert_allclose(np.linalg.inv(precision), within, rtol=1e-3)


def test_groups_are_told_apart_where_one_centre_sees_nothing() -> None:
    random = np.random.default_rng(2)
    normal = random.normal(0, 0.1, (200, 2)) + np.array([[1, 0], [-1, 0], [0, 1], [0, -1]])[np.arange(200) % 4]
    between = {"embedding": np.zeros((1, 2))}
    usual = {"embedding": normal}
    one, four = AnomalyScore.fit(normal), AnomalyScore.fit(normal, prototypes=4)
    assert one(between)["score"][0] < one(usual)["score"].min()
    assert four(between)["score"][0] > 2 * four(usual)["score"].max()


@pytest.mark.parametrize("prototypes", [None, 5])
def test_with_all_of_the_covariance_shrunk_away_a_distance_is_the_euclidean_one(prototypes: int | None) -> None:
    x = embeddings()
    operation = AnomalyScore.fit(x, shrink=1.0, prototypes=prototypes)
    assert not operation.precision
    from_ = np.array(operation.prototypes or [operation.centre])
    assert len(from_) == (prototypes or 1)
    expected = np.sqrt(np.square(x[:, None] - from_).sum(axis=2)).min(axis=1)
    np.testing.assert_allclose(operation({"embedding": x})["score"], expected, rtol=1e-9)


@pytest.mark.parametrize("shape", [(12, 14), (1, 12, 14), (12, 14, 3)])
def test_a_grid_holds_the_means_of_its_fields(shape: tuple[int, ...]) -> None:
    pictures = np.random.default_rng(3).normal(size=(5, *shape))
    grey = pictures[:, 0] if shape[0] == 1 else pictures.mean(axis=-1) if len(shape) == 3 else pictures
    rows, columns = (0, 4, 8, 12), (0, 5, 9, 14)  # 14 pixels in three fields: the edges are at 4 2/3 and 9 1/3, rounded
    expected = [[one[a:b, c:d].mean() for a, b in pairwise(rows) for c, d in pairwise(columns)] for one in grey]
    np.testing.assert_allclose(fields_of(pictures, 3), expected, rtol=1e-12)
    np.testing.assert_allclose(fields_of(pictures, 20), grey.reshape(5, -1), rtol=1e-12)


@pytest.mark.parametrize("shape", [(12, 14), (1, 12, 14), (12, 14, 3)])
def test_a_grid_sees_a_spot(shape: tuple[int, ...]) -> None:
    random = np.random.default_rng(3)
    normal, strange = random.normal(size=(200, *shape)), random.normal(size=(50, *shape))
    strange.reshape(50, *[side for side in shape if side != 1])[:, 3:6, 3:6] += 3
    operation = AnomalyScore.fit(normal, source="input", grid=4)
    assert operation.needs_input
    found, usual = operation({"input": strange})["score"], operation({"input": normal})["score"]
    assert np.median(found) > np.quantile(usual, 0.99)


@pytest.mark.parametrize(
    "text",
    [
        '{"method": "distance"}',
        '{"method": "distance", "centre": [1, 2], "precision": [[1, 2]]}',
        '{"method": "distance", "centre": [1, 2], "precision": [[1], [2]]}',
        '{"method": "distance", "centre": [1, 2], "prototypes": [[1, 2]]}',
        '{"method": "distance", "prototypes": [[1, 2], [1]]}',
        '{"method": "distance", "prototypes": [[1, 2]], "precision": [[1, 0]]}',
        '{"method": "distance", "prototypes": [[1, 2]], "precision": [[1, 2], [2, 1]]}',
        '{"method": "distance", "prototypes": [[1, 2]], "precision": [[1, 0.5], [0, 1]]}',
        '{"method": "distance", "centre": [1, 2], "precision": [[1, 0.5], [0, 1]]}',
        '{"method": "distance", "centre": [1, 2], "precision": [[1e-9, 0], [5e-10, 1e-9]]}',
        '{"method": "distance", "centre": [1, 2], "precision": [[-1, 0], [0, -1]]}',
        '{"method": "distance", "centre": [1, 2], "precision": [[1, 2], [2, 1]]}',
        '{"method": "distance", "prototypes": [[1, 2]], "precision": [[1, 1], [1, 1]]}',
        '{"method": "distance", "prototypes": [[1, 2]], "k": 2}',
        '{"method": "distance", "prototypes": [[]]}',
        '{"method": "neighbours"}',
        '{"method": "neighbours", "prototypes": [[1, 2], [1]]}',
        '{"method": "neighbours", "prototypes": [[1, 2]], "k": 2}',
        '{"method": "guess"}',
    ],
)
def test_an_anomaly_score_without_what_it_needs_is_refused(text: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(text.replace("{", '{"op": "anomaly_score", ', 1), type=AnomalyScore)


def test_a_centres_precision_may_be_singular_but_for_rounding() -> None:
    plane = (1.0, 1.0)
    operation = AnomalyScore("distance", centre=(0.0, 0.0), precision=(plane, (1.0, 1.0 - 1e-7)))
    assert operation({"embedding": np.array([[1.0, -1.0], [1.0, 1.0]])})["score"] == pytest.approx([0, 2], abs=1e-3)


@pytest.mark.parametrize("method", ["distance", "neighbours"])
@pytest.mark.parametrize("count", [-3, 0, 257])
def test_a_number_of_prototypes_that_makes_no_sense_is_refused(method: str, count: int) -> None:
    with pytest.raises(ValueError, match="expected 1 to 256"):
        AnomalyScore.fit(embeddings(600), method, prototypes=count)


@pytest.mark.parametrize("repeats", [1, 40])
def test_groups_of_equal_samples_are_not_taken_for_infinitely_narrow(repeats: int) -> None:
    few = np.random.default_rng(0).normal(size=(5, 4)) / 3
    operation = AnomalyScore.fit(np.repeat(few, repeats, axis=0), prototypes=5)
    found = operation({"embedding": np.concatenate([few, few * (1 + 1e-7), few + 1.0])})["score"]
    assert found[:10].max() < 1e-2 < found[10:].min() < 1e5


@pytest.mark.parametrize("prototypes", [None, 4])
@pytest.mark.parametrize("side", [16, 28])
def test_pictures_that_are_all_the_same_can_be_learned_from(side: int, prototypes: int | None) -> None:
    for seed in range(20):
        one = np.random.default_rng(seed).normal(size=(1, side, side)).astype(np.float32)
        operation = AnomalyScore.fit(np.repeat(one, 30 + seed, axis=0), prototypes=prototypes, grid=9, shrink=0.01)
        same, other = operation({"embedding": np.concatenate([one, one + 0.1])})["score"]
        assert same < 0.5
        assert 50 < other < 1e9


def test_what_has_no_covariance_to_invert_is_refused() -> None:
    plane = np.outer(np.arange(9.0), np.ones(4))
    for x, why in (
        (np.full((5, 3), np.nan), "samples to learn from must be finite"),
        (np.random.default_rng(0).normal(size=(9, 4)) * 1e-22, "no inverse in float32; shrink it more, or scale"),
    ):
        with pytest.raises(ValueError, match=why):
            AnomalyScore.fit(x)
    with pytest.raises(ValueError, match=r"no inverse in float32|not positive definite|not symmetric"):
        AnomalyScore.fit(plane, shrink=0.0, prototypes=2)
    with pytest.raises(ValueError, match="not finite"):
        AnomalyScore("distance", centre=(0.0,), precision=((float("nan"),),))


@pytest.mark.parametrize("fit", [{}, {"shrink": 1.0}, {"prototypes": 3}])
def test_the_distance_of_noise_is_what_noise_makes(fit: dict[str, int]) -> None:
    operation = AnomalyScore.fit(embeddings(), **fit)
    start = np.array([operation.centre or operation.prototypes[0]])
    noisy = start + 1e-3 * np.random.default_rng(0).normal(size=(4000, start.shape[1]))
    found = np.sqrt(np.square(operation({"embedding": noisy})["score"]).mean())
    assert operation.of_noise(1e-3) == pytest.approx(found, rel=0.05)


def test_fields_are_the_same_however_many_pictures_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.random.default_rng(0).normal(size=(50, 17, 13, 3)).astype(np.float32)
    whole = fields_of(x, 5)
    monkeypatch.setattr(anomaly, "CHUNK", 7)
    np.testing.assert_array_equal(fields_of(x, 5), whole)
    assert fields_of(x[:0], 5).shape == (0, 25)


def test_k_means_sees_some_of_very_many_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clusters, "MOST_ROWS", 40)
    x = np.repeat(np.arange(1000.0), 2).reshape(1000, 2)
    found = np.array(AnomalyScore.fit(x, shrink=1.0, prototypes=40).prototypes)
    assert len(np.unique(found)) == 40  # each of the forty rows that were drawn
    assert not found[:, 0].max() < 900  # from all of them
    assert (found % 1 == 0).all()


def test_the_largest_anomaly_scores_leave_the_manifest_below_its_limit() -> None:
    random = np.random.default_rng(0)
    for operation in (
        AnomalyScore.fit(random.normal(size=(300, 155))),
        AnomalyScore.fit(random.normal(size=(300, 120)), prototypes=84),
        AnomalyScore.fit(random.normal(size=(300, 96)), "neighbours", prototypes=256),
    ):
        pipeline = Pipeline(decode=(operation,))
        assert len(msgspec.json.format(msgspec.json.encode(pipeline), indent=2)) < MANIFEST_MAX_BYTES
    with pytest.raises(ValueError, match="200 prototypes of 120 numbers; a manifest has room for 84"):
        AnomalyScore.fit(random.normal(size=(300, 120)), prototypes=200)
    with pytest.raises(ValueError, match="at most 155"):
        AnomalyScore.fit(random.normal(size=(3, 156)))
    with pytest.raises(ValueError, match="a manifest has room for"):
        AnomalyScore.fit(random.normal(size=(300, 400)), "neighbours", prototypes=256)
