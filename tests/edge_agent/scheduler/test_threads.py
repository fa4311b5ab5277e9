"""Many threads and one engine: every request gets its own outcome, in turn, and nobody waits for ever."""

import random
import threading
import time
from concurrent.futures import CancelledError, ThreadPoolExecutor

import numpy as np
import pytest

from edge_agent.scheduler import Scheduler, SchedulerConfig
from shared.errors import BackendError, DeadlineError, InputError, OverloadError, UsageError
from tests.edge_agent.scheduler.fakes import Doubler, sample


@pytest.fixture
def engine():
    return Doubler()


def started(function, *arguments, **named):
    """A thread that calls ``function``, and a list that gets its outcome."""
    outcome = []

    def call():
        try:
            outcome.append(function(*arguments, **named))
        except BaseException as error:
            outcome.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    return thread, outcome


def until(condition):
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


class Held:
    """The engine is busy with a sample of value 0 until ``let_go``."""

    def __init__(self, engine, scheduler):
        self.engine, self.scheduler = engine, scheduler
        engine.entered.clear()
        engine.gate.clear()
        self.thread, self.outcome = started(scheduler.infer, sample(0))
        assert engine.entered.wait(10)

    def line_up(self, *numbers, call=None, **named):
        """One thread for each number, in this order."""
        pairs = []
        for number in numbers:
            before = self.scheduler.stats()
            pairs.append(started(call or self.scheduler.infer, sample(number), **named))
            until(lambda before=before: _seen(self.scheduler.stats()) > _seen(before))
        return pairs

    def let_go(self, pairs=()):
        self.engine.gate.set()
        for thread, _ in [(self.thread, None), *pairs]:
            thread.join(10)
            assert not thread.is_alive()
        return [outcome[0] for _, outcome in pairs]


def _seen(stats):
    return stats.queued + sum(stats.refused.values())


def test_an_idle_engine_runs_a_lone_request_in_the_callers_thread(engine):
    ran_in = []
    infer = engine.infer
    engine.infer = lambda sample, name=None: (ran_in.append(threading.current_thread()), infer(sample, name))[1]
    scheduler = Scheduler(engine)
    assert scheduler.infer(sample(21), "a").value == 42
    assert scheduler.infer(sample(2), deadline_ms=10_000).value == 4
    assert ran_in == [threading.current_thread()] * 2
    assert threading.active_count() == 1 + sum(t.name != "MainThread" for t in threading.enumerate())
    assert scheduler.stats().done == 2


def test_what_queued_meanwhile_is_one_batch_and_keeps_its_ids(engine):
    scheduler = Scheduler(engine)
    held = Held(engine, scheduler)
    pairs = held.line_up(1, 2, 3)
    assert scheduler.stats().queued == 3
    answers = held.let_go(pairs)
    assert [answer.value for answer in answers] == [2, 4, 6]
    assert engine.calls == [[0], [1, 2, 3]]
    stats = scheduler.stats()
    assert (stats.done, stats.batches, stats.mean_batch, stats.queued, stats.running) == (4, 1, 3.0, 0, 0)


def test_a_batch_is_at_most_max_batch_and_in_order(engine):
    scheduler = Scheduler(engine, SchedulerConfig(max_batch=2))
    held = Held(engine, scheduler)
    held.let_go(held.line_up(1, 2, 3, 4, 5))
    assert engine.calls == [[0], [1, 2], [3, 4], [5]]


def test_a_sample_that_fails_in_a_batch_fails_alone(engine):
    scheduler = Scheduler(engine)
    held = Held(engine, scheduler)
    outcomes = held.let_go(held.line_up(1, 666, 777, 4))
    assert [getattr(outcome, "value", None) for outcome in outcomes] == [2, None, None, 8]
    assert isinstance(outcomes[1], BackendError)
    assert isinstance(outcomes[2], ZeroDivisionError)
    stats = scheduler.stats()
    assert (stats.done, stats.failed) == (3, 2)


def test_a_sample_that_does_not_fit_is_refused_before_it_lines_up(engine):
    scheduler = Scheduler(engine)
    held = Held(engine, scheduler)
    with pytest.raises(InputError):
        scheduler.infer(sample(-1))
    with pytest.raises(InputError):
        scheduler.submit(sample(-1)).result(0)
    held.let_go()
    assert scheduler.stats().failed == 2


