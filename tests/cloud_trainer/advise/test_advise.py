"""The arithmetic by hand, what must grow with what, and the three examples."""

import math

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloud_trainer.advise import EXAMPLES, Language, Network, Workload, advise, example, language, of_task
from cloud_trainer.advise.decide import choose_inference, choose_training, even
from cloud_trainer.advise.inference import devices_needed, inference_options
from cloud_trainer.advise.text import devices, shown
from cloud_trainer.advise.training import BASE_BYTES, memory_bytes, steps, total_macs, training_options
from cloud_trainer.advise.units import in_joules, in_time, scaled, short
from cloud_trainer.config import AdviseConfig, DataConfig, DistillConfig, ModelConfig, TaskConfig, TrainingConfig
from cloud_trainer.hardware import DATA_CENTRE, device
from shared.errors import UsageError

SMALL = Workload("small", 1000, "given", Network(1e8, 1e6, "given"), Network(1e7, 1e5, "given"))
MODEL = Language("model", 70e9, "given", 20_000, "given", sample_tokens=3000, epochs=3, prompt=3000, answer=400)
CLOUD = AdviseConfig(where="cloud", latency_ms=30_000)


def by_name(options):
    return {one.device: one for one in options}


def test_training_is_three_forward_passes_an_epoch_and_one_answer_of_the_teacher():
    assert total_macs(SMALL) == 1000 * 1e8 * (3 * 12 + 1) + 1000 * 3 * 1e7 * 20
    assert steps(SMALL) == pytest.approx(1000 / 128 * 32)


def test_time_energy_and_cost_of_a_training_by_hand():
    found = by_name(training_options(SMALL, AdviseConfig()))["l4"]
    seconds = total_macs(SMALL) / (24e12 * 0.45) + 250 * 0.004
    assert found.seconds == pytest.approx(seconds)
    assert found.joules == pytest.approx(seconds * 160 * DATA_CENTRE)
    assert found.dollars == pytest.approx(seconds / 3600 * 0.8)


def test_sixteen_bytes_a_parameter_and_the_activations_of_a_batch():
    assert memory_bytes(SMALL) == pytest.approx(16e6 + 2 * 4 * 128 * 1e8 / 300 + 1e9)
    assert memory_bytes(SMALL, half=True) < memory_bytes(SMALL)


def test_a_big_teacher_does_not_fit_where_it_does_not_fit():
    work = Workload("big", 1000, "", Network(1e12, 2e9, ""), Network(1e10, 1e7, ""), batch=1)
    found = by_name(training_options(work, AdviseConfig()))
    assert found["cloud-cpu-small"].why_not.startswith("needs ")
    assert not found["h100"].why_not.startswith("needs ")


def test_latency_devices_energy_and_cost_of_answers_by_hand():
    demand = AdviseConfig(requests_per_second=5000, years=2, price_per_kwh=0.5)
    found = by_name(inference_options(SMALL, demand))["raspberry-pi-4"]
    median = 0.1e-3 + 1e7 / 7e9
    capacity = 3.4 / median
    assert found.latency_ms == pytest.approx(1.5e3 * median)
    assert found.count == math.ceil(5000 / (0.6 * capacity))
    assert found.joules_an_answer == pytest.approx(3.7 / capacity)
    seconds = 2 * 8766 * 3600
    joules = found.count * seconds * 2.7 + 5000 * seconds * 3.7 / capacity
    assert found.joules == pytest.approx(joules)
    assert found.dollars == pytest.approx(55 * found.count + joules / 3.6e6 * 0.5)


def test_depthwise_layers_run_at_a_lower_rate_on_x86():
    slow = Workload("s", 10, "", SMALL.teacher, Network(1e9, 1e5, "", separable=True))
    fast = Workload("s", 10, "", SMALL.teacher, Network(1e9, 1e5, ""))
    cloud = AdviseConfig(where="cloud")
    a, b = (by_name(inference_options(work, cloud))["cloud-cpu"].latency_ms for work in (slow, fast))
    assert a / b == pytest.approx(1 / 0.29, rel=0.01)


def test_a_device_that_is_too_slow_on_one_core_takes_all_its_cores():
    work = Workload("s", 10, "", SMALL.teacher, Network(7e8, 1e5, ""))  # 100 ms on one core of a Pi 4, 30 on four
    found = by_name(inference_options(work, AdviseConfig(latency_ms=50)))["raspberry-pi-4"]
    assert found.latency_ms == pytest.approx(1.5 * (0.1 + 700 / 7 / 3.4))
    assert not found.why_not
    assert by_name(inference_options(work, AdviseConfig(latency_ms=20)))["raspberry-pi-4"].why_not.startswith("p99 ")


