"""Why connections break, and when to try again. Pure: times and codes come in.

A broker lets one client have an identity: a second one throws the first out, which comes back and throws out the
second. So short connections keep the back-off growing, and several in a row are told as what they most likely are.
"""

from __future__ import annotations

STEADY_SECONDS = 30.0
"""A connection that lasted this long proves that all was well."""
SHORT_IN_A_ROW = 3
TAKEN_OVER = 0x8E
UNSPECIFIED = 0x80  # what paho says of a connection that ended without a word
KEEP_ALIVE = 0x8D


class Breaks:
    """The connections so far of ``identity``, e.g. ``plant/cam-1``."""

    def __init__(self, identity: str) -> None:
        self.attempt = 0
        """Tries since the last steady connection, for the back-off."""
        self._since: float | None = None
        self._short = 0
        self._taken = (
            f"another client has taken over this identity ({identity}): "
            "was its enrolment file copied to a second device?"
        )

    @property
    def connected(self) -> bool:
        """Whether there is a connection."""
        return self._since is not None

    @property
    def contested(self) -> bool:
        """Whether the last connections broke so soon that another client seems to have this identity too."""
        return self._short >= SHORT_IN_A_ROW

    def trying(self) -> None:
        """We are about to connect."""
        self.attempt += 1
        self._since = None

    def begun(self, now: float) -> None:
        """The broker has accepted us."""
        self._since = now

    def failed(self) -> None:
        """No connection came about: nobody took one away."""
        self._short = 0

    def broke(self, code: int, text: str, now: float, *, told: bool) -> str:
        """The connection has ended with reason ``code``, which the broker itself said if ``told``. Why, in words."""
        steady = self._since is not None and now - self._since >= STEADY_SECONDS
        taken, silent = told and code == TAKEN_OVER, not told and code == UNSPECIFIED
        self._since = None
        if steady and not taken:
            self.attempt = 1
        if taken:
            self._short = SHORT_IN_A_ROW
            return self._taken
        self._short = self._short + 1 if silent and not steady else 0
        if self.contested:
            return f"the broker closes one connection after the other; it seems that {self._taken}"
        if silent:
            return "the broker closed the connection"
        if told:
            return f"the broker ended the connection: {text}"
        return "the broker does not answer any more" if code == KEEP_ALIVE else f"the connection broke: {text}"
