"""``cloud-trainer package``: files made elsewhere become releases that pass their own self-test on a device."""

import json
import subprocess
import sys

import msgspec
import numpy as np
import pytest

from cloud_trainer.cli import main
from edge_agent import Engine
from edge_agent.selftest import self_test
from shared.errors import SelfTestError
from shared.manifest import load_manifest, reference_file, save_manifest
from tests.edge_agent.test_bare import FLOAT, INT64, STRING, counter, linear, node, write
from tests.releases import LABELS, digits, make_release

RANDOM = np.random.default_rng(5)


def package(model, out, *arguments, code=0):
    """Run the command on one or more files and give the manifest."""
    models = [part for file in (model if isinstance(model, list) else [model]) for part in ("--model", str(file))]
    assert main(["package", *models, "--out", str(out), *map(str, arguments)]) == code
    return load_manifest(out) if code == 0 else None


def opened(release, variant=None):
    """An engine of a release that passed its self-test."""
    engine = Engine.load(release, variant=variant)
    self_test(engine)
    return engine


def test_one_file_and_nothing_else_is_enough(tmp_path, capsys):
    path, w = linear(tmp_path / "Power Model.onnx")
    manifest = package(path, tmp_path / "r")
    assert (manifest.name, manifest.task, manifest.profile) == ("power_model", "raw", None)
    assert "devices learn their baseline from their first answers" in capsys.readouterr().out
    card = (tmp_path / "r" / "card.md").read_text()
    assert "each device learns its baseline from its own first answers" in card
    assert "trained elsewhere" in card
    with np.load(tmp_path / "r" / "golden.npz") as golden:
        assert golden["x"].shape == (32, 4)
        np.testing.assert_allclose(golden["output.fp32-onnx.y"], golden["x"] @ w, rtol=1e-5)
    engine = opened(tmp_path / "r")
    assert engine.monitor is not None  # and learns
    engine.close()


def test_a_task_without_a_measure_says_that_the_truth_is_not_used(tmp_path, capsys):
    path, _ = linear(tmp_path / "m.onnx")
    np.savez(tmp_path / "x.npz", x=RANDOM.normal(size=(60, 4)).astype(np.float32), y=np.arange(60) % 3)
    package(path, tmp_path / "r", "--task", "embedding", "--reference", tmp_path / "x.npz")
    shown = capsys.readouterr()
    assert (
        "y is not used: quality is measured for classification, regression and forecast, not for embedding" in shown.err
    )
    assert shown.out.splitlines()[0].split() == ["variant", "KiB"]


def test_golden_samples_are_in_the_declared_range_and_always_the_same(tmp_path):
    path, _ = linear(tmp_path / "m.onnx")
    for out in ("a", "b"):
        package(path, tmp_path / out, "--input-range", "-40", "85")
    with np.load(tmp_path / "a" / "golden.npz") as a, np.load(tmp_path / "b" / "golden.npz") as b:
        assert a["x"].min() < -30
        assert a["x"].max() > 75
        assert np.array_equal(a["x"], b["x"])


def test_a_classifier_is_measured_and_profiled(tmp_path):
    make_release(tmp_path / "made", variants=["fp32-onnx", "int8-onnx"])
    files = [tmp_path / "made" / "variants" / f"{kind}-onnx.onnx" for kind in ("fp32", "int8")]
    x, y = digits(200, seed=9)
    np.savez(tmp_path / "x.npz", x=x, y=y)
    arguments = ["--labels", ",".join(LABELS), "--input-scale", "1/255", "--reference", tmp_path / "x.npz"]
    manifest = package(files, tmp_path / "r", *arguments)
    assert manifest.task == "image-classification"
    assert [v.id for v in manifest.variants] == ["fp32-onnx", "int8-onnx"]
    made = load_manifest(tmp_path / "made")
    for variant, same in zip(manifest.variants, made.variants, strict=True):
        original = Engine.load(tmp_path / "made", variant=same.id)
        expected = float((original.outputs(x)["index"] == y).mean())
        assert variant.quality["accuracy"] == pytest.approx(expected)
        assert [spec.name for spec in variant.outputs] == ["logits", "embedding"]
        engine = opened(tmp_path / "r", variant.id)
        np.testing.assert_allclose(engine.infer(x[0]).scores, original.infer(x[0]).scores, atol=1e-6)
        report = engine.monitor.report()
        assert report.samples == 1
        assert report.reference_accuracy == pytest.approx(expected)
        assert 0 < report.estimated_accuracy <= 1
        original.close()
        engine.close()


