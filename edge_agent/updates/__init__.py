"""How a device takes a release: verified by TUF, staged into the free one of two slots, made current by a pointer.

Invariants, held by ``tests/edge_agent/updates``:

1. Nothing that the repository, the network or the broker says is believed before its signature, expiry, version floor
   and digest have been checked.
2. What runs keeps running: no failure touches the current slot or the pointer to it.
3. Power may fail between any two instructions; afterwards the pointer names a whole release or the one before.
4. A device never goes back below the versions that its enrolment names, even with its metadata cache wiped.
"""

from edge_agent.updates.slots import Installed
from edge_agent.updates.updater import Updater

__all__ = ["Installed", "Updater"]
