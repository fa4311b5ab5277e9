"""``cloud-trainer fleet init``, ``fleet enroll`` and ``publish`` as a person uses them."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from cloud_trainer.cli import main
from shared.enrolment import load_enrolment
from tests.edge_agent.updates.fleets import write_release


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SANDERLING_KEY_PASSPHRASE", raising=False)
    return tmp_path


INIT = "fleet init fleet --model digits"
ENROLL = "fleet enroll cam-1 --fleet fleet --site plant --broker hub:1883 --repository http://hub:8700 --out cam-1.json"


def test_from_nothing_to_a_published_release_and_an_enrolled_device(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_release(here / "out", 1)
    assert main(INIT.split()) == 0
    assert "move fleet/keys/offline away" in capsys.readouterr().out
    assert main(["publish", "out", "--fleet", "fleet", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "model": "digits",
        "version": 1,
        "variants": ["fp32-onnx", "int8-onnx"],
        "cohort": [],
    }
    assert main(ENROLL.split()) == 0
    enrolment = load_enrolment(here / "cam-1.json")
    assert (enrolment.device, enrolment.broker.host, enrolment.broker.port) == ("cam-1", "hub", 1883)
    assert stat.S_IMODE((here / "cam-1.json").stat().st_mode) == 0o600


def test_a_broker_with_tls_and_a_password(here: Path) -> None:
    (here / "ca.pem").write_text("-----BEGIN CERTIFICATE-----\n")
    assert main([*INIT.split(), "faces", "--model", "words"]) == 0
    options = "--tls --ca ca.pem --username u --password p --model faces"
    assert main(f"{ENROLL} {options}".replace("hub:1883", "[::1]:8883").split()) == 0
    enrolment = load_enrolment(here / "cam-1.json")
    assert enrolment.models == ("faces",)
    assert (enrolment.broker.host, enrolment.broker.tls, enrolment.broker.username) == ("::1", True, "u")
    assert enrolment.broker.ca.startswith("-----BEGIN")


def test_an_enrolment_file_that_exists_is_replaced_by_force_only(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(INIT.split())
    assert main(ENROLL.split()) == 0
    before = (here / "cam-1.json").read_bytes()
    for command, whose in ((ENROLL, "this very device"), (ENROLL.replace("enroll cam-1", "enroll cam-2"), "cam-1")):
        capsys.readouterr()
        assert main(command.split()) == 2
        said = capsys.readouterr().err
        assert f"--out cam-1.json exists already and enrols {whose} (made " in said
        assert said.endswith("; name another file or remove it\n")
        assert (here / "cam-1.json").read_bytes() == before
    (here / "notes.txt").write_text("mine")
    assert main(ENROLL.replace("cam-1.json", "notes.txt").split()) == 2
    assert "notes.txt exists already; name another" in capsys.readouterr().err
    assert main([*ENROLL.replace("enroll cam-1", "enroll cam-2").split(), "--force"]) == 0
    assert load_enrolment(here / "cam-1.json").device == "cam-2"


@pytest.mark.parametrize(
    ("command", "code", "message"),
    [
        ("fleet init", 2, "the following arguments are required"),
        ("fleet init fleet", 2, "the following arguments are required: --model"),
        (INIT, 2, "fleet exists already"),
        ("fleet init new --model Digits", 2, "model 'Digits' must be"),
        ("publish out --fleet nowhere", 2, "nowhere: not a fleet directory"),
        ("publish nowhere --fleet fleet", 1, "nowhere/manifest.json: not a release directory"),
        ("publish out --fleet fleet --cohort a,,b", 2, "--cohort 'a,,b' must be"),
        ("publish faces --fleet fleet", 2, "has no model 'faces'"),
        ("publish out", 2, "the following arguments are required: --fleet"),
        (ENROLL.replace("hub:1883", "hub"), 2, "--broker 'hub' must be HOST:PORT"),
        (ENROLL.replace("hub:1883", "hub:70000"), 2, "--broker 'hub:70000' must be HOST:PORT"),
        (ENROLL.replace("http://hub:8700", "hub"), 2, "repository 'hub' must be"),
        (ENROLL.replace("cam-1.json", "no/such/cam-1.json"), 2, "cannot be written: No such file"),
        (f"{ENROLL} --ca ca.pem", 2, "add --tls"),
        (f"{ENROLL} --tls --ca ca.pem", 2, "--ca ca.pem cannot be read"),
        (f"{ENROLL} --tls --ca out/manifest.json", 2, "holds no PEM certificate"),
        (f"{ENROLL} --password p", 2, "--password needs --username"),
        (f"{ENROLL} --model faces", 2, "has no model 'faces'"),
    ],
)
def test_mistakes_get_one_line_and_the_right_exit_code(
    here: Path, capsys: pytest.CaptureFixture[str], command: str, code: int, message: str
) -> None:
    write_release(here / "out", 1)
    write_release(here / "faces", 1, "faces")
    main(INIT.split())
    capsys.readouterr()
    try:
        found = main(command.split())
    except SystemExit as stop:
        found = stop.code
    said = capsys.readouterr().err
    assert (found, said.count("\n")) == (code, 1)
    assert message in said
