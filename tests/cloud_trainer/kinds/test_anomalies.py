"""Images that are not as they should be: stripes, and stripes with a hole."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
import torch

from cloud_trainer import metrics, room
from cloud_trainer.config import ModelConfig
from cloud_trainer.data import Dataset, Splits
from cloud_trainer.fit import Encoded, Plan, train
from cloud_trainer.kinds import anomalies
from cloud_trainer.kinds.anomalies import ImageAnomaly
from cloud_trainer.models import build, macs_of
from shared.errors import TrainingError
from shared.pipeline.decode import JointScore, Threshold
from tests.cloud_trainer.kinds.generated import task

KIND = ImageAnomaly()
CONFIG = task("image-anomaly", model=ModelConfig(teacher_width=4))


def stripes(n: int, odd: int, *, colour: bool = False, seed: int = 0) -> Dataset:
    random = np.random.default_rng(seed)
    phase = random.uniform(0, 2 * np.pi, (n, 1, 1))
    x = 120 + 60 * np.sin(np.arange(16)[None, None] * 1.2 + phase) + random.normal(0, 5, (n, 16, 16))
    for i in range(n - odd, n):
        row, column = random.integers(2, 9, 2)
        x[i, row : row + 5, column : column + 5] = 120
    if colour:
        x = np.stack([x, 0.5 * x, 0.8 * x], axis=3)
    y = (np.arange(n) >= n - odd).astype(np.int64)
    return Dataset(np.clip(x, 0, 255).astype(np.uint8), y, ("normal", "anomaly"))


def parts(*, colour: bool = False) -> Splits:
    counts = {"train": (60, 0), "validation": (30, 0), "reference": (30, 0), "test": (60, 30)}
    return Splits(**{name: stripes(*many, colour=colour, seed=i) for i, (name, many) in enumerate(counts.items())})


@pytest.fixture(scope="module")
def learned():
    """A small network that learned from few made-up anomalies, and what it was prepared with."""
    splits = parts()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(room, "LEAST_ANOMALY_SAMPLES", 600)
        patch.setattr(room, "MOST_ANOMALY_SAMPLES", 600)
        prepared = KIND.prepare(CONFIG, splits)
        data, validation = (
            Encoded.of(prepared.encode(x), y)
            for x, y in (KIND.examples(CONFIG, prepared, p, 0) for p in (splits.train, splits.validation))
        )
    model = build(KIND.teachers(CONFIG, prepared, tuple(data.x.shape[1:]))[0], 0)
    train(model, data, validation, Plan(6, 32, 3e-3, 1e-4, 0), objective=KIND.objective(CONFIG, prepared, splits))
    return splits, prepared, model


def test_anomalies_that_nobody_showed_are_found(learned):
    splits, prepared, model = learned
    distances, odd = KIND.graded(prepared, [model], splits, splits.test)
    assert distances.shape == (60, 1)
    assert metrics.auc(distances[:, 0], odd) > 0.85


def test_an_answer_is_the_distance_that_a_device_finds_and_the_threshold_flags_one_normal_image_in_a_hundred(learned):
    splits, prepared, model = learned
    pipeline = KIND.finish(CONFIG, prepared, model, splits)
    *_, joint, threshold = pipeline.decode
    assert isinstance(threshold, Threshold)
    assert isinstance(joint, JointScore)
    found = KIND.graded(prepared, [model], splits, splits.validation)[0][:, 0]
    assert threshold.threshold == pytest.approx(found.max() + anomalies.MARGIN)  # of thirty images the highest
    with torch.no_grad():
        embedding = model(torch.from_numpy(prepared.encode(splits.test.x)))[1].numpy()
    read = msgspec.json.decode(msgspec.json.encode(pipeline), type=type(pipeline))
    expected = KIND.graded(prepared, [model], splits, splits.test)[0][:, 0]
    fields = {"embedding": embedding, "input": prepared.encode(splits.test.x)}
    for operation in read.decode[:-1]:
        fields = operation(fields)
    np.testing.assert_allclose(fields["strangeness"], expected, rtol=1e-4)
    assert joint.target == threshold.source == "strangeness"


@pytest.mark.parametrize("sort", ["picture_distance", "nearest_distance", "embedding_distance"])
def test_each_distance_speaks(learned, sort):
    """Usual by two of them and far by the third one is strange."""
    splits, prepared, model = learned
    joint = KIND.finish(CONFIG, prepared, model, splits).decode[-2]
    usual = {name: np.exp([middle, middle]) for name, middle in zip(joint.sources, joint.usual, strict=True)}
    usual[sort][1] *= 4
    near, far = joint(usual)["strangeness"]
    assert near == pytest.approx(0, abs=1e-6)
    assert far > 1


def pictures(groups: int, n: int, seed: int) -> np.ndarray:
    """(n, 64): the fields of one of ``groups`` fixed pictures each, with noise."""
    kinds = np.random.default_rng(0).normal(0, 1, (groups, 8, 8))
    random = np.random.default_rng(seed)
    return (kinds[random.integers(0, groups, n)] + random.normal(0, 0.3, (n, 8, 8))).reshape(n, 64)


@pytest.mark.parametrize(
    ("groups", "n", "expected"), [(1, 300, {0}), (4, 400, {4, 8}), (16, 800, {16, 32}), (4, 3, {0})]
)
def test_there_are_as_many_typical_pictures_as_make_the_validation_split_likeliest(groups, n, expected):
    found = anomalies._picture_distance(pictures(groups, n, 1), pictures(groups, 100, 2))
    assert len(found.prototypes) in expected
    assert bool(found.centre) is (expected == {0})
    assert not anomalies._picture_distance(pictures(groups, n, 1), pictures(groups, 0, 2)).prototypes


def test_the_nearest_of_many_typical_pictures_is_found_by_plain_distance():
    normal = pictures(16, 800, 1)
    found = anomalies._nearest(normal)
    assert (len(found.prototypes), found.precision) == (128, ())
    other = np.random.default_rng(5).normal(0, 1, (20, 8, 8))  # of no kind that was seen
    seen = pictures(16, 100, 2).reshape(100, 8, 8)
    near, far = (found({"input": x.astype(np.float32)})["nearest_distance"] for x in (seen, other))
    assert near.max() < far.min()
    assert len(anomalies._nearest(normal[:9]).prototypes) == 4
    assert anomalies._nearest(normal[:3]).centre


def test_images_that_are_all_the_same_are_normal_to_a_device_that_computes_a_little_otherwise(learned):
    _, _, model = learned
    for seed in range(10):
        one = np.random.default_rng(seed).integers(0, 255, (1, 28, 28)).astype(np.uint8)
        same = Dataset(np.repeat(one, 40, axis=0), np.zeros(40, np.int64), ("normal", "anomaly"))
        splits = Splits(*[same] * 4)
        prepared = KIND.prepare(CONFIG, splits)
        pipeline = KIND.finish(CONFIG, prepared, model, splits)
        encoded = prepared.encode(same.x)
        with torch.no_grad():
            embedding = model(torch.from_numpy(encoded))[1].numpy()
        fields = {"embedding": embedding * (1 + 1e-3), "input": encoded}
        for operation in pipeline.decode:
            fields = operation(fields)
        assert not fields[pipeline.decode[-1].flag].any()
        odd = encoded.copy()
        odd[:, :, 4:12, 4:12] *= -1
        strange = anomalies._run(pipeline.decode[:-1], fields | {"input": odd})["strangeness"]
        assert strange.min() > pipeline.decode[-1].threshold + 1


@pytest.mark.parametrize("noise", [0.0, 0.02])
@pytest.mark.parametrize("share", [0.05, 0.2])
def test_pictures_that_repeat_others_do_not_hide_a_flaw(share, noise):
    """Of a camera at rest, say; what the grid distances then see is not less than without."""

    def found(share):
        random = np.random.default_rng(5)
        base = random.normal(size=(16, 16))
        rest = base + random.normal(0, 0.3, (16, 16))
        many = {"train": 600, "held": 120, "test": 600}
        x = {name: base + random.normal(0, 0.3, (n, 16, 16)) for name, n in many.items()}
        for name in ("train", "held"):
            count = round(share * many[name])
            x[name][:count] = rest + random.normal(0, noise, (count, 16, 16))
        x["test"][300:, 4:8, 4:8] += 0.35
        fields = {name: anomalies.fields_of(pictures, anomalies.GRID) for name, pictures in x.items()}
        distances = (anomalies._picture_distance(fields["train"], fields["held"]), anomalies._nearest(fields["train"]))
        blind = {name: random.lognormal(2, 0.2, n) for name, n in many.items()}  # of a network that sees nothing
        usual = anomalies._run(distances, {"input": x["held"], "blind": blind["held"]})
        joint = JointScore.fit({name: usual[name] for name in (*(one.target for one in distances), "blind")})
        answer = anomalies._run((*distances, joint), {"input": x["test"], "blind": blind["test"]})["score"]
        return metrics.auc(answer, np.arange(600) >= 300)

    assert found(share) > found(0.0) - 0.05


@pytest.mark.parametrize("colour", [False, True])
@pytest.mark.parametrize("count", [1, 2, 60])
def test_half_of_the_examples_are_normal_however_few_there_are(colour, count, monkeypatch):
    monkeypatch.setattr(room, "LEAST_ANOMALY_SAMPLES", 100)
    splits = parts(colour=colour)
    prepared = KIND.prepare(CONFIG, splits)
    x, y = KIND.examples(CONFIG, prepared, splits.train.take(np.arange(count)), 0)
    assert len(x) == len(y) >= 100
    assert (y == 0).sum() == len(y) // 2
    assert y.max() < prepared.outputs
    assert x.dtype == np.uint8
    again = KIND.examples(CONFIG, prepared, splits.train.take(np.arange(count)), 0)[0]
    np.testing.assert_array_equal(x, again)


def test_examples_keep_within_memory(monkeypatch):
    splits = parts()
    prepared = KIND.prepare(CONFIG, splits)
    monkeypatch.setattr(room, "ANOMALY_BYTES", 100 * 4 * 16 * 16)
    assert len(KIND.examples(CONFIG, prepared, splits.train, 0)[0]) == 100


def test_a_teacher_of_large_images_is_narrower():
    prepared = KIND.prepare(CONFIG, parts())
    config = task("image-anomaly", model=ModelConfig(teacher_width=32, ensemble=2))
    small, large = (KIND.teachers(config, prepared, (side, side, 3)) for side in (16, 128))
    assert len(small) == len(large) == 2
    assert small[0].width == 32
    assert large[0].width < 32
    assert macs_of(large[0]) <= room.ANOMALY_MACS


def test_a_network_without_an_embedding_is_refused():
    splits = parts()
    prepared = KIND.prepare(CONFIG, splits)
    blind = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(256, prepared.outputs))
    with pytest.raises(TrainingError, match="embedding"):
        KIND.finish(CONFIG, prepared, blind, splits)