def test_a_full_queue_rejects_at_once(engine):
    scheduler = Scheduler(engine, SchedulerConfig(queue=2))
    held = Held(engine, scheduler)
    pairs = held.line_up(1, 2)
    with pytest.raises(OverloadError, match="2 requests are waiting already"):
        scheduler.infer(sample(3))
    with pytest.raises(OverloadError):
        scheduler.submit(sample(3)).result(0)
    assert [answer.value for answer in held.let_go(pairs)] == [2, 4]
    assert scheduler.stats().refused["overload"] == 2


def test_a_full_queue_of_frames_drops_the_oldest(engine):
    scheduler = Scheduler(engine, SchedulerConfig(queue=2, overflow="drop_oldest"))
    held = Held(engine, scheduler)
    pairs = held.line_up(1, 2, 3, 4)
    outcomes = held.let_go(pairs)
    assert [type(outcome) for outcome in outcomes[:2]] == [OverloadError, OverloadError]
    assert [outcome.value for outcome in outcomes[2:]] == [6, 8]
    assert engine.calls == [[0], [3, 4]]


def test_a_full_queue_lets_its_callers_wait_outside(engine):
    scheduler = Scheduler(engine, SchedulerConfig(queue=2, overflow="block"))
    held = Held(engine, scheduler)
    outcomes = held.let_go(held.line_up(1, 2, 3, 4, 5))
    assert [outcome.value for outcome in outcomes] == [2, 4, 6, 8, 10]
    assert engine.calls == [[0], [1, 2], [3, 4], [5]]


def test_submit_waits_for_room_and_gives_up_at_the_deadline(engine):
    scheduler = Scheduler(engine, SchedulerConfig(queue=1, overflow="block"))
    held = Held(engine, scheduler)
    first = scheduler.submit(sample(1))
    with pytest.raises(DeadlineError):
        scheduler.submit(sample(2), deadline_ms=20).result(0)
    pairs = held.line_up(3, call=scheduler.submit)
    (second,) = held.let_go(pairs)
    assert [first.result(10).value, second.result(10).value] == [2, 6]
    scheduler.close()


def test_a_deadline_that_passes_in_the_line_is_an_error_there_and_then(engine):
    scheduler = Scheduler(engine)
    held = Held(engine, scheduler)
    with pytest.raises(DeadlineError, match="no answer before the deadline"):
        scheduler.infer(sample(1), deadline_ms=20)
    assert scheduler.stats().queued == 0
    held.let_go()
    assert engine.calls == [[0]]
    assert scheduler.stats().refused["deadline"] == 1


def test_an_answer_after_the_deadline_is_an_error(engine):
    engine.delay = 0.03
    scheduler = Scheduler(engine)
    with pytest.raises(DeadlineError, match="after its deadline"):
        scheduler.infer(sample(1), deadline_ms=5)
    assert scheduler.stats().refused["deadline"] == 1


def test_a_deadline_that_the_measured_time_cannot_meet_is_refused_without_a_call(engine):
    engine.delay = 0.02
    scheduler = Scheduler(engine, SchedulerConfig(deadline_ms=10))
    for _ in range(6):
        with pytest.raises(DeadlineError):
            scheduler.infer(sample(1))
    calls = len(engine.calls)
    assert calls < 6
    with pytest.raises(DeadlineError, match="10 ms are left, but an answer takes about 2"):
        scheduler.infer(sample(1))
    assert len(engine.calls) == calls
    assert scheduler.infer(sample(1), deadline_ms=10_000).value == 2


def test_a_device_that_was_slow_once_is_tried_again(engine):
    now = [0.0]
    scheduler = Scheduler(engine, clock=lambda: now[0])

    def slow(sample, name=None):
        now[0] += 0.5
        return Doubler().infer(sample, name)

    engine.infer = slow
    scheduler.swap(engine)
    for _ in range(6):
        scheduler.infer(sample(1))
    with pytest.raises(DeadlineError, match="takes about 500 ms"):
        scheduler.infer(sample(1), deadline_ms=100)
    now[0] += 2
    engine.infer = Doubler().infer
    scheduler._infer = engine.infer
    assert scheduler.infer(sample(1), deadline_ms=100).value == 2


def test_identical_samples_share_one_call_but_neither_id_nor_memory(engine):
    scheduler = Scheduler(engine, SchedulerConfig(coalesce=True))
    held = Held(engine, scheduler)
    pairs = held.line_up(5, 5, id="a") + held.line_up(5, id="c") + held.line_up(6, id="d")
    answers = held.let_go(pairs)
    assert [(answer.id, answer.value) for answer in answers] == [("a", 10), ("a", 10), ("c", 10), ("d", 12)]
    assert engine.calls == [[0], [5, 6]]
    assert scheduler.stats().coalesced == 2
    answers[0].outputs["x"].append("changed")
    assert answers[1].outputs["x"] == [5]


