"""The engine on a real release: answers, errors, threads, feedback."""

import threading

import msgspec
import numpy as np
import pytest
from onnx import TensorProto, helper

from edge_agent import Answer, Engine
from edge_agent.backends import RUNTIMES
from edge_agent.config import SelectionConfig
from edge_agent.engine import BARE_FILES
from edge_agent.inputs import Inputs
from shared.errors import (
    BackendError,
    DigestError,
    InputError,
    ManifestError,
    MissingExtraError,
    ProfileError,
    UsageError,
)
from shared.manifest import Baseline, SampleSpec, load_manifest, reference_file, save_manifest
from shared.pipeline.postprocess import TopK
from shared.pipeline.preprocess import Clip, Scale, Standardize
from tests.releases import ALL_VARIANTS, LABELS, digits, make_release, reference_answers, run_file, softmax


@pytest.fixture(params=ALL_VARIANTS)
def engine(request, release):
    engine = Engine.load(release, variant=request.param)
    yield engine
    engine.close()


@pytest.fixture
def one(release):
    engine = Engine.load(release, variant="fp32-onnx")
    yield engine
    engine.close()


def changed(release, **changes):
    """Rewrite the manifest of a release."""
    manifest = msgspec.structs.replace(load_manifest(release), **changes)
    save_manifest(manifest, release)
    return manifest


def test_answers_are_the_models_and_right(engine):
    x, y = digits(50, seed=4)
    expected = softmax(run_file(engine.release / engine.variant.file.path, x)["logits"])
    for sample, truth, scores in zip(x, y, expected, strict=True):
        answer = engine.infer(sample)
        assert answer.label == LABELS[truth]
        assert answer.scores.argmax() == truth
        assert answer.score == pytest.approx(float(scores.max()), abs=1e-4)
        np.testing.assert_allclose(answer.scores, scores, atol=1e-4)


def test_fp32_answers_equal_plain_numpy(release):
    x, _ = digits(30, seed=5)
    expected = reference_answers(x)
    for id_ in ("fp32-onnx", "fp32-litert"):
        engine = Engine.load(release, variant=id_)
        found = engine.outputs(x)
        for role, values in expected.items():
            np.testing.assert_allclose(found[role], values, atol=1e-4)


def test_one_by_one_in_a_batch_and_in_bulk_agree(engine):
    x, _ = digits(300, seed=6)  # more than one chunk
    fields = engine.outputs(x)
    batch = engine.infer_batch(x)
    for i in range(0, 300, 7):
        answer = engine.infer(x[i])
        assert set(answer.outputs) == set(fields)
        for name, values in fields.items():
            if name == "label":
                assert answer.label == values[i] == batch[i].label
            else:
                np.testing.assert_allclose(answer.outputs[name], values[i], atol=1e-4)
                np.testing.assert_allclose(batch[i].outputs[name], values[i], atol=1e-6)


def test_an_answer_is_not_changed_by_the_next(engine):
    x, _ = digits(2, seed=7)
    first = engine.infer(x[0])
    kept = {name: np.array(value, copy=True) for name, value in first.outputs.items()}
    engine.infer(x[1])
    engine.infer_batch(x)
    for name, value in kept.items():
        np.testing.assert_array_equal(first.outputs[name], value)


def test_the_sample_is_never_written_to(engine):
    x, _ = digits(3, seed=7)
    x.setflags(write=False)
    engine.infer(x[0])
    engine.infer_batch(x)


def test_ids_of_the_source_are_kept_and_others_made_unique(one):
    x, _ = digits(3)
    assert one.infer(x[0], id="cam-1-17").id == "cam-1-17"
    assert [answer.id for answer in one.infer_batch(x, ["a", "b", "c"])] == ["a", "b", "c"]
    made = [one.infer(x[0]).id, *(answer.id for answer in one.infer_batch(x))]
    assert len(set(made)) == 4


def test_an_answer_has_everything_and_plain_types(one):
    answer = one.infer(digits(1)[0][0])
    assert isinstance(answer, Answer)
    assert type(answer.label) is str
    assert type(answer.score) is float
    assert answer.latency_us > 0
    assert answer.scores.sum() == pytest.approx(1)
    (batched,) = one.infer_batch(digits(1)[0])
    assert (type(batched.label), type(batched.score)) == (str, float)
    kinds = {name: type(value) for name, value in answer.outputs.items()}
    assert kinds["index"] is int
    assert {name: type(value) for name, value in batched.outputs.items()} == kinds


