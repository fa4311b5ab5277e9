"""Fixtures for the agent's tests."""

from __future__ import annotations

import time
from typing import Any

import pytest

from cloud_trainer.registry import Registry
from shared.enrolment import BrokerAddress
from tests.brokers import broker

__all__ = ["broker"]


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A signed root of trust, for enrolments that ``edge-agent enroll`` takes."""
    now = time.time()
    registry = Registry.create(tmp_path_factory.mktemp("fleet") / "fleet", ["digits"], now=now)
    address = BrokerAddress("127.0.0.1", 1883)
    return registry.enrol("cam-1", site="plant", broker=address, url="http://127.0.0.1:9", now=now).root
