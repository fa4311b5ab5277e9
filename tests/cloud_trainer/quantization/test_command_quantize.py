"""cloud-trainer quantize: from somebody else's ONNX file to a release, and what is said to what it can't do."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest

from cloud_trainer.cli import main
from edge_agent import Engine
from shared.manifest import load_manifest
from tests.cloud_trainer.quantization.foreign_models import classifier, samples

NUMBERS = ("--json", "--precisions", "int8", "--gate-points", "30")


@pytest.fixture
def pets(tmp_path):
    """A model, its data, and a function that runs the command on them."""
    model = classifier(tmp_path / "pets.onnx")
    x, y = samples(model)
    data = tmp_path / "data.npz"
    np.savez(data, x=x, y=y)

    def run(*more, model=model, data=data, labels="a,b,c,d"):
        words = ["quantize", str(model), "--calibration", str(data), "--out", str(tmp_path / "out")]
        return main([*words, *(["--labels", labels] if labels else []), *more])

    return run


def failing(capsys, code, expected, out):
    error = capsys.readouterr().err.strip().splitlines()
    assert code in {1, 2}
    assert expected in error[-1], error
    assert not out.exists()


def test_a_release_of_every_variant_that_devices_can_load(pets, tmp_path, capsys):
    assert pets("--precisions", "int8,fp16", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert [one["id"] for one in told["variants"]] == ["fp32-onnx", "int8-onnx", "int8-arm-onnx", "fp16-onnx"]
    assert told["measure"] == "accuracy"
    assert told["variants"][0]["score"] == 1
    assert {one["variant"]: one["sqnr_db"] > 5 for one in told["agreements"]} == {
        "int8-onnx": True, "int8-arm-onnx": True, "fp16-onnx": True,
    }  # fmt: skip
    manifest = load_manifest(tmp_path / "out")
    assert {v.id: v.meant_for for v in manifest.variants}["int8-arm-onnx"] == ("aarch64", "arm64")
    assert all(next(iter(v.quality)) == "accuracy" for v in manifest.variants)
    assert {d.path for d in manifest.documents} == {"card.md", "report.html"}
    engine = Engine.load(tmp_path / "out", variant="int8-onnx")
    with np.load(tmp_path / "data.npz") as file:
        assert engine.infer(file["x"][0]).label == "abcd"[file["y"][0]]
    engine.close()


@pytest.mark.parametrize("names", [{}, {"names": np.array(["ant", "bee", "cat", "dog"])}])
def test_classes_that_nobody_named(pets, tmp_path, capsys, names):
    with np.load(tmp_path / "data.npz") as file:
        np.savez(tmp_path / "data.npz", x=file["x"], y=file["y"], **names)
    assert pets("--quality", "labels", "--precisions", "int8", "--json", labels="") == 0
    assert json.loads(capsys.readouterr().out)["measure"] == "accuracy"
    assert load_manifest(tmp_path / "out").labels == tuple(names.get("names", "0123"))


def test_int8_that_misses_its_gate_keeps_its_worst_layers_in_float(pets, tmp_path, capsys):
    model = classifier(tmp_path / "hard.onnx", spread=3.0)
    x, y = samples(model, 300)
    np.savez(tmp_path / "hard.npz", x=x, y=y)
    words = ("--precisions", "int8", "--gate-points", "2", "--json")
    assert pets(*words, model=model, data=tmp_path / "hard.npz") == 0
    told = json.loads(capsys.readouterr().out)
    story = told["outcomes"]["int8-onnx"]
    assert story["passed"]
    assert story["trials"][0]["score"] < told["goal"] <= story["score"]
    assert "in float" in story["trials"][-1]["what"]
    assert "How int8-onnx was repaired" in (tmp_path / "out" / "report.html").read_text()


def test_int8_that_cannot_be_repaired_is_left_out_with_the_reason(pets, tmp_path, capsys):
    model = classifier(tmp_path / "hard.onnx", spread=3.0)
    x, y = samples(model, 300)
    np.savez(tmp_path / "hard.npz", x=x, y=y)
    words = ("--precisions", "int8", "--gate-points", "2", "--no-mixed")
    assert pets(*words, model=model, data=tmp_path / "hard.npz") == 0
    assert [v.id for v in load_manifest(tmp_path / "out").variants] == ["fp32-onnx"]
    assert "int8-onnx was left out: accuracy 0." in capsys.readouterr().out
    assert not (tmp_path / "out" / "variants" / "int8.onnx").exists()


def test_without_truth_agreement_with_the_float_file_is_the_gate(pets, tmp_path, capsys):
    with np.load(tmp_path / "data.npz") as file:
        np.savez(tmp_path / "bare.npz", x=file["x"])
    assert pets(*NUMBERS, data=tmp_path / "bare.npz", labels="") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["measure"] == "r2 against fp32"
    assert told["variants"][0]["score"] == 1 > told["variants"][1]["score"] > 0.7


def test_numbers_are_judged_by_r2(pets, tmp_path, capsys):
    with np.load(tmp_path / "data.npz") as file:
        x = file["x"]
    engine = Engine.load(tmp_path / "pets.onnx", learn=0)
    y = np.array([engine.infer(one).outputs["scores"].ravel() for one in x])
    engine.close()
    np.savez(tmp_path / "numbers.npz", x=x, y=y)
    code = pets(*NUMBERS, "--task", "forecast", data=tmp_path / "numbers.npz", labels="")
    told = json.loads(capsys.readouterr().out)
    assert code == 0
    assert told["measure"] == "r2"
    assert next(iter(told["variants"][1]["quality"])) == "r2"


def test_numbers_that_are_more_or_fewer_than_the_answers(pets, tmp_path, capsys):
    code = pets("--task", "regression", labels="")
    failing(capsys, code, "y has 1 numbers a sample, but the model answers 4", tmp_path / "out")


def test_operators_without_an_int8_form_are_named_and_stay_in_float(pets, tmp_path, capsys):
    model = classifier(tmp_path / "odd.onnx", odd=True)
    assert pets("--precisions", "int8", "--gate-points", "100", model=model) == 0
    assert "Left in float: 1 Softsign" in (tmp_path / "out" / "card.md").read_text()


def test_a_file_of_an_old_version_and_a_batch_of_one_is_quantized(pets, tmp_path):
    model = classifier(tmp_path / "old.onnx", opset=11, batch=1)
    x, y = samples(model)
    np.savez(tmp_path / "old.npz", x=x, y=y)
    assert pets("--precisions", "int8", model=model, data=tmp_path / "old.npz") == 0
    assert len(load_manifest(tmp_path / "out").variants) == 3


def test_what_is_no_onnx_file(pets, tmp_path, capsys):
    bad = tmp_path / "bad.onnx"
    bad.write_bytes(b"not a model at all")
    failing(capsys, pets(model=bad), "no ONNX model that can be read", tmp_path / "out")
    failing(capsys, pets(model=tmp_path / "none.onnx"), "no such file", tmp_path / "out")
    other = tmp_path / "model.tflite"
    other.write_bytes(b"")
    failing(capsys, pets(model=other), "expected a .onnx file; quantize a TFLite file where", tmp_path / "out")


def test_weights_in_a_file_that_is_not_there(pets, tmp_path, capsys):
    model = onnx.load(tmp_path / "pets.onnx")
    onnx.save(model, tmp_path / "apart.onnx", save_as_external_data=True, location="apart.bin", size_threshold=0)
    (tmp_path / "apart.bin").unlink()
    failing(capsys, pets(model=tmp_path / "apart.onnx"), "apart.bin", tmp_path / "out")


def test_a_file_that_is_quantized_already(pets, tmp_path, capsys):
    assert pets("--precisions", "int8") == 0
    again = tmp_path / "again.onnx"
    again.write_bytes((tmp_path / "out" / "variants" / "int8.onnx").read_bytes())
    code = main(["quantize", str(again), "--calibration", str(tmp_path / "data.npz"), "--out", str(tmp_path / "b")])
    failing(capsys, code, "is quantized already", tmp_path / "b")


@pytest.mark.parametrize(
    ("arrays", "expected"),
    [
        (
            {"x": np.zeros((20, 1, 8, 8), np.float32), "y": np.zeros(20, int)},
            "20 samples; quantization needs at least 48",
        ),
        ({"x": np.ones((60, 5), np.float32), "y": np.zeros(60, int)}, "x"),
        ({"x": np.ones((60, 1, 8, 8), np.float32), "y": np.full(60, 9)}, "y has class 9"),
        ({"x": np.full((60, 1, 8, 8), np.nan, np.float32), "y": np.zeros(60, int)}, "NaN"),
        ({"x": np.ones((60, 1, 8, 8), np.float32), "y": np.zeros(59, int)}, "as many samples"),
        ({"z": np.ones((60, 1, 8, 8), np.float32)}, "no array 'x'"),
    ],
)
def test_data_that_does_not_fit(pets, tmp_path, capsys, arrays, expected):
    np.savez(tmp_path / "wrong.npz", **arrays)
    failing(capsys, pets(data=tmp_path / "wrong.npz"), expected, tmp_path / "out")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--precisions", "int7"), "'int7' is none of int8"),
        (("--precisions", ""), "name some of"),
        (("--gate-points", "0"), "must be above 0"),
        (("--samples", "3"), "must be at least 16"),
        (("--name", "No Good"), "small letters"),
        (("--version", "0"), "must be at least 1"),
        (("--quality", "none.npz"), "no such file"),
    ],
)
def test_words_that_say_nothing_sensible(pets, tmp_path, capsys, words, expected):
    code = pets(*words)
    assert code == 2
    failing(capsys, code, expected, tmp_path / "out")
