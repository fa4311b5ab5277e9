"""What a broken connection is called, and how long the agent then waits."""

from __future__ import annotations

from edge_agent.breaks import KEEP_ALIVE, SHORT_IN_A_ROW, STEADY_SECONDS, TAKEN_OVER, UNSPECIFIED, Breaks

TAKEN = (
    "another client has taken over this identity (home/pi-garage): was its enrolment file copied to a second device?"
)


def connection(breaks: Breaks, seconds: float, code: int = UNSPECIFIED, *, told: bool = False) -> str:
    breaks.trying()
    breaks.begun(100.0)
    why = breaks.broke(code, "its name", 100.0 + seconds, told=told)
    assert not breaks.connected
    return why


def test_a_broker_that_says_so_names_the_second_client():
    breaks = Breaks("home/pi-garage")
    assert connection(breaks, 0.1, TAKEN_OVER, told=True) == TAKEN
    assert breaks.contested


def test_a_broker_that_says_nothing_is_seen_through_after_three_short_connections():
    breaks = Breaks("home/pi-garage")
    told = [connection(breaks, 0.5) for _ in range(SHORT_IN_A_ROW + 1)]
    assert told[: SHORT_IN_A_ROW - 1] == ["the broker closed the connection"] * (SHORT_IN_A_ROW - 1)
    assert all(text.endswith(TAKEN) for text in told[SHORT_IN_A_ROW - 1 :])
    assert told[-1] == told[-2]  # the same text, so that it is told once


def test_a_broker_that_stops_again_and_again_is_no_second_client():
    breaks = Breaks("home/pi-garage")
    for _ in range(5):
        assert connection(breaks, 0.5) == "the broker closed the connection"
        breaks.trying()
        breaks.failed()
    assert not breaks.contested


def test_only_a_steady_connection_ends_the_back_off():
    breaks = Breaks("home/pi-garage")
    for attempt in (1, 2, 3):
        connection(breaks, STEADY_SECONDS - 1)
        assert breaks.attempt == attempt
    breaks.trying()
    breaks.failed()
    assert breaks.attempt == 4
    assert connection(breaks, STEADY_SECONDS) == "the broker closed the connection"
    assert breaks.attempt == 1
    assert not breaks.contested


def test_a_second_client_keeps_the_back_off_growing_however_long_it_waits():
    breaks = Breaks("home/pi-garage")
    for attempt in (1, 2, 3):
        assert connection(breaks, STEADY_SECONDS + 1, TAKEN_OVER, told=True) == TAKEN
        assert breaks.attempt == attempt


def test_other_ends_have_their_own_words():
    breaks = Breaks("home/pi-garage")
    assert connection(breaks, 1, 0x8B, told=True) == "the broker ended the connection: its name"
    assert connection(breaks, 1, KEEP_ALIVE) == "the broker does not answer any more"
    assert connection(breaks, 1, 0x82) == "the connection broke: its name"