def test_a_release_made_before_golden_files_had_raw_outputs_still_passes(release):
    with np.load(release / "golden.npz") as golden:
        assert not any(name.startswith("output.") for name in golden.files)
    opened(release).close()


def test_other_raw_outputs_are_refused(tmp_path):
    path, _ = linear(tmp_path / "m.onnx")
    manifest = package(path, tmp_path / "r")
    with np.load(tmp_path / "r" / "golden.npz") as file:
        arrays = dict(file)
    arrays["output.fp32-onnx.y"] = arrays["output.fp32-onnx.y"] * 1.02
    np.savez(tmp_path / "r" / "golden.npz", **arrays)
    changed = msgspec.structs.replace(manifest, golden=reference_file(tmp_path / "r", "golden.npz"))
    save_manifest(changed, tmp_path / "r")
    with pytest.raises(SelfTestError, match=r"y: \d+ of 32 golden samples differ by more than 0\.01"):
        opened(tmp_path / "r")


def test_regression_from_a_table_has_its_mean_error(tmp_path):
    w = np.array([[2.0], [-1.0]], np.float32)
    path = write(
        tmp_path / "m.onnx",
        [node("MatMul", ["x", "w"], "y")],
        [("x", FLOAT, ["n", 2])],
        [("y", FLOAT, ["n", 1])],
        {"w": w},
    )
    x = RANDOM.normal(size=(80, 2)).astype(np.float32)
    truth = (x @ w)[:, 0] + np.tile([0.5, -1.5], 40)
    rows = "\n".join(f"{a!r},{t!r},{b!r}" for (a, b), t in zip(x.tolist(), truth.tolist(), strict=True))
    (tmp_path / "t.csv").write_text(f"heat,y,wind\n{rows}\n")
    manifest = package(path, tmp_path / "r", "--task", "regression", "--reference", tmp_path / "t.csv", "--unit", "kW")
    assert manifest.sample.columns == ("heat", "wind")
    assert manifest.variants[0].quality["mae"] == pytest.approx(1.0, abs=1e-5)
    assert manifest.profile is not None
    engine = opened(tmp_path / "r")
    assert engine.infer(x[0]).value == pytest.approx(float((x @ w)[0, 0]), abs=1e-5)
    answer = engine.infer(x[0])
    assert engine.feedback(answer.id, answer.value + 0.75) == pytest.approx(0.75)
    report = engine.monitor.report()
    assert "heat" in report.effects
    assert report.reference_error == pytest.approx(1.0, abs=1e-5)
    assert (report.truths, report.absolute_error) == (1, pytest.approx(0.75))
    engine.close()


def test_state_is_carried_through_the_release(tmp_path):
    manifest = package(counter(tmp_path / "sum.onnx"), tmp_path / "r", "--state", "state=stateN")
    assert [(pair.input, pair.output) for pair in manifest.state] == [("state", "stateN")]
    assert [spec.name for spec in manifest.signature] == ["input"]
    with np.load(tmp_path / "r" / "golden.npz") as golden:
        np.testing.assert_allclose(golden["output.fp32-onnx.y"], golden["x"].cumsum(axis=0), rtol=1e-5)
        assert "output.fp32-onnx.stateN" not in golden.files
    engine = opened(tmp_path / "r")
    assert [engine.infer(np.ones(2, np.float32)).value.tolist() for _ in range(2)] == [[1, 1], [2, 2]]
    engine.close()


