"""Version floors and the reference time, without a repository."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest

from edge_agent.updates.floors import BUILD_TIME, Floor, FloorFile, Memory, check_floors, raised, reference_time
from shared.errors import TrustError, UpdateError
from tests.edge_agent.updates.fleets import DAY, NOW, Fleet


def test_the_reference_time_is_the_latest_moment_that_can_be_trusted() -> None:
    assert reference_time(NOW, 0.0) == NOW
    assert reference_time(0.0, NOW, NOW - 1) == NOW
    assert reference_time(0.0) == BUILD_TIME


def test_the_build_time_has_passed() -> None:
    assert 0 < BUILD_TIME < time.time()


def test_an_enrolments_floor_holds_on_a_device_that_has_seen_nothing() -> None:
    check_floors({"timestamp": Floor(5)}, {"timestamp": 5}, {})
    with pytest.raises(TrustError, match="offers timestamp version 4, but this device knows of version 5"):
        check_floors({"timestamp": Floor(4)}, {"timestamp": 5}, {})


def test_a_learned_floor_holds_while_the_same_keys_sign() -> None:
    with pytest.raises(TrustError):
        check_floors({"snapshot": Floor(8, ("k", "l"))}, {}, {"snapshot": Floor(9, ("l", "k"))})


def test_a_learned_floor_ends_when_the_owner_replaces_the_keys() -> None:
    check_floors({"snapshot": Floor(8, ("new",))}, {}, {"snapshot": Floor(2**31, ("stolen",))})


@pytest.mark.parametrize("role", ["root", "snapshot"])
def test_floors_that_no_new_key_lifts(role: str) -> None:
    enrolled = {} if role == "root" else {role: 9}
    with pytest.raises(TrustError):
        check_floors({role: Floor(8, ("new",))}, enrolled, {role: Floor(9, ("old",))})


def test_memory_only_grows_and_survives_a_restart(tmp_path: Path) -> None:
    file = FloorFile(tmp_path / "floors.json")
    assert file.load() == Memory()
    memory = raised(raised(Memory(), {"a": Floor(1)}, 100.0), {"b": Floor(2, ("k",))}, 50.0)
    assert memory == Memory({"a": Floor(1), "b": Floor(2, ("k",))}, 100.0)
    file.save(memory)
    assert file.load() == memory


@pytest.mark.parametrize("data", [b"", b"{", b'{"roles": 3}', b"\xff\xfe", b"[]"])
def test_a_damaged_memory_is_reported_and_counts_as_empty(
    tmp_path: Path, data: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "floors.json").write_bytes(data)
    assert FloorFile(tmp_path / "floors.json").load() == Memory()
    assert "going on with the floors of the enrolment file" in caplog.text


def test_python_tuf_judges_expiry_by_the_time_that_we_set(fleet: Fleet) -> None:
    """Fails when python-tuf moves ``_trusted_set.reference_time`` or no longer asks it."""
    from edge_agent.updates.client import Session

    fleet.publish(1)
    for state, moment in (("early", NOW), ("late", NOW + 6.9 * DAY)):
        Session(fleet.enrolment(), fleet.state(state), moment).refresh()
    with pytest.raises(TrustError, match=r"timestamp.json is expired"):
        Session(fleet.enrolment(), fleet.state("over"), NOW + 7.1 * DAY).refresh()


@pytest.mark.parametrize(
    "client", [SimpleNamespace(), SimpleNamespace(_trusted_set=SimpleNamespace(reference_time="2026"))]
)
def test_a_python_tuf_that_has_changed_is_not_used(client: object) -> None:
    from edge_agent.updates.client import judge_expiry_at

    with pytest.raises(UpdateError, match="install tuf 7"):
        judge_expiry_at(client, NOW)  # type: ignore[arg-type]  # a python-tuf that does not exist yet


def test_the_time_is_set_in_utc() -> None:
    from edge_agent.updates.client import judge_expiry_at

    client = SimpleNamespace(_trusted_set=SimpleNamespace(reference_time=datetime.now(UTC)))
    judge_expiry_at(client, 0.0)  # type: ignore[arg-type]  # only what the function touches
    assert client._trusted_set.reference_time == datetime(1970, 1, 1, tzinfo=UTC)
