"""The queue as a state machine: whatever is called in whatever order, the invariants of the module hold."""

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, precondition, rule

from edge_agent.scheduler.queue import Request, RequestQueue, State, form_of
from shared.errors import DeadlineError, OverloadError

FOREVER = float("inf")


def request(number=1.0, deadline=FOREVER, key=None, shape=(2,)):
    return Request(np.full(shape, number, np.float32), deadline=deadline, key=key)


class QueueMachine(RuleBasedStateMachine):
    """Against a plain list of what was offered: who leaves how, and in which order."""

    overflow = "reject"
    size = 5
    requests = Bundle("requests")

    def __init__(self):
        super().__init__()
        self.queue = RequestQueue(self.size, self.overflow)
        self.now = 0.0
        self.offered = []
        self.left = {}  # id(request) -> how
        self.running = []

    def leave(self, one, how):
        assert id(one) not in self.left, f"{self.left[id(one)]} and then {how}"
        self.left[id(one)] = how
        assert one.state in {State.GONE, State.RUNNING}

    def refused(self, refused):
        for one, error in refused:
            assert isinstance(error, DeadlineError | OverloadError)
            self.leave(one, "refused")
        return refused

    @rule(
        target=requests,
        deadline=st.one_of(st.none(), st.integers(-1, 20)),
        key=st.sampled_from([None, None, "a", "b"]),
        shape=st.sampled_from([(2,), (2,), (3,)]),
        row=st.sampled_from([0.0, 1.0]),
        run=st.sampled_from([0.0, 2.0]),
    )
    def offer(self, deadline, key, shape, row, run):
        one = request(deadline=FOREVER if deadline is None else self.now + deadline, key=key, shape=shape)
        ahead, full = len(self.queue.waiting), len(self.queue) >= self.size
        oldest = self.queue.waiting[0] if self.queue.waiting else None
        self.offered.append(one)
        refused = self.refused(self.queue.offer(one, self.now, row_seconds=row, run_seconds=run))
        hopeless = deadline is not None and (deadline <= 0 or deadline < row * ahead + run)
        assert (refused != [] and isinstance(refused[0][1], DeadlineError)) == hopeless
        if not hopeless and full:
            assert (one.state is State.BLOCKED) == (self.overflow == "block")
            if self.overflow == "reject":
                assert [r for r, _ in refused] == [one]
            elif self.overflow == "drop_oldest":
                assert [r for r, _ in refused] == [oldest or one]
        elif not hopeless:
            assert refused == []
        return one if id(one) not in self.left else multiple()

    @rule(limit=st.integers(1, 4), run=st.sampled_from([0.0, 2.0]))
    def take(self, limit, run):
        line = list(self.queue.waiting)
        batch, refused = self.queue.take(self.now, limit, run_seconds=run)
        self.refused(refused)
        late = {id(one) for one, _ in refused}
        assert len(batch) <= limit
        assert all(one.deadline > self.now and one.deadline >= self.now + run for one in batch)
        assert len({form_of(one.sample) for one in batch}) <= 1
        expected = [one for one in line if id(one) not in late]
        survivors = [one for one in batch if any(one is known for known in line)]
        assert all(a is b for a, b in zip(survivors, expected, strict=False))
        if any(id(one) not in late for one in line):
            assert batch
        self.running += batch

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def finish(self, data):
        one = self.running.pop(data.draw(st.integers(0, len(self.running) - 1)))
        joined = self.queue.finish(one)
        self.leave(one, "answered")
        for other in joined:
            assert other.key == one.key
            assert other.key is not None
            self.leave(other, "answered")

    @rule(one=consumes(requests))
    def cancel(self, one):
        running = any(one is other for other in self.running)
        assert self.queue.cancel(one) == (not running and id(one) not in self.left)
        if not running and id(one) not in self.left:
            self.leave(one, "cancelled")

    @rule(seconds=st.integers(1, 6))
    def time_goes_on(self, seconds):
        self.now += seconds
        self.refused(self.queue.expire(self.now))

    @rule()
    def clear(self):
        for one in self.queue.clear():
            self.leave(one, "cleared")

    @invariant()
    def bounds_are_held(self):
        assert len(self.queue) <= self.size
        if self.overflow != "block":
            assert not self.queue.blocked
        elif self.queue.blocked:
            assert len(self.queue) == self.size

    @invariant()
    def everyone_is_in_one_place_or_gone(self):
        inside = [id(one) for one in self.queue.everyone()] + [id(one) for one in self.running]
        assert len(set(inside)) == len(inside)
        assert set(inside).isdisjoint(self.left)
        assert set(inside) | set(self.left) == {id(one) for one in self.offered}

    @invariant()
    def the_line_is_in_the_order_of_arrival(self):
        rank = {id(one): i for i, one in enumerate(self.offered)}
        for line in (self.queue.waiting, self.queue.blocked):
            plain = [rank[id(one)] for one in line if one.key is None]  # an heir stands where the first stood
            assert plain == sorted(plain)

    def teardown(self):
        self.now += 1000
        while self.queue.everyone() or self.running:
            while self.running:
                one = self.running.pop()
                self.leave(one, "answered")
                for other in self.queue.finish(one):
                    self.leave(other, "answered")
            batch, refused = self.queue.take(self.now, 3)
            self.refused(refused)
            self.running += batch
        assert set(self.left) == {id(one) for one in self.offered}


