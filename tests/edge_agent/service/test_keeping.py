"""What goes on and what begins anew when an engine changes."""

from __future__ import annotations

import shutil

import msgspec
import pytest

from edge_agent.engine import Engine
from edge_agent.service.keeping import carried, restored, saved_monitor
from edge_agent.service.releases import Releases
from edge_agent.state import SavedMonitor
from edge_agent.updates.slots import Installed
from shared.manifest import load_manifest, save_manifest
from tests.releases import digits

BAD = {"contrast": 0.4, "noise": 50.0}


@pytest.fixture(scope="module")
def next_release(release, tmp_path_factory):
    directory = tmp_path_factory.mktemp("next") / "2"
    shutil.copytree(release, directory)
    save_manifest(msgspec.structs.replace(load_manifest(release), version=2), directory)
    return directory


def watching(release, variant="fp32-onnx", n=500, **camera):
    engine = Engine.load(release, variant=variant)
    engine.infer_batch(digits(n, seed=3, **camera)[0])
    return engine


def test_after_a_restart_the_same_release_and_variant_go_on(release):
    old = watching(release)
    saved = msgspec.msgpack.decode(msgspec.msgpack.encode(saved_monitor(old)), type=SavedMonitor)
    new = Engine.load(release, variant="fp32-onnx")
    assert restored(new, saved)
    assert new.monitor.report().counts == old.monitor.report().counts
    assert new.monitor.report().evidence == old.monitor.report().evidence > 0


def test_another_release_begins_anew_also_if_its_profile_is_the_same(release, next_release):
    old, new = watching(release), Engine.load(next_release, variant="fp32-onnx")
    assert new.monitor.profile.digest == old.monitor.profile.digest
    assert not restored(new, saved_monitor(old))
    assert not carried(old, new)
    assert (new.monitor.report().samples, new.monitor.report().evidence) == (0, 0.0)


def test_another_variant_is_not_restored_but_goes_on_with_the_inputs(release):
    old, new = watching(release), Engine.load(release, variant="int8-onnx")
    assert not restored(new, saved_monitor(old))
    assert new.monitor.report().evidence == 0
    assert not carried(old, new)  # there was no alarm
    report = new.monitor.report()
    assert report.samples == 0
    assert {name for name, value in report.evidences.items() if value} >= {"brightness", "noise"}
    assert report.evidences["confidence"] == 0


def test_a_model_that_learns_its_baseline_has_nothing_to_hand_over(release):
    old = watching(release)
    new = Engine.load(release / load_manifest(release).variant("fp32-onnx").file.path)
    assert not carried(old, new)
    assert not carried(new, old)


class Telemetry:
    """Counts what it is told."""

    def __init__(self):
        self.forgotten = 0

    def engine_changed(self):
        self.forgotten += 1

    def reported(self, *_args, **_details):
        pass

    event = reported


@pytest.mark.parametrize(
    ("camera", "variant", "forgotten"),
    [(BAD, "int8-onnx", 0), ({}, "int8-onnx", 1), (BAD, "fp32-onnx", 0)],
)
def test_an_alarm_about_the_inputs_is_not_told_again_after_a_change_of_variant(release, camera, variant, forgotten):
    telemetry, left = Telemetry(), []
    releases = Releases.__new__(Releases)
    releases._telemetry, releases._leaving, releases._changed = telemetry, left.append, lambda *_: None
    releases.engine = watching(release, n=1500, **camera)
    releases._installed, releases._text = Installed(1, release, "a"), ""
    old = releases.engine
    assert old.monitor.report().alarm is bool(camera)
    releases.step_to(Engine.load(release, variant=variant), "stepped")
    assert left == [old]
    assert telemetry.forgotten == forgotten
    assert releases.engine.monitor.report().alarm is bool(camera)
