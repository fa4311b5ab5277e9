"""``edge-agent enroll``: everything is checked before anything is written."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from edge_agent.cli import main
from shared.enrolment import BrokerAddress, Enrolment, load_enrolment, save_enrolment


def write(path: Path, root: dict[str, Any]) -> Path:
    enrolment = Enrolment(
        format=1,
        site="home",
        device="pi-garage",
        models=("digits",),
        broker=BrokerAddress(host="127.0.0.1", port=9),
        repository="http://127.0.0.1:9/",
        root=root,
        floors={},
        not_before=0.0,
        created="2026-01-01T00:00:00Z",
    )
    save_enrolment(enrolment, path)
    return path


def version_changed(root: dict[str, Any]) -> None:
    root["signed"]["version"] += 1


def threshold_lowered(root: dict[str, Any]) -> None:
    root["signed"]["roles"]["root"]["threshold"] = 1
    del root["signatures"][0]


def signatures_removed(root: dict[str, Any]) -> None:
    root["signatures"] = []


def another_role(root: dict[str, Any]) -> None:
    root["signed"] = {"_type": "snapshot", "meta": {}, **{k: root["signed"][k] for k in ("version", "spec_version")}}
    root["signed"]["expires"] = "2040-01-01T00:00:00Z"


def emptied(root: dict[str, Any]) -> None:
    root.clear()


def test_a_genuine_file_enrols_and_writes_a_configuration(root, tmp_path, capsys):
    state, config = tmp_path / "state", tmp_path / "agent.toml"
    words = ["enroll", str(write(tmp_path / "e.json", root)), "--state", str(state), "--config-out", str(config)]
    assert main(words) == 0
    assert load_enrolment(state / "enrolment.json").device == "pi-garage"
    assert 'state = "state"' in config.read_text()
    assert "enrolled home/pi-garage for digits" in capsys.readouterr().out


def test_a_configuration_may_lie_in_the_state_directory(root, tmp_path):
    state = tmp_path / "state"
    words = ["--state", str(state), "--config-out", str(state / "agent.toml")]
    assert main(["enroll", str(write(tmp_path / "e.json", root)), *words]) == 0
    assert (state / "agent.toml").exists()


@pytest.mark.parametrize("tamper", [version_changed, threshold_lowered, signatures_removed, another_role, emptied])
def test_a_file_whose_root_was_changed_is_refused_and_nothing_written(root, tmp_path, capsys, tamper):
    changed = copy.deepcopy(root)
    tamper(changed)
    path = write(tmp_path / "e.json", changed)
    assert main(["enroll", str(path), "--state", str(tmp_path / "state")]) == 2
    error = capsys.readouterr().err
    assert f"{path}: its root of trust is not genuine" in error
    assert len(error.splitlines()) == 1
    assert [file.name for file in tmp_path.iterdir()] == ["e.json"]


@pytest.mark.parametrize(
    ("config", "text"), [("nodir/agent.toml", "there is no directory"), ("e.json", "exists already")]
)
def test_a_configuration_that_cannot_be_written_leaves_nothing_enrolled(root, tmp_path, capsys, config, text):
    path = write(tmp_path / "e.json", root)
    words = ["--state", str(tmp_path / "state"), "--config-out", str(tmp_path / config)]
    assert main(["enroll", str(path), *words]) == 2
    error = capsys.readouterr().err
    assert f"--config-out {tmp_path / config}: {text}" in error
    assert [file.name for file in tmp_path.iterdir()] == ["e.json"]


def test_a_state_directory_that_cannot_be_written_leaves_no_configuration(root, tmp_path, capsys):
    path = write(tmp_path / "e.json", root)
    (tmp_path / "state" / "enrolment.json").mkdir(parents=True)
    words = ["--state", str(tmp_path / "state"), "--config-out", str(tmp_path / "agent.toml")]
    assert main(["enroll", str(path), *words]) == 2
    error = capsys.readouterr().err
    assert f"{tmp_path / 'state' / 'enrolment.json'}: cannot be written: it is a directory, not a file" in error
    assert not (tmp_path / "agent.toml").exists()
