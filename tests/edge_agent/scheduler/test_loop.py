"""One event loop and one engine: callbacks are called once, later, with the right outcome."""

import asyncio
import random
import threading

import pytest

from edge_agent.scheduler import LoopScheduler, Scheduler, SchedulerConfig
from edge_agent.scheduler.config import DEFAULT
from shared.errors import BackendError, DeadlineError, InputError, OverloadError, UsageError
from tests.edge_agent.scheduler.fakes import Doubler, sample


@pytest.fixture
def engine():
    return Doubler()


def outcomes_of(engine, requests, config=DEFAULT, warm=10):
    """Submit ``requests`` (number, id, deadline) in one turn of the loop, after ``warm`` calls that measure."""

    async def main():
        scheduler = LoopScheduler(engine, config)
        for _ in range(warm):
            await one(scheduler, 1)
        engine.calls.clear()
        outcomes = {}
        for place, (number, name, deadline) in enumerate(requests):
            scheduler.submit(sample(number), name, deadline, lambda found, place=place: outcomes.update({place: found}))
        assert outcomes == {}, "never from inside submit"
        await until(lambda: len(outcomes) == len(requests))
        stats = scheduler.stats()
        scheduler.close()
        return [outcomes[place] for place in range(len(requests))], stats

    return asyncio.run(main())


async def until(condition):
    for _ in range(10_000):
        if condition():
            return
        await asyncio.sleep(0.001)
    raise AssertionError


async def one(scheduler, number, **named):
    future = asyncio.get_running_loop().create_future()
    scheduler.submit(sample(number), named.get("id"), named.get("deadline_ms"), future.set_result)
    return await future


def test_each_gets_its_own_answer_and_id(engine):
    found, stats = outcomes_of(engine, [(i, f"id-{i}", None) for i in range(1, 6)])
    assert [(answer.id, answer.value) for answer in found] == [(f"id-{i}", 2 * i) for i in range(1, 6)]
    assert (stats.done, stats.queued, stats.running) == (15, 0, 0)


def test_what_came_in_one_turn_is_a_batch_while_batching_may_pay(engine):
    outcomes_of(engine, [(i, None, None) for i in range(1, 6)])
    assert engine.calls == [[1, 2, 3, 4, 5]]


def test_a_bad_sample_fails_alone(engine):
    found, stats = outcomes_of(engine, [(1, None, None), (-4, None, None), (666, None, None), (777, None, None)])
    assert found[0].value == 2
    assert isinstance(found[1], InputError)
    assert isinstance(found[2], BackendError)
    assert isinstance(found[3], BackendError)
    assert "777" in str(found[3])
    assert stats.failed == 3


def test_long_calls_run_beside_the_loop_and_short_ones_in_it():
    def thread_of_calls(engine):
        threads = []
        infer = engine.infer
        engine.infer = lambda sample, name=None: (threads.append(threading.current_thread()), infer(sample, name))[1]
        outcomes_of(engine, [(1, None, None)])
        return threads[-1]

    assert thread_of_calls(Doubler(delay=0.01)) is not threading.main_thread()
    assert thread_of_calls(Doubler()) is threading.main_thread()


def test_the_loop_goes_on_while_a_long_call_runs():
    engine = Doubler()

    async def main():
        scheduler = LoopScheduler(engine)
        engine.gate.clear()
        future = asyncio.get_running_loop().create_future()
        scheduler.submit(sample(4), None, None, future.set_result)
        for _ in range(20):
            await asyncio.sleep(0.001)
        assert not future.done()
        assert scheduler.stats().running == 1
        engine.gate.set()
        answer = await future
        scheduler.close()
        return answer.value

    assert asyncio.run(main()) == 8


def test_a_full_queue_rejects_and_never_blocks_the_loop(engine):
    for overflow in ("reject", "block"):
        config = SchedulerConfig(queue=2, overflow=overflow)
        found, stats = outcomes_of(engine, [(i, None, None) for i in range(1, 5)], config)
        assert [getattr(outcome, "value", type(outcome)) for outcome in found] == [2, 4, OverloadError, OverloadError]
        assert stats.refused["overload"] == 2


