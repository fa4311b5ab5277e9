"""Samples from a Python generator function of the user's."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edge_agent.retry import Retry
from edge_agent.sources import Sample
from edge_agent.sources.config import PythonSource
from edge_agent.sources.pumped import Pumped
from edge_agent.sources.values import Given, as_array
from shared.errors import ConfigError, InputError
from shared.manifest import SampleSpec

CAPACITY = 64


def load_function(name: str, directory: str) -> Callable[..., Any]:
    """The function ``module:function``; modules in ``directory`` go first.

    Raises:
        ConfigError: there is no such module or function, or importing it fails.
    """
    module, _, function = name.partition(":")
    folder = str(Path(directory).resolve())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        found = getattr(importlib.import_module(module), function)
    except ModuleNotFoundError as error:
        where = f" in {folder}" if error.name == module else f", which {module} imports"
        raise ConfigError(f"{name}: no module {error.name!r}{where}") from error
    except AttributeError as error:
        raise ConfigError(f"{name}: {error}") from error
    except (Exception, SystemExit) as error:  # whatever a user's module does when it is imported
        raise ConfigError(f"{name}: importing {module} fails: {type(error).__name__}: {error}") from error
    if not callable(found):
        raise ConfigError(f"{name}: {function} is a {type(found).__name__}; expected a function")
    return found  # type: ignore[no-any-return]


class Function(Pumped):
    """Calls the function and takes what it yields: an array, a dict of arrays, or ``(id, one of these)``. A list of
    numbers becomes an array of the model's dtype. When it raises it is called again; when it returns, the source has
    ended.

    Raises:
        ConfigError: there is no such function.
    """

    def __init__(
        self, config: PythonSource, signature: Sequence[SampleSpec] = (), *, retry: Retry | None = None
    ) -> None:
        super().__init__(config.function, capacity=CAPACITY, newest_wins=False, retry=retry)
        self._function = load_function(config.function, config.directory)
        self._signature = tuple(signature)

    def produce(self) -> Iterator[Sample | None]:
        """See :class:`Pumped`."""
        for given in self._function():
            name, data = given if isinstance(given, tuple) and len(given) == 2 else (None, given)
            try:
                yield Sample(None if name is None else str(name), self._arrays(data))
            except InputError as error:
                self.spoilt(str(error))

    def _arrays(self, data: Any) -> Any:
        specs = {spec.name: spec for spec in self._signature}
        if isinstance(data, dict):
            return {str(key): _array(value, specs.get(str(key))) for key, value in data.items()}
        return _array(data, self._signature[0] if len(self._signature) == 1 else None)


def _array(value: Any, spec: SampleSpec | None) -> Any:
    if spec is not None and isinstance(value, list | tuple | float | int | str):
        return as_array(Given(values=value), spec)
    try:
        return np.asarray(value)
    except (ValueError, TypeError) as error:
        raise InputError(f"no array: {error}") from error
