"""The engine's memory of its answers, against the plainest one there could be."""

import threading

from hypothesis import given
from hypothesis import strategies as st

from edge_agent.answers import Memory

calls = st.lists(st.one_of(st.tuples(st.just("add"), st.sampled_from("abcdef")), st.tuples(st.just("said"), st.none())))


@given(st.integers(0, 4), calls)
def test_the_latest_answers_are_remembered_and_no_others(size, calls):
    memory, given_so_far = Memory(size), []
    for number, (call, name) in enumerate(calls):
        if call == "add":
            memory.add((name, number))
            given_so_far.append((name, number))
            continue
        latest = dict(given_so_far[-size:] if size else [])
        for one in "abcdef":
            assert memory.said(one) == latest.get(one)


def test_answers_given_while_another_thread_asks_are_found():
    memory, stop, missed = Memory(64), threading.Event(), []

    def ask():
        while not stop.is_set():
            memory.said("nobody")

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        for number in range(20_000):
            memory.add((str(number), number))
            if number % 10 == 9 and memory.said(str(number - 5)) != number - 5:
                missed.append(number)
    finally:
        stop.set()
        asking.join()
    assert not missed
