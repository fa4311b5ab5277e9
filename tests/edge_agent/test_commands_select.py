"""``edge-agent select`` through the real entry point."""

import json

import pytest

from edge_agent import selection
from edge_agent.cli import main
from tests.edge_agent.test_selection import TensorProto, bare_model


@pytest.fixture(autouse=True)
def quick(monkeypatch, tmp_path):
    """Measurements take no time, and the cache is the test's own. Returns what was measured."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    measured = []
    real = selection.measure

    def measure(manifest, release, variant, *, seconds, threads):
        measured.append((variant.id, threads))
        return real(manifest, release, variant, seconds=seconds / 1000, threads=threads)

    monkeypatch.setattr(selection, "measure", measure)
    return measured


def test_it_prints_the_table_with_the_reasons(release, capsys):
    assert main(["select", str(release)]) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert lines[0] == "digits/1 on this device, one sample at a time"
    assert lines[2].split() == ["variant", "p50", "p99", "RSS", "size", "quality", "why"]
    (star,) = [line for line in lines if line.startswith("*")]
    assert "fastest within 1.0 point of the best" in star
    assert "measuring fp32-onnx" in err.splitlines()


def test_it_prints_one_json_document(release, capsys):
    assert main(["select", str(release), "--json", "--goal", "quality"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["release"] == "digits/1"
    (row,) = [row for row in found["variants"] if row["chosen"]]
    assert row["variant"] == found["chosen"]
    assert row["why"] == "best quality"
    assert row["quality"] == max(r["quality"] for r in found["variants"])


def test_the_second_time_it_remembers_and_again_measures_anew(release, quick, capsys):
    assert main(["select", str(release)]) == 0
    count = len(quick)
    assert main(["select", str(release), "--quality-drop", "0.5"]) == 0
    assert len(quick) == count
    assert main(["select", str(release), "--again", "--threads", "2"]) == 0
    assert quick[count:] == [(name, 2) for name, _ in quick[:count]]
    capsys.readouterr()


def test_a_limit_that_nothing_keeps_fails_and_says_why(release, capsys):
    assert main(["select", str(release), "--p99-ms", "0.000001"]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("edge-agent select: no variant of digits/1 can run here: fp32-onnx: p99 ")


def test_a_bare_file_is_measured_too(tmp_path, capsys):
    path = bare_model(tmp_path / "model.onnx", [("x", TensorProto.FLOAT, ["n", 4])])
    assert main(["select", str(path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["variants"][0]["p50_us"] > 0
    assert found["variants"][0]["why"] == "the only one that can run here"


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--p99-ms", "0"], "--p99-ms must be above 0, got 0"),
        (["--p99-ms", "nan"], "--p99-ms must be above 0, got nan"),
        (["--quality-drop", "2"], "--quality-drop must be 0 to 1, got 2"),
        (["--threads", "0"], "--threads must be 1 to 64, got 0"),
        (["--goal", "beauty"], "invalid choice: 'beauty'"),
    ],
)
def test_wrong_options_are_wrong_use(release, capsys, words, text):
    try:
        code = main(["select", str(release), *words])
    except SystemExit as stop:
        code = stop.code
    assert code == 2
    assert text in capsys.readouterr().err


def test_energy_where_it_cannot_be_measured_is_one_line(release, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("edge_agent.energy.POWERCAP", tmp_path / "none")
    assert main(["select", str(release), "--goal", "energy"]) == 2
    assert capsys.readouterr().err.startswith('edge-agent select: goal "energy" needs a device that measures it')


def test_nothing_there_is_said_in_one_line(own_release, tmp_path, capsys):
    assert main(["select", str(tmp_path / "no.onnx")]) == 2
    (tmp_path / "empty").mkdir()
    assert main(["select", str(tmp_path / "empty")]) == 1
    for file in (own_release / "variants").iterdir():
        file.unlink()
    assert main(["select", str(own_release)]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert "no such release directory or model file" in lines[0]
    assert "not a release directory" in lines[1]
    assert "none of its 4 variants is here (not downloaded)" in lines[2]
    assert len(lines) == 3
