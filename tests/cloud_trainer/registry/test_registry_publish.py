"""Publishing, refreshing and enrolling, and what stops them."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

import msgspec
import pytest

from cloud_trainer.registry import Registry, lock
from cloud_trainer.registry.lock import publishing
from cloud_trainer.work import work_directory
from shared.errors import ConfigError, DigestError, ManifestError, ReleaseError, StoreError, UsageError
from shared.manifest import load_manifest, save_manifest
from tests.edge_agent.updates.fleets import BROKER, DAY, NOW, Fleet, contents, damaged, dies_at, everything


def served(fleet: Fleet) -> dict[str, bytes]:
    return contents(fleet.registry.repository)


def test_publishing_needs_only_the_online_keys(fleet: Fleet) -> None:
    shutil.rmtree(fleet.registry.fleet / "keys" / "offline")
    fleet.publish(1)
    assert fleet.registry.releases("digits") == [1]
    assert fleet.device().fetch(1, everything).version == 1


def test_the_published_copy_is_the_release_byte_for_byte_and_nothing_else(fleet: Fleet) -> None:
    expected = contents(fleet.release(1))
    (fleet.release(1) / "gates.json").write_text("{}")
    fleet.publish(1)
    assert contents(fleet.registry.release_path("digits", 1)) == expected
    assert contents(fleet.registry.fleet / "staging") == {}


def test_a_version_is_published_once(fleet: Fleet) -> None:
    fleet.publish(2)
    before = served(fleet)
    with pytest.raises(ReleaseError, match="release digits/2 is published already"):
        fleet.publish(2)
    with pytest.raises(ReleaseError, match="release digits/1 is older than digits/2; versions only grow"):
        fleet.publish(1)
    assert served(fleet) == before


def test_versions_may_skip(fleet: Fleet) -> None:
    fleet.publish(1)
    fleet.publish(7)
    assert fleet.registry.releases("digits") == [1, 7]
    with pytest.raises(ReleaseError, match="digits/3 has not been published"):
        fleet.registry.release_path("digits", 3)


@pytest.mark.parametrize("name", ["golden.npz", "profile.npz", "variants/int8-onnx.onnx"])
def test_a_damaged_release_is_not_signed(fleet: Fleet, name: str) -> None:
    path = fleet.release(1) / name
    path.write_bytes(damaged(path.read_bytes()))
    before = served(fleet)
    with pytest.raises(DigestError, match=f"{path}: SHA-256 differs"):
        fleet.publish(1)
    path.unlink()
    with pytest.raises(DigestError, match=f"{path}: missing"):
        fleet.publish(1)
    assert served(fleet) == before
    assert fleet.registry.releases("digits") == []


def test_a_damaged_release_is_damaged_even_if_its_version_is_published(fleet: Fleet) -> None:
    fleet.publish(1)
    path = fleet.release(1) / "golden.npz"
    path.write_bytes(damaged(path.read_bytes()))
    with pytest.raises(DigestError, match=f"{path}: SHA-256 differs"):
        fleet.publish(1)


def test_a_release_without_a_manifest(fleet: Fleet, tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="not a release directory"):
        fleet.registry.publish(tmp_path / "nowhere", now=NOW)


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "a b.npz", "a/b/c.npz", ".hidden", "x%2Fy", "é.npz", ""])
def test_file_names_that_devices_could_trip_over(fleet: Fleet, name: str) -> None:
    release = fleet.release(1)
    manifest = load_manifest(release)
    golden = msgspec.structs.replace(manifest.golden, path=name)
    save_manifest(msgspec.structs.replace(manifest, golden=golden), release)
    with pytest.raises(ReleaseError, match="at most one directory deep"):
        fleet.publish(1)


def test_a_file_name_that_stands_for_two_files_and_an_unknown_runtime(fleet: Fleet) -> None:
    release = fleet.release(1)
    manifest = load_manifest(release)
    for path in (manifest.profile.path, "manifest.json"):
        golden = msgspec.structs.replace(manifest.golden, path=path)
        save_manifest(msgspec.structs.replace(manifest, golden=golden), release)
        with pytest.raises(ReleaseError, match="stands for two different files"):
            fleet.publish(1)
    variant = msgspec.structs.replace(manifest.variants[0], runtime="abacus")
    save_manifest(msgspec.structs.replace(manifest, variants=(variant,)), release)
    with pytest.raises(ReleaseError, match="wants runtime 'abacus'"):
        fleet.publish(1)


def test_a_model_that_the_fleet_does_not_have(fleet: Fleet) -> None:
    with pytest.raises(UsageError, match="has no model 'faces'; it has digits"):
        fleet.registry.publish(fleet.release(1, "faces"), now=NOW)
    with pytest.raises(UsageError, match="has no model 'faces'"):
        fleet.registry.releases("faces")


def test_a_device_name_in_the_cohort_that_is_not_allowed(fleet: Fleet) -> None:
    with pytest.raises(UsageError, match="device 'Cam 1' must be"):
        fleet.publish(1, cohort=("Cam 1",))


@pytest.mark.parametrize("name", ["snapshot", "timestamp", "releases-digits"])
def test_a_missing_online_key_stops_before_anything_is_served(fleet: Fleet, name: str) -> None:
    before = contents(fleet.registry.repository / "metadata")
    (fleet.registry.fleet / "keys" / "online" / f"{name}.pem").unlink()
    with pytest.raises(ConfigError, match=f"{name}.pem: signing key cannot be read"):
        fleet.publish(1)
    assert contents(fleet.registry.repository / "metadata") == before


def test_expired_offline_roles_stop_publishing(fleet: Fleet) -> None:
    fleet.now += 366 * DAY
    with pytest.raises(StoreError, match=r"the targets role expired on 20\d\d-\d\d-\d\d"):
        fleet.publish(1)


def test_killed_at_any_step_of_publishing(fleet: Fleet) -> None:
    """After every death: devices, new and old, accept what is served, and publishing again succeeds."""
    fleet.publish(1)
    enrolment = fleet.enrolment()
    old = fleet.device(enrolment=enrolment)
    old.fetch(1, everything)
    release = fleet.release(2)
    spotless = fleet.base / "spotless"
    shutil.copytree(fleet.registry.fleet, spotless)

    deaths = 0
    while dies_at(deaths, lambda: Registry.open(fleet.registry.fleet).publish(release, now=NOW)):
        deaths += 1
        versions = fleet.registry.releases("digits")
        assert versions in ([1], [1, 2])
        assert contents(old.fetch(versions[-1], everything).path)["manifest.json"]
        if deaths % 4 == 0 and versions == [1]:
            assert fleet.device(f"new-{deaths}", enrolment=enrolment).fetch(1, everything).version == 1
            fleet.publish(2)
            assert old.fetch(2, everything).version == 2
            assert contents(fleet.registry.fleet / "staging") == {}
            shutil.rmtree(fleet.registry.fleet)
            shutil.rmtree(fleet.base / "devices")
            shutil.copytree(spotless, fleet.registry.fleet)
            old.fetch(1, everything)
        if versions == [1, 2]:
            break
    assert deaths > 40


def test_what_a_killed_publisher_left_is_cleared_by_the_next(fleet: Fleet) -> None:
    fleet.publish(1)
    leftover = [
        fleet.registry.fleet / "staging" / "release" / "garbage",
        fleet.registry.fleet / "releases" / "digits" / "2" / "garbage",
        fleet.registry.repository / "targets" / "digits" / "2" / "garbage",
    ]
    for path in leftover:
        path.parent.mkdir(parents=True)
        path.write_text("half")
    assert fleet.registry.releases("digits") == [1]
    fleet.publish(2)
    assert not any(path.exists() for path in leftover)
    assert "garbage" not in contents(fleet.registry.release_path("digits", 2))


def test_two_publishers_at_once(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "WAIT_SECONDS", 0.1)
    with (
        publishing(fleet.registry.fleet / "publish.lock"),
        pytest.raises(StoreError, match="another process is publishing"),
    ):
        fleet.publish(1)
    fleet.publish(1)


def test_a_publisher_waits_for_another_that_finishes(fleet: Fleet) -> None:
    sources = [fleet.release(version) for version in (1, 2, 3, 4)]
    errors: list[Exception] = []

    def publish(path: Path) -> None:
        try:
            Registry.open(fleet.registry.fleet).publish(path, now=NOW)
        except ReleaseError as error:  # a later version was faster
            errors.append(error)

    threads = [threading.Thread(target=publish, args=(path,)) for path in sources]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    versions = fleet.registry.releases("digits")
    assert len(versions) + len(errors) == 4
    assert versions[-1] == 4
    assert fleet.device().fetch(4, everything).version == 4


def test_fresh_signatures_are_left_alone(fleet: Fleet) -> None:
    fleet.publish(1)
    before = served(fleet)
    assert not fleet.registry.refresh(NOW + 4 * DAY)
    assert served(fleet) == before


@pytest.mark.parametrize(
    ("days", "new"),
    [
        (5, set()),
        (21, {"metadata/3.snapshot.json"}),
        (41, {"metadata/3.snapshot.json", "metadata/3.releases/digits.json"}),
        (300, {"metadata/3.snapshot.json", "metadata/3.releases/digits.json"}),
    ],
)
def test_refreshing_signs_what_is_due_and_devices_accept_it(fleet: Fleet, days: int, new: set[str]) -> None:
    fleet.publish(1)
    device = fleet.device()
    device.fetch(1, everything)
    before = served(fleet)
    fleet.now += days * DAY
    assert fleet.registry.refresh(fleet.now)
    after = served(fleet)
    assert set(after) - set(before) == new
    assert {name for name in before if before[name] != after[name]} == {"metadata/timestamp.json"}
    assert device.fetch(1, everything).version == 1
    assert not fleet.registry.refresh(fleet.now)


def test_an_enrolment_carries_todays_floors(fleet: Fleet) -> None:
    fleet.publish(1)
    fleet.publish(2)
    enrolment = fleet.registry.enrol(
        "cam-1", site="plant", broker=BROKER, url="https://trainer:8700/repository/", now=NOW
    )
    assert enrolment.floors == {"root": 1, "timestamp": 3, "snapshot": 3, "targets": 1, "releases/digits": 3}
    assert (enrolment.models, enrolment.not_before) == (("digits",), NOW)
    assert enrolment.repository == "https://trainer:8700/repository"
    assert enrolment.root["signed"]["_type"] == "root"
    assert "private" not in msgspec.json.encode(enrolment).decode().lower()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"device": "Cam"}, "device 'Cam'"),
        ({"site": "a/b"}, "site 'a/b'"),
        ({"models": ["faces"]}, "has no model 'faces'"),
        ({"url": "trainer:8700"}, "must be an http or https address"),
        ({"url": "http://"}, "must be an http or https address"),
        ({"url": "http://trainer/?x=1"}, "must be an http or https address"),
    ],
)
def test_an_enrolment_with_a_wrong_name_or_address(fleet: Fleet, change: dict, message: str) -> None:
    arguments = {"device": "cam-1", "site": "plant", "broker": BROKER, "url": "http://trainer", "now": NOW} | change
    with pytest.raises(UsageError, match=message):
        fleet.registry.enrol(arguments.pop("device"), **arguments)


def work(release: Path) -> Path:
    directory = work_directory(release)
    directory.mkdir()
    (directory / "checkpoint.pt").write_bytes(b"weights")
    return directory


def kept(fleet: Fleet, version: int) -> dict[str, bytes]:
    return contents(work_directory(fleet.registry.fleet / "releases" / "digits" / str(version)))


def test_what_the_trainer_goes_on_from_is_kept_beside_the_copy_and_never_served(fleet: Fleet) -> None:
    directory = work(fleet.release(1))
    (directory / "link").symlink_to("/etc/passwd")
    (directory / "folder").mkdir()
    fleet.publish(1)
    assert kept(fleet, 1) == {"checkpoint.pt": b"weights"}
    assert b"weights" not in served(fleet).values()
    assert fleet.registry.releases("digits") == [1]
    assert contents(fleet.device().fetch(1, everything).path) == contents(fleet.registry.release_path("digits", 1))


def test_work_that_is_too_much_or_cannot_be_read_stops_no_release(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    work(fleet.release(1))
    with monkeypatch.context() as patch:
        patch.setattr("cloud_trainer.work.BYTES_MAX", 3)
        fleet.publish(1)
    assert kept(fleet, 1) == {}
    work(fleet.release(2))

    def broken(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr("cloud_trainer.work.copy", broken)
        fleet.publish(2)
    assert fleet.registry.releases("digits") == [1, 2]
    assert kept(fleet, 2) == {}
    assert caplog.text.count("is not kept") == 2


def test_work_after_a_publisher_was_killed(fleet: Fleet) -> None:
    work(fleet.release(1))
    for step in range(0, 40, 3):
        if not dies_at(step, lambda: Registry.open(fleet.registry.fleet).publish(fleet.release(1), now=NOW)):
            break
        assert kept(fleet, 1) in ({}, {"checkpoint.pt": b"weights"})
    if not fleet.registry.releases("digits"):
        fleet.publish(1)
    assert kept(fleet, 1) == {"checkpoint.pt": b"weights"}
