"""What is watched of inputs and outputs, and the file that carries it."""

from __future__ import annotations

import numpy as np
import pytest

from shared.drift import DriftDetector, HeldOut, ProfileSet, ReferenceProfile, WatchSpec
from shared.drift.arrays import load_arrays, save_arrays
from shared.errors import InputError, ProfileError
from shared.manifest import SampleSpec

GREY = SampleSpec("uint8", (12, 10), kind="image")
COLOUR = SampleSpec("uint8", (12, 10, 3), kind="image")


def embedding(rng, n=300):
    """Three directions that vary, of six."""
    return rng.normal(size=(n, 3)) @ np.array([[5, 0, 0, 1, 0, 0], [0, 2, 0, 0, 0, 0], [0, 0, 1, 0, 0, 0.0]]) + 4


def test_image_statistics_are_what_their_names_say():
    rng = np.random.default_rng(0)
    spec = WatchSpec.fit(GREY, 10, None)
    assert spec.input_names == ("brightness", "contrast", "sharpness", "noise")
    ramp = np.tile(np.arange(0, 100, 10, dtype=np.uint8), (12, 1))
    noisy = np.clip(rng.normal(128, 9, (400, 12, 10)), 0, 255).astype(np.uint8)
    flat = spec.inputs(np.stack((np.full((12, 10), 50, np.uint8), ramp)))
    np.testing.assert_allclose(flat[0], [50, 0, 0, 0])
    np.testing.assert_allclose(flat[1], [45, ramp.std(), 0, 0], atol=1e-9)  # a gradient is neither sharp nor noisy
    assert spec.inputs(noisy)[:, 3].mean() == pytest.approx(9, rel=0.03)  # sigma, as Immerkaer's estimator promises
    blurred = (noisy.astype(float)[:, :-1] + noisy[:, 1:]) / 2
    other = WatchSpec.fit(SampleSpec("float64", (11, 10), kind="image"), 10, None)
    assert other.inputs(blurred)[:, 2].mean() < spec.inputs(noisy)[:, 2].mean()


def test_colour_adds_saturation():
    spec = WatchSpec.fit(COLOUR, 10, None)
    x = np.zeros((3, 12, 10, 3), np.uint8)
    x[1] = 90
    x[2, ..., 0] = 200
    x[2, ..., 1:] = 100
    assert spec.input_names[-1] == "saturation"
    np.testing.assert_allclose(spec.inputs(x)[:, -1], [0, 0, 0.5])
    np.testing.assert_allclose(spec.inputs(x)[:, 0], [0, 90, 400 / 3])


@pytest.mark.parametrize(
    ("sample", "names"),
    [
        (SampleSpec("float32", (3,), kind="row", columns=("a", "b", "c")), ("a", "b", "c")),
        (SampleSpec("float32", (2, 2), kind="tensor"), ("x0", "x1", "x2", "x3")),
        (SampleSpec("float32", (100, 3), kind="tensor"), ("mean", "std", "min", "max")),
        (SampleSpec("uint8", (2, 2), kind="image"), ("x0", "x1", "x2", "x3")),
    ],
)
def test_what_is_no_image_is_watched_by_column_or_in_summary(sample, names):
    spec = WatchSpec.fit(sample, 2, None)
    assert spec.input_names == names
    x = np.random.default_rng(0).normal(size=(7, *sample.shape)).astype(sample.dtype)
    found = spec.inputs(x)
    assert found.shape == (7, len(names))
    flat = x.reshape(7, -1).astype(float)
    expected = (
        flat
        if len(names) < 4 or names[0] == "x0"
        else np.stack((flat.mean(1), flat.std(1), flat.min(1), flat.max(1)), 1)
    )
    np.testing.assert_allclose(found, expected)


def test_large_batches_give_the_same_numbers_as_single_samples():
    x = np.random.default_rng(0).integers(0, 256, (50, 200, 200)).astype(np.uint8)
    spec = WatchSpec.fit(SampleSpec("uint8", (200, 200), kind="image"), 2, None)
    np.testing.assert_allclose(spec.inputs(x), np.concatenate([spec.inputs(x[k : k + 1]) for k in range(50)]))
    assert spec.inputs(x[:0]).shape == (0, 4)


def test_outputs_are_confidence_class_and_projections_of_unit_variance():
    rng = np.random.default_rng(1)
    table = embedding(rng)
    spec = WatchSpec.fit(GREY, 3, table)
    assert spec.output_names == ("confidence", "class", "embedding0", "embedding1", "embedding2")
    assert spec.output_kinds == ("value", "category", "value", "value", "value")
    assert spec.output_families == ("confidence", "classes", "embedding", "embedding", "embedding")
    scores = rng.dirichlet(np.ones(3), 300)
    found = spec.outputs(scores.astype(np.float32), table.astype(np.float32))
    np.testing.assert_allclose(found[:, 0], scores.max(1), rtol=1e-6)
    assert found[:, 1].tolist() == scores.argmax(1).tolist()
    np.testing.assert_allclose(found[:, 2:].std(0, ddof=1), 1, rtol=1e-4)
    np.testing.assert_allclose(np.corrcoef(found[:, 2:].T), np.eye(3), atol=1e-4)
    assert len(WatchSpec.fit(GREY, 3, table, projections=2).output_names) == 4
    assert len(WatchSpec.fit(GREY, 3, np.ones((50, 4))).output_names) == 2