@pytest.mark.parametrize(
    ("sample", "text"),
    [
        (np.zeros((8, 8), np.uint8), r"expected shape \(16, 16\), got \(8, 8\)"),
        (np.zeros((1, 16, 16), np.uint8), r"expected shape \(16, 16\), got \(1, 16, 16\)"),
        (np.full((16, 16), 0.5), "expected uint8 values, got float64"),
        (np.full((16, 16), np.nan), "expected uint8 values, got float64"),
        (np.full((16, 16), 256), "expected uint8 values, got int64"),
        (np.full((16, 16), -1), "expected uint8 values, got int64"),
        (np.full((16, 16), "x"), "expected uint8 values, got str"),
        ([[1, 2], [3]], "regular arrays"),
        (None, r"expected shape \(16, 16\), got \(\)"),
    ],
)
def test_a_sample_that_does_not_fit_is_named_and_counted(one, sample, text):
    with pytest.raises(InputError, match=text):
        one.infer(sample)
    assert one.health.errors == 1
    assert one.monitor.report().errors == 1
    assert one.health.samples == 0
    one.infer(np.zeros((16, 16), np.uint8))  # and the next is answered


def test_lists_and_other_dtypes_with_the_same_values_are_taken(one):
    sample = digits(1)[0][0]
    expected = one.infer(sample).scores
    for same in (sample.tolist(), sample.astype(np.int64), sample.astype(np.float32), np.asfortranarray(sample)):
        np.testing.assert_array_equal(one.infer(same).scores, expected)


@pytest.mark.parametrize("dtype", [np.uint8, np.int64])
def test_whole_numbers_in_an_array_are_no_floats(dtype):
    inputs = Inputs(SampleSpec("float32", (2,)))
    text = f"expected float32 values, got {np.dtype(dtype).name}; convert them the way the training data was"
    for call, sample in ((inputs.one, [3, 16]), (inputs.many, [[3, 16]])):
        with pytest.raises(InputError, match=text):
            call(np.array(sample, dtype))
        np.testing.assert_array_equal(call(sample), np.array(sample, np.float32))  # as from JSON, which has one number
        np.testing.assert_array_equal(call(np.array(sample, np.float64)), np.array(sample, np.float32))
    with pytest.raises(InputError, match="expected float32 values, got uint8"):
        inputs.many([np.array([3, 16], np.uint8)])


def test_batches_that_do_not_fit_are_named(one):
    with pytest.raises(InputError, match=r"expected shape \(2, 16, 16\), got \(2, 8, 8\)"):
        one.infer_batch(np.zeros((2, 8, 8), np.uint8))
    with pytest.raises(InputError, match="3 ids for 2 samples"):
        one.infer_batch(digits(2)[0], ["a", "b", "c"])
    with pytest.raises(InputError, match="regular arrays"):
        one.infer_batch([[[1, 2], [3]]])
    with pytest.raises(InputError, match=r"got \(\)"):
        one.infer_batch(5)


def test_an_empty_batch_is_no_error(one):
    assert one.infer_batch([]) == []
    assert one.infer_batch(np.empty((0, 16, 16), np.uint8), []) == []
    assert one.outputs([])["scores"].shape == (0, 10)


def test_nan_in_a_float_sample_is_named(own_release):
    changed(own_release, sample=msgspec.structs.replace(load_manifest(own_release).sample, dtype="float32"))
    engine = Engine.load(own_release, variant="fp32-onnx")
    x = digits(2)[0].astype(np.float32)
    engine.infer_batch(x)
    x[1, 3, 3] = np.nan
    with pytest.raises(InputError, match="1 values that are NaN"):
        engine.infer(x[1])
    with pytest.raises(InputError, match=r"1 of 2 samples have NaN .* first 1"):
        engine.infer_batch(x)


def test_a_model_that_gives_nan_fails_instead_of_answering(own_release):
    manifest = load_manifest(own_release)
    pipeline = msgspec.structs.replace(manifest.pipeline, preprocess=(Scale(factor=3e38), Scale(factor=3e38)))
    changed(own_release, pipeline=pipeline)
    with np.errstate(over="ignore", invalid="ignore"):
        engine = Engine.load(own_release, variant="fp32-onnx")
        with pytest.raises(BackendError, match="fp32-onnx gave NaN"):
            engine.infer(digits(1)[0][0])
        with pytest.raises(BackendError, match="gave NaN"):
            engine.infer_batch(digits(2)[0])
    assert engine.health.errors == 2


