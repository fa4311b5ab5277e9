"""Published releases as the controller needs them: manifests and drift references, read once."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from shared.drift import ProfileSet, ReferenceProfile
from shared.errors import ProfileError, SanderlingError
from shared.manifest import Manifest, load_manifest


class ReleaseSource(Protocol):
    """What is needed of :class:`cloud_trainer.registry.Registry`."""

    def releases(self, model: str) -> list[int]:
        """Published versions."""
        ...

    def release_path(self, model: str, version: int) -> Path:
        """The directory of a published release."""
        ...


class Release:
    """One published release: its manifest and the reference of each device."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.manifest: Manifest = load_manifest(path)
        if self.manifest.profile is None:
            raise ProfileError(f"{path}: has no drift reference; package it again with --reference")
        self._set = ProfileSet.load(self.manifest.profile.verify(path))

    def shared_profile(self, variant: str) -> ReferenceProfile:
        """The reference of devices that have none of their own.

        Raises:
            ProfileError: the release has no such variant.
        """
        return self._set.profile_for("default", variant)

    def profile(self, device: str, variant: str) -> ReferenceProfile:
        """The reference that ``device`` is compared with.

        Raises:
            ProfileError: the release has no such baseline or variant.
        """
        return self._set.profile_for(self.manifest.baseline_of(device), variant)

    def own_profiles(self, variant: str) -> dict[str, ReferenceProfile]:
        """The references of devices that have one of their own."""
        devices = {device for baseline in self.manifest.baselines for device in baseline.devices}
        return {
            device: self.profile(device, variant)
            for device in sorted(devices)
            if self.manifest.baseline_of(device) != "default"
        }


class Releases:
    """A cache of releases; published ones never change."""

    def __init__(self, source: ReleaseSource) -> None:
        self._source = source
        self._known: dict[tuple[str, int], Release] = {}

    def newest(self, model: str) -> int:
        """The newest published version; 0 if there is none."""
        return max(self._source.releases(model), default=0)

    def get(self, model: str, version: int) -> Release:
        """A published release.

        Raises:
            ProfileError: it was never published here.
            ReleaseError: its directory is damaged.
        """
        found = self._known.get((model, version))
        if found is None:
            if version not in self._source.releases(model):
                raise ProfileError(f"release {model}/{version} was never published here")
            found = self._known[model, version] = Release(self._source.release_path(model, version))
        return found

    def find(self, model: str, version: int) -> Release | None:
        """Like :meth:`get`, ``None`` where that raises."""
        try:
            return self.get(model, version)
        except SanderlingError:
            return None