def test_an_answer_that_is_no_number_counts_as_missing():
    spec = WatchSpec.fit(GREY, 3, None)
    found = spec.outputs(np.array([[np.nan, 0.5, 0.5], [0.1, 0.2, 0.7]]))
    assert np.isnan(found[0]).all()
    assert found[1].tolist() == [0.7, 2]


def test_samples_and_answers_of_another_shape_are_refused():
    rng = np.random.default_rng(1)
    spec = WatchSpec.fit(GREY, 3, embedding(rng))
    for x in (np.zeros((2, 10, 12), np.uint8), np.zeros((12, 10), np.uint8), np.zeros((2, 12, 10), object)):
        with pytest.raises(InputError, match=r"expected numbers of shape \(n, 12, 10\)"):
            spec.inputs(x)
    for scores, features in (
        (np.zeros((2, 4)), np.zeros((2, 6))),
        (np.zeros((2, 3)), np.zeros((3, 6))),
        (np.zeros((2, 3)), None),
    ):
        with pytest.raises(InputError, match="expected"):
            spec.outputs(scores, features)
    with pytest.raises(ProfileError, match="finite table"):
        WatchSpec.fit(GREY, 3, np.full((20, 4), np.nan))


def profile_set(rng):
    table, images = embedding(rng), rng.integers(0, 256, (300, 12, 10)).astype(np.uint8)
    spec = WatchSpec.fit(GREY, 3, table)

    def inputs(x):
        return ReferenceProfile.fit(x, spec.input_names, families=spec.input_families, kinds=spec.input_kinds)

    def outputs(x):
        return ReferenceProfile.fit(x, spec.output_names, families=spec.output_families, kinds=spec.output_kinds)

    answers = [spec.outputs(rng.dirichlet(np.ones(3), 300), table) for _ in range(2)]
    rows = spec.inputs(images)
    default = {"inputs": inputs(rows), "fp32-litert": outputs(answers[0]), "int8-litert": outputs(answers[1])}
    own = {"inputs": inputs(rows[:100]), "fp32-litert": outputs(answers[0][:100])}
    right = rng.random(300) < 0.9
    held_out = {"default": {"fp32-litert": HeldOut.of_classes(right, rng.random(300))}}
    return ProfileSet(spec, {"default": default, "cam-1": own}, held_out)


def test_a_profile_set_comes_back_as_it_went(tmp_path):
    rng = np.random.default_rng(2)
    kept = profile_set(rng)
    kept.save(tmp_path / "profile.npz")
    back = ProfileSet.load(tmp_path / "profile.npz")
    for baseline, variant in (("default", "fp32-litert"), ("default", "int8-litert"), ("cam-1", "fp32-litert")):
        profile = back.profile_for(baseline, variant)
        assert profile.digest == kept.profile_for(baseline, variant).digest
        assert profile is back.profile_for(baseline, variant)
        assert profile.names == (*back.watch.input_names, *back.watch.output_names)
    images, table = rng.integers(0, 256, (64, 12, 10)).astype(np.uint8), embedding(rng, 64)
    np.testing.assert_array_equal(back.watch.inputs(images), kept.watch.inputs(images))
    scores = rng.dirichlet(np.ones(3), 64)
    rows = np.concatenate((back.watch.inputs(images), back.watch.outputs(scores, table)), axis=1)
    np.testing.assert_array_equal(back.watch.outputs(scores, table), kept.watch.outputs(scores, table))
    assert not DriftDetector(back.profile_for("default", "fp32-litert")).update(rows).alarm


def test_how_good_a_variant_was_comes_back_and_a_release_that_does_not_know_is_read_too(tmp_path):
    kept = profile_set(np.random.default_rng(2))
    kept.save(tmp_path / "profile.npz")
    back = ProfileSet.load(tmp_path / "profile.npz")
    before, after = (one.held_out_for("default", "fp32-litert") for one in (kept, back))
    assert after.accuracy == before.accuracy
    grid = np.linspace(0, 1, 50)
    np.testing.assert_array_equal(after.calibration.estimate(grid), before.calibration.estimate(grid))
    assert back.held_out_for("default", "int8-litert") is None
    assert back.held_out_for("cam-1", "fp32-litert") is None
    assert back.profile_for("default", "fp32-litert").digest == kept.profile_for("default", "fp32-litert").digest
    arrays = {name: array for name, array in load_arrays(tmp_path / "profile.npz").items() if "truth_" not in name}
    save_arrays(tmp_path / "older.npz", arrays)
    older = ProfileSet.load(tmp_path / "older.npz")
    assert older.held_out_for("default", "fp32-litert") is None
    assert older.profile_for("default", "fp32-litert").digest == kept.profile_for("default", "fp32-litert").digest


