"""The trainer and controller: from data to signed releases, and from drift back to data.

Five functions do by themselves what the commands of the same names do (:mod:`cloud_trainer.api`):

>>> from cloud_trainer import distill, export, package, quantize, train        # doctest: +SKIP
>>> train("task.toml", "releases/digits/1").scores                             # doctest: +SKIP
{'teacher': 0.9911, 'student': 0.9889}
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cloud_trainer.api import distill, export, package, quantize, train

__all__ = ["distill", "export", "package", "quantize", "train"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Load the trainer when one of its functions is first named: most commands need no torch."""
    if name in __all__:
        from cloud_trainer import api

        return getattr(api, name)
    raise AttributeError(f"module 'cloud_trainer' has no attribute {name!r}")