def test_several_inputs_of_several_types_and_open_sizes(tmp_path):
    nodes = [node("Cast", ["ids"], "f", to=FLOAT), node("Mul", ["f", "scale"], "y"), node("Identity", ["word"], "echo")]
    inputs = [("ids", INT64, ["n", "tokens"]), ("scale", FLOAT, ["n", 1]), ("word", STRING, ["n"])]
    path = write(tmp_path / "m.onnx", nodes, inputs, [("y", FLOAT, ["n", "tokens"]), ("echo", STRING, ["n"])])
    manifest = package(path, tmp_path / "a")
    assert [(s.name, s.dtype, s.shape) for s in manifest.signature] == [
        ("ids", "int64", (-1,)),
        ("scale", "float32", (1,)),
        ("word", "str", ()),
    ]
    opened(tmp_path / "a").close()
    ids, words = RANDOM.integers(0, 9, (60, 3)), np.array(["a", "b"] * 30)
    np.savez(tmp_path / "x.npz", x=ids, scale=np.full((60, 1), 2, np.float32), word=words)
    package(path, tmp_path / "b", "--reference", tmp_path / "x.npz")
    engine = opened(tmp_path / "b")
    answer = engine.infer({"ids": np.array([4, 5]), "scale": np.array([3], np.float32), "word": "w"})
    assert (answer.outputs["y"].tolist(), answer.outputs["echo"]) == ([12, 15], "w")
    engine.close()


@pytest.mark.parametrize("dtype", ["FLOAT16", "DOUBLE", "INT8", "UINT8", "INT32", "INT64", "BOOL"])
def test_every_type_goes_through(tmp_path, dtype):
    from onnx import TensorProto

    kind = getattr(TensorProto, dtype)
    path = write(tmp_path / "m.onnx", [node("Identity", ["x"], "y")], [("x", kind, ["n", 3])], [("y", kind, ["n", 3])])
    package(path, tmp_path / "r")
    opened(tmp_path / "r").close()


def test_an_int8_file_keeps_its_scales(tmp_path):
    pytest.importorskip("ai_edge_litert")
    make_release(tmp_path / "made", variants=["int8-litert", "fp32-litert"])
    files = [tmp_path / "made" / "variants" / f"{kind}-litert.tflite" for kind in ("int8", "fp32")]
    manifest = package(files, tmp_path / "r", "--labels", ",".join(LABELS), "--input-scale", "1/255")
    assert (manifest.sample.dtype, manifest.sample.shape) == ("uint8", (1, 16, 16))
    (spec,) = manifest.variants[0].inputs
    assert (spec.dtype, spec.zero_point) == ("int8", -128)
    assert spec.scale == pytest.approx(1 / 255)
    for variant in manifest.variants:
        engine = opened(tmp_path / "r", variant.id)
        x, y = digits(20, seed=4)
        assert [LABELS.index(engine.infer(one[None]).label) for one in x] == y.tolist()
        engine.close()


def test_channels_first_models_take_pictures_with_their_own_mean(tmp_path):
    nodes = [node("GlobalAveragePool", ["image"], "pooled"), node("Flatten", ["pooled"], "y")]
    path = write(tmp_path / "m.onnx", nodes, [("image", FLOAT, ["n", 3, 16, 20])], [("y", FLOAT, ["n", 3])])
    arguments = ["--input-scale", "1/255", "--mean", "0.5,0.25,0", "--std", "0.5,1,2"]
    manifest = package(path, tmp_path / "r", *arguments)
    assert (manifest.sample.dtype, manifest.sample.shape, manifest.sample.kind) == ("uint8", (16, 20, 3), "image")
    engine = opened(tmp_path / "r")
    picture = RANDOM.integers(0, 256, (16, 20, 3), dtype=np.uint8)
    expected = ((picture / 255 - [0.5, 0.25, 0]) / [0.5, 1, 2]).mean(axis=(0, 1))
    np.testing.assert_allclose(engine.infer(picture).value, expected, atol=1e-5)
    engine.close()


