"""The enrolment file: private, checked, and one error line when it is wrong."""

import json

import pytest

from shared.enrolment import FORMAT, BrokerAddress, Enrolment, load_enrolment, save_enrolment
from shared.errors import ConfigError

ENROLMENT = Enrolment(
    format=FORMAT,
    site="plant",
    device="cam-1",
    models=("digits",),
    broker=BrokerAddress(host="broker.local", port=8883, tls=True, password="s3cret"),
    repository="https://example.org/repository",
    root={"signed": {"version": 1}, "signatures": []},
    floors={"timestamp": 7},
    not_before=1.75e9,
    created="2026-01-01T00:00:00Z",
)


def test_a_saved_enrolment_is_loaded_and_nobody_else_can_read_it(tmp_path):
    path = tmp_path / "enrolment.json"
    save_enrolment(ENROLMENT, path)
    assert load_enrolment(path) == ENROLMENT
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.read_bytes().endswith(b"}\n")


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"format": 2}, "enrolment format 2; this version reads 1"),
        ({"device": "Cam 1"}, "not an enrolment file: device: expected 1 to 64 of the characters a-z 0-9 _ -"),
        ({"broker": {"host": "h", "port": 0}}, "broker.port: expected `int` >= 1"),
        ({"site": None}, "site: expected `str`, got `null`"),
        ({"models": []}, "models: expected `array` of length >= 1"),
    ],
)
def test_a_wrong_field_is_named(tmp_path, change, text):
    path = tmp_path / "enrolment.json"
    save_enrolment(ENROLMENT, path)
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(ConfigError, match=text) as caught:
        load_enrolment(path)
    assert caught.value.file == str(path)


def test_what_is_no_enrolment_file_is_said_so(tmp_path):
    with pytest.raises(ConfigError, match=r"enrolment.json: enrolment file cannot be read: No such file"):
        load_enrolment(tmp_path / "enrolment.json")
    (tmp_path / "x").write_bytes(b"\xff")
    with pytest.raises(ConfigError, match="not an enrolment file"):
        load_enrolment(tmp_path / "x")


def test_a_directory_is_no_enrolment_file(tmp_path):
    with pytest.raises(ConfigError, match="it is a directory, not a file"):
        load_enrolment(tmp_path)
