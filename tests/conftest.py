"""Fixtures that every part may use."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from shared.uniform import Uniform
from tests.releases import make_release

# a slow machine is no failure; everything else stays as hypothesis has it, here and in CI
settings.register_profile("sanderling", settings(), deadline=None)
settings.load_profile("sanderling")


@pytest.fixture(scope="session")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole release directory, shared by the session: read it, don't write."""
    directory = tmp_path_factory.mktemp("release") / "digits" / "1"
    make_release(directory)
    return directory


@pytest.fixture
def own_release(release: Path, tmp_path: Path) -> Path:
    """A copy of ``release`` that a test may damage."""
    return Path(shutil.copytree(release, tmp_path / "release"))


@pytest.fixture(autouse=True, scope="module")
def ties_are_broken_alike(request: pytest.FixtureRequest) -> Iterator[None]:
    """A test fails or passes with its code, not by the numbers that detectors draw; ``FRESH_TIES`` in a module asks for
    the system's."""
    with pytest.MonkeyPatch.context() as patch:
        if not getattr(request.module, "FRESH_TIES", False):
            patch.setattr(Uniform, "fresh", classmethod(lambda cls: cls(1)))
        yield
