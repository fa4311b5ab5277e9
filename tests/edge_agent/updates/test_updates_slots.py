"""The two slots and the pointer between them."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from edge_agent.updates.slots import Installed, Slots
from shared.errors import UpdateError
from shared.manifest import load_manifest, save_manifest
from tests.edge_agent.updates.fleets import write_release


@pytest.fixture
def slots(tmp_path: Path) -> Slots:
    return Slots(tmp_path / "models" / "digits", "digits")


def staged(slots: Slots, version: int, name: str = "digits") -> Installed:
    slot, path = slots.free()
    write_release(path, version, name)
    return Installed(version, path, slot)


def test_a_new_device_has_nothing(slots: Slots) -> None:
    assert (slots.current(), slots.minimum()) == (None, 1)


def test_slots_alternate_and_the_free_one_is_wiped(slots: Slots) -> None:
    for version, slot in ((1, "a"), (2, "b"), (3, "a")):
        installed = staged(slots, version)
        assert installed.slot == slot
        slots.commit(installed)
    _, free = slots.free()
    assert free.name == "b"
    assert list(free.iterdir()) == []


def test_a_link_in_the_place_of_a_slot_is_removed_and_not_followed(slots: Slots, tmp_path: Path) -> None:
    outside = tmp_path / "precious"
    outside.mkdir()
    (outside / "file").write_text("stays")
    slots.root.mkdir(parents=True)
    (slots.root / "a").symlink_to(outside)
    slots.free()
    assert (outside / "file").read_text() == "stays"


def test_the_minimum_follows_one_release_behind(slots: Slots) -> None:
    seen = []
    for version in (1, 4, 5, 4, 6):
        slots.commit(staged(slots, version))
        seen.append(slots.minimum())
    assert seen == [1, 1, 4, 4, 4]


@pytest.mark.parametrize("data", [b"", b"{", b'{"version": 0, "slot": "a"}', b'{"version": 1, "slot": "../x"}'])
def test_a_damaged_pointer_counts_as_nothing_and_is_reported(
    slots: Slots, data: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    slots.commit(staged(slots, 1))
    (slots.root / "current.json").write_bytes(data)
    assert slots.current() is None
    assert "no current release of digits" in caplog.text


def test_a_slot_without_a_manifest_counts_as_nothing(slots: Slots, caplog: pytest.LogCaptureFixture) -> None:
    installed = staged(slots, 1)
    slots.commit(installed)
    (installed.path / "manifest.json").unlink()
    assert slots.current() is None
    assert "not a release directory" in caplog.text


@pytest.mark.parametrize(("version", "name"), [(2, "digits"), (1, "faces")])
def test_a_slot_that_holds_something_else_than_the_pointer_says(
    slots: Slots, version: int, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    installed = staged(slots, 1)
    slots.commit(installed)
    save_manifest(msgspec.structs.replace(load_manifest(installed.path), version=version, name=name), installed.path)
    assert slots.current() is None
    assert f"slot a holds {name}/{version}" in caplog.text


def test_a_damaged_minimum_falls_back_to_the_current_release(slots: Slots, caplog: pytest.LogCaptureFixture) -> None:
    slots.commit(staged(slots, 3))
    (slots.root / "minimum.json").write_bytes(b"?")
    assert slots.minimum() == 3
    assert "counts as the minimum" in caplog.text


def test_only_what_is_in_the_slot_can_be_committed(slots: Slots) -> None:
    installed = staged(slots, 1)
    with pytest.raises(UpdateError, match="slot a holds digits/1"):
        slots.commit(Installed(2, installed.path, installed.slot))
    with pytest.raises(UpdateError, match="not a release directory"):
        slots.commit(Installed(1, installed.path, "b"))
    assert slots.current() is None


def test_a_discarded_release_is_gone_and_the_current_one_cannot_be_discarded(slots: Slots) -> None:
    old = staged(slots, 1)
    slots.commit(old)
    new = staged(slots, 2)
    slots.discard(new)
    assert not new.path.exists()
    with pytest.raises(UpdateError, match="digits/1 runs from slot a"):
        slots.discard(old)
    assert slots.current() == old
