"""Fetching a release from an honest repository, and what goes wrong without an attacker."""

from __future__ import annotations

import shutil
import subprocess
import sys
from types import SimpleNamespace
from typing import BinaryIO

import pytest

from edge_agent.updates import Installed
from shared.errors import LinkError, TrustError, UpdateError
from shared.manifest import load_manifest
from tests.edge_agent.updates.fleets import DAY, Fleet, contents, dies_at, everything, first


def test_a_release_arrives_whole_and_becomes_current_on_commit(fleet: Fleet) -> None:
    fleet.publish(1)
    device = fleet.device()
    assert device.current() is None
    new = device.fetch(1, everything)
    assert new == Installed(1, fleet.state() / "models" / "digits" / "a", "a")
    expected = contents(fleet.release(1))
    assert {name: data for name, data in contents(new.path).items() if name in expected} == expected
    assert device.current() is None
    device.commit(new)
    assert device.current() == new


def test_only_the_wanted_variants_are_downloaded_and_nothing_else_lies_around(fleet: Fleet) -> None:
    fleet.publish(1)
    new = fleet.device().fetch(1, first)
    assert sorted(contents(new.path)) == ["golden.npz", "manifest.json", "profile.npz", "variants/fp32-onnx.onnx"]


def test_the_next_release_takes_the_other_slot_and_the_running_one_stays(fleet: Fleet) -> None:
    fleet.publish(1)
    device = fleet.device()
    old = device.fetch(1, first)
    device.commit(old)
    before = contents(old.path)
    fleet.publish(2)
    new = device.fetch(2, first)
    assert (old.slot, new.slot) == ("a", "b")
    assert device.current() == old
    assert contents(old.path) == before
    device.commit(new)
    assert device.current() == new


def test_what_was_committed_is_there_after_a_restart(fleet: Fleet) -> None:
    fleet.publish(1)
    new = fleet.device().fetch(1, first)
    fleet.device().commit(new)
    assert fleet.device().current() == new


def test_a_release_that_is_not_published_is_refused_and_the_release_before_is_kept(fleet: Fleet) -> None:
    fleet.publish(1)
    fleet.publish(2)
    device = fleet.device()
    device.commit(device.fetch(1, first))
    device.commit(device.fetch(2, first))
    before = contents(fleet.state() / "models" / "digits" / "a")
    with pytest.raises(UpdateError, match=r"digits/9/manifest\.json is not in the repository"):
        device.fetch(9, first)
    assert contents(fleet.state() / "models" / "digits" / "a") == before != {}


def test_a_model_that_the_fleet_does_not_have_is_refused(fleet: Fleet) -> None:
    from edge_agent.updates import Updater

    fleet.publish(1)
    state = fleet.state()
    with pytest.raises(UpdateError, match=r"faces/1/manifest\.json is not in the repository"):
        Updater(fleet.enrolment(), state, "faces", clock=lambda: fleet.now).fetch(1, first)


def test_one_step_back_is_possible_two_are_not(fleet: Fleet) -> None:
    device = fleet.device()
    for version in (1, 2, 3):
        fleet.publish(version)
        device.commit(device.fetch(version, first))
    with pytest.raises(UpdateError, match="digits/1 is below this device's minimum version 2"):
        device.fetch(1, first)
    back = device.fetch(2, first)
    device.commit(back)
    assert device.current() == back


def test_a_device_outside_the_cohort_refuses_and_one_inside_accepts(fleet: Fleet) -> None:
    fleet.publish(1, cohort=("cam-1", "cam-2"))
    with pytest.raises(TrustError, match="signed for 2 other devices, not for cam-3"):
        fleet.device("cam-3").fetch(1, first)
    assert fleet.device("cam-2").fetch(1, first).version == 1


def test_no_runnable_variant_is_an_update_error_and_leaves_the_slot_empty(fleet: Fleet) -> None:
    fleet.publish(1)
    device = fleet.device()
    with pytest.raises(UpdateError, match="no variant that this device can run"):
        device.fetch(1, lambda _: ())
    assert contents(fleet.state() / "models") == {}


def test_an_error_of_the_chooser_passes_through_and_leaves_the_slot_empty(fleet: Fleet) -> None:
    fleet.publish(1)

    def confused(_: object) -> tuple[()]:
        raise LookupError("no backend")

    with pytest.raises(LookupError, match="no backend"):
        fleet.device().fetch(1, confused)
    assert contents(fleet.state() / "models") == {}


