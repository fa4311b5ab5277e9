"""Fixtures of the service's tests."""

from tests.edge_agent.service.agents import releases

__all__ = ["releases"]