def test_without_coalescing_identical_samples_are_run_each(engine):
    scheduler = Scheduler(engine)
    held = Held(engine, scheduler)
    held.let_go(held.line_up(5, 5))
    assert engine.calls == [[0], [5, 5]]


def test_a_model_with_state_is_neither_batched_nor_coalesced(engine):
    engine.manifest = type("Manifest", (), {"state": ("hidden",)})
    scheduler = Scheduler(engine, SchedulerConfig(coalesce=True))
    held = Held(engine, scheduler)
    held.let_go(held.line_up(5, 5, 6))
    assert engine.calls == [[0], [5], [5], [6]]


def test_futures_are_run_in_order_by_one_thread_and_cancelled_ones_not_at_all(engine):
    scheduler = Scheduler(engine, SchedulerConfig(max_batch=2))
    held = Held(engine, scheduler)
    futures = [scheduler.submit(sample(i), f"id-{i}") for i in range(1, 6)]
    assert futures[1].cancel()
    held.let_go()
    assert [futures[i].result(10).value for i in (0, 2, 3, 4)] == [2, 6, 8, 10]
    assert futures[2].result().id == "id-3"
    with pytest.raises(CancelledError):
        futures[1].result(0)
    assert [number for call in engine.calls for number in call] == [0, 1, 3, 4, 5]
    assert scheduler.stats().refused["cancelled"] == 1
    scheduler.close()


def test_a_callback_of_a_future_may_call_the_scheduler_again(engine):
    scheduler = Scheduler(engine, SchedulerConfig(max_batch=2))
    held = Held(engine, scheduler)
    again = []
    for i in range(1, 6):
        scheduler.submit(sample(i)).add_done_callback(
            lambda future: again.append((future.result().value, scheduler.infer(sample(100)).value))
        )
    held.let_go()
    until(lambda: len(again) == 5)
    assert again == [(2 * i, 200) for i in range(1, 6)]
    scheduler.close()


def test_many_threads_with_bad_samples_all_get_their_own_outcome(engine):
    scheduler = Scheduler(engine, SchedulerConfig(max_batch=8))
    wrong = []

    def client(seed):
        numbers = random.Random(seed)
        for _ in range(250):
            number = numbers.choice([numbers.randint(1, 600), 666, 777, -5, numbers.randint(1, 600)])
            expected = {666: BackendError, 777: ZeroDivisionError, -5: InputError}.get(number, 2 * number)
            try:
                if numbers.random() < 0.3:
                    found = scheduler.submit(sample(number), str(number)).result(20)
                else:
                    found = scheduler.infer(sample(number), str(number))
                found = found.value if found.id == str(number) else found
            except Exception as error:
                found = type(error)
            if found != expected:
                wrong.append((number, expected, found))

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(client, range(16)))
    scheduler.close()
    assert wrong == []
    assert engine.overlaps == 0
    stats = scheduler.stats()
    assert stats.done + stats.failed == 16 * 250
    assert stats.queued == stats.running == 0


@pytest.mark.parametrize("overflow", ["reject", "block", "drop_oldest"])
def test_under_overload_deadlines_and_coalescing_every_request_ends_once(overflow):
    engine = Doubler(delay=0.0005)
    config = SchedulerConfig(queue=4, max_batch=4, overflow=overflow, coalesce=True)
    scheduler = Scheduler(engine, config)
    ends = []

    def client(seed):
        numbers = random.Random(seed)
        for _ in range(60):
            number, deadline = numbers.randint(1, 5), numbers.choice([None, 0.5, 3, 50])
            try:
                if numbers.random() < 0.3:
                    found = scheduler.submit(sample(number), deadline_ms=deadline).result(20).value
                else:
                    found = scheduler.infer(sample(number), deadline_ms=deadline).value
                ends.append(found == 2 * number)
            except (OverloadError, DeadlineError):
                ends.append(True)

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(client, range(16)))
    scheduler.close()
    assert ends == [True] * (16 * 60)
    assert engine.overlaps == 0
    stats = scheduler.stats()
    assert stats.done + sum(stats.refused.values()) == 16 * 60
    assert stats.queued == stats.running == 0


