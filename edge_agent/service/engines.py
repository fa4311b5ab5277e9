"""Engines for the service: which variants to download, and a release directory made into a tested engine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edge_agent.config import AgentConfig
from edge_agent.engine import Engine
from edge_agent.selection import candidates
from edge_agent.selftest import self_test
from shared.manifest import Manifest, Variant


class Engines:
    """How this device makes engines. ``cache`` holds the measurements."""

    def __init__(self, config: AgentConfig, device: str, cache: Path) -> None:
        self._config = config
        self._device = device
        self._cache = cache

    def wanted(self, manifest: Manifest) -> Sequence[Variant]:
        """The variants worth a download: what can run here, or the one that the configuration names."""
        runnable = candidates(manifest, self._config.selection)
        named = self._config.selection.variant
        return runnable if named is None else [variant for variant in runnable if variant.id == named]

    def load(self, release: Path, anew: bool = False, variant: str | None = None) -> Engine:
        """Verify, measure (``anew``: not from the cache), pick, and self-test; ``variant`` forces one.

        Raises:
            SanderlingError: it cannot run here, or answers differently than where it was made.
        """
        if anew:
            self._cache.unlink(missing_ok=True)
        engine = Engine.load(
            release,
            variant=variant,
            selection=self._config.selection,
            threads=self._config.threads,
            device=self._device,
            cache=self._cache,
            memory_arena=self._config.memory_arena,
            remembered=self._config.feedback.remembered,
            learn=self._config.drift.learn,
            baseline=self._cache.with_name("baseline.npz"),
        )
        try:
            if engine.manifest.golden is not None:
                self_test(engine)
        except BaseException:
            engine.close()
            raise
        return engine
