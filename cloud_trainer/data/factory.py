"""Samples from a Python function: ``factory = "module:function"``, called with the task, returns :class:`Splits`."""

from __future__ import annotations

import importlib

from cloud_trainer.config import TaskConfig
from cloud_trainer.data.dataset import Splits, check_splits
from shared.errors import ConfigError, DataError, SanderlingError, one_line


def from_factory(task: TaskConfig) -> Splits:
    """What ``task.data.factory`` returns, checked.

    Raises:
        ConfigError: the name is malformed or leads nowhere.
        DataError: it returned something else than usable splits.
    """
    name = task.data.factory
    module, colon, function = name.partition(":")
    if not colon or not module or not function:
        raise ConfigError(f"data.factory: expected 'module:function', got {name!r}")
    try:
        factory = getattr(importlib.import_module(module), function)
    except SanderlingError:
        raise
    except Exception as error:  # whatever the user's file raises at import
        raise ConfigError(f"data.factory: {name!r} cannot be imported ({one_line(error)})") from error
    try:
        found = factory(task)
    except SanderlingError:
        raise
    except Exception as error:
        raise DataError(f"data.factory: {name} failed: {type(error).__name__}: {one_line(error)}") from error
    if not isinstance(found, Splits):
        raise DataError(f"data.factory: {name} returned {type(found).__name__}; expected cloud_trainer.data.Splits")
    return check_splits(found, task.kind)