def test_a_full_queue_of_frames_drops_the_oldest(engine):
    found, _ = outcomes_of(
        engine, [(i, None, None) for i in range(1, 5)], SchedulerConfig(queue=2, overflow="drop_oldest")
    )
    assert [getattr(outcome, "value", type(outcome)) for outcome in found] == [OverloadError, OverloadError, 6, 8]


def test_deadlines_hold_here_too():
    found, _ = outcomes_of(Doubler(delay=0.01), [(1, None, 1.0), (2, None, 10_000), (3, None, -1.0)])
    assert isinstance(found[0], DeadlineError)
    assert found[1].value == 4
    assert isinstance(found[2], DeadlineError)


def test_a_late_answer_is_an_error():
    async def main():
        scheduler = LoopScheduler(Doubler(delay=0.02))
        outcome = await one(scheduler, 1, deadline_ms=5)
        scheduler.close()
        return outcome

    assert isinstance(asyncio.run(main()), DeadlineError)


def test_identical_samples_share_one_call(engine):
    config = SchedulerConfig(coalesce=True)
    found, stats = outcomes_of(engine, [(5, "a", None), (5, "b", None), (6, "c", None)], config)
    assert [(answer.id, answer.value) for answer in found] == [("a", 10), ("b", 10), ("c", 12)]
    assert engine.calls == [[5, 6]]
    assert stats.coalesced == 1


def test_a_callback_that_fails_is_reported_and_the_others_are_called(engine):
    async def main():
        reported = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: reported.append(context["exception"]))
        scheduler = LoopScheduler(engine)
        scheduler.submit(sample(1), None, None, lambda found: 1 / 0)
        answer = await one(scheduler, 2)
        scheduler.close()
        return answer.value, reported

    value, reported = asyncio.run(main())
    assert value == 4
    assert [type(error) for error in reported] == [ZeroDivisionError]


def test_a_callback_may_submit_again(engine):
    async def main():
        scheduler = LoopScheduler(engine)
        done = asyncio.Event()
        values = []

        def again(answer):
            values.append(answer.value)
            if answer.value < 1000:
                scheduler.submit(sample(answer.value), None, None, again)
            else:
                done.set()

        scheduler.submit(sample(1), None, None, again)
        await done.wait()
        scheduler.close()
        return values

    assert asyncio.run(main()) == [2**i for i in range(1, 11)]


def test_it_may_stand_on_a_scheduler_that_threads_use_too(engine):
    async def main():
        with Scheduler(engine) as base:
            scheduler = LoopScheduler(base)
            stop = threading.Event()

            def client():
                while not stop.is_set():
                    assert base.infer(sample(7)).value == 14

            thread = threading.Thread(target=client)
            thread.start()
            values = []
            numbers = random.Random(3)
            for _ in range(100):
                number = numbers.randint(1, 500)
                answer = await one(scheduler, number)
                values.append(answer.value == 2 * number)
            stop.set()
            thread.join()
            scheduler.close()
            return values

    assert asyncio.run(main()) == [True] * 100
    assert engine.overlaps == 0


def test_many_requests_in_bursts_all_end_once():
    engine = Doubler()

    async def main():
        scheduler = LoopScheduler(engine, SchedulerConfig(queue=64, max_batch=8, coalesce=True))
        numbers = random.Random(1)
        ends = []
        total = 0
        for _ in range(200):
            for _ in range(numbers.randint(0, 30)):
                total += 1
                number = numbers.choice([numbers.randint(1, 20), 666, -3])
                deadline = numbers.choice([None, None, 0.01, 1000])
                scheduler.submit(
                    sample(number), str(total), deadline, lambda found, n=number, i=total: ends.append((i, n, found))
                )
            await asyncio.sleep(0)
        await until(lambda: len(ends) == total)
        stats = scheduler.stats()
        scheduler.close()
        return ends, total, stats

    ends, total, stats = asyncio.run(main())
    assert sorted(i for i, _, _ in ends) == list(range(1, total + 1))
    for i, number, found in ends:
        if isinstance(found, DeadlineError | OverloadError):
            continue
        if number < 0:
            assert isinstance(found, InputError)
        elif number == 666:
            assert isinstance(found, BackendError)
        else:
            assert (found.value, found.id) == (2 * number, str(i))
    assert stats.done + stats.failed + sum(stats.refused.values()) == total