def test_eight_threads_get_the_answers_to_their_own_samples(engine):
    x, _ = digits(8, seed=8)
    expected = [engine.infer(sample).scores for sample in x]
    wrong = []

    def work(i):
        for _ in range(100):
            answer = engine.infer(x[i])
            if not np.allclose(answer.scores, expected[i], atol=1e-5) or answer.label != LABELS[expected[i].argmax()]:
                wrong.append(i)

    before = engine.health.samples
    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert engine.health.samples - before == 800
    counted = engine.monitor.report()
    assert counted.samples == 808 == counted.counts.samples


def test_temperature_softens_every_path(tmp_path):
    make_release(tmp_path, variants=["fp32-onnx"], temperature=3.0)
    engine = Engine.load(tmp_path, variant="fp32-onnx")
    x, _ = digits(5)
    expected = softmax(reference_answers(x)["logits"] / np.float32(3))
    np.testing.assert_allclose(engine.outputs(x)["scores"], expected, atol=1e-4)
    np.testing.assert_allclose(engine.infer(x[0]).scores, expected[0], atol=1e-4)


def test_longer_pipelines_give_the_same_single_and_bulk(own_release):
    manifest = load_manifest(own_release)
    pipeline = msgspec.structs.replace(
        manifest.pipeline,
        preprocess=(
            Clip(10, 240),
            Scale(factor=1 / 255, offset=0.01),
            Standardize(mean=(0.2,), std=(0.5,)),
            Clip(-1, 1),
        ),
        postprocess=(*manifest.pipeline.postprocess, TopK(k=3)),
    )
    changed(own_release, pipeline=pipeline)
    for id_ in ("fp32-onnx", "fp32-litert"):
        engine = Engine.load(own_release, variant=id_)
        x, _ = digits(6, seed=1)
        fields = engine.outputs(x)
        for i, sample in enumerate(x):
            answer = engine.infer(sample)
            np.testing.assert_allclose(answer.scores, fields["scores"][i], atol=1e-5)
            np.testing.assert_array_equal(answer.outputs["top"], fields["top"][i])
        assert fields["top"].shape == (6, 3)


def test_a_pipeline_that_does_not_fit_the_model_is_refused_at_load(own_release):
    manifest = load_manifest(own_release)
    changed(own_release, pipeline=msgspec.structs.replace(manifest.pipeline, encode=()))
    with pytest.raises(
        ManifestError, match=r"give float32 \(1, 16, 16\), but the model takes float32 \(1, 1, 16, 16\)"
    ):
        Engine.load(own_release, variant="fp32-onnx")


def test_a_pipeline_without_labels_is_refused_at_load(own_release):
    manifest = load_manifest(own_release)
    changed(own_release, pipeline=msgspec.structs.replace(manifest.pipeline, postprocess=()))
    with pytest.raises(ManifestError, match="no field 'label' after decode and postprocess"):
        Engine.load(own_release, variant="fp32-onnx")


def test_the_release_must_exist_and_the_variant_too(tmp_path, release):
    with pytest.raises(ManifestError, match="not a release directory"):
        Engine.load(tmp_path / "nothing")
    with pytest.raises(UsageError, match="no variant 'int4-onnx'; it has fp32-onnx"):
        Engine.load(release, variant="int4-onnx")


@pytest.mark.parametrize("id_", ["fp32-onnx", "fp32-litert"])
def test_a_bare_model_file_answers_with_its_own_tensors_and_learns_its_baseline(release, id_, tmp_path):
    manifest = load_manifest(release)
    path = release / manifest.variant(id_).file.path
    baseline = tmp_path / "baseline.npz"
    engine = Engine.load(path, learn=200, baseline=baseline)
    assert engine.manifest.task == "raw"
    x, _ = digits(300, seed=3)
    tensor = (x.astype(np.float32) * np.float32(1 / 255))[:, None]
    expected = run_file(path, x)
    for sample, logits, embedding in zip(tensor, expected["logits"], expected["embedding"], strict=True):
        answer = engine.infer(sample)
        assert (answer.label, answer.scores.shape) == ("", (0,))
        assert np.isnan(answer.score)
        found = [value for name, value in answer.outputs.items() if name != "value"]
        np.testing.assert_allclose(found[0], logits, atol=1e-4)
        np.testing.assert_allclose(found[1], embedding, atol=1e-4)
    assert engine.monitor.ready
    assert (engine.monitor.learned, engine.monitor.report().samples) == (200, 100)
    engine.close()
    again = Engine.load(path, learn=200, baseline=baseline)
    assert again.monitor.ready  # nothing is learned twice
    again.close()


def test_a_bare_file_that_is_not_there_is_told_in_one_line(tmp_path):
    with pytest.raises(UsageError, match="no such file"):
        Engine.load(tmp_path / "model.onnx")


