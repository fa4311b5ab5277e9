"""Who may run the engine when: requests first, batched where that pays, bulk work in the gaps.

Names are loaded when they are used: the configuration needs one Struct of this package and not its threads.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edge_agent.scheduler.config import SchedulerConfig
    from edge_agent.scheduler.loop import LoopScheduler
    from edge_agent.scheduler.runner import Runner
    from edge_agent.scheduler.stats import SchedulerStats
    from edge_agent.scheduler.threads import Scheduler

__all__ = ["LoopScheduler", "Runner", "Scheduler", "SchedulerConfig", "SchedulerStats"]

_MODULES = {
    "LoopScheduler": "loop",
    "Runner": "runner",
    "Scheduler": "threads",
    "SchedulerConfig": "config",
    "SchedulerStats": "stats",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
