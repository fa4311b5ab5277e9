"""A drift reference that was learned on the device: how it is made, and its file.

The file is an ``.npz`` like ``profile.npz``. It names what it was learned of, by digest: the model file, the pipeline
around it and the inputs. Anything else would make its numbers those of another model.
"""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

import msgspec
import numpy as np
from msgspec import Struct

from shared.drift import ReferenceProfile, WatchSpec
from shared.drift.arrays import Arrays, load_arrays, save_arrays, take
from shared.drift.bins import CATEGORY, LEAST_VALUES, Floats
from shared.errors import ProfileError
from shared.manifest import Manifest, Variant

log = logging.getLogger(__name__)

FORMAT = 1


def restless_scalars(profile: ReferenceProfile) -> list[str]:
    """Names of the scalars of which a detector would say more often than promised that they have changed: categories
    that follow each other, and numbers that alarm against another part of the reference itself."""
    found = zip(profile.names, profile.kinds, profile.memories, strict=True)
    return [name for name, kind, memory in found if memory is not None and (kind == CATEGORY or not memory.settled)]


def _reference(rows: Floats, watch: WatchSpec) -> ReferenceProfile:
    return ReferenceProfile.fit(rows, watch.names, time_ordered=True, families=watch.families, kinds=watch.kinds)


def binding(manifest: Manifest, variant: Variant) -> str:
    """Digest of what makes the watched numbers: model file, pipeline, task and inputs."""
    parts = (variant.file.sha256, variant.temperature, manifest.pipeline, manifest.task, manifest.signature)
    return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()


class Baseline(Struct, frozen=True, eq=False):
    """``profile`` of what ``watch`` saw in the first ``learned`` answers of the model that ``binding`` tells;
    ``rejected`` samples meanwhile got none."""

    binding: str
    watch: WatchSpec
    profile: ReferenceProfile
    learned: int
    rejected: int = 0

    @classmethod
    def fit(cls, binding: str, watch: WatchSpec, rows: Floats, *, rejected: int = 0) -> Baseline:
        """The baseline of the watched numbers ``rows`` (n, F), n >= 50, one answer after the other: a time-ordered
        reference, since what a camera or a sensor gives resembles what it gave just before.

        A scalar that was hardly ever there is not watched, and neither is one that this time was too short to know:
        answers that come in long runs of one class, numbers that wander beyond every band. They would alarm for sure.

        Raises:
            ProfileError: too few rows, or no scalar is left.
        """
        present = (~np.isnan(rows)).sum(axis=0) >= LEAST_VALUES
        absent = [name for name, there in zip(watch.names, present, strict=True) if not there]
        if len(absent) == len(watch.names):
            raise ProfileError(f"none of {', '.join(absent) or 'its scalars'} had {LEAST_VALUES} values")
        if absent:
            log.info("not watched, since they were hardly ever there: %s", ", ".join(absent))
            watch = watch.without(absent)
        rows = rows[:, present]
        profile = _reference(rows, watch)
        restless = restless_scalars(profile)
        if restless and len(restless) < len(profile.names):
            told = "; ".join(f"{name}: {profile.level[name]}" for name in restless)
            log.warning("not watched, since the answers learned from were too few to know them: %s", told)
            settled = np.array([name not in restless for name in watch.names])
            watch = watch.without(restless)
            profile = _reference(rows[:, settled], watch)
        return cls(binding, watch, profile, len(rows), rejected)

    def to_arrays(self) -> Arrays:
        """As arrays, for :meth:`from_arrays`."""
        arrays: Arrays = {
            "format": np.array([FORMAT]),
            "binding": np.array([self.binding]),
            "learned": np.array([self.learned]),
            "rejected": np.array([self.rejected]),
        }
        arrays.update({f"watch/{name}": array for name, array in self.watch.to_arrays().items()})
        arrays.update({f"profile/{name}": array for name, array in self.profile.to_arrays().items()})
        return arrays

    def save(self, path: Path) -> None:
        """Write ``path``, atomically.

        Raises:
            ProfileError: it can't be written.
        """
        save_arrays(path, self.to_arrays())

    @classmethod
    def load(cls, path: Path, binding: str) -> Baseline:
        """What :meth:`save` wrote, of the model that ``binding`` tells.

        Raises:
            ProfileError: missing, damaged, or of another model.
        """
        arrays = load_arrays(path)
        try:
            return cls.from_arrays(arrays, binding)
        except ProfileError as error:
            raise ProfileError(f"{path}: {error}") from error

    @classmethod
    def from_arrays(cls, arrays: Arrays, binding: str) -> Baseline:
        """What :meth:`to_arrays` took apart, of the model that ``binding`` tells.

        Raises:
            ProfileError: malformed, or of another model.
        """
        found = take(arrays, "format", "i").tolist()
        if found != [FORMAT]:
            raise ProfileError(f"learned baseline: format {found}, but this version of sanderling reads {FORMAT}")
        if take(arrays, "binding", "U").tolist() != [binding]:
            raise ProfileError("learned of another model file, pipeline or input than this one")
        learned = take(arrays, "learned", "i").tolist()
        rejected = take(arrays, "rejected", "i").tolist() if "rejected" in arrays else [0]  # as older versions wrote
        parts = {
            part: {key.removeprefix(part): array for key, array in arrays.items() if key.startswith(part)}
            for part in ("watch/", "profile/")
        }
        watch = WatchSpec.from_arrays(parts["watch/"])
        profile = ReferenceProfile.from_arrays(parts["profile/"])
        if profile.names != watch.names or len(learned) != 1 or learned[0] < 1 or len(rejected) != 1 or rejected[0] < 0:
            raise ProfileError("learned baseline: the reference is not of what is watched")
        return cls(binding, watch, profile, learned[0], rejected[0])
