from __future__ import annotations

import io
import re

import pytest

from cloud_trainer import cli
from cloud_trainer.demo import story
from cloud_trainer.demo.progress import Progress
from cloud_trainer.demo.supervise import DemoError
from cloud_trainer.demo.workspace import Scale, Workspace
from tests.cloud_trainer.demo import simulated


@pytest.fixture
def told(monkeypatch, tmp_path_factory):
    """The command with a made-up run in place of the real one."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path_factory.mktemp("temporary")))
    seen = {}

    def run(root, seed, out, progress):
        seen.update(root=root, seed=seed, out=out)
        progress.stage("running")
        if isinstance(seen.get("gives"), BaseException):
            raise seen["gives"]
        return seen.get("gives") or simulated.story()

    monkeypatch.setattr(story, "run", run)
    return seen


def test_a_closed_loop_is_exit_code_0_and_leaves_no_workspace(told, tmp_path, capsys):
    assert cli.main(["demo", "--out", str(tmp_path / "report"), "--seed", "5"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("the loop closed: every device runs release 2\n")
    assert len(re.findall(r"^cam-[123] ", out, re.MULTILINE)) == 3
    assert told["seed"] == 5
    assert not told["root"].exists()


def test_a_loop_that_stays_open_is_exit_code_1_and_keeps_the_logs(told, tmp_path, capsys):
    told["gives"] = simulated.story({"before": 0.97, "during": 0.5, "after": 0.6})
    assert cli.main(["demo", "--out", str(tmp_path / "report"), "--workspace", str(tmp_path / "w")]) == 1
    captured = capsys.readouterr()
    assert captured.out.startswith("the loop did not close: cam-1 was right on")
    assert "not as it should be: cam-2 was right on" in captured.out
    assert f"workspace, with the logs: {tmp_path / 'w'}" in captured.err
    assert told["root"].exists()


def test_a_release_that_was_rolled_back_says_so_first(told, tmp_path, capsys):
    told["gives"] = simulated.rolled_back_story()
    assert cli.main(["demo", "--out", str(tmp_path / "report")]) == 1
    out = capsys.readouterr().out
    assert out.startswith(f"the loop did not close: release 2 was rolled back: {simulated.SLOW}\n")
    assert "of 500 (unfinished)" in out
    assert "not as it should be: cam-1 runs release 1 instead of 2" in out


@pytest.mark.parametrize(("error", "code"), [(DemoError("controller ended"), 1), (KeyboardInterrupt(), 130)])
def test_an_end_before_the_end_has_its_code(told, tmp_path, capsys, error, code):
    told["gives"] = error
    assert cli.main(["demo", "--out", str(tmp_path)]) == code
    assert ("controller ended" if code == 1 else "interrupted") in capsys.readouterr().err
    assert told["root"].exists() == (code == 1)


def test_json_is_one_document(told, tmp_path, capsys):
    import json

    assert cli.main(["demo", "--out", str(tmp_path), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["closed"] is True
    assert len(document["devices"]) == 3


def test_a_workspace_that_is_used_already_is_refused(told, tmp_path, capsys):
    (tmp_path / "file").touch()
    assert cli.main(["demo", "--workspace", str(tmp_path)]) == 2
    assert "must be a new or empty directory" in capsys.readouterr().err
    assert told == {}


def test_a_negative_seed_is_refused(told, tmp_path, capsys):
    assert cli.main(["demo", "--seed", "-1", "--out", str(tmp_path)]) == 2
    assert "--seed -1 must be from 0" in capsys.readouterr().err


def test_every_configuration_file_is_one_that_its_program_takes(tmp_path):
    from cloud_trainer.config import load_controller, load_task
    from edge_agent.config import load_config

    workspace = Workspace(tmp_path, 3, Scale())
    workspace.write(1883, ("onnxruntime",))
    assert load_task(workspace.task).export.runtimes == ("onnxruntime",)
    assert load_task(workspace.task).seed == 3
    assert load_controller(workspace.controller).broker.port == 1883
    for device in workspace.devices.values():
        assert load_config(device.config).source.command == tuple(workspace.camera(device))


def test_a_machine_without_the_exporter_says_so_and_does_onnx_alone(monkeypatch):
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    monkeypatch.delenv("SANDERLING_TFLITE_PYTHON", raising=False)
    runtimes, note = story.exportable()
    assert runtimes == ("onnxruntime",)
    assert "ONNX only" in note


def test_progress_on_a_terminal_is_one_line_that_is_written_over():
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    stream = Terminal()
    progress = Progress(stream)
    progress.stage("training")
    progress.detail("epoch 1")
    progress.note("a note")
    progress.end()
    text = stream.getvalue()
    assert text.count("\n") == 2
    assert "\r\x1b[K" in text
    assert "training: epoch 1" in text
    assert text.rstrip().splitlines()[-1].split("\x1b[K")[-1].startswith("✓")
