"""A baseline learned from the first answers: the same numbers as fitting by hand, and never another model's."""

from __future__ import annotations

import logging
import threading

import msgspec
import numpy as np
import pytest

from edge_agent.baseline import Baseline
from edge_agent.learning import Learning
from edge_agent.monitor import Monitor
from shared.drift import ReferenceProfile
from shared.errors import ProfileError, UsageError
from shared.manifest import load_manifest
from tests.releases import digits, reference_answers


@pytest.fixture
def manifest(release):
    return msgspec.structs.replace(load_manifest(release), profile=None)


@pytest.fixture
def make(manifest):
    def make(learn=200, file=None, variant=None, model=manifest):
        return Learning(model, variant or manifest.variants[0], learn=learn, file=file, clock=lambda: 5.0)

    return make


def stream(n, seed, **camera):
    x, _ = digits(n, seed=seed, **camera)
    scores = reference_answers(x)["scores"]
    return [(sample, {"scores": row, "score": float(row.max())}) for sample, row in zip(x, scores, strict=True)]


def feed(monitor, answers):
    for sample, row in answers:
        monitor.observe(sample, row, 10.0)


def test_it_learns_then_watches_as_a_monitor_of_the_same_reference(make, manifest):
    learning, first, later = make(), stream(200, 1), stream(300, 2)
    feed(learning, first[:199])
    assert (learning.ready, learning.learned, learning.wanted) == (False, 199, 200)
    assert "199 of 200" in learning.note
    report = learning.report()
    assert (report.samples, report.evidence, report.alarm, report.effects) == (199, 0.0, False, {})
    assert report.counts.to_mapping() == {}
    feed(learning, [first[199], *later])
    assert learning.ready
    assert "learned on this device from 200 answers" in learning.note
    watch = learning.watch
    table = np.concatenate(
        (watch.inputs(np.stack([x for x, _ in first])), watch.outputs(np.stack([row["scores"] for _, row in first]))),
        axis=1,
    )
    profile = ReferenceProfile.fit(table, watch.names, time_ordered=True, families=watch.families, kinds=watch.kinds)
    assert learning.profile.digest == profile.digest
    by_hand = Monitor(profile, watch, manifest.drift, manifest.sample, clock=lambda: 5.0)
    feed(by_hand, later)
    one, other = learning.take(), by_hand.take()
    assert one.counts == other.counts
    assert (one.samples, one.evidence, one.effects) == (300, other.evidence, other.effects)


def test_a_change_after_learning_raises_an_alarm_and_none_before(make):
    learning = make(learn=500)
    feed(learning, stream(250, 1))
    feed(learning, stream(250, 2))
    feed(learning, stream(512, 3))
    assert not learning.report().alarm
    feed(learning, stream(512, 4, contrast=0.4, noise=45.0))
    assert learning.report().alarm
    learning.acknowledge()
    assert not learning.alarm


def test_a_learned_baseline_outlives_a_restart(make, tmp_path):
    file = tmp_path / "baseline.npz"
    first = make(file=file)
    feed(first, stream(200, 1))
    second = make(file=file)
    assert second.ready
    assert second.learned == 200
    assert second.profile.digest == first.profile.digest
    for monitor in (first, second):
        feed(monitor, stream(100, 2))
    assert first.take().counts == second.take().counts


@pytest.mark.parametrize("change", ["model", "inputs", "pipeline"])
def test_a_baseline_of_another_model_is_not_used(make, manifest, tmp_path, change, caplog):
    file = tmp_path / "baseline.npz"
    feed(make(file=file), stream(200, 1))
    variant, model = manifest.variants[0], manifest
    if change == "model":
        variant = manifest.variants[1]
    elif change == "inputs":
        model = msgspec.structs.replace(manifest, sample=msgspec.structs.replace(manifest.sample, name="camera"))
    else:
        model = msgspec.structs.replace(manifest, pipeline=msgspec.structs.replace(manifest.pipeline, postprocess=()))
    with caplog.at_level(logging.WARNING):
        other = make(file=file, variant=variant, model=model)
    assert not other.ready
    assert "another model file" in caplog.text
    feed(other, stream(200, 2))
    assert make(file=file, variant=variant, model=model).ready  # its own has taken the place


