"""A new fleet: keys, roles, and what is refused."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from cloud_trainer.registry import Registry, registry
from cloud_trainer.registry.keys import PASSPHRASE_VARIABLE, load_key
from shared.errors import ConfigError, StoreError, UsageError
from tests.edge_agent.updates.fleets import DAY, NOW, contents


def metadata(fleet: Path, name: str) -> dict:
    return json.loads((fleet / "repository" / "metadata" / name).read_bytes())


def lives_days(found: dict) -> float:
    from datetime import datetime

    return (datetime.fromisoformat(found["signed"]["expires"]).timestamp() - NOW) / DAY


def test_roles_are_those_of_the_table(tmp_path: Path) -> None:
    fleet = tmp_path / "fleet"
    Registry.create(fleet, ["digits", "faces"], now=NOW)
    root = metadata(fleet, "1.root.json")
    assert {name: (role["threshold"], len(role["keyids"])) for name, role in root["signed"]["roles"].items()} == {
        "root": (2, 3),
        "targets": (1, 1),
        "snapshot": (1, 1),
        "timestamp": (1, 1),
    }
    assert len(root["signatures"]) == 3
    assert root["signed"]["consistent_snapshot"] is True
    assert {key["scheme"] for key in root["signed"]["keys"].values()} == {"ed25519"}
    assert len(root["signed"]["keys"]) == 6
    targets = metadata(fleet, "1.targets.json")
    assert targets["signed"]["targets"] == {}
    (digits, faces) = targets["signed"]["delegations"]["roles"]
    assert (digits["name"], digits["paths"], digits["threshold"], digits["terminating"]) == (
        "releases/digits",
        ["digits/*/*", "digits/*/*/*"],
        1,
        True,
    )
    assert digits["keyids"] != faces["keyids"]
    lives = {
        name: lives_days(metadata(fleet, name))
        for name in (
            "1.root.json",
            "1.targets.json",
            "1.releases/digits.json",
            "1.snapshot.json",
            "timestamp.json",
        )
    }
    assert list(lives.values()) == [3 * 365, 365, 60, 30, 7]


def test_keys_lie_where_they_belong_and_only_their_owner_reads_them(tmp_path: Path) -> None:
    Registry.create(tmp_path / "fleet", ["digits"], now=NOW)
    keys = tmp_path / "fleet" / "keys"
    assert sorted(contents(keys)) == [
        "offline/root-1.pem", "offline/root-2.pem", "offline/root-3.pem", "offline/targets.pem",
        "online/releases-digits.pem", "online/snapshot.pem", "online/timestamp.pem",
    ]  # fmt: skip
    for path in keys.rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600)
    assert stat.S_IMODE(keys.stat().st_mode) == 0o700


def test_a_passphrase_encrypts_the_offline_keys_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PASSPHRASE_VARIABLE, "sanderlings run")
    Registry.create(tmp_path / "fleet", ["digits"], now=NOW)
    keys = tmp_path / "fleet" / "keys"
    offline = keys / "offline" / "root-1.pem"
    with pytest.raises(ConfigError, match=f"the key is encrypted; set {PASSPHRASE_VARIABLE}"):
        load_key(offline)
    with pytest.raises(ConfigError, match="wrong passphrase"):
        load_key(offline, passphrase="sandpipers run")
    assert load_key(offline, passphrase="sanderlings run").public_key.scheme == "ed25519"
    assert load_key(keys / "online" / "snapshot.pem").public_key.scheme == "ed25519"


def test_a_key_that_is_no_key_or_not_ed25519(tmp_path: Path) -> None:
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    path = tmp_path / "key.pem"
    with pytest.raises(ConfigError, match="signing key cannot be read: No such file"):
        load_key(path)
    path.write_text("hello")
    with pytest.raises(ConfigError, match="not a PEM private key"):
        load_key(path)
    other = ec.generate_private_key(ec.SECP256R1())
    path.write_bytes(other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    with pytest.raises(ConfigError, match="not an Ed25519 key"):
        load_key(path)


def test_an_existing_directory_is_not_touched(tmp_path: Path) -> None:
    fleet = tmp_path / "fleet"
    fleet.mkdir()
    (fleet / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="exists already"):
        Registry.create(fleet, ["digits"], now=NOW)
    assert contents(tmp_path) == {"fleet/notes.txt": b"mine"}


def test_an_empty_directory_may_become_a_fleet(tmp_path: Path) -> None:
    (tmp_path / "fleet").mkdir()
    Registry.create(tmp_path / "fleet", ["digits"], now=NOW)
    assert Registry.open(tmp_path / "fleet").models == ("digits",)


@pytest.mark.parametrize("models", [[], ["digits", "digits"], ["Digits"], ["../x"], ["a/b"], [""]])
def test_model_names_that_are_not_allowed(tmp_path: Path, models: list[str]) -> None:
    with pytest.raises(UsageError):
        Registry.create(tmp_path / "fleet", models, now=NOW)
    assert list(tmp_path.iterdir()) == []


def test_a_failure_halfway_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill = registry.fill

    def half(*arguments: object) -> None:
        fill(*arguments)  # type: ignore[arg-type]  # passed on as they came
        raise KeyboardInterrupt

    monkeypatch.setattr(registry, "fill", half)
    with pytest.raises(KeyboardInterrupt):
        Registry.create(tmp_path / "fleet", ["digits"], now=NOW)
    assert list(tmp_path.iterdir()) == []


def test_what_is_not_a_fleet_is_not_opened(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not a fleet directory; make one with: cloud-trainer fleet init"):
        Registry.open(tmp_path)


def test_a_damaged_repository_is_named(tmp_path: Path) -> None:
    Registry.create(tmp_path / "fleet", ["digits"], now=NOW)
    (tmp_path / "fleet" / "repository" / "metadata" / "1.snapshot.json").write_text("{}")
    with pytest.raises(StoreError, match=r"1\.snapshot.json is damaged"):
        Registry.open(tmp_path / "fleet")