class BlockingMachine(QueueMachine):
    overflow = "block"


class DroppingMachine(QueueMachine):
    overflow = "drop_oldest"
    size = 3


QueueMachine.TestCase.settings = BlockingMachine.TestCase.settings = DroppingMachine.TestCase.settings = settings(
    max_examples=60, stateful_step_count=30, deadline=None
)
TestRejecting = QueueMachine.TestCase
TestBlocking = BlockingMachine.TestCase
TestDropping = DroppingMachine.TestCase


def test_a_deadline_that_cannot_be_met_is_refused_at_once_and_says_why():
    queue = RequestQueue(9, "reject")
    queue.offer(request(), 0.0)
    ((_, error),) = queue.offer(request(deadline=0.030), 0.0, row_seconds=0.02, run_seconds=0.02)
    assert str(error) == "30 ms are left, but an answer takes about 40 ms"
    assert queue.offer(request(deadline=0.040), 0.0, row_seconds=0.02, run_seconds=0.02) == []


def test_the_share_of_a_request_that_expires_goes_to_its_twin():
    queue = RequestQueue(9, "reject")
    first, twin, other = request(key="k", deadline=1.0), request(key="k"), request()
    for one in (first, other, twin):
        queue.offer(one, 0.0)
    batch, refused = queue.take(2.0, 1)
    assert [one for one, _ in refused] == [first]
    assert batch == [twin]


def test_a_twin_of_one_that_runs_gets_its_answer():
    queue = RequestQueue(9, "reject")
    first, twin = request(key="k"), request(key="k")
    queue.offer(first, 0.0)
    queue.take(0.0, 8)
    queue.offer(twin, 0.0)
    assert queue.finish(first) == [twin]
    assert len(queue) == 0


def test_only_samples_of_one_form_are_a_batch_and_nobody_is_overtaken():
    queue = RequestQueue(9, "reject")
    line = [request(shape=(2,)), request(shape=(2,)), request(shape=(3,)), request(shape=(2,))]
    for one in line:
        queue.offer(one, 0.0)
    assert queue.take(0.0, 8)[0] == line[:2]
    assert queue.take(0.0, 8)[0] == line[2:3]
    assert queue.take(0.0, 8)[0] == line[3:]


def test_samples_of_unknown_form_run_alone():
    queue = RequestQueue(9, "reject")
    line = [Request([1, 2]), Request([1, 2]), Request({"a": np.zeros(2), "b": np.zeros(1)}), Request("text")]
    for one in line:
        queue.offer(one, 0.0)
    assert [queue.take(0.0, 8)[0] for _ in line] == [[one] for one in line]


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        (np.zeros(2), np.ones(2), True),
        (np.zeros(2), np.zeros(2, np.float32), False),
        (np.zeros(2), np.zeros((2, 1)), False),
        ({"a": np.zeros(2), "b": np.zeros(1)}, {"b": np.ones(1), "a": np.ones(2)}, True),
        ({"a": np.zeros(2)}, {"b": np.zeros(2)}, False),
    ],
)
def test_the_form_is_dtype_shape_and_names(a, b, same):
    assert (form_of(a) == form_of(b)) == same