def test_a_damaged_file_means_learning_anew(make, tmp_path):
    file = tmp_path / "baseline.npz"
    feed(make(file=file), stream(200, 1))
    data = file.read_bytes()
    for broken in (b"", data[:100], data[: len(data) // 2], b"\xff" * 300):
        file.write_bytes(broken)
        assert not make(file=file).ready


def test_a_file_that_cannot_be_written_costs_a_warning_and_no_more(make, tmp_path, caplog):
    learning = make(file=tmp_path / "no" / "such" / "place" / "baseline.npz")
    with caplog.at_level(logging.WARNING):
        feed(learning, stream(210, 1))
    assert learning.ready
    assert ("is not kept" in caplog.text) == (not (tmp_path / "no").exists())


@pytest.mark.parametrize("cut", [0, 60, 199])
def test_a_restart_in_the_middle_of_learning_goes_on_where_it_was(make, cut):
    answers = stream(200, 1)
    first, second, whole = make(), make(), make()
    feed(first, answers[:cut])
    second.restore(first.to_bytes())
    assert second.learned == cut
    assert second.report().samples == cut
    feed(second, answers[cut:])
    feed(whole, answers)
    assert second.profile.digest == whole.profile.digest


@pytest.mark.parametrize("kept", [True, False])
def test_a_restart_while_watching_goes_on_to_the_same_numbers(make, tmp_path, kept):
    file = tmp_path / "baseline.npz" if kept else None
    first = make(file=file)
    feed(first, stream(300, 1))
    first.error()
    second = make(file=file)
    second.restore(first.to_bytes())
    for monitor in (first, second):
        feed(monitor, stream(100, 2))
    one, other = first.take(), second.take()
    assert one.counts == other.counts
    assert (one.samples, one.errors) == (other.samples, other.errors) == (200, 1)
    assert one.evidence == pytest.approx(other.evidence)


def test_saved_bytes_of_another_model_or_damaged_ones_are_refused(make, manifest):
    learning = make()
    feed(learning, stream(60, 1))
    data = learning.to_bytes()
    with pytest.raises(ProfileError, match="another model"):
        make(variant=manifest.variants[1]).restore(data)
    for broken in (b"", data[:20], data[:-3], b"\xff" * 40):
        with pytest.raises(ProfileError):
            make().restore(broken)
    assert learning.learned == 60


def test_what_is_hardly_ever_there_is_not_watched(make):
    learning = make()
    answers = stream(210, 1)
    for _, row in answers[5:]:
        row["scores"] = np.full_like(row["scores"], np.nan)
    feed(learning, answers)
    assert learning.ready
    assert learning.profile.names == ("brightness", "contrast", "sharpness", "noise")
    assert learning.report().samples == 10


def test_a_stream_of_nothing_is_learned_from_again_and_again(make, caplog):
    learning = make(learn=50)
    with caplog.at_level(logging.WARNING):
        for _ in range(120):
            learning.observe(None, {"scores": np.ones(10, np.float32), "score": 1.0}, 1.0)
    assert not learning.ready
    assert learning.learned == 20
    assert "nothing was learned from 50 answers" in caplog.text


def test_too_few_or_too_many_answers_to_learn_from_are_refused(make):
    for learn in (0, 49, 1_000_000):
        with pytest.raises(UsageError, match="from 50 to 100000 answers"):
            make(learn=learn)


def test_many_threads_lose_no_answer(make):
    learning = make(learn=500)
    answers = stream(200, 1)
    threads = [threading.Thread(target=feed, args=(learning, answers)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert learning.learned == 500
    assert learning.report().samples == learning.report().counts.samples == 1600 - 500


def test_a_baseline_refuses_arrays_that_do_not_belong_together(make):
    learning = make()
    feed(learning, stream(200, 1))
    arrays = learning._baseline.to_arrays()
    binding = str(arrays["binding"][0])
    assert Baseline.from_arrays(arrays, binding).profile.digest == learning.profile.digest
    for name, value in (("format", np.array([2])), ("learned", np.array([0])), ("watch/format", np.array([9]))):
        with pytest.raises(ProfileError):
            Baseline.from_arrays({**arrays, name: value}, binding)


def test_samples_rejected_before_the_first_answer_survive_a_restart(make):
    first, second = make(), make()
    first.error(30)
    second.restore(first.to_bytes())
    feed(second, stream(200, 1))
    assert second.ready
    assert second._baseline.rejected == 30
