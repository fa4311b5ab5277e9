"""What is watched of any model: chosen from one answer, captured one by one, the same numbers as in bulk."""

from __future__ import annotations

import math

import numpy as np
import pytest

from shared.drift import ProfileSet, ReferenceProfile, WatchSpec
from shared.drift.capture import Recorder
from shared.drift.watch_outputs import random_directions
from shared.errors import InputError, ProfileError
from shared.manifest import SampleSpec

ROW = SampleSpec("float32", (3,), kind="row", columns=("a", "b", "c"))
SCORES = np.array([0.2, 0.7, 0.1], np.float32)


def folded(watch, dtypes, answers):
    recorder = Recorder(watch, dtypes)
    return recorder.fold([recorder.capture(sample, row) for sample, row in answers])


@pytest.mark.parametrize(
    ("row", "task", "names", "numbers"),
    [
        ({"scores": SCORES, "score": 0.7}, "", ("confidence", "class"), (np.float32(0.7), 1)),
        ({"value": 2.5, "out": np.ones(1, np.float32)}, "regression", ("value",), (2.5,)),
        ({"value": [1.0, 2.0]}, "forecast", ("value[0]", "value[1]"), (1, 2)),
        (
            {"value": np.arange(20.0)},
            "",
            ("value.mean", "value.std", "value.min", "value.max"),
            (9.5, 33.25**0.5, 0, 19),
        ),
        ({"out": np.array([[1, 2]], np.int8)}, "raw", ("out[0]", "out[1]"), (1, 2)),
        ({"value": [{"score": 0.4}, {"score": 0.9}]}, "", ("boxes", "best_score"), (2, 0.9)),
        ({"value": [], "score": 0.0}, "detection", ("boxes", "best_score"), (0, math.nan)),
        ({"label": "x"}, "", (), ()),
    ],
)
def test_answers_are_watched_as_what_they_are(row, task, names, numbers):
    watch = WatchSpec.choose([ROW], row, task)
    assert watch.output_names == names
    found = folded(watch, ["float32"], [(np.array([1, 2, 3], np.float32), row)])
    np.testing.assert_allclose(found, [[1, 2, 3, *numbers]])
    again = WatchSpec.from_arrays(watch.to_arrays())
    assert (again.names, again.kinds, again.families) == (watch.names, watch.kinds, watch.families)


def test_a_signal_is_watched_by_level_crest_crossings_and_bands():
    t = np.arange(800) / 8000
    tone = (3 + 2 * np.sin(2 * np.pi * 100 * t + 0.3)).astype(np.float32)
    watch = WatchSpec.choose([SampleSpec("float32", (800,), kind="window")], {"value": 1.0})
    assert watch.input_names == ("mean", "level", "crest", "crossings", "lows", "low_mids", "high_mids", "highs")
    found = watch.inputs(np.stack((tone, np.ones(800, np.float32), np.full(800, np.nan, np.float32))))
    np.testing.assert_allclose(found[0, :4], [3, math.sqrt(2), math.sqrt(2), 2 * 100 / 8000], rtol=0.01)
    np.testing.assert_allclose(found[0, 4:], [0, 1, 0, 0], atol=0.01)  # 62.5 to 250 Hz
    assert found[1].tolist() == [1, 0, 0, 0, 0, 0, 0, 0]
    assert np.isnan(found[2]).all()
    two = WatchSpec.choose([SampleSpec("float32", (800, 2), kind="window", columns=("x", "y"))], {"value": 1.0})
    assert two.input_names[3:9] == ("x.crossings", "x.lows", "x.low_mids", "x.high_mids", "x.highs", "y.mean")
    np.testing.assert_allclose(two.inputs(np.stack((tone, tone * 2), 1)[None])[0, [1, 9]], [2**0.5, 8**0.5], rtol=0.01)