def test_closing_refuses_what_waits_and_what_comes(engine):
    async def main():
        scheduler = LoopScheduler(engine)
        found = []
        scheduler.submit(sample(1), None, None, found.append)
        scheduler.close()
        await asyncio.sleep(0.01)
        with pytest.raises(UsageError, match="closed"):
            scheduler.submit(sample(1), None, None, found.append)
        return found

    found = asyncio.run(main())
    assert [type(outcome) for outcome in found] == [UsageError]


def test_another_engine_answers_from_the_next_batch_on(engine):
    class Tripler(Doubler):
        def _answer(self, number, name):
            return super()._answer(1.5 * number, name)

    async def main():
        scheduler = LoopScheduler(engine)
        before = await one(scheduler, 2)
        scheduler.swap(Tripler())
        after = await one(scheduler, 2)
        scheduler.close()
        return before.value, after.value

    assert asyncio.run(main()) == (4, 6)


def test_a_burst_may_be_gathered_with_a_timer(engine):
    async def main():
        scheduler = LoopScheduler(engine, SchedulerConfig(max_wait_us=20_000))
        first = asyncio.ensure_future(one(scheduler, 1))
        await asyncio.sleep(0.001)
        second = await one(scheduler, 2)
        scheduler.close()
        return (await first).value, second.value

    assert asyncio.run(main()) == (2, 4)
    assert engine.calls == [[1, 2]]


def now_or_not(engine, config=DEFAULT, *, warm=3, waiting=False, closed=False, number=4):
    """What ``infer_now`` gives after ``warm`` calls, and what was counted."""

    async def main():
        scheduler = LoopScheduler(engine, config)
        for _ in range(warm):
            await one(scheduler, 1)
        engine.calls.clear()
        if waiting:
            scheduler.submit(sample(9), None, None, lambda found: None)
        if closed:
            scheduler.close()
        found = scheduler.infer_now(sample(number), "n")
        calls = list(engine.calls)
        stats = scheduler.stats()
        scheduler.close()
        return found, calls, stats

    return asyncio.run(main())


def test_a_caller_who_is_alone_is_answered_at_once(engine):
    found, calls, stats = now_or_not(engine)
    assert (found.id, found.value, calls, stats.done) == ("n", 8, [[4]], 4)


@pytest.mark.parametrize(
    "given",
    [
        {"warm": 0},
        {"warm": 1},
        {"waiting": True},
        {"closed": True},
        {"config": SchedulerConfig(deadline_ms=100)},
        {"config": SchedulerConfig(max_wait_us=100)},
    ],
)
def test_nobody_is_answered_at_once_before_those_who_wait_or_in_spite_of_the_settings(engine, given):
    found, calls, _ = now_or_not(engine, **given)
    assert found is None
    assert calls == []


def test_nobody_is_answered_at_once_by_an_engine_that_is_slow_or_runs_beside():
    found, _, _ = now_or_not(Doubler(delay=0.005))
    assert found is None
    engine = Doubler()

    async def main():
        scheduler = LoopScheduler(engine)
        for _ in range(3):
            await one(scheduler, 1)
        scheduler.swap(engine)  # its times are unknown again, so the next call runs in the thread
        engine.gate.clear()
        future = asyncio.get_running_loop().create_future()
        scheduler.submit(sample(4), None, None, future.set_result)
        await asyncio.to_thread(engine.entered.wait, 10)
        await asyncio.sleep(0.01)
        found = scheduler.infer_now(sample(5), None)
        engine.gate.set()
        value = (await future).value
        scheduler.close()
        return found, value

    assert asyncio.run(main()) == (None, 8)
    assert engine.overlaps == 0


@pytest.mark.parametrize(("number", "error"), [(-1, InputError), (666, BackendError), (777, BackendError)])
def test_errors_at_once_are_those_of_the_queue(engine, number, error):
    found, _, stats = now_or_not(engine, number=number)
    assert type(found) is error
    assert stats.failed == 1
