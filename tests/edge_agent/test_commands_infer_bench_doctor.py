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


def infer(release, *words):
    return main(["infer", str(release), *map(str, words), "--variant", "fp32-onnx"])


def test_infer_prints_a_table_for_people(release, samples, capsys):
    path, _, labels = samples
    assert infer(release, path) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["id", "label", "score"]
    assert [line.split()[:2] for line in lines[1:]] == [[f"cam-{i}", label] for i, label in enumerate(labels)]


def test_infer_prints_one_json_document_for_programs(release, samples, capsys):
    path, _, labels = samples
    assert infer(release, path, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["variant"] == "fp32-onnx"
    assert [answer["label"] for answer in found["answers"]] == labels
    assert found["answers"][0]["id"] == "cam-0"
    assert found["answers"][0]["release"] == 1


@pytest.mark.parametrize("kind", ["npy", "one.npy", "json", "objects.json", "jsonl"])
def test_infer_reads_every_kind_of_file_and_writes_json_lines(release, samples, tmp_path, kind, capsys):
    _, x, labels = samples
    path, out = tmp_path / f"samples.{kind}", tmp_path / "answers.jsonl"
    if kind == "one.npy":
        x, labels = x[0], labels[:1]
    if kind.endswith("npy"):
        np.save(path, x)
    elif kind == "json":
        path.write_text(json.dumps(x.tolist()))
    elif kind == "objects.json":
        path.write_text(json.dumps([{"id": str(i), "values": row.tolist()} for i, row in enumerate(x)]))
    else:
        path.write_text("\n".join(json.dumps({"values": row.tolist()}) for row in x) + "\n\n")
    assert infer(release, path, "--out", out) == 0
    answers = [json.loads(line) for line in out.read_text().splitlines()]
    assert [answer["label"] for answer in answers] == labels
    assert [answer["id"] for answer in answers] == [str(i) for i in range(len(labels))]
    assert f"{len(labels)} answers of fp32-onnx" in capsys.readouterr().out


def test_infer_measures_when_no_variant_is_named(release, samples, capsys):
    assert main(["infer", str(release), str(samples[0]), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [answer["label"] for answer in found["answers"]] == samples[2]


@pytest.mark.parametrize(
    ("name", "content", "code", "text"),
    [
        ("x.csv", b"1,2", 2, "expected a file ending in .npz, .npy, .json, .jsonl"),
        ("x.npz", b"no zip", 1, "x.npz: "),
        ("x.npy", b"\x93NUMPY broken", 1, "x.npy: "),
        ("x.json", b"{}", 1, "expected a list of samples, got dict"),
        ("x.json", b"[1,", 1, "x.json: "),
        ("x.json", b'[{"id": "a"}]', 1, "sample 0 has no 'values'"),
        ("x.json", b"[[1, 2], [3]]", 1, "regular arrays"),
        ("x.json", b"[[1, 2]]", 1, "expected shape (1, 16, 16), got (1, 2)"),
        ("x.jsonl", b"[1]\n[2\n", 1, "line 2: "),
        ("x.npy", None, 2, "x.npy: No such file"),
    ],
)
def test_infer_says_in_one_line_what_is_wrong_with_a_file(release, tmp_path, capsys, name, content, code, text):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    assert infer(release, tmp_path / name) == code
    error = capsys.readouterr().err
    assert error.startswith("edge-agent infer: ")
    assert text in error
    assert error.count("\n") == 1


def test_infer_refuses_pickles_and_archives_without_x(release, tmp_path, capsys):
    np.save(tmp_path / "x.npy", np.array([{}], dtype=object))
    assert infer(release, tmp_path / "x.npy") == 1
    np.savez(tmp_path / "x.npz", y=np.zeros(3))
    assert infer(release, tmp_path / "x.npz") == 1
    assert "has no array x; it has y" in capsys.readouterr().err


def test_infer_into_a_missing_directory_and_from_a_damaged_release(release, own_release, samples, tmp_path, capsys):
    assert infer(release, samples[0], "--out", tmp_path / "no" / "a.jsonl") == 2
    (own_release / "variants/fp32-onnx.onnx").write_bytes(b"x")
    assert infer(own_release, samples[0]) == 1
    error = capsys.readouterr().err
    assert "No such file or directory" in error
    assert "the file is damaged" in error


def test_infer_names_the_file_whose_samples_do_not_fit(release, tmp_path, capsys):
    np.savez(tmp_path / "wrong.npz", x=np.zeros((2, 8, 8), np.uint8))
    assert infer(release, tmp_path / "wrong.npz") == 1
    assert f"{tmp_path / 'wrong.npz'}: expected shape (2, 16, 16), got (2, 8, 8)" in capsys.readouterr().err


def test_infer_with_a_variant_that_there_is_not(release, samples, capsys):
    assert main(["infer", str(release), str(samples[0]), "--variant", "int4-onnx"]) == 2
    assert "has no variant 'int4-onnx'; it has fp32-onnx" in capsys.readouterr().err


def test_infer_says_which_variants_are_not_there(own_release, samples, capsys):
    (own_release / "variants/int8-onnx.onnx").unlink()
    assert main(["infer", str(own_release), str(samples[0]), "--json"]) == 0
    captured = capsys.readouterr()
    assert captured.err == f"edge-agent infer: not in {own_release}: int8-onnx\n"
    assert len(json.loads(captured.out)["answers"]) == 5


@pytest.mark.parametrize("command", ["infer", "bench"])
@pytest.mark.parametrize("file", ["profile.npz", "variants/fp32-onnx.onnx"])
def test_a_release_that_was_cut_short_is_refused(own_release, samples, capsys, command, file):
    (own_release / file).write_bytes((own_release / file).read_bytes()[:-7])
    assert main([command, str(own_release), *([str(samples[0])] if command == "infer" else [])]) == 1
    captured = capsys.readouterr()
    assert "the file is damaged" in captured.err
    assert captured.out == ""


def test_a_bare_model_file_is_for_later(samples, capsys):
    assert infer("model.onnx", samples[0]) == 2
    assert "cloud-trainer package" in capsys.readouterr().err


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

    monkeypatch.setattr(doctor, "import_module", broken)
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
