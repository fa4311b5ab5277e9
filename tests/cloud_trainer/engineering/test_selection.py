"""Features that tell nothing are dropped, those that tell something are kept, and never all are dropped."""

from __future__ import annotations

import numpy as np
import pytest

from cloud_trainer.engineering.selection import Candidates, explained, select


def data(n=1200, seed=0):
    """y = x0 + a wave of x1's sine and cosine; x3 repeats x0; x4 to x6 are noise."""
    random = np.random.default_rng(seed)
    turn = random.uniform(0, 2 * np.pi, n)
    x = np.stack([random.normal(size=n), np.sin(turn), np.cos(turn)], axis=1)
    x = np.concatenate([x, x[:, :1] + 0.01 * random.normal(size=(n, 1)), random.normal(size=(n, 3))], axis=1)
    y = x[:, 0] + 2 * np.sin(turn + 1) + 0.1 * random.normal(size=n)
    x[::50, 0] = np.nan
    return x.astype(np.float32), y.astype(np.float32)


NAMES = ("level", "turn", "level again", "noise 1", "noise 2", "noise 3")
CANDIDATES = Candidates(NAMES, ((0,), (1, 2), (3,), (4,), (5,), (6,)))


def kept(found):
    return [NAMES[k] for k in found.kept]


@pytest.fixture(scope="module")
def parts():
    return data(900, 0), data(400, 1)


@pytest.mark.parametrize("method", ["permutation", "mutual-information"])
def test_noise_is_dropped_and_what_tells_something_is_kept(parts, method):
    found = select(CANDIDATES, *parts, method=method)
    assert "turn" in kept(found)
    assert {"level", "level again"} & {*kept(found)}
    assert not {"noise 1", "noise 2", "noise 3"} & {*kept(found)}
    rows = {feature.name: feature for feature in found.table.features}
    assert rows["turn"].kept
    assert rows["turn"].importance > rows["noise 1"].importance
    assert "no more than shuffled" in rows["noise 1"].why
    assert found.table.measure


def test_what_is_kept_is_as_good_as_everything(parts):
    found = select(CANDIDATES, *parts)
    left = Candidates(tuple(kept(found)), tuple(CANDIDATES.columns[k] for k in found.kept))
    assert explained(left, *parts) >= explained(CANDIDATES, *parts) - 0.004


def test_classes_are_told_apart_by_the_same_measure(parts):
    split = [(x, np.digitize(y, (-1.0, 1.0))) for x, y in parts]
    found = kept(select(CANDIDATES, *split, classes=3))
    assert "turn" in found
    assert not {"noise 1", "noise 2", "noise 3"} & {*found}


def test_at_most_so_many_are_kept_the_best_first(parts):
    found = select(CANDIDATES, *parts, max_features=1)
    assert kept(found) == ["turn"]
    assert sum(feature.why == "features.max_features" for feature in found.table.features) >= 1
    assert len(select(CANDIDATES, *parts, method="none", max_features=2).kept) == 2


def test_nothing_is_measured_where_nobody_asks(parts):
    found = select(CANDIDATES, *parts, method="none")
    assert found.kept == tuple(range(6))
    assert all(feature.importance is None for feature in found.table.features)


def test_something_is_kept_where_all_is_noise():
    random = np.random.default_rng(0)
    split = [(random.normal(size=(n, 3)).astype(np.float32), random.normal(size=n)) for n in (90, 60)]
    assert select(Candidates(("a", "b", "c"), ((0,), (1,), (2,))), *split).kept


def test_on_few_rows_a_linear_model_sees_what_trees_do_not():
    """A column that shifts the target a little, the same everywhere, beside a strong one that it goes with."""
    weak, noise = {True: 0, False: 0}, {True: 0, False: 0}
    columns = Candidates(tuple("abcdef"), tuple((k,) for k in range(6)))
    for seed in range(8):
        random = np.random.default_rng(seed)
        x = random.normal(size=(260, 6)).astype(np.float32)
        x[:, 1] = 0.5 * x[:, 0] + np.sqrt(0.75) * x[:, 1]
        x[::40, 2] = np.nan
        y = 2 * x[:, 0] - 0.15 * x[:, 1] + random.normal(size=260)
        parts = [(x[:200], y[:200]), (x[200:], y[200:])]
        for straight in (True, False):
            found = select(columns, *parts, straight=straight, seed=seed)
            weak[straight] += 1 in found.kept
            noise[straight] += sum(k > 1 for k in found.kept)
            assert 0 in found.strong
            assert straight or found.strong == found.kept
    assert weak[True] >= weak[False] + 2
    assert noise[True] <= noise[False]
