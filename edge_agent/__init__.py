"""The device: runs releases in real time and in batch, watches for drift, reports over MQTT, updates itself.

>>> from edge_agent import Engine                         # doctest: +SKIP
>>> engine = Engine.load("releases/digits/1")             # doctest: +SKIP
>>> engine.infer(image).label                             # doctest: +SKIP
'seven'
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import shared as _shared

if not getattr(_shared, "IS_SANDERLING", False):
    raise ImportError(
        f"a folder or module called 'shared' at {_shared.__file__ or list(_shared.__path__)} hides sanderling's own; "
        "rename it or start Python from another folder"
    )

if TYPE_CHECKING:
    from edge_agent.engine import Answer, Engine

__all__ = ["Answer", "Engine"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Load the engine when it is first named: commands that don't need it start faster."""
    if name in __all__:
        from edge_agent import engine

        return getattr(engine, name)
    raise AttributeError(f"module 'edge_agent' has no attribute {name!r}")
