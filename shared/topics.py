"""The MQTT topic tree: ``sanderling/v1/<site>/<device>/<branch>/<leaf...>``.

Three branches, so that a broker's access list is three lines: a device writes ``up/#`` and reads ``down/#``; the
controller reads ``up/#`` and ``truth/#`` and writes ``down/#``; whoever knows the truth writes ``truth/#``.
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

from shared.errors import MessageError

ROOT = "sanderling/v1"
NAME_PATTERN = r"^[a-z0-9_-]{1,64}(?!\n)$"
"""Sites, devices and models are named like this; it is safe in topics, file names and URLs. (A bare ``$`` would let a
final line break through.)"""
NAME_WORDS = "1 to 64 of the characters a-z 0-9 _ -"

Branch = Literal["up", "down", "truth"]


def check_name(name: str, what: str = "name") -> str:
    """``name`` itself, if it may name a site, device or model.

    Raises:
        MessageError: it may not.
    """
    if not re.fullmatch(NAME_PATTERN, name):
        raise MessageError(f"{what} {name!r} must be {NAME_WORDS}")
    return name


class Topic(NamedTuple):
    """A topic in parts. ``leaf`` is what follows the branch, e.g. ``report/digits``."""

    site: str
    device: str
    branch: str
    leaf: str

    def __str__(self) -> str:
        return f"{ROOT}/{self.site}/{self.device}/{self.branch}/{self.leaf}"

    @property
    def kind(self) -> str:
        """First word of the leaf: ``report`` of ``report/digits``; for ``truth/<model>`` it is ``truth``."""
        return "truth" if self.branch == "truth" else self.leaf.partition("/")[0]

    @property
    def name(self) -> str:
        """Second word of the leaf: the model, the kind of event, or the verb; empty for ``status`` and ``info``."""
        return self.leaf if self.branch == "truth" else self.leaf.partition("/")[2]


def up(site: str, device: str, kind: str, name: str = "") -> str:
    """A topic that ``device`` writes.

    >>> up("plant", "cam-1", "report", "digits")
    'sanderling/v1/plant/cam-1/up/report/digits'
    """
    return str(Topic(site, device, "up", f"{kind}/{name}" if name else kind))


def down(site: str, device: str, kind: str, name: str) -> str:
    """A topic that ``device`` reads: ``desired/<model>`` or ``cmd/<verb>``."""
    return str(Topic(site, device, "down", f"{kind}/{name}"))


def truth(site: str, device: str, model: str) -> str:
    """Where labels for a device's answers are published."""
    return str(Topic(site, device, "truth", model))


def device_filter(site: str, device: str) -> str:
    """What a device subscribes to."""
    return f"{ROOT}/{site}/{device}/down/#"


def controller_filters(site: str) -> tuple[str, str]:
    """What a controller subscribes to."""
    return f"{ROOT}/{site}/+/up/#", f"{ROOT}/{site}/+/truth/#"


def parse(topic: str) -> Topic:
    """Split a topic.

    Raises:
        MessageError: it is not one of ours.

    >>> parse("sanderling/v1/plant/cam-1/up/report/digits").kind
    'report'
    """
    found = re.fullmatch(rf"{ROOT}/([a-z0-9_-]{{1,64}})/([a-z0-9_-]{{1,64}})/(up|down|truth)/(.{{1,200}})", topic)
    if not found:
        raise MessageError(f"topic {topic[:200]!r} is not {ROOT}/<site>/<device>/up|down|truth/...")
    return Topic(*found.groups())
