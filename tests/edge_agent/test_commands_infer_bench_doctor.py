"""The commands that need no broker, through the real entry point."""

import json

import numpy as np
import pytest

from edge_agent import hardware
from edge_agent.cli import main
from edge_agent.commands import doctor
from edge_agent.hardware import Hardware
from tests.releases import LABELS, digits


@pytest.fixture
def samples(tmp_path):
    x, y = digits(5, seed=3)
    np.savez(tmp_path / "x.npz", x=x, ids=[f"cam-{i}" for i in range(5)])
    return tmp_path / "x.npz", x, [LABELS[i] for i in y]


@pytest.mark.parametrize("command", ["infer", "bench"])
@pytest.mark.parametrize("file", ["profile.npz", "variants/fp32-onnx.onnx"])
def test_a_release_that_was_cut_short_is_refused(own_release, samples, capsys, command, file):
    (own_release / file).write_bytes((own_release / file).read_bytes()[:-7])
    assert main([command, str(own_release), *([str(samples[0])] if command == "infer" else [])]) == 1
    captured = capsys.readouterr()
    assert "the file is damaged" in captured.err
    assert captured.out == ""


def test_bench_measures_every_variant_and_every_step(release, capsys):
    assert main(["bench", str(release), "--seconds", "0.01", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["release"] == "digits/1"
    assert len(found["variants"]) == 4
    assert [row["variant"] for row in found["variants"] if row["chosen"]] == [found["chosen"]]
    steps = ["preprocess", "encode", "forward", "decode", "postprocess", "raw", "infer"]
    assert list(found["stages_us"]) == steps
    assert found["stages_us"]["forward"] > 0
    assert found["ratio_to_raw"] == pytest.approx(found["stages_us"]["infer"] / found["stages_us"]["raw"])


def test_bench_prints_for_people(release, capsys):
    assert main(["bench", str(release), "--seconds", "0.01"]) == 0
    out = capsys.readouterr().out
    assert "* " in out
    assert "fastest within 1.0 point of the best" in out
    assert "times a bare call of the runtime" in out


@pytest.mark.parametrize("words", [["--seconds", "0"], ["--seconds", "61"], ["--threads", "0"]])
def test_bench_refuses_nonsense(release, capsys, words):
    assert main(["bench", str(release), *words]) == 2
    assert "must be" in capsys.readouterr().err


def test_doctor_is_content_here(capsys):
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    assert "an engine can run here" in out
    assert "ai-edge-litert" in out


def test_doctor_json_has_hardware_and_checks(capsys):
    assert main(["doctor", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["ok"] is True
    assert found["hardware"]["backends"]["onnxruntime"].startswith("onnxruntime")
    assert {check["name"] for check in found["checks"]} >= {"python", "machine", "memory", "disk", "clock"}


def test_doctor_without_a_backend_fails_and_says_how_to_get_one(monkeypatch, capsys):
    monkeypatch.setattr("edge_agent.backends.find_spec", lambda name: None)
    assert main(["doctor"]) == 1
    out = capsys.readouterr().out
    assert "no engine can run here" in out
    assert "pip install 'sanderling[onnx]'" in out
    assert "pip install 'sanderling[tflite]'" in out


def test_doctor_sees_a_backend_that_is_installed_but_broken(monkeypatch, capsys):
    def broken(name):
        raise ImportError("wrong ELF class: ELFCLASS64\nmore")

    monkeypatch.setattr("edge_agent.backends.import_module", broken)
    assert main(["doctor"]) == 1
    assert "installed, but: wrong ELF class: ELFCLASS64" in capsys.readouterr().out


def pi(**changes):
    return Hardware(
        **{
            "machine": "aarch64",
            "bits": 64,
            "system": "Debian",
            "cpu": "Raspberry Pi",
            "cpus": 4,
            "memory_mib": 900,
            "python": "3.11.2",
            "backends": {"litert": "ai-edge-litert 2.1"},
            "clock": "synchronized",
            **changes,
        }
    )


def levels(device, disk=5000, temperature=50.0):
    return {check.name: (check.level, check.help) for check in doctor.diagnose(device, {}, disk, temperature)}


def test_one_backend_is_enough_and_the_other_only_a_note():
    found = levels(pi())
    assert found["litert"] == ("ok", "")
    assert found["onnxruntime"] == ("note", "pip install 'sanderling[onnx]'")
    assert levels(pi(backends={}))["onnxruntime"][0] == "missing"


def test_a_32_bit_system_on_a_64_bit_kernel_gets_other_advice():
    found = levels(pi(bits=32, backends={}))
    assert "tflite-runtime" in found["litert"][1]
    assert "no wheels for 32-bit" in found["onnxruntime"][1]
    assert levels(pi(bits=32, machine="armv7l", backends={}))["litert"][1] == "pip install 'sanderling[tflite]'"


def test_what_is_short_gets_a_note_and_a_way_out():
    found = levels(pi(memory_mib=100, clock="unsynchronized"), disk=10, temperature=85.0)
    for name in ("memory", "disk", "clock", "temperature"):
        assert found[name][0] == "note"
    assert "timedatectl" in found["clock"][1]
    assert "temperature" not in {c.name for c in doctor.diagnose(pi(), {}, 5000, None)}


def test_doctor_shows_what_it_read(monkeypatch, capsys):
    monkeypatch.setattr(hardware, "temperature_c", lambda: 61.5)
    monkeypatch.setattr(hardware, "throttled", lambda: True)
    assert main(["doctor", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["temperature_c"], found["throttled"]) == (61.5, True)