def test_nobody_listens_at_the_repository(fleet: Fleet) -> None:
    fleet.publish(1)
    device = fleet.device()
    fleet.server.close()
    with pytest.raises(LinkError, match=rf"repository {fleet.server.url} not reachable: Connection refused"):
        device.fetch(1, first)


@pytest.mark.parametrize("status", [404, 500])
def test_the_address_is_not_a_repository(fleet: Fleet, status: int) -> None:
    fleet.server.lies["metadata/timestamp.json"] = status
    with pytest.raises(LinkError, match=f"answered HTTP {status}"):
        fleet.device().fetch(1, first)


def test_the_connection_breaks_in_the_middle_of_a_file(fleet: Fleet) -> None:
    fleet.publish(1)
    device = fleet.device()
    device.commit(device.fetch(1, first))
    fleet.publish(2)
    path = fleet.target(2, "variants/fp32-onnx.onnx")
    fleet.server.lies[path] = lambda data: data[: len(data) // 2]
    with pytest.raises(TrustError, match="length"):
        device.fetch(2, first)
    current = device.current()
    assert current is not None
    assert current.version == 1
    del fleet.server.lies[path]
    assert device.fetch(2, first).version == 2


def test_the_disk_is_nearly_full(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    fleet.publish(1)
    device = fleet.device()
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1 << 20))
    with pytest.raises(UpdateError, match="digits/1 needs 8 MiB of disk, 1 MiB are free"):
        device.fetch(1, first)
    assert contents(fleet.state() / "models") == {}


def test_the_state_directory_cannot_be_written(fleet: Fleet) -> None:
    fleet.publish(1)
    device = fleet.device()
    fleet.state().rmdir()
    fleet.state().write_text("a file in the way")
    with pytest.raises(UpdateError):
        device.fetch(1, first)


def test_a_damaged_metadata_cache_is_repaired_by_the_next_fetch(fleet: Fleet) -> None:
    fleet.publish(1)
    device = fleet.device()
    device.fetch(1, first)
    for path in (fleet.state() / "tuf").rglob("*.json"):
        if not path.is_symlink():
            path.write_bytes(path.read_bytes()[:40])
    assert device.fetch(1, first).version == 1


def test_power_fails_at_any_step_of_a_fetch_and_commit(fleet: Fleet) -> None:
    fleet.publish(1)
    fleet.publish(2)
    enrolment = fleet.enrolment()
    device = fleet.device(enrolment=enrolment)
    old = device.fetch(1, first)
    device.commit(old)
    release = contents(old.path)

    def update() -> None:
        again = fleet.device(enrolment=enrolment)
        again.commit(again.fetch(2, first))

    deaths = 0
    while dies_at(deaths, update):
        deaths += 1
        current = fleet.device(enrolment=enrolment).current()
        assert current is not None
        assert load_manifest(current.path).version == current.version
        if current.version == 2:
            device.commit(old)
            continue
        assert contents(current.path) == release
    assert deaths > 20
    after = fleet.device(enrolment=enrolment).current()
    assert after is not None
    assert after.version == 2


def test_a_device_that_was_offline_for_a_month_takes_the_refreshed_repository(fleet: Fleet) -> None:
    fleet.publish(1)
    device = fleet.device()
    device.commit(device.fetch(1, first))
    fleet.now += 40 * DAY
    assert fleet.registry.refresh(fleet.now)
    fleet.publish(2)
    assert device.fetch(2, first).version == 2


def test_importing_updates_does_not_load_tuf() -> None:
    code = "import sys, edge_agent.updates; print([m for m in ('tuf', 'urllib3', 'cryptography') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_disk_keeps_something_else_than_was_verified(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    fleet.publish(1)
    copy = shutil.copyfileobj

    def bad_block(source: BinaryIO, to: BinaryIO) -> None:
        copy(source, to)
        if "golden" in to.name:
            to.seek(100)
            to.write(b"\xff\x00\xff\x00")

    monkeypatch.setattr(shutil, "copyfileobj", bad_block)
    with pytest.raises(TrustError, match=r"golden\.npz: SHA-256 differs from the manifest"):
        fleet.device().fetch(1, first)
    assert contents(fleet.state() / "models") == {}