def test_each_variant_has_a_reference_of_its_own_over_the_same_inputs():
    rng = np.random.default_rng(2)
    kept = profile_set(rng)
    one, other = (kept.profile_for("default", variant) for variant in ("fp32-litert", "int8-litert"))
    inputs = len(kept.watch.input_names)
    assert all(a is b for a, b in zip(one.columns[:inputs], other.columns[:inputs], strict=True))
    assert one.digest != other.digest
    assert not np.array_equal(one.columns[inputs].edges, other.columns[inputs].edges)


def test_a_shift_in_the_embedding_is_found_that_the_inputs_do_not_show():
    rng = np.random.default_rng(3)

    def answers(n, *, moved):
        """Pictures whose statistics stay as they are: what moves is where the two bright spots lie."""
        x = np.clip(rng.normal(100, 20, (n, 12, 10)), 0, 255)
        column = np.where(rng.random(n) < (0.9 if moved else 0.5), 2, 7)
        x[np.arange(n), 5, column] = 255
        pixels = (x - 100) / 20
        embedding = np.stack([pixels[:, 5, :5].sum(1) - pixels[:, 5, 5:].sum(1), *pixels[:, :4, 0].T], axis=1)
        scores = np.tile([0.6, 0.4], (n, 1)) + rng.normal(0, 0.01, (n, 1)) * [1, -1]
        return x.astype(np.uint8), scores, embedding.astype(np.float32)

    x, scores, embedding = answers(1000, moved=False)
    spec = WatchSpec.fit(GREY, 2, embedding)
    assert len([name for name in spec.output_names if name.startswith("embedding")]) == 5
    rows = np.concatenate((spec.inputs(x), spec.outputs(scores, embedding)), axis=1)
    profile = ReferenceProfile.fit(rows, spec.names, families=spec.families, kinds=spec.kinds)
    detector = DriftDetector(profile, false_alarm_every=10_000)
    for moved in (False, True):
        x, scores, embedding = answers(640, moved=moved)
        status = detector.update(np.concatenate((spec.inputs(x), spec.outputs(scores, embedding)), axis=1))
        assert status.alarm is moved
    assert {name for name in status.features if not name.startswith("embedding")} == set()
    assert max(effect.psi for name, effect in status.effects.items() if name in spec.input_names) < 0.1


def test_unknown_baselines_and_variants_are_named_in_the_error():
    kept = profile_set(np.random.default_rng(2))
    with pytest.raises(ProfileError, match=r"no baseline 'cam-9'.*cam-1, default"):
        kept.profile_for("cam-9", "fp32-litert")
    with pytest.raises(ProfileError, match="'int8-litert'; it has fp32-litert"):
        kept.profile_for("cam-1", "int8-litert")
    with pytest.raises(ProfileError, match="no profile of variant 'inputs'"):
        kept.profile_for("cam-1", "inputs")


def test_profile_sets_that_do_not_fit_together_are_refused():
    kept = profile_set(np.random.default_rng(2))
    default = kept.baselines["default"]
    with pytest.raises(ProfileError, match="no profile of its inputs"):
        ProfileSet(kept.watch, {"default": {"fp32-litert": default["fp32-litert"]}})
    with pytest.raises(ProfileError, match="default/fp32-litert watches"):
        ProfileSet(kept.watch, {"default": {**default, "fp32-litert": default["inputs"]}})


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("watch/format", lambda a: a + 1),
        ("watch/shape", lambda a: -a),
        ("watch/shape", lambda a: a[:1]),
        ("watch/statistics", lambda _: np.array(["soul"])),
        ("watch/classes", lambda a: a * 0),
        ("watch/center", lambda a: a[:-1]),
        ("watch/directions", lambda a: a * np.nan),
        ("baseline/cam-1/inputs/gaps", lambda a: -a),
        ("baseline/default/fp32-litert/truth_answers", lambda a: -a),
        ("baseline/default/fp32-litert/truth_accuracy", lambda a: a + 1),
        ("baseline/cam-1/inputs/extra/deep", lambda _: np.zeros(1)),
    ],
)
def test_a_damaged_profile_file_is_refused_by_name(tmp_path, name, change):
    path = tmp_path / "profile.npz"
    profile_set(np.random.default_rng(2)).save(path)
    arrays = load_arrays(path)
    arrays[name] = change(arrays.get(name, np.zeros(1)))
    save_arrays(path, arrays)
    with pytest.raises(ProfileError, match=r"profile\.npz"):
        ProfileSet.load(path)


def test_the_agent_re_exports_the_public_names():
    import edge_agent.drift
    import shared.drift

    assert edge_agent.drift.__all__ == shared.drift.__all__
    assert all(getattr(edge_agent.drift, name) is getattr(shared.drift, name) for name in shared.drift.__all__)