def test_bulk_work_comes_in_order_with_its_ids_and_chunks_grow(engine):
    scheduler = Scheduler(engine)
    rows = np.arange(500, dtype=np.float32)[:, None]
    chunks = list(scheduler.infer_bulk(rows, [f"r{i}" for i in range(500)]))
    answers = [answer for chunk in chunks for answer in chunk]
    assert [answer.value for answer in answers] == [2 * i for i in range(500)]
    assert [answer.id for answer in answers] == [f"r{i}" for i in range(500)]
    sizes = [len(chunk) for chunk in chunks]
    assert sizes[:3] == [1, 2, 4]
    assert len(sizes) < 30
    assert scheduler.stats().bulk == 500


def test_a_chunk_takes_about_as_long_as_it_may():
    now = [0.0]
    engine = Doubler()
    run = engine.infer_batch

    def infer_batch(samples, ids=None):
        now[0] += 0.001 * len(samples)
        return run(samples, ids)

    engine.infer_batch = infer_batch
    scheduler = Scheduler(engine, SchedulerConfig(chunk_ms=10), clock=lambda: now[0])
    sizes = [len(chunk) for chunk in scheduler.infer_bulk(np.ones((100, 1), np.float32))]
    assert sizes == [1, 2, 4, 8, *[10] * 8, 5]


def test_waiting_requests_go_before_the_next_chunk():
    engine = Doubler()
    scheduler = Scheduler(engine)
    held = Held(engine, scheduler)
    bulk, outcome = started(lambda: list(scheduler.infer_bulk(np.full((3, 1), 50, np.float32))))
    until(lambda: scheduler._turn._bulk)
    pairs = held.line_up(1, 2)
    held.let_go(pairs)
    bulk.join(10)
    assert engine.calls == [[0], [1, 2], [50], [50, 50]]
    assert len(outcome[0]) == 2


def test_bulk_work_that_waited_long_goes_before_requests(engine):
    now = [0.0]
    scheduler = Scheduler(engine, SchedulerConfig(chunk_ms=5, bulk_share=0.05), clock=lambda: now[0])
    held = Held(engine, scheduler)
    bulk, _ = started(lambda: list(scheduler.infer_bulk(np.full((1, 1), 50, np.float32))))
    until(lambda: scheduler._turn._bulk)
    pairs = held.line_up(1)
    now[0] += 0.096  # 5 ms × (1 / 0.05 − 1) = 95 ms
    held.let_go(pairs)
    bulk.join(10)
    assert engine.calls == [[0], [50], [1]]


def test_bulk_and_real_time_together_are_all_answered():
    engine = Doubler(row_delay=0.00002)
    scheduler = Scheduler(engine, SchedulerConfig(chunk_ms=1))
    stop = threading.Event()
    counted = [0] * 4

    def client(index):
        while not stop.is_set():
            assert scheduler.infer(sample(index + 1)).value == 2 * index + 2
            counted[index] += 1

    clients = [started(client, index) for index in range(4)]
    rows = np.arange(1, 401, dtype=np.float32)[:, None]
    answers = [answer.value for chunk in scheduler.infer_bulk(rows) for answer in chunk]
    stop.set()
    for thread, outcome in clients:
        thread.join(10)
        assert outcome == [None]
    assert answers == [2 * i for i in range(1, 401)]
    assert min(counted) > 0
    assert engine.overlaps == 0


def test_bulk_rows_that_do_not_fit_are_named_and_the_engine_is_free_again(engine):
    scheduler = Scheduler(engine)
    with pytest.raises(InputError, match=r"rows [12] to 2: -4 is negative"):
        list(scheduler.infer_bulk(np.array([[1], [2], [-4]], np.float32)))
    assert scheduler.infer(sample(1)).value == 2
    with pytest.raises(InputError, match="2 ids for 3 samples"):
        scheduler.infer_bulk(np.zeros((3, 1)), ["a", "b"])
    with pytest.raises(InputError, match="as many rows"):
        scheduler.infer_bulk({"a": np.zeros(3), "b": np.zeros(2)})


def test_a_bulk_job_that_is_given_up_leaves_the_engine_free(engine):
    scheduler = Scheduler(engine)
    job = scheduler.infer_bulk(np.ones((100, 1), np.float32))
    next(job)
    job.close()
    assert scheduler.infer(sample(1)).value == 2


