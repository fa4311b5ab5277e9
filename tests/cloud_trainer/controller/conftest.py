"""Fixtures for the controller's tests."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cloud_trainer.controller.store import Store
from tests.brokers import broker
from tests.cloud_trainer.controller.fake import Site

__all__ = ["broker"]


@pytest.fixture
def store(tmp_path: Path):
    opened = Store.in_workspace(tmp_path / "workspace")
    yield opened
    opened.close()


@pytest.fixture
def site(tmp_path: Path, release: Path) -> Site:
    """A fleet directory with release 1 published, a task, a controller's configuration."""
    return Site(tmp_path / "site", release)


@pytest.fixture
def until() -> Callable[[Callable[[], object]], object]:
    def wait(condition: Callable[[], object], seconds: float = 20) -> object:
        end = time.monotonic() + seconds
        while not (value := condition()):
            if time.monotonic() > end:
                raise TimeoutError("waited in vain")
            time.sleep(0.02)
        return value

    return wait
