"""Joules by counters in a made-up ``/sys/class/powercap``, and without them."""

import pytest

from cloud_trainer.energy import Joules, decide, here, like, measured
from cloud_trainer.hardware import DEVICES, device


@pytest.fixture
def counters(tmp_path):
    def write(microjoules):
        folder = tmp_path / "intel-rapl:0"
        folder.mkdir(exist_ok=True)
        (folder / "energy_uj").write_text(f"{microjoules}\n")
        (folder / "max_energy_range_uj").write_text("1000000000\n")

    write(5)
    write.root = tmp_path
    return write


def test_counters_that_can_be_read_are_a_measurement(counters):
    with measured(counters.root) as energy:
        counters(7_000_005)
    assert energy.joules.value == pytest.approx(7.0)
    assert energy.joules.how == "measured"
    assert "RAPL" in energy.joules.detail


def test_a_machine_without_counters_gives_an_estimate_that_says_so(tmp_path):
    with measured(tmp_path / "none") as energy:
        sum(range(200_000))
    assert energy.joules.how == "estimate"
    assert "no energy counters" in energy.joules.detail
    assert energy.joules.value >= 0


def test_counters_that_vanish_meanwhile_leave_an_estimate(counters):
    with measured(counters.root) as energy:
        (counters.root / "intel-rapl:0" / "energy_uj").unlink()
    assert energy.joules.how == "estimate"
    assert "energy_uj" in energy.joules.detail


def test_work_that_fails_is_counted_too(counters):
    block = measured(counters.root)
    energy = block.__enter__()
    counters(2_000_005)
    with pytest.raises(ValueError, match="broke"):
        block.__exit__(ValueError, ValueError("broke"), None)
    assert energy.joules.value == pytest.approx(2.0)


def test_an_estimate_is_cpu_time_times_the_watts_of_a_busy_core():
    found = decide(None, "why", 60.0, 100.0, device("raspberry-pi-4"))
    assert found.value == pytest.approx(100 * 6.4 / 4)
    assert "raspberry-pi-4 (why)" in found.detail


def test_gpus_make_a_measurement_an_estimate():
    found = decide(2_000_000, "", 10.0, 1.0, device("h100"), gpu_watts=700.0)
    assert found.value == pytest.approx(2 + 7000)
    assert found.how == "estimate"


def test_kilowatt_hours():
    assert Joules(7.2e6, "measured", "").kwh == pytest.approx(2)


def test_a_machine_is_like_its_board_or_its_processor():
    assert like("Raspberry Pi Zero 2 W Rev 1.0\0", "").name == "raspberry-pi-zero-2w"
    assert like("Raspberry Pi 3 Model B Plus", "").name == "raspberry-pi-4"
    assert like("", "model name : Intel(R) N100").name == "x86-edge"
    assert like("", "model name : AMD Ryzen").name == "desktop-cpu"
    assert here() in DEVICES