def test_text_and_arrays_of_any_size_are_watched_by_length():
    text = SampleSpec("str", (), kind="text")
    watch = WatchSpec.choose([text], {"value": 1.0})
    assert watch.names == ("length", "words", "non_ascii", "value")
    found = folded(watch, ["str"], [(np.array("zwei Wörter", object), {"value": 1.0})])
    np.testing.assert_allclose(found, [[11, 2, 1 / 12, 1]])
    ragged = SampleSpec("float32", (-1, 2))
    watch = WatchSpec.choose([ragged], {"value": 1.0})
    assert watch.names == ("length", "mean", "std", "min", "max", "value")
    samples = [np.ones((k, 2), np.float32) * k for k in (1, 3, 0)]
    found = folded(watch, ["float32"], [(x, {"value": 0.0}) for x in samples])
    np.testing.assert_allclose(found[:2], [[2, 1, 0, 1, 1, 0], [6, 3, 0, 3, 3, 0]])
    assert found[2, 0] == 0
    assert np.isnan(found[2, 1:5]).all()


def test_further_inputs_are_watched_under_their_own_names_and_64_scalars_at_most():
    wide = SampleSpec("float32", (48,), name="main")
    extra = [SampleSpec("float32", (), name="gain"), *(SampleSpec("float32", (9,), name=f"e{k}") for k in range(9))]
    watch = WatchSpec.choose([wide, *extra], {"value": 1.0})
    assert len(watch.names) <= 64
    assert watch.input_names[48:53] == ("gain", "e0.mean", "e0.std", "e0.min", "e0.max")
    sample = {"main": np.zeros(48, np.float32), "gain": np.array(7, np.float32)}
    sample |= {f"e{k}": np.full(9, k, np.float32) for k in range(9)}
    found = folded(watch, ["float32"] * len(watch.parts), [(sample, {"value": 1.0})])
    np.testing.assert_allclose(found[0, 48:53], [7, 0, 0, 0, 0])
    np.testing.assert_allclose(found, np.hstack([watch.inputs({k: v[None] for k, v in sample.items()}), [[1.0]]]))
    with pytest.raises(InputError, match="without gain"):
        watch.inputs({"main": np.zeros((1, 48), np.float32), "e0": np.zeros((1, 9)), "e1": np.zeros((1, 9))})


def test_an_answer_unlike_the_others_counts_as_missing_and_stops_nothing():
    watch = WatchSpec.choose([ROW], {"scores": SCORES, "score": 0.7})
    good = (np.zeros(3, np.float32), {"scores": SCORES})
    strange = [
        (None, {"scores": SCORES}),
        (np.zeros(3, np.float32), {}),
        (np.zeros(5, np.float32), {"scores": SCORES}),
        (np.zeros(3, np.float32), {"scores": np.zeros(9, np.float32)}),
        (np.zeros(3, np.float64), {"scores": SCORES.astype(np.float64)}),
    ]
    found = folded(watch, ["float32"], [good, *strange, good])
    assert np.isnan(found).all(axis=1).tolist() == [False, True, True, False, False, False, False]
    assert np.isnan(found[3, :3]).all()
    assert np.isnan(found[4, 3:]).all()
    np.testing.assert_allclose(found[5], found[0])


def test_what_is_captured_is_a_copy():
    watch = WatchSpec.choose([ROW], {"scores": SCORES, "score": 0.7})
    recorder, sample, scores = Recorder(watch, ["float32"]), np.ones(3, np.float32), SCORES.copy()
    kept = recorder.capture(sample, {"scores": scores})
    sample[:], scores[:] = 9, 9
    np.testing.assert_allclose(recorder.fold([kept]), [[1, 1, 1, 0.7, 1]], rtol=1e-6)


