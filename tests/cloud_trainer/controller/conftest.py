"""Fixtures for the controller's tests."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cloud_trainer.controller.store import Store
from cloud_trainer.registry import Registry
from tests.brokers import broker
from tests.cloud_trainer.controller.fake import MODEL, Site

__all__ = ["broker"]


@pytest.fixture
def store(tmp_path: Path):
    opened = Store.in_workspace(tmp_path / "workspace")
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def fleet_directory(tmp_path_factory: pytest.TempPathFactory, release: Path) -> Path:
    """A fleet with release 1 published, to be copied."""
    directory = tmp_path_factory.mktemp("fleets") / "fleet"
    Registry.create(directory, [MODEL], now=time.time()).publish(release, now=time.time())
    return directory


@pytest.fixture
def site(tmp_path: Path, release: Path, fleet_directory: Path) -> Site:
    """A fleet directory with release 1 published, a task, a controller's configuration."""
    return Site(tmp_path / "site", release, fleet_directory)


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
