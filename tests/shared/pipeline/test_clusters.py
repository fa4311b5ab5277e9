"""k-means beside scikit-learn's, and rows that leave nothing to group."""

from __future__ import annotations

import numpy as np
import pytest

from shared.pipeline import clusters
from shared.pipeline.clusters import k_means, some, spread

BLOBS = np.random.default_rng(0).normal(size=(600, 4)) + 12 * np.random.default_rng(1).normal(size=(6, 4)).repeat(
    100, 0
)


def inertia(x: np.ndarray, group: np.ndarray) -> float:
    return float(sum(np.square(x[group == one] - x[group == one].mean(axis=0)).sum() for one in np.unique(group)))


@pytest.mark.parametrize("count", [2, 6, 20])
def test_groups_are_about_as_narrow_as_scikit_learns(count: int) -> None:
    cluster = pytest.importorskip("sklearn.cluster")
    group = k_means(BLOBS, count)
    assert sorted(set(group.tolist())) == list(range(count))
    peer = cluster.KMeans(count, n_init=1, random_state=0).fit(BLOBS)
    assert inertia(BLOBS, group) < 1.3 * peer.inertia_
    centres = np.stack([BLOBS[group == one].mean(axis=0) for one in range(count)])
    nearest = np.square(BLOBS[:, None] - centres).sum(axis=2).argmin(axis=1)
    np.testing.assert_array_equal(group, nearest)  # the iteration has come to rest


def test_groups_are_the_same_each_time() -> None:
    np.testing.assert_array_equal(k_means(BLOBS, 9), k_means(BLOBS.copy(), 9))


@pytest.mark.parametrize("x", [np.zeros((5, 2)), np.arange(3.0)[:, None].repeat(2, axis=0)], ids=["equal", "three"])
def test_there_are_no_more_groups_than_rows_that_differ(x: np.ndarray) -> None:
    group = k_means(x, 5)
    assert sorted(set(group.tolist())) == list(range(len(np.unique(x, axis=0))))


def test_of_many_rows_some_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    assert some(BLOBS) is BLOBS
    monkeypatch.setattr(clusters, "MOST_ROWS", 60)
    drawn = some(BLOBS)
    assert drawn.shape == (60, 4)
    assert len(np.unique(drawn, axis=0)) == 60
    np.testing.assert_array_equal(drawn, some(BLOBS))


def test_rows_that_cover_all_are_spread() -> None:
    chosen = spread(BLOBS, 6)
    assert len({int(at) // 100 for at in chosen}) == 6