@pytest.mark.parametrize("file", ["variants/fp32-onnx.onnx", "profile.npz"])
@pytest.mark.parametrize("damage", ["flip", "cut", "gone"])
def test_a_damaged_file_is_refused(own_release, file, damage):
    path = own_release / file
    data = bytearray(path.read_bytes())
    if damage == "gone":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(data[:-1])
    else:
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    with pytest.raises(DigestError, match=file):
        Engine.load(own_release, variant="fp32-onnx")


def test_a_damaged_variant_stops_the_selection_too(own_release):
    (own_release / "variants/int8-onnx.onnx").write_bytes(b"x")
    with pytest.raises(DigestError, match="int8-onnx"):
        Engine.load(own_release, selection=SelectionConfig(measure_seconds=0.001))


def test_a_profile_without_the_variant_is_refused(own_release, tmp_path):
    make_release(tmp_path / "other", variants=["int8-onnx"])
    (own_release / "profile.npz").write_bytes((tmp_path / "other" / "profile.npz").read_bytes())
    changed(own_release, profile=reference_file(own_release, "profile.npz"))
    with pytest.raises(ProfileError):
        Engine.load(own_release, variant="fp32-onnx")


def test_the_device_chooses_the_baseline(tmp_path):
    make_release(tmp_path, variants=["fp32-onnx"], baselines=[Baseline("default"), Baseline("cam-2", ("cam-2",))])
    assert Engine.load(tmp_path, variant="fp32-onnx", device="cam-2").baseline == "cam-2"
    assert Engine.load(tmp_path, variant="fp32-onnx", device="cam-1").baseline == "default"


def test_without_profiles_nothing_is_watched(release):
    manifest = load_manifest(release)
    engine = Engine(manifest, release, manifest.variant("fp32-onnx"))
    engine.infer(digits(1)[0][0])
    assert engine.monitor is None


def test_outputs_touch_neither_monitor_nor_health(one):
    one.outputs(digits(64)[0])
    assert (one.health.samples, one.monitor.report().samples) == (0, 0)


def test_feedback_counts_what_is_remembered(one):
    x, y = digits(3, seed=2)
    answers = one.infer_batch(x, ["a", "b", "c"])
    assert one.feedback("a", answers[0].label) is True
    wrong = LABELS[(y[1] + 1) % 10]
    assert one.feedback("b", wrong) is False
    assert one.feedback("long-ago", "seven") is None
    assert one.health.accuracy == 0.5
    assert [(t.id, t.label) for t in one.take_feedback()] == [
        ("a", answers[0].label),
        ("b", wrong),
        ("long-ago", "seven"),
    ]
    assert one.take_feedback() == []


def test_feedback_with_an_unknown_label_is_refused(one):
    with pytest.raises(InputError, match="label 'ten' is none of this release's: zero, one"):
        one.feedback("a", "ten")


def test_a_repeated_id_counts_from_its_latest_answer(release):
    engine = Engine.load(release, variant="fp32-onnx", remembered=3)
    x, _ = digits(5, seed=2)
    answers = engine.infer_batch(x, ["same", "b", "same", "c", "d"])
    assert engine.feedback("b", answers[1].label) is None
    assert engine.feedback("same", answers[2].label) is True
    assert engine.feedback("d", answers[4].label) is True


def regressor(tmp_path):
    """A bare file whose answer is the logarithm of its one number."""
    node = helper.make_node("Log", ["x"], ["y"])
    tensors = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 1]) for name in "xy"]
    graph = helper.make_graph([node], "log", tensors[:1], tensors[1:])
    path = tmp_path / "log.onnx"
    path.write_bytes(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    )
    return path


@pytest.mark.parametrize("truth", [None, [1], {}, b"x", 10**400, float("nan")], ids=str)
def test_feedback_that_is_no_truth_is_a_typed_error(tmp_path, truth):
    engine = Engine.load(regressor(tmp_path))
    with pytest.raises(InputError, match="truth must be"):
        engine.feedback("a", truth)
    assert engine.take_feedback() == []


def test_a_text_is_no_truth_about_a_number(tmp_path):
    engine = Engine.load(regressor(tmp_path))
    answer = engine.infer([1.0])
    with pytest.raises(InputError, match="is a number, so its truth must be one, not 'seven'"):
        engine.feedback(answer.id, "seven")
    assert engine.feedback(answer.id, 2.0) == 2.0


def test_a_number_that_is_nan_is_no_answer(tmp_path):
    engine = Engine.load(regressor(tmp_path))
    with pytest.raises(BackendError, match="gave NaN"):
        engine.infer([-1.0])
    with pytest.raises(BackendError, match="gave NaN"):
        engine.infer_batch([[1.0], [-1.0]])
    assert engine.infer([1.0]).value == 0.0
    assert engine.health.errors == 2


