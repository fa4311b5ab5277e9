"""``edge-agent bench`` on bare files: the same table as for releases."""

import json

import numpy as np
import pytest
from PIL import Image

from edge_agent.cli import main
from tests.edge_agent.test_bare import FLOAT, INT64, linear, node, write


def test_a_bare_file_has_the_same_table(tmp_path, capsys):
    path, _ = linear(tmp_path / "m.onnx")
    assert main(["bench", str(path), "--seconds", "0.01", "--threads", "2"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"{path} on this device, one sample at a time, 2 threads\n\nvariant ")
    assert "* fp32-onnx" in shown
    assert "random samples gave numbers" in shown
    assert main(["bench", str(path), "--seconds", "0.01", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["variants"][0]["p99_us"] >= found["variants"][0]["p50_us"] > 0
    assert list(found["stages_us"]) == ["preprocess", "encode", "forward", "decode", "postprocess", "raw", "infer"]


def test_several_inputs_of_open_sizes_take_random_samples_or_a_file(tmp_path, capsys):
    nodes = [node("Cast", ["ids"], "f", to=FLOAT), node("Mul", ["f", "scale"], "y")]
    inputs = [("ids", INT64, ["n", "tokens"]), ("scale", FLOAT, ["n", 1])]
    path = write(tmp_path / "m.onnx", nodes, inputs, [("y", FLOAT, ["n", "tokens"])])
    assert main(["bench", str(path), "--seconds", "0.01"]) == 0
    np.savez(tmp_path / "x.npz", ids=np.arange(12).reshape(4, 3), scale=np.ones((4, 1), np.float32))
    assert main(["bench", str(path), "--seconds", "0.01", "--samples", str(tmp_path / "x.npz")]) == 0
    assert "\ninfer takes" in capsys.readouterr().out


def test_images_are_samples_of_a_model_of_floats(tmp_path, capsys):
    shape = ["n", 3, 16, 16]
    path = write(tmp_path / "m.onnx", [node("Relu", ["x"], "y")], [("x", FLOAT, shape)], [("y", FLOAT, shape)])
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (40, 20)).save(tmp_path / "photos" / "a.png")
    words = ["bench", str(path), "--seconds", "0.01", "--samples", str(tmp_path / "photos")]
    assert main(words) == 2
    assert "--pixels 255 or --pixels 1" in capsys.readouterr().err
    assert main([*words, "--pixels", "1"]) == 1
    assert "--resize makes it fit" in capsys.readouterr().err
    assert main([*words, "--pixels", "1", "--resize"]) == 0


@pytest.mark.parametrize(
    ("arguments", "message", "code"),
    [(["no.onnx"], "no.onnx: no such", 2), (["m.onnx", "--threads", "0"], "--threads must be 1 to 64", 2)],
)
def test_mistakes_are_one_line(tmp_path, capsys, monkeypatch, arguments, message, code):
    monkeypatch.chdir(tmp_path)
    linear(tmp_path / "m.onnx")
    assert main(["bench", *arguments]) == code
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