def test_a_file_that_no_backend_can_run_is_refused_with_the_operator(tmp_path, capsys):
    unknown = write(tmp_path / "u.onnx", [node("Frobnicate", ["x"], "y")], [("x", FLOAT, [1])], [("y", FLOAT, [1])])
    package(unknown, tmp_path / "r", code=1)
    error = capsys.readouterr().err
    assert "Frobnicate" in error
    assert error.count("\n") == 1
    assert not (tmp_path / "r").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["u.onnx"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--labels", "a"], "at least two different names"),
        (["--labels", "a,b"], "2 labels need (batch, 2)"),
        (["--task", "cooking"], "invalid choice"),
        (["--task", "classification"], "name the classes with --labels"),
        (["--task", "detection"], "no boxes among the outputs"),
        (["--state", "a=b"], "expected INPUT=OUTPUT"),
        (["--input-range", "2", "1"], "the first must be below the second"),
        (["--input-scale", "1/0"], "expected a number or a fraction"),
        (["--mean", "1"], "--mean and --std go together"),
        (["--mean", "1", "--std", "0"], "must be above 0"),
        (["--name", "Not A Name"], "small letters"),
        (["--version", "0"], "must be at least 1"),
        (["--reference", "no.npz"], "no.npz: no such file"),
        (["--model", "no.onnx"], "no.onnx: no such file"),
        (["--model", "m.onnx"], "given twice"),
    ],
)
def test_wrong_options_are_one_line_and_code_2(tmp_path, capsys, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    linear(tmp_path / "m.onnx")
    try:
        code = main(["package", "--model", "m.onnx", "--out", "r", *arguments])
    except SystemExit as left:
        code = left.code
    error = capsys.readouterr().err
    assert (code, message in error, error.count("\n")) == (2, True, 1), error
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", "a,b,c,d\n1,2,3\n", "t.csv:2: 3 cells for 4 columns"),
        ("t.csv", "a,b,c,d\n1,2,3,x\n", "t.csv:2: column d: 'x' is no number"),
        ("t.csv", "", "expected a line of column names"),
        ("t.npz", {"z": np.zeros((60, 4))}, "no array 'x'"),
        ("t.npz", {"x": np.zeros((60, 4)), "y": np.zeros(59)}, "as many samples in each array"),
        ("t.npz", {"x": np.zeros((20, 4), np.float32)}, "needs 50"),
        ("t.npz", {"x": np.full((60, 4), np.nan)}, "sample 0 has NaN"),
        ("t.npz", {"x": np.zeros((60, 5), np.float32)}, "samples have shape (5), but the model takes (4)"),
    ],
)
def test_a_reference_that_cannot_be_used_leaves_nothing_behind(tmp_path, capsys, name, content, message):
    path, _ = linear(tmp_path / "m.onnx")
    if isinstance(content, str):
        (tmp_path / name).write_text(content)
    else:
        np.savez(tmp_path / name, **content)
    assert main(
        ["package", "--model", str(path), "--out", str(tmp_path / "r"), "--reference", str(tmp_path / name)]
    ) in {1, 2}
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "r").exists()


def test_it_needs_no_torch(tmp_path):
    path, _ = linear(tmp_path / "m.onnx")
    np.savez(tmp_path / "x.npz", x=RANDOM.normal(size=(60, 4)).astype(np.float32), y=np.arange(60) % 3)
    code = (
        "import sys; sys.modules['torch'] = None; sys.modules['onnx'] = None\n"
        "from cloud_trainer.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    arguments = ["package", "--model", path, "--labels", "a,b,c", "--reference", tmp_path / "x.npz", "--json"]
    arguments += ["--out", tmp_path / "r"]
    found = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, check=True
    )
    assert json.loads(found.stdout)["profile"] is True