@pytest.mark.parametrize("call", ["infer", "infer_batch", "outputs"])
def test_too_little_memory_is_a_typed_error_and_the_next_call_is_answered(release, monkeypatch, call):
    engine = Engine.load(release, variant="fp32-onnx")
    x, _ = digits(2)
    sample = x[0] if call == "infer" else x

    def short(*_):
        raise MemoryError("Unable to allocate 9 GiB")

    with monkeypatch.context() as patch:
        patch.setattr(engine, "_one", short)
        patch.setattr(engine._steps, "many", short)
        with pytest.raises(BackendError, match="fp32-onnx needs more memory than there is: Unable to allocate 9 GiB"):
            getattr(engine, call)(sample)
    assert getattr(engine, call)(sample)


def test_a_model_whose_first_run_needs_too_much_memory_is_refused_at_load(release, monkeypatch):
    def short(*_):
        raise MemoryError

    monkeypatch.setattr("edge_agent.steps.Direct", short)
    with pytest.raises(BackendError, match="variant fp32-onnx: needs more memory than there is"):
        Engine.load(release, variant="fp32-onnx")


def test_bare_files_are_those_of_the_backends():
    assert set(BARE_FILES) == {runtime.suffix for runtime in RUNTIMES.values()}


def test_a_closed_engine_says_so(release):
    engine = Engine.load(release, variant="fp32-litert")
    engine.close()
    engine.close()
    with pytest.raises(UsageError, match="closed"):
        engine.infer(digits(1)[0][0])
    with pytest.raises(UsageError, match="closed"):
        engine.outputs(digits(1)[0])


def test_stages_cover_the_five_steps(engine):
    stages = engine.stages(digits(1)[0][0])
    assert list(stages) == ["preprocess", "encode", "forward", "decode", "postprocess", "raw"]
    assert all(value >= 0 for value in stages.values())


def test_a_forced_variant_without_its_backend_names_the_extra(release, monkeypatch):
    monkeypatch.setattr("edge_agent.backends.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"sanderling\[onnx\]"):
        Engine.load(release, variant="fp32-onnx")


def test_without_one_backend_the_other_is_chosen(release, monkeypatch):
    from importlib.util import find_spec

    monkeypatch.setattr("edge_agent.backends.find_spec", lambda name: None if "lite" in name else find_spec(name))
    engine = Engine.load(release, selection=SelectionConfig(measure_seconds=0.001))
    assert engine.variant.runtime == "onnxruntime"
    assert {row.why for row in engine.selection if row.runtime == "litert"} == {
        "backend litert not installed: pip install 'sanderling[tflite]'"
    }


@pytest.mark.parametrize("threads", [-1, 0, 65])
def test_a_number_of_threads_that_no_runtime_could_mean_is_refused(release, threads):
    with pytest.raises(UsageError, match=f"threads must be 1 to 64, got {threads}"):
        Engine.load(release, threads=threads)


def test_a_truth_told_again_counts_once_and_a_new_answer_may_have_one_of_its_own(one):
    answer = one.infer(digits(1, seed=77)[0][0], id="again")
    wrong = LABELS[(LABELS.index(answer.label) + 1) % len(LABELS)]
    before = one.health.truths
    for _ in range(50):
        assert one.feedback("again", wrong) is False
    assert one.health.truths == before + 1
    assert one.monitor.report().truths <= 1
    assert len(one.take_feedback()) == 50  # a correction is sent on
    one.infer(digits(1, seed=77)[0][0], id="again")
    assert one.feedback("again", answer.label) is True
    assert one.health.truths == before + 2


def test_a_refused_batch_counts_its_samples(one):
    x = digits(5, seed=3)[0]
    before = one.health.errors
    for wrong, count in ((x.astype(np.float32) * np.nan, 5), (x[:, :3], 5), (7, 1), ("text", 1), ([], 0)):
        if count:
            with pytest.raises(InputError):
                one.infer_batch(wrong)
        before += count
        assert one.health.errors == before


def test_an_id_that_is_no_text_is_refused(one):
    with pytest.raises(InputError, match="an answer's id is text, got list"):
        one.infer(digits(1, seed=3)[0][0], id=["z"])
    with pytest.raises(InputError, match="an answer's id is text"):
        one.infer_batch(digits(2, seed=3)[0], ids=["a", ["z"]])
    assert one.feedback("nobody", LABELS[0]) is None