def test_a_cloud_machine_that_is_asked_once_a_day_is_not_paid_for_all_day():
    seldom, often = AdviseConfig(requests_per_second=1 / 86400, years=1), AdviseConfig(requests_per_second=1, years=1)
    assert by_name(inference_options(SMALL, seldom))["cloud-cpu"].dollars == pytest.approx(0.8 * 365.25 / 60)
    assert by_name(inference_options(SMALL, often))["cloud-cpu"].dollars == pytest.approx(0.8 * 8766)


def test_each_site_has_a_device_of_its_own():
    found = by_name(inference_options(SMALL, AdviseConfig(sites=300)))
    assert found["raspberry-pi-5"].count == 300


def test_six_n_d_and_sixteen_bytes_for_a_language_model():
    assert language.training_flops(MODEL) == pytest.approx(6 * 70e9 * 20_000 * 3000 * 3)
    assert language.training_memory(MODEL) == pytest.approx(16 * 70e9, rel=0.02)
    found = by_name(language.training_options(MODEL, CLOUD))["h100"]
    assert found.count == 24  # 16 of 76 GB, nine tenths of it, are not enough
    speed = 400e12 * (1 + 0.85 * 23)
    assert found.seconds == pytest.approx(6 * 70e9 * 1.8e8 / speed)
    assert found.joules == pytest.approx(found.seconds * 24 * 1150 * DATA_CENTRE)


def test_no_cpu_and_no_single_gpu_trains_seventy_billion():
    for one in language.training_options(MODEL, CLOUD):
        assert one.count > 1 or "of memory" in one.why_not


def test_the_cache_of_keys_and_values_is_that_of_known_models():
    assert Language("", 70e9, "", 1, "").cache_bytes == pytest.approx(80 * 2 * 1024 * 2, rel=0.15)  # Llama 2 and 3
    assert Language("", 8e9, "", 1, "").cache_bytes == pytest.approx(32 * 2 * 1024 * 2, rel=0.15)


def test_a_written_token_is_bound_by_memory_and_a_prompt_by_computing():
    h200 = device("h200")
    alone = language.answer_seconds(MODEL, h200, 2, 1)
    reading = (140e9 + MODEL.cache_bytes * 3200) / (3.8e12 * 1.85)
    assert alone == pytest.approx(70e9 * 3000 / (200e12 * 1.85) + 400 * (reading + 0.3e-3))


def test_answers_in_flight_are_limited_by_memory_and_by_time():
    h200 = device("h200")
    assert language.most_in_flight(MODEL, h200, 1) < 1  # 140 GB of weights
    most = language.most_in_flight(MODEL, h200, 2)
    assert most == math.floor((2 * 134e9 * 0.9 - 140e9) / (MODEL.cache_bytes * 3400))
    assert language.best_in_flight(MODEL, h200, 2, 1e9) == most
    assert language.best_in_flight(MODEL, h200, 2, 1.0) == 0
    some = language.best_in_flight(MODEL, h200, 2, 15.0)
    assert language.answer_seconds(MODEL, h200, 2, some) <= 15 < language.answer_seconds(MODEL, h200, 2, some + 1)


def test_break_even_is_training_over_an_answer():
    advice = advise(SMALL, AdviseConfig(requests_per_second=2, years=3))
    found = even(advice.train, advice.infer, AdviseConfig(requests_per_second=2, years=3))
    assert found.computing_answers == pytest.approx(advice.train.joules / advice.infer.joules_an_answer)
    answers = 2 * 3600 * 8766 * 3
    assert found.energy_answers == pytest.approx(advice.train.joules / (advice.infer.joules / answers))
    assert found.money_years == pytest.approx(advice.train.dollars / advice.infer.dollars * 3)


@pytest.mark.parametrize(
    ("name", "train", "infer"),
    [("daily-sales", "CPU", "CPU"), ("image-shop", "GPU", "CPU"), ("llm-agent", "GPU", "GPU")],
)
def test_the_three_examples_get_sensible_hardware(name, train, infer):
    work, demand = example(name)
    advice = advise(work, demand)
    assert (advice.train.word, advice.infer.word) == (train, infer)
    several = name == "llm-agent"
    assert (advice.train.count > 1, advice.infer.count > 1) == (several, several)
    assert len(advice.verdict) == 3
    text = shown(advice, demand.years)
    assert text.splitlines()[2].startswith(f"Train on {'24 GPUs' if several else 'one ' + train}")
    assert all(line in text for line in (*advice.train.lines, *advice.infer.lines))


def test_every_example_has_a_word_about_itself_and_others_are_refused():
    assert all(example(name) for name in EXAMPLES)
    with pytest.raises(UsageError, match="there are daily-sales, image-shop, llm-agent"):
        example("cats")


def test_what_nothing_can_do_is_said_with_what_comes_closest():
    advice = advise(SMALL, AdviseConfig(latency_ms=0.001))
    assert advice.infer is None
    assert advice.break_even is None
    assert "nothing in the table will do; the nearest is 1 x " in advice.verdict[1]
    assert "p99 " in advice.verdict[1]
    assert shown(advice, 1)