def test_a_classifier_is_still_written_as_format_1_and_others_survive_a_file(tmp_path):
    rng = np.random.default_rng(0)
    assert WatchSpec.fit(ROW, 3, None).to_arrays()["format"].tolist() == [1]
    watch = WatchSpec.choose([ROW, SampleSpec("float32", (9,), name="more")], {"value": 1.0}).without(["b"])
    assert watch.names == ("a", "c", "more.mean", "more.std", "more.min", "more.max", "value")
    again = WatchSpec.from_arrays(watch.to_arrays())
    assert again.names == watch.names
    regression = WatchSpec.choose([ROW], {"value": 1.0})
    x, fields = rng.normal(size=(60, 3)).astype(np.float32), {"value": rng.normal(size=60)}
    inputs = ReferenceProfile.fit(regression.inputs(x), regression.input_names)
    outputs = ReferenceProfile.fit(
        regression.outputs_of(fields), regression.output_names, families=regression.output_families
    )
    ProfileSet(regression, {"default": {"inputs": inputs, "fp32-onnx": outputs}}).save(tmp_path / "profile.npz")
    back = ProfileSet.load(tmp_path / "profile.npz")
    assert back.profile_for("default", "fp32-onnx").names == back.watch.names == ("a", "b", "c", "value")


@pytest.mark.parametrize("text", ["", "{}", '{"inputs": [], "classes": 0, "fields": [], "dropped": []}', "[1]"])
def test_a_malformed_spec_is_refused(text):
    arrays = WatchSpec.choose([ROW], {"value": 1.0}).to_arrays()
    with pytest.raises(ProfileError, match="watch spec"):
        WatchSpec.from_arrays({**arrays, "parts": np.array([text])})


def test_the_embedding_of_any_model_is_watched_by_projections_that_need_no_reference():
    rng = np.random.default_rng(0)
    row = {"value": 1.0, "embedding": rng.normal(size=300).astype(np.float32)}
    watch = WatchSpec.choose([ROW], row, "regression")
    names = tuple(f"embedding{k}" for k in range(8))
    assert watch.output_names == ("value", *names)
    assert watch.output_families == ("outputs", *["embedding"] * 8)
    answers = [(np.zeros(3, np.float32), {**row, "embedding": rng.normal(size=300)}) for _ in range(5)]
    found = folded(watch, ["float32"], answers)[:, 4:]
    table = np.stack([given["embedding"] for _, given in answers])
    np.testing.assert_allclose(found, table @ random_directions(300, 8).T, atol=1e-5)
    in_bulk = watch.outputs_of({"value": np.ones(5), "embedding": table})
    np.testing.assert_allclose(found, in_bulk[:, 1:], atol=1e-5)
    again = WatchSpec.from_arrays(watch.to_arrays())
    np.testing.assert_array_equal(again.outputs_of({"value": np.ones(5), "embedding": table}), in_bulk)
    x, wrong = answers[0][0], {**row, "embedding": np.zeros(7, np.float32)}
    strange = folded(watch, ["float32"], [(x, wrong), answers[0], (x, {"value": 1.0}), (x, {**row, "embedding": 3})])
    assert np.isnan(strange).sum(axis=1).tolist() == [8, 0, 12, 12]


def test_directions_are_the_same_on_every_machine_and_keep_distances():
    directions = random_directions(256, 8)
    assert (directions[0, :16] * 16).astype(int).tolist() == [-1, -1, 1, -1, -1, -1, -1, -1, 1, -1, -1, 1, 1, 1, -1, 1]
    assert np.abs(directions @ directions.T - np.eye(8)).max() < 0.25
    classes = WatchSpec.choose([ROW], {"scores": SCORES, "score": 0.7, "embedding": np.zeros(4, np.float32)})
    assert classes.output_names == ("confidence", "class", *(f"embedding{k}" for k in range(4)))
    few = WatchSpec.choose([ROW], {"embedding": np.zeros(4, np.float32)}, "raw")
    assert few.output_names == tuple(f"embedding[{k}]" for k in range(4))
    wide = WatchSpec.choose([SampleSpec("float32", (50,))], {"value": list(range(40)), "embedding": np.zeros(9)}, "")
    assert len(wide.names) <= 64
