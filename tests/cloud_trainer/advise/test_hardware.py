"""Formulas by sums made by hand, and what must hold for every class of devices."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_trainer.hardware import (
    DATA_CENTRE,
    DEVICES,
    P99_OVER_MEDIAN,
    answers_a_second,
    device,
    energy_per_answer,
    hourly_cost,
    latency_ms,
    macs_within,
    rate,
    speedup,
    training_seconds,
)
from shared.errors import UsageError

every = st.sampled_from(DEVICES)
precisions = st.sampled_from(("fp32", "fp16", "int8"))
work = st.floats(1e3, 1e12)


def test_a_name_that_is_none_lists_those_there_are():
    with pytest.raises(UsageError, match="no device class 'raspberry'; there are raspberry-pi-zero-2w"):
        device("raspberry")


def test_mobilenet_on_a_pi_takes_what_was_published():
    pi = device("raspberry-pi-4")
    assert latency_ms(569e6, 4.2e6, pi, "int8", 4) == pytest.approx(24, rel=0.1)
    assert latency_ms(569e6, 16.8e6, pi, "fp32", 4) == pytest.approx(77, rel=0.1)
    zero = device("raspberry-pi-zero-2w")  # the Pi 3+'s 46 ms at 1.4 GHz
    assert latency_ms(569e6, 4.2e6, zero, "int8", 4) == pytest.approx(46 * 1.4, rel=0.1)


def test_a_model_bigger_than_the_cache_waits_for_memory():
    pi = device("raspberry-pi-4")  # 1 MiB of cache, 4 GB/s
    assert latency_ms(1e6, 401e6 + 2**20 - 1e6, pi) == pytest.approx(0.1 + 100, rel=1e-6)
    assert latency_ms(1e6, 2**20, pi) == pytest.approx(0.1 + 1e3 * 1e6 / 2.2e9)


def test_four_cores_are_not_four_times_one():
    assert speedup(4) == pytest.approx(3.4)
    assert rate(device("raspberry-pi-4"), "int8", 4) == pytest.approx(7e9 * 3.4)
    assert rate(device("raspberry-pi-4"), "int8", 99) == pytest.approx(7e9 * 3.4)  # it has no more


def test_a_gpu_reaches_less_with_convolutions_than_with_matrices():
    assert rate(device("a100"), "fp16", large=True) == pytest.approx(70e12)
    assert rate(device("a100"), "fp16") == pytest.approx(31.5e12)


def test_training_time_by_hand():
    cloud = device("cloud-cpu")  # 16 cores: 13 cores' worth of 45 GMAC/s, 0.7 of it in training
    assert training_seconds(45e9 * 13 * 0.7 * 60, 1000, cloud) == pytest.approx(60 + 0.5)
    h100 = device("h100")
    assert training_seconds(200e12 * 10, 0, h100, large=True) == pytest.approx(10)
    assert training_seconds(200e12 * 10, 0, h100, large=True, count=2) == pytest.approx(10 / 1.85)


def test_resnet50_trains_on_an_a100_as_fast_as_published():
    images_a_second = 1e6 / training_seconds(3 * 4.1e9 * 1e6, 1e6 / 256, device("a100"))
    assert images_a_second == pytest.approx(2500, rel=0.15)


def test_energy_is_what_a_busy_device_draws_above_an_idle_one():
    pi = device("raspberry-pi-4")
    assert energy_per_answer(7e6, 1e5, pi, "int8") == pytest.approx((6.4 - 2.7) * (1.1e-3 / 3.4))
    cloud = device("cloud-cpu-small")
    joules = energy_per_answer(130e6, 1e5, cloud, "int8")
    assert joules == pytest.approx(8 * DATA_CENTRE * 1.012e-3 / 1.8)


def test_what_is_bought_is_paid_off_over_its_life_and_what_is_rented_by_the_hour():
    assert hourly_cost(device("l4"), 1e6, 1.0) == pytest.approx(0.80)
    assert hourly_cost(device("raspberry-pi-4"), 6.4, 0.25) == pytest.approx(55 / 43830 + 0.0016)


@given(every, precisions, work, work)
def test_more_work_never_takes_less_time(one, precision, a, b):
    low, high = sorted((a, b))
    assert latency_ms(low, 1e6, one, precision) <= latency_ms(high, 1e6, one, precision)
    assert latency_ms(1e6, low, one, precision) <= latency_ms(1e6, high, one, precision)
    assert answers_a_second(low, 1e6, one, precision) >= answers_a_second(high, 1e6, one, precision)
    assert training_seconds(low, 10, one) <= training_seconds(high, 10, one)


@given(every, work)
def test_a_lower_precision_is_never_slower(one, macs):
    assert rate(one, "int8") >= rate(one, "fp16") >= rate(one, "fp32")
    assert latency_ms(macs, 1e6, one, "int8") <= latency_ms(macs, 1e6, one, "fp32")


@given(every, precisions, st.floats(0.01, 1e4), st.integers(1, 8))
def test_as_many_macs_as_fit_keep_to_the_limit_and_one_percent_more_do_not(one, precision, p99_ms, threads):
    macs = macs_within(p99_ms, one, precision, threads)
    if macs == 0:
        assert P99_OVER_MEDIAN * latency_ms(1e4, 0, one, precision, threads) > p99_ms * 0.9
        return
    assert P99_OVER_MEDIAN * latency_ms(macs, 0, one, precision, threads) <= p99_ms * (1 + 1e-9)
    assert P99_OVER_MEDIAN * latency_ms(macs * 1.01 + 1, 0, one, precision, threads) > p99_ms


@given(every)
def test_every_class_is_whole(one):
    assert 0 < one.idle_w < one.load_w
    assert (one.price > 0) != (one.hourly > 0)
    assert one.source
    assert one.fp32 <= one.fp16 <= one.int8
    assert (one.hourly > 0) == (one.where == "cloud")
