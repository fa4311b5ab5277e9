"""From data to a release and from labelled samples to the next one, on a tiny task with real parts."""

from __future__ import annotations

import html
import json
import subprocess
import sys

import msgspec
import numpy as np
import pytest

from cloud_trainer.config import DataConfig, ExportConfig, ModelConfig, TaskConfig, TrainingConfig
from cloud_trainer.data import Labelled
from cloud_trainer.exporting.environment import existing_python, unsupported
from cloud_trainer.gates import Gates
from cloud_trainer.packaging import staging
from cloud_trainer.training import train_release
from cloud_trainer.work import work_directory
from edge_agent import Engine
from edge_agent.backends import available
from edge_agent.selftest import self_test
from shared.errors import DataError, UsageError
from shared.manifest import load_manifest


def bars(n, seed, *, negative=False):
    """Four shapes at random places: lying, standing, slanting, square; ``negative``: a camera that shows them dark."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 4
    x = rng.normal(120, 20, (n, 16, 16))
    down, along = np.indices((16, 16))
    for i, k in enumerate(y):
        row, column = rng.integers(5, 11, 2)
        shape = (
            np.abs(down - row) < 2,
            np.abs(along - column) < 2,
            np.abs(down - row - along + column) < 2,
            np.maximum(np.abs(down - row), np.abs(along - column)) < 4,
        )[k]
        x[i] += (-70 if negative else 70) * shape
    return np.clip(x, 0, 255).astype(np.uint8), y


def task_of(path, runtimes=("onnxruntime",)):
    return TaskConfig(
        name="bars",
        kind="image-classification",
        data=DataConfig(format="npz", path=str(path)),
        model=ModelConfig(teacher_width=12, mac_share=0.4, embedding=8),
        training=TrainingConfig(
            teacher_epochs=8, student_epochs=16, batch=32, learning_rate=1e-2, threads=1, minimum_steps=0
        ),
        export=ExportConfig(runtimes=runtimes, calibration_samples=64),
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("bars") / "bars.npz"
    x, y = bars(900, 0)
    np.savez(path, x=x, y=y, names=np.array(["one", "two", "three", "four"]))
    return path


def runtimes_of(data, litert):
    return task_of(data, ("onnxruntime", "litert") if litert else ("onnxruntime",))


@pytest.fixture(scope="module")
def first(data, tmp_path_factory):
    """Release 1, with TFLite where this machine can export it."""
    litert = unsupported() is None and existing_python() is not None and "litert" in available()
    out = tmp_path_factory.mktemp("releases") / "1"
    stages = []
    trained = train_release(runtimes_of(data, litert), out, version=1, progress=lambda *line: stages.append(line))
    return trained, stages, litert


@pytest.fixture(scope="module")
def second(data, first, tmp_path_factory):
    """Release 2, after one camera turned negative."""
    x, y = bars(300, 5, negative=True)
    labelled = Labelled("cam-1", tuple(f"cam-1-{i}" for i in range(300)), x, y)
    out = tmp_path_factory.mktemp("candidate") / "candidate"
    return train_release(runtimes_of(data, first[2]), out, version=2, parent=first[0].path, labelled=[labelled])


def test_release_is_whole_and_every_variant_passes_its_self_test(first):
    trained, _, _ = first
    manifest = load_manifest(trained.path)
    assert manifest == trained.manifest
    for file in manifest.files():
        file.verify(trained.path)
    on_disk = {path.relative_to(trained.path).as_posix() for path in trained.path.rglob("*") if path.is_file()}
    assert on_disk == {"manifest.json", *(file.path for file in manifest.files())}
    assert {"fp32-onnx", "int8-onnx", "int8-arm-onnx"} <= {v.id for v in manifest.variants} | set(trained.left_out)
    for variant in manifest.variants:
        engine = Engine.load(trained.path, variant=variant.id)
        self_test(engine)
        engine.close()


def test_accuracy_in_the_manifest_is_what_the_engine_gives(first):
    trained, _, _ = first
    x, y = bars(200, 9)
    for variant in trained.manifest.variants:
        assert variant.quality["accuracy"] > 0.9
        engine = Engine.load(trained.path, variant=variant.id)
        labels = [answer.label for answer in engine.infer_batch(x)]
        assert np.mean([label == trained.manifest.labels[k] for label, k in zip(labels, y, strict=True)]) > 0.9
        engine.close()


def test_a_device_knows_how_good_each_variant_was_on_held_out_samples(first):
    trained, _, _ = first
    x, y = bars(200, 77)
    for variant in trained.manifest.variants:
        engine = Engine.load(trained.path, variant=variant.id)
        right = [engine.infer(sample).label == trained.manifest.labels[k] for sample, k in zip(x, y, strict=True)]
        report = engine.monitor.report()
        assert report.reference_accuracy == pytest.approx(variant.quality["accuracy"], abs=0.1)
        assert report.estimated_accuracy == pytest.approx(np.mean(right), abs=0.1)
        engine.close()


def test_tflite_variants_are_there_where_they_can_be_exported(first):
    trained, _, litert = first
    if not litert:
        pytest.skip("no TFLite exporter environment here: scripts/test makes one on x86-64")
    found = {variant.id: variant for variant in trained.manifest.variants}
    assert {"fp32-litert", "int8-litert"} <= set(found) | set(trained.left_out)
    assert [spec.name for spec in found["fp32-litert"].outputs] == ["logits", "embedding"]
    if "int8-litert" in found:
        assert found["int8-litert"].inputs[0].dtype == "int8"
        assert found["int8-litert"].inputs[0].scale


def test_progress_goes_forward_to_the_end(first):
    fractions = [fraction for _, fraction, _ in first[1]]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    assert {"data", "teacher", "student", "export", "evaluate", "report", "done"} <= {stage for stage, _, _ in first[1]}


def test_student_keeps_to_its_share_and_the_report_needs_no_network(first):
    trained, _, _ = first
    text = (trained.path / "report.html").read_text()
    assert text.count("<svg") > 5
    assert 'src="http' not in text
    assert "<script" not in text
    assert "href=" not in text
    assert "bars, release 1" in (trained.path / "card.md").read_text()


def test_same_seed_same_weights_and_another_release_is_never_overwritten(data, first, tmp_path):
    trained, _, _ = first
    with pytest.raises(UsageError, match="exists already"):
        train_release(task_of(data), trained.path, version=1)
    again = train_release(task_of(data), tmp_path / "again", version=1)
    assert again.manifest.variant("fp32-onnx").file == trained.manifest.variant("fp32-onnx").file
    assert again.manifest.lineage.data_sha256 == trained.manifest.lineage.data_sha256


def test_retraining_passes_its_gates_and_gives_the_device_a_baseline_of_its_own(first, second):
    assert second.gates is not None
    assert second.gates.passed
    old, drifted = second.gates.gates
    assert old.candidate > 0.9
    assert drifted.parent < 0.7
    assert drifted.candidate > 0.9
    assert drifted.samples == 120
    written = msgspec.json.decode((second.path.parent / "gates.json").read_bytes(), type=Gates)
    assert written == second.gates
    assert second.manifest.lineage.parent == 1
    assert second.manifest.baseline_of("cam-1") == "cam-1"
    assert second.manifest.baseline_of("cam-2") == "default"
    assert (work_directory(first[0].path) / "checkpoint.pt").exists()


def test_int8_variants_of_a_retraining_are_as_good_on_old_and_new_samples(second):
    assert second.left_out == {}
    for device, negative in (("cam-1", True), ("cam-2", False)):
        x, y = bars(300, 31, negative=negative)
        right = {}
        for variant in second.manifest.variants:
            engine = Engine.load(second.path, variant=variant.id, device=device)
            labels = np.array([second.manifest.labels.index(answer.label) for answer in engine.infer_batch(x)])
            right[variant.id] = float((labels == y).mean())
            engine.close()
        for variant in second.manifest.variants:
            if variant.precision == "int8":
                fp32 = next(
                    v.id for v in second.manifest.variants if (v.runtime, v.precision) == (variant.runtime, "fp32")
                )
                assert right[variant.id] > right[fp32] - 0.02, (device, right)


def test_device_is_silent_on_its_new_baseline_and_the_others_on_theirs(second):
    for device, negative in (("cam-1", True), ("cam-2", False)):
        engine = Engine.load(second.path, variant="fp32-onnx", device=device)
        engine.infer_batch(bars(400, 17, negative=negative)[0])
        assert not engine.monitor.report().alarm
        engine.infer_batch(bars(400, 18, negative=not negative)[0])
        assert engine.monitor.report().alarm
        engine.close()


def test_candidate_that_learned_nothing_new_fails_its_gate(data, first, tmp_path):
    x, y = bars(200, 21)
    same = Labelled("cam-1", tuple(map(str, range(200))), x, y)
    found = train_release(task_of(data), tmp_path / "2", version=2, parent=first[0].path, labelled=[same])
    assert found.gates is not None
    assert not found.gates.passed
    assert "not significantly better" in found.gates.text


def test_version_must_grow(data, first, tmp_path):
    with pytest.raises(UsageError, match="must be above the parent's"):
        train_release(task_of(data), tmp_path / "1", version=1, parent=first[0].path)


def quick(path):
    task = task_of(path)
    return msgspec.structs.replace(
        task, training=msgspec.structs.replace(task.training, teacher_epochs=2, student_epochs=2)
    )


def test_floats_without_meaning_are_warned_of_everywhere(tmp_path):
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "noise.npz", x=rng.random((400, 8, 8)), y=np.arange(400) % 2)
    stages = []
    trained = train_release(
        quick(tmp_path / "noise.npz"), tmp_path / "1", version=1, progress=lambda *line: stages.append(line)
    )
    assert trained.manifest.sample.dtype == "float32"
    told = [text for stage, _, text in stages if stage == "warning"]
    assert told == list(trained.warnings)
    assert told[0].startswith("x is float: devices must send float32 in the same range, found ")
    assert told[1].startswith("teacher: no learning: ")
    assert told[-1].startswith("no better than chance: right on ")
    card, page = (html.unescape((trained.path / name).read_text()) for name in ("card.md", "report.html"))
    for text in told:
        assert text in card
        assert text in page


def test_bytes_that_are_learned_have_their_range_in_the_card_and_no_warning(first):
    trained, stages, _ = first
    assert trained.warnings == ()
    assert "warning" not in {stage for stage, _, _ in stages}
    card = (trained.path / "card.md").read_text()
    assert "uint8, values from " in card
    assert "Warning" not in card


def test_pictures_that_are_all_the_same(tmp_path):
    np.savez(tmp_path / "same.npz", x=np.full((400, 8, 8), 7, np.uint8), y=np.arange(400) % 2)
    with pytest.raises(DataError, match="every value of x is 7"):
        train_release(quick(tmp_path / "same.npz"), tmp_path / "1", version=1)


def test_release_directory_may_be_there_if_it_is_empty(tmp_path):
    with staging(tmp_path / "new" / "1") as release:
        (release / "a").write_text("a")
    (tmp_path / "empty").mkdir()
    with staging(tmp_path / "empty") as release:
        (release / "a").write_text("a")
    assert (tmp_path / "new" / "1" / "a").exists()
    assert (tmp_path / "empty" / "a").exists()
    for taken in (tmp_path / "empty", tmp_path / "empty" / "a"):
        with pytest.raises(UsageError, match="exists already"), staging(taken):
            pass


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "gone.npz: no such file"),
        (("--parent", "nowhere"), "--parent nowhere: not a release directory; it has no manifest.json"),
        (("--parent", "{release}", "--labelled", "nowhere"), "nowhere: no such directory; expected one <device>.npz"),
        (("--parent", "{release}", "--labelled", "."), "no .npz files; expected one <device>.npz"),
        (("--labelled", "."), "--labelled needs --parent"),
    ],
)
def test_files_that_are_not_there_are_named_and_exit_code_two(first, tmp_path, capsys, monkeypatch, arguments, message):
    from cloud_trainer.cli import main

    monkeypatch.chdir(tmp_path)
    (tmp_path / "task.toml").write_text(
        'name = "t"\nkind = "image-classification"\n[data]\nformat = "npz"\npath = "gone.npz"\n'
    )
    words = [word.format(release=first[0].path) for word in arguments]
    assert main(["train", "task.toml", "--out", "out", *words]) == 2
    assert message in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "out").exists()


def test_failure_on_the_way_leaves_nothing_behind(data, tmp_path, monkeypatch):
    monkeypatch.setenv("SANDERLING_TFLITE_PYTHON", sys.executable)
    if "litert" not in available():
        pytest.skip("LiteRT is not installed here")
    with pytest.raises(Exception, match="lacks the TFLite exporter"):
        train_release(task_of(data, ("litert",)), tmp_path / "out" / "1", version=1)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["1.work"]  # from which the next run goes on


def test_reference_too_small_for_a_profile(tmp_path):
    x, y = bars(100, 0)
    np.savez(tmp_path / "few.npz", x=x, y=y)
    with pytest.raises(DataError, match="the reference part has 24 of 100 samples; at least 50 are needed"):
        train_release(task_of(tmp_path / "few.npz"), tmp_path / "1", version=1)


def test_command_with_a_mistake_is_one_line_and_exit_code_two(tmp_path):
    (tmp_path / "task.toml").write_text('name = "t"\nkind = "image-classification"\n[data]\nformat = "npz"\n')
    command = [sys.executable, "-m", "cloud_trainer.cli", "train", str(tmp_path / "task.toml"), "--out", "x", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    lines = done.stderr.splitlines()
    assert done.returncode == 2
    assert lines[-1] == "cloud-trainer train: data.path: missing; format 'npz' needs the path of the data"
    assert [json.loads(line)["stage"] for line in lines[:-1]] == ["data"]
    assert not (tmp_path / "x").exists()


def test_wrapping_model_files_that_exist_gives_a_release_that_runs(first, tmp_path, capsys):
    from cloud_trainer.cli import main

    trained, _, _ = first
    x, y = bars(200, 30)
    np.savez(tmp_path / "reference.npz", x=x, y=y)
    op = trained.manifest.pipeline.preprocess[0]
    files = [str(trained.path / v.file.path) for v in trained.manifest.variants if not v.meant_for]
    arguments = ["package", "--model", *files, "--reference", str(tmp_path / "reference.npz"), "--labels", "a,b,c,d"]
    arguments += ["--name", "wrapped", "--version", "4", "--out", str(tmp_path / "w"), "--json"]
    arguments += [f"--input-scale={1 / op.std[0]}", f"--input-offset={-op.mean[0] / op.std[0]}"]
    assert main(arguments) == 0
    assert json.loads(capsys.readouterr().out)["version"] == 4
    manifest = load_manifest(tmp_path / "w")
    assert {v.id for v in manifest.variants} == {v.id for v in trained.manifest.variants if not v.meant_for}
    engine = Engine.load(tmp_path / "w", variant="fp32-onnx")
    self_test(engine)
    assert [engine.infer(sample).label for sample in x[:4]] == ["a", "b", "c", "d"]
    assert manifest.variant("fp32-onnx").quality["accuracy"] > 0.9
    engine.close()


def test_wrapping_with_classes_that_have_no_label_and_with_a_wrong_scale(first, tmp_path, capsys):
    from cloud_trainer.cli import main

    x, y = bars(200, 30)
    np.savez(tmp_path / "reference.npz", x=x.astype(np.float64) / 255, y=y)
    model = str(first[0].path / "variants" / "fp32.onnx")
    arguments = ["package", "--model", model, "--reference", str(tmp_path / "reference.npz"), "--name", "wrapped"]
    assert main([*arguments, "--out", str(tmp_path / "w"), "--labels", "a,b"]) == 1
    assert "y has class 3, but there are 2 labels (0 to 1)" in capsys.readouterr().err
    assert main([*arguments, "--out", str(tmp_path / "w"), "--labels", "a,b,c,d", "--input-scale", "0"]) == 0
    warnings = capsys.readouterr().err.splitlines()
    assert warnings[0].startswith("warning: x is float: devices must send float32 in the same range, found 0")
    assert warnings[1].startswith("warning: no better than chance: right on 25.0% of 200 test samples")
    assert warnings[1].removeprefix("warning: ") in (tmp_path / "w" / "card.md").read_text()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"--labels": "a,b"}, "needs (batch, 2)"),
        ({"--labels": "a"}, "at least two different names"),
        ({"--input-scale": "x/y"}, "expected a number or a fraction"),
        ({"--name": "Not A Name"}, "small letters"),
        ({"--model": "no.onnx"}, "no such file"),
        ({"--reference": "no.npz"}, "no.npz: no such file"),
        ({"--model": "no.onnx", "--labels": "a,b"}, "no.onnx: no such file"),
        ({"--model": "no.bin", "--reference": "no.npz"}, "expected a .onnx or .tflite file"),
    ],
)
def test_wrapping_with_a_mistake_is_one_line(first, tmp_path, capsys, change, message):
    from cloud_trainer.cli import main

    trained, _, _ = first
    np.savez(tmp_path / "reference.npz", x=bars(60, 30)[0])
    arguments = {
        "--model": str(trained.path / "variants" / "fp32.onnx"),
        "--reference": str(tmp_path / "reference.npz"),
        "--labels": "a,b,c,d",
        "--name": "wrapped",
        "--out": str(tmp_path / "w"),
    } | change
    assert main(["package", *(word for pair in arguments.items() for word in pair)]) in {1, 2}
    error = capsys.readouterr().err
    assert message.replace("needs", "need") in error
    assert error.count("\n") == 1
    assert not (tmp_path / "w").exists()


def test_wrapping_needs_no_torch():
    code = (
        "import sys; sys.modules['torch'] = None; import cloud_trainer.commands.package, cloud_trainer.exporting.specs"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_colour_pictures_go_through_as_they_come(tmp_path):
    x, y = bars(500, 3)
    colour = np.stack([x, 255 - x, x], axis=-1)
    np.savez(tmp_path / "colour.npz", x=colour, y=y)
    trained = train_release(task_of(tmp_path / "colour.npz"), tmp_path / "1", version=1)
    assert trained.manifest.sample.shape == (16, 16, 3)
    assert trained.manifest.variant("fp32-onnx").quality["accuracy"] > 0.9
    engine = Engine.load(trained.path, variant="fp32-onnx")
    assert engine.monitor.report().samples == 0
    assert engine.infer(colour[0]).label == trained.manifest.labels[y[0]]
    engine.close()
