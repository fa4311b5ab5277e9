"""What a monitor has seen, kept across restarts and swaps."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from edge_agent.state import SavedMonitor
from shared.errors import ProfileError

if TYPE_CHECKING:
    from edge_agent.engine import Engine

log = logging.getLogger("edge_agent.service")


def saved_monitor(engine: Engine, *, announced: bool = False) -> SavedMonitor | None:
    """What ``engine``'s monitor has seen; None where there is none."""
    if engine.monitor is None:
        return None
    return SavedMonitor(
        release=engine.manifest.version,
        variant=engine.variant.id,
        profile=engine.monitor.profile.digest,
        announced=announced,
        data=engine.monitor.to_bytes(),
    )


def carried(old: Engine, new: Engine) -> bool:
    """After a change of the variant: ``new`` goes on with what ``old`` watched of the inputs, if both are of the same
    release and baseline. Whether the alarm of ``old`` still stands."""
    from edge_agent.monitor import Monitor

    one, other = old.monitor, new.monitor
    same = (old.manifest.name, old.manifest.version, old.baseline) == (
        new.manifest.name,
        new.manifest.version,
        new.baseline,
    )
    if not same or not isinstance(one, Monitor) or not isinstance(other, Monitor):
        return False
    return other.carry(one)


def restored(engine: Engine, saved: SavedMonitor | None) -> bool:
    """Go on watching where ``saved`` ends; only for the very same release, variant and profile."""
    if saved is None or engine.monitor is None:
        return False
    if (saved.release, saved.variant) != (engine.manifest.version, engine.variant.id):
        return False
    if not hasattr(engine.monitor, "learned") and saved.profile != engine.monitor.profile.digest:
        return False  # a monitor that learns compares by itself: its profile comes with what is restored
    try:
        engine.monitor.restore(saved.data)
    except ProfileError as error:
        log.warning("the drift monitor starts anew: %s", error)
        return False
    return True
