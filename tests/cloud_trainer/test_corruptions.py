"""Every corruption keeps the form of samples, leaves the originals alone, and gets worse with its severity."""

from __future__ import annotations

import numpy as np
import pytest

from cloud_trainer.corruptions import SEVERITIES, corrupted, corruptions_for
from cloud_trainer.corruptions.images import blurred
from cloud_trainer.data import Dataset
from cloud_trainer.evaluation import Judge
from cloud_trainer.evaluation.robustness import robustness
from shared.errors import InputError

RNG = np.random.default_rng(0)


def texts(n):
    words = np.array(["alpha", "Beta", "gamma", "delta"], object)
    return np.array([" ".join(RNG.choice(words, 12)) for _ in range(n)], object)


def mixed(n):
    rows = np.empty((n, 3), object)
    rows[:, 0] = [f"{v:.3f}" for v in RNG.normal(0, 10, n)]
    rows[:, 1] = RNG.choice(np.array(["red", "green", "blue"], object), n)
    rows[:, 2] = [f"{v}" if v else "" for v in RNG.integers(0, 9, n)]
    return rows


def histories(n):
    rows = RNG.choice(np.array([f"item {i}" for i in range(30)], object), (n, 10))
    rows[:, :3] = ""
    return rows


def waves(n):
    return (RNG.normal(0, 1, (n, 800)) * RNG.uniform(2000, 5000, (n, 1))).astype(np.int16)


GREY = blurred(RNG.random((40, 28, 28)), 1.0) * 255
SAMPLES = {
    "image-classification": GREY.astype(np.uint8),
    "image-anomaly": blurred(RNG.random((40, 19, 23, 3)), 1.0).astype(np.float32),
    "series-classification": RNG.normal(5, 2, (40, 50, 3)).astype(np.float32),
    "forecasting": RNG.normal(5, 2, (40, 48, 2)).astype(np.float32),
    "audio-classification": waves(40),
    "tabular-classification": mixed(200),
    "tabular-regression": RNG.normal(0, 5, (200, 4)).astype(np.float32),
    "text-classification": texts(60),
    "recommendation": histories(60),
}
CASES = [(kind, one) for kind, x in SAMPLES.items() for one in corruptions_for(kind, x)]


def word_distance(a, b):
    try:
        return abs(float(a) - float(b))
    except ValueError:
        return float(a != b)


def distance(a, b):
    if a.dtype == object:
        return np.mean([word_distance(p, q) for p, q in zip(a.ravel(), b.ravel(), strict=True)])
    gap = np.abs(a.astype(float) - b.astype(float))
    return np.nan_to_num(gap, nan=np.nanstd(b.astype(float))).mean()


@pytest.mark.parametrize(("kind", "corruption"), CASES, ids=[f"{kind}, {one.name}" for kind, one in CASES])
def test_form_is_kept_and_severity_grows(kind, corruption):
    x = SAMPLES[kind]
    before = x.copy()
    moved = []
    for severity in SEVERITIES:
        found = corruption(x, severity, np.random.default_rng(severity))
        assert found.shape == x.shape
        assert found.dtype == x.dtype
        again = corruption(x, severity, np.random.default_rng(severity))
        assert np.array_equal(found, again, equal_nan=x.dtype.kind == "f")
        moved.append(distance(found, x))
    assert np.array_equal(x, before)
    assert moved[0] > 0
    if corruption.name != "time shift":  # noise that is moved is other noise, however far
        assert moved[4] > 1.2 * moved[0]
    assert max(moved) == pytest.approx(moved[4], rel=0.1)


def test_every_kind_has_some():
    assert {kind for kind, _ in CASES} == set(SAMPLES)
    assert corruptions_for("image-classification", np.zeros((3, 2))) == ()


def test_share_of_training_samples_is_altered_and_the_rest_is_as_it_was():
    x = RNG.normal(0, 1, (2000, 30, 2)).astype(np.float32)
    found = corrupted("series-classification", x, 0.3, np.random.default_rng(0))
    changed = (found != x).any(axis=(1, 2))
    assert changed.mean() == pytest.approx(0.3, abs=0.04)
    assert np.array_equal(corrupted("series-classification", x, 0.0, np.random.default_rng(0)), x)


def test_time_column_is_left_alone():
    x = RNG.normal(0, 1, (50, 30, 3)).astype(np.float64)
    found = corrupted("forecasting", x, 1.0, np.random.default_rng(0), keep=(2,))
    assert np.array_equal(found[..., 2], x[..., 2])
    assert not np.array_equal(found[..., 0], x[..., 0])


def test_shortened_history_ends_with_what_came_last():
    drop = next(one for kind, one in CASES if kind == "recommendation" and one.name == "dropped items")
    found = drop(SAMPLES["recommendation"], 5, np.random.default_rng(0))
    for row in found:
        known = row != ""
        assert known.any()
        assert known[np.argmax(known) :].all()  # padding stays in front


def test_text_of_one_word_is_never_emptied():
    drop = next(one for kind, one in CASES if one.name == "dropped words")
    assert all(drop(np.array(["stop"] * 20, object), 5, np.random.default_rng(0)) == "stop")


def nearest(centres):
    def answer(x):
        return np.exp(-(((x.reshape(len(x), 1, -1) - centres.reshape(len(centres), -1)) ** 2).mean(axis=2)))

    return answer


def test_score_falls_with_severity_on_a_bounded_sample():
    centres = RNG.normal(0, 1, (3, 20, 2))
    y = RNG.integers(0, 3, 900)
    x = (centres[y] + RNG.normal(0, 3.0, (900, 20, 2))).astype(np.float32)
    seen = []

    def answer(samples):
        seen.append(len(samples))
        return nearest(centres)(samples)

    data = Dataset(x, y, ("a", "b", "c"))
    found = robustness(answer, data, corruptions_for("series-classification", x), Judge("classification"), limit=300)
    assert found.metric == "accuracy"
    assert set(seen) == {300}
    drift = next(row for row in found.rows if row.name == "drift")
    assert drift.scores[4] < found.clean - 0.02
    assert found.mean < found.clean


def test_samples_that_the_pipeline_refuses_have_no_score():
    x = RNG.normal(0, 1, (100, 4)).astype(np.float32)

    def answer(samples):
        if np.isnan(samples).any():
            raise InputError("input: NaN")
        return samples[:, 0]

    data = Dataset(x, x[:, 0])
    found = robustness(answer, data, corruptions_for("tabular-regression", x), Judge("regression"))
    assert found.rows[0].scores == (None,) * 5
    assert found.rows[1].scores[0] < found.clean == 1.0


def test_queries_stay_whole():
    queries = np.repeat([f"q{i}" for i in range(50)], 8)
    x = RNG.normal(0, 1, (400, 4)).astype(np.float32)
    data = Dataset(x, (x[:, 0] > 0).astype(np.float32), groups=queries)
    found = robustness(
        lambda samples: samples[:, 0], data, corruptions_for("recommendation", x), Judge("ranking"), limit=100
    )
    assert found.samples == 96
