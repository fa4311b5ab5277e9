"""Counters in a made-up ``/sys/class/powercap``."""

import pytest

from edge_agent.energy import EnergyMeter


@pytest.fixture
def counters(tmp_path):
    """A function that sets the counters of two packages; the first has a part, which must not count twice."""

    def write(first, second):
        for name, value in (("intel-rapl:0", first), ("intel-rapl:0:0", first), ("intel-rapl:1", second)):
            (tmp_path / name).mkdir(exist_ok=True)
            (tmp_path / name / "energy_uj").write_text(f"{value}\n")
            (tmp_path / name / "max_energy_range_uj").write_text("1000\n")

    write(100, 900)
    write.root = tmp_path
    return write


def test_what_was_consumed_is_the_sum_of_the_packages(counters):
    meter = EnergyMeter(counters.root)
    assert meter.consumed_uj() == 0
    counters(150, 910)
    assert meter.consumed_uj() == 60


def test_a_counter_that_starts_again_goes_on(counters):
    meter = EnergyMeter(counters.root)
    counters(100, 30)
    assert meter.consumed_uj() == 130
    counters(50, 30)
    assert meter.consumed_uj() == 130 + 950


def test_a_device_without_counters_or_without_the_right_to_read_says_so(tmp_path, counters):
    with pytest.raises(OSError, match="no energy counters in"):
        EnergyMeter(tmp_path / "none")
    (counters.root / "intel-rapl:0" / "energy_uj").write_text("broken")
    with pytest.raises(OSError, match="no number in it"):
        EnergyMeter(counters.root)
    (counters.root / "intel-rapl:0" / "energy_uj").unlink()
    with pytest.raises(FileNotFoundError):
        EnergyMeter(counters.root)