def test_swapping_the_engine_waits_for_the_call_and_serves_the_line_with_the_new_one(engine):
    class Tripler(Doubler):
        def _answer(self, number, name):
            return super()._answer(1.5 * number, name)

    scheduler = Scheduler(engine)
    held = Held(engine, scheduler)
    swap, old = started(scheduler.swap, Tripler())
    until(lambda: scheduler._turn._urgent)
    answers = held.let_go(held.line_up(2, 4))
    swap.join(10)
    assert old == [engine]
    assert [answer.value for answer in answers] == [6, 12]
    assert scheduler.infer(sample(1)).value == 3


def test_closing_refuses_what_waits_and_what_comes(engine):
    scheduler = Scheduler(engine)
    held = Held(engine, scheduler)
    future = scheduler.submit(sample(9))
    pairs = held.line_up(1)
    closing, _ = started(scheduler.close)
    until(lambda: scheduler._closed)
    (outcome,) = held.let_go(pairs)
    closing.join(10)
    assert isinstance(outcome, UsageError)
    with pytest.raises(UsageError, match="closed while this sample waited"):
        future.result(10)
    assert held.outcome[0].value == 0
    for call in (scheduler.infer, scheduler.submit, scheduler.infer_batch, scheduler.infer_bulk):
        with pytest.raises(UsageError, match="closed"):
            call(sample(1))
    scheduler.close()
    assert scheduler.stats().refused["closed"] == 2


def test_a_thread_that_is_interrupted_leaves_nobody_waiting(engine):
    scheduler = Scheduler(engine)
    held = Held(engine, scheduler)
    real, engine.infer_batch = engine.infer_batch, None

    def interrupted(samples, ids=None):
        raise KeyboardInterrupt

    engine.infer_batch = interrupted
    pairs = held.line_up(1, 2)
    outcomes = held.let_go(pairs)
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["BackendError", "KeyboardInterrupt"]
    engine.infer_batch = real
    assert scheduler.infer(sample(1)).value == 2


def test_a_request_waits_for_company_only_where_the_configuration_says(engine):
    scheduler = Scheduler(engine, SchedulerConfig(max_wait_us=1_000_000, max_batch=3))
    with ThreadPoolExecutor(3) as pool:
        start = time.monotonic()
        answers = list(pool.map(scheduler.infer, [sample(i) for i in range(3)]))
    assert time.monotonic() - start < 1  # the batch was full: nobody waited to the end
    assert [answer.value for answer in answers] == [0, 2, 4]
    assert sorted(engine.calls[0]) == [0, 1, 2]


def test_a_direct_batch_call_takes_its_turn_too(engine):
    scheduler = Scheduler(engine)
    assert [a.value for a in scheduler.infer_batch(np.ones((3, 1), np.float32), ["a", "b", "c"])] == [2, 2, 2]
    scheduler.check_one(sample(1))
    with pytest.raises(InputError):
        scheduler.check_one(sample(-1))
    assert scheduler.stats().done == 3


def test_the_numbers_are_flat_for_metrics(engine):
    scheduler = Scheduler(engine)
    scheduler.infer(sample(1))
    flat = scheduler.stats().flat()
    assert flat["done"] == 1
    assert flat["refused_overload"] == 0
    assert "gain" not in flat
    assert all(isinstance(value, float) for value in flat.values())


def test_samples_of_several_inputs_are_stacked_by_name(engine):
    calls = []

    class Named(Doubler):
        def check_one(self, sample):
            assert set(sample) == {"a", "b"}

        def infer(self, sample, name=None):
            calls.append({name: values.shape for name, values in sample.items()})
            return super()._run([sample["a"]], [name])[0]

        def infer_batch(self, samples, ids=None):
            calls.append({name: values.shape for name, values in samples.items()})
            return self._run(samples["a"], ids or [None] * len(samples["a"]))

    engine = Named()
    scheduler = Scheduler(engine)
    engine.gate.clear()
    one = {"a": sample(3), "b": np.zeros((2, 2))}
    pairs = [started(scheduler.infer, one)]
    assert engine.entered.wait(10)
    for _ in range(2):
        queued = scheduler.stats().queued
        pairs.append(started(scheduler.infer, one))
        until(lambda queued=queued: scheduler.stats().queued > queued)
    engine.gate.set()
    for thread, outcome in pairs:
        thread.join(10)
        assert outcome[0].value == 6
    assert calls == [{"a": (1,), "b": (2, 2)}, {"a": (2, 1), "b": (2, 2, 2)}]
