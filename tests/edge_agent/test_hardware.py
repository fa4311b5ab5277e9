"""What the kernel shows, on trees that a test makes; and this machine."""

import msgspec
import pytest

from edge_agent import hardware
from edge_agent.hardware import Hardware, clock_state, fingerprint, free_disk_mib, inspect, temperature_c, throttled

PI = Hardware(
    machine="aarch64",
    bits=64,
    system="Debian GNU/Linux 12 (bookworm)",
    cpu="Raspberry Pi 5 Model B Rev 1.0",
    cpus=4,
    memory_mib=8062,
    python="3.11.2",
    backends={"onnxruntime": "onnxruntime 1.20.0"},
    clock="synchronized",
)


def test_this_machine_is_described():
    found = inspect()
    assert found.cpus >= 1
    assert found.memory_mib > 64
    assert found.bits in {32, 64}
    assert found.clock in {"synchronized", "unsynchronized", "unknown"}
    assert set(found.backends) == {"onnxruntime", "litert"}
    assert fingerprint() == fingerprint(inspect())


@pytest.mark.parametrize("change", [{"cpus": 2}, {"backends": {"onnxruntime": "onnxruntime 1.21.0"}}, {"bits": 32}])
def test_what_changes_a_measurement_changes_the_fingerprint(change):
    assert fingerprint(PI) != fingerprint(msgspec.structs.replace(PI, **change))


def test_what_does_not_change_a_measurement_does_not():
    assert fingerprint(PI) == fingerprint(msgspec.structs.replace(PI, clock="unsynchronized"))


def test_the_hottest_zone_counts_and_a_broken_one_is_passed_over(tmp_path):
    for number, text in enumerate(["41234\n", "67890\n", "not a number"]):
        zone = tmp_path / f"thermal_zone{number}"
        zone.mkdir()
        (zone / "temp").write_text(text)
    assert temperature_c(tmp_path) == pytest.approx(67.89)
    assert temperature_c(tmp_path / "none") is None


@pytest.mark.parametrize(("bits", "expected"), [("0x0", False), ("50000", False), ("0x50005", True), ("4", True)])
def test_throttling_is_what_happens_now_and_not_what_happened_once(tmp_path, bits, expected):
    file = tmp_path / "get_throttled"
    file.write_text(bits + "\n")
    assert throttled((tmp_path / "absent", file)) is expected


def test_without_a_raspberry_throttling_is_unknown(tmp_path):
    assert throttled((tmp_path / "absent",)) is None


def test_the_marker_of_timesyncd_settles_the_clock(tmp_path, monkeypatch):
    marker = tmp_path / "synchronized"
    monkeypatch.setattr(hardware, "_adjtimex", lambda: "unsynchronized")
    assert clock_state(marker) == "unsynchronized"
    marker.touch()
    assert clock_state(marker) == "synchronized"


def test_the_kernel_answers_about_its_clock(tmp_path):
    assert clock_state(tmp_path / "absent") in {"synchronized", "unsynchronized", "unknown"}


def test_disk_of_a_directory_that_is_yet_to_be_made(tmp_path):
    assert free_disk_mib(tmp_path / "a" / "b") == free_disk_mib(tmp_path) > 0
