"""Windows to evidence: nothing is lost, nothing counts twice, and a restart changes no number."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from cloud_trainer.controller import schema
from cloud_trainer.controller.fleet import Fleet, Key, replay
from cloud_trainer.controller.ingest import commit_group
from cloud_trainer.controller.releases import Releases
from shared.manifest import Baseline
from tests.cloud_trainer.controller.fake import MODEL, SITE, VARIANT, report
from tests.cloud_trainer.controller.test_inbox import arrived
from tests.releases import make_release

KEY = Key(MODEL, 1, VARIANT)


class Published:
    """Releases as the registry gives them."""

    def __init__(self, *paths) -> None:
        self.paths = dict(enumerate(paths, 1))

    def releases(self, model: str) -> list[int]:
        return list(self.paths) if model == MODEL else []

    def release_path(self, model: str, version: int):
        return self.paths[version]


@pytest.fixture
def fleet(release) -> Fleet:
    return Fleet(Releases(Published(release)), {MODEL: 1000})


def put(store, release, device: str, *sequences: int, **more) -> None:
    group = [arrived("report", report(release, device, n, **more), MODEL, device=device) for n in sequences]
    assert commit_group(store, SITE, group, print).stored == len(group)


def fold(store, fleet) -> int:
    with store.transaction() as connection:
        return fleet.fold(connection)


def evidence(store, fleet):
    with store.reading() as connection:
        return fleet.evidence(connection, MODEL, 1)


def notes(store) -> list[str]:
    with store.reading() as connection:
        return list(connection.scalars(sa.select(schema.windows.c.note).order_by(schema.windows.c.id)))


def test_clean_devices_stay_silent_and_drifted_ones_are_named(store, fleet, release) -> None:
    for n in range(1, 6):
        put(store, release, "cam-1", n)
        put(store, release, "cam-2", n)
        fold(store, fleet)
    assert evidence(store, fleet).evidence < 1
    put(store, release, "cam-2", 6, 7, drifted=True)
    assert fold(store, fleet) == 2
    found = evidence(store, fleet)
    assert found.evidence > 1
    assert found.devices == ("cam-2",)
    with store.reading() as connection:
        bad = fleet.effect(connection, MODEL, 1, ["cam-2"], mark=10)
        good = fleet.effect(connection, MODEL, 1, ["cam-1"], mark=0)
    assert bad.size > 1 > good.size
    assert bad.feature
    assert fold(store, fleet) == 0


def test_a_restart_goes_on_to_the_same_numbers_as_no_restart(store, fleet, release) -> None:
    other = Fleet(Releases(Published(release)), {MODEL: 1000})  # knows nothing but the rows
    for n in range(1, 7):
        put(store, release, "cam-1", n, drifted=n > 4)
        put(store, release, "cam-2", n)
        fold(store, fleet if n % 2 else other)
    with store.reading() as connection:
        state = connection.scalar(sa.select(schema.detectors.c.state))
        assert replay(fleet, connection, KEY).to_bytes() == state


def test_a_fold_that_is_cut_off_leaves_the_windows_for_the_next(store, fleet, release) -> None:
    put(store, release, "cam-1", 1, drifted=True)

    def cut_off() -> None:
        with store.transaction() as connection:
            fleet.fold(connection)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cut_off()
    assert evidence(store, fleet).evidence == 0
    assert fold(store, fleet) == 1
    assert evidence(store, fleet).evidence > 0


@pytest.mark.parametrize(
    ("more", "note"),
    [
        ({"number": 7}, "never published"),
        ({"profile": "0" * 16}, "made with profile"),
        ({"variant": "fp64-abacus"}, "no profile of variant"),
        ({"counts": {"brightness": [1, 2]}}, "counts"),
        ({"samples": 99}, "99"),
    ],
)
def test_reports_that_do_not_belong_are_kept_but_not_folded(store, fleet, release, more, note) -> None:
    put(store, release, "cam-1", 1, drifted=True, **more)
    assert fold(store, fleet) == 1
    assert fold(store, fleet) == 0
    assert note in notes(store)[0]
    assert evidence(store, fleet).evidence == 0


def test_a_model_without_a_task_is_kept_but_not_folded(store, release) -> None:
    put(store, release, "cam-1", 1)
    fold(store, Fleet(Releases(Published(release)), {}))
    assert "no task" in notes(store)[0]


def test_a_device_with_a_baseline_of_its_own_is_compared_with_it(store, release, tmp_path) -> None:
    own = tmp_path / "own"
    make_release(own, variants=[VARIANT], baselines=(Baseline("default"), Baseline("cam-1", ("cam-1",))))
    fleet = Fleet(Releases(Published(own)), {MODEL: 1000})
    with store.reading():
        detector = fleet.detector(KEY, None)
    assert list(detector.profiles) == ["cam-1"]
    put(store, own, "cam-1", 1)
    put(store, own, "cam-2", 1)
    fold(store, fleet)
    assert notes(store) == ["", ""]


def test_an_acknowledgement_starts_the_evidence_anew(store, fleet, release) -> None:
    put(store, release, "cam-1", 1, 2, drifted=True)
    fold(store, fleet)
    before = evidence(store, fleet).evidence
    with store.transaction() as connection:
        fleet.acknowledge(connection, MODEL, 1)
    assert evidence(store, fleet).evidence == 0
    put(store, release, "cam-1", 3)
    fold(store, fleet)
    assert 0 < evidence(store, fleet).evidence < before / 1000


def test_a_state_that_cannot_be_read_does_not_silence_the_fleet(store, fleet, release, caplog) -> None:
    put(store, release, "cam-1", 1)
    fold(store, fleet)
    with store.transaction() as connection:
        connection.execute(schema.detectors.update().values(state=b"damaged"))
    put(store, release, "cam-1", 2, drifted=True)
    fold(store, fleet)
    assert evidence(store, fleet).evidence > 0
    assert "starts anew" in caplog.text
