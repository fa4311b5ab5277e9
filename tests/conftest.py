"""Fixtures that every part may use."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from hypothesis import settings

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