def test_a_desktop_is_enough_for_what_it_has_done_within_the_hour():
    options = training_options(SMALL, AdviseConfig())
    assert choose_training(options).device == "desktop-cpu"
    assert choose_training([]) is None
    assert choose_inference([]) is None


def test_a_search_and_a_comparison_are_paid_for():
    data, plan = DataConfig(format="csv"), TrainingConfig(student_epochs=18, minimum_steps=0)
    plain = TaskConfig(name="a", kind="forecasting", data=data, training=plan)
    more = TaskConfig(
        name="a", kind="forecasting", data=data, training=plan, distill=DistillConfig(compare=True),
        model=ModelConfig(search=True, search_trials=9, search_epochs=2, ensemble=6),
    )  # fmt: skip
    a, b = (of_task(task, 10_000, "", 4.0, SMALL.teacher, SMALL.student) for task in (plain, more))
    assert a.student_trainings == 1
    assert b.student_trainings == 1 + 1 + 3 * 9 * 2 / 18  # three rounds, each 9 trials x 2 epochs
    assert a.teacher_epochs == b.teacher_epochs == plan.teacher_epochs  # the teacher is all of them together


def test_teachers_are_trained_one_after_the_other():
    one = of_task(
        TaskConfig(name="a", kind="tabular-regression", data=DataConfig(format="csv"), model=ModelConfig(ensemble=1)),
        100_000, "", 4.0, Network(1e9, 1e8, ""), Network(1e6, 1e5, ""),
    )  # fmt: skip
    two = msgspec.structs.replace(one, teacher=msgspec.structs.replace(one.teacher, count=2))
    assert steps(two) - steps(one) == pytest.approx(one.teacher_epochs * one.trained_on / one.batch)
    assert memory_bytes(two) - BASE_BYTES == pytest.approx((memory_bytes(one) - BASE_BYTES) / 2)


requests = st.floats(1e-6, 1e6)
networks = st.builds(Network, st.floats(1e3, 1e11), st.floats(1e2, 1e9), st.just("given"), st.booleans())
works = st.builds(Workload, st.just("w"), st.integers(10, 10**7), st.just(""), networks, networks)
models = st.builds(Language, st.just("m"), st.floats(1e8, 1e12), st.just(""), st.integers(1, 10**6), st.just(""))


@settings(max_examples=40, deadline=None)
@given(st.one_of(works, models), requests, requests)
def test_more_requests_never_need_fewer_devices_nor_less_energy(work, a, b):
    few, many = (AdviseConfig(requests_per_second=rate, latency_ms=60_000) for rate in sorted((a, b)))
    first, second = by_name(advise(work, few).inference), by_name(advise(work, many).inference)
    for name, one in first.items():
        assert second[name].count >= one.count
        if not one.why_not and second[name].count == one.count:
            assert second[name].joules >= one.joules * (1 - 1e-9)


@settings(max_examples=40, deadline=None)
@given(st.one_of(works, models), st.floats(0.1, 1e5), st.floats(0.1, 1e5))
def test_a_tighter_deadline_never_makes_a_class_possible(work, a, b):
    tight, loose = (AdviseConfig(latency_ms=limit, requests_per_second=3) for limit in sorted((a, b)))
    first, second = by_name(advise(work, tight).inference), by_name(advise(work, loose).inference)
    for name, one in first.items():
        if not one.why_not:
            assert not second[name].why_not


@settings(max_examples=40, deadline=None)
@given(works, st.integers(2, 100))
def test_more_samples_never_train_faster(work, times):
    more = Workload("w", work.samples * times, "", work.teacher, work.student)
    for a, b in zip(training_options(work, AdviseConfig()), training_options(more, AdviseConfig()), strict=True):
        assert b.seconds >= a.seconds
        assert b.joules >= a.joules


@given(requests, requests, st.floats(1e-3, 1e6), st.integers(1, 50))
def test_devices_grow_with_requests_and_are_never_too_busy(a, b, capacity, sites):
    low, high = sorted((a, b))
    assert sites <= devices_needed(low, capacity, sites) <= devices_needed(high, capacity, sites)
    assert high / (devices_needed(high, capacity, sites) * capacity) <= 0.6 * (1 + 1e-6)


@given(st.floats(1e-9, 1e25))
def test_every_number_has_a_short_form(value):
    for text in (short(value), scaled(value, "MAC"), in_time(value), in_joules(value)):
        assert text
        assert "e" not in text.split()[0] or value > 1e15 or value < 1e-6


def test_the_table_of_devices_has_a_row_for_each():
    assert "raspberry-pi-zero-2w" in devices()
    assert "data sheet" in devices()
