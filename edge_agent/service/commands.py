"""What the controller may ask for. Each command gets exactly one reply; a command that arrives twice (QoS 1) is done
once and answered twice."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol

from shared.errors import MessageError
from shared.messages import Command, decode

REMEMBERED = 256


class Refusal(Exception):  # noqa: N818  (an answer, not an error)
    """A command that is not carried out; the text is the reply."""


class Actions(Protocol):
    """What commands do. Each returns the text of the reply, None when the reply comes later, or raises Refusal."""

    def report_now(self) -> str:
        """Verb ``report``."""
        ...

    def send_samples(self, request: str, count: int, since: float) -> str:
        """Verb ``samples``."""
        ...

    def acknowledge(self, *, keep: bool) -> str:
        """Verb ``acknowledge``."""
        ...

    def select_again(self, command: str) -> str | None:
        """Verb ``select``."""
        ...

    def pause(self) -> str:
        """Verb ``pause``."""
        ...

    def resume(self) -> str:
        """Verb ``resume``."""
        ...


class Commands:
    """Reads commands, carries them out, replies. ``reply`` takes (id, verb, ok, text)."""

    def __init__(self, model: str, actions: Actions, reply: Callable[[str, str, bool, str], None]) -> None:
        self._model = model
        self._actions = actions
        self._reply = reply
        self._seen: OrderedDict[str, tuple[bool, str] | None] = OrderedDict()

    def handle(self, verb: str, payload: bytes, content_type: str) -> None:
        """Carry out one command.

        Raises:
            MessageError: the payload is none; there is no id that could be replied to.
        """
        command = decode(payload, Command, content_type)
        if command.id in self._seen:
            known = self._seen[command.id]
            if known is not None:
                self._reply(command.id, verb, *known)
            return
        self._seen[command.id] = None
        if len(self._seen) > REMEMBERED:
            self._seen.popitem(last=False)
        try:
            text = self._do(verb, command)
        except Refusal as refusal:
            self.answer(command.id, verb, ok=False, text=str(refusal))
        else:
            if text is not None:
                self.answer(command.id, verb, ok=True, text=text)

    def answer(self, command: str, verb: str, *, ok: bool, text: str) -> None:
        """Reply, and remember it for the same command coming again."""
        if command in self._seen:
            self._seen[command] = (ok, text)
        self._reply(command, verb, ok, text)

    def _do(self, verb: str, command: Command) -> str | None:
        if command.model not in {"", self._model}:
            raise Refusal(f"this device runs {self._model}, not {command.model}")
        match verb:
            case "report":
                return self._actions.report_now()
            case "samples":
                if command.count < 1:
                    raise Refusal("count must be at least 1")
                return self._actions.send_samples(command.id, command.count, command.since)
            case "acknowledge":
                return self._actions.acknowledge(keep=command.keep)
            case "select":
                return self._actions.select_again(command.id)
            case "pause":
                return self._actions.pause()
            case "resume":
                return self._actions.resume()
        raise Refusal("no such command; there are report, samples, acknowledge, select, pause, resume")


__all__ = ["Actions", "Commands", "MessageError", "Refusal"]
