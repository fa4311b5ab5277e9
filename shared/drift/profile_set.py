"""``profile.npz`` of a release: what is watched, the references, by baseline and by what they are of, and how good each
variant was on the data that they come from."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shared.drift.arrays import Arrays, load_arrays, save_arrays
from shared.drift.performance import HeldOut
from shared.drift.profile import ReferenceProfile
from shared.drift.watch import WatchSpec
from shared.errors import ProfileError

INPUTS = "inputs"
DEFAULT = "default"


class ProfileSet:
    """``baselines``: name -> {"inputs": profile, "<variant id>": profile of that variant's outputs, ...}. ``held_out``:
    name -> {"<variant id>": how good it was there}, for any of them.

    Raises:
        ProfileError: a baseline has no inputs, its profiles don't watch what ``watch`` names, or a name holds a slash.
    """

    def __init__(
        self,
        watch: WatchSpec,
        baselines: Mapping[str, Mapping[str, ReferenceProfile]],
        held_out: Mapping[str, Mapping[str, HeldOut]] | None = None,
    ) -> None:
        self.watch = watch
        self.held_out = {name: dict(parts) for name, parts in (held_out or {}).items()}
        self.baselines = {name: dict(parts) for name, parts in baselines.items()}
        for name, parts in self.baselines.items():
            if INPUTS not in parts:
                raise ProfileError(f"baseline {name!r} has no profile of its {INPUTS}")
            for part, profile in parts.items():
                wanted = watch.input_names if part == INPUTS else watch.output_names
                if profile.names != wanted:
                    raise ProfileError(
                        f"profile {name}/{part} watches {', '.join(profile.names)}; expected {', '.join(wanted)}"
                    )
                if "/" in name or "/" in part:
                    raise ProfileError(f"profile name {name!r}/{part!r} must not hold a slash")

    @cached_property
    def _joined(self) -> dict[tuple[str, str], ReferenceProfile]:
        return {}

    def profile_for(self, baseline: str, variant_id: str) -> ReferenceProfile:
        """Inputs and that variant's outputs as one reference; the same object each time.

        Raises:
            ProfileError: there is no such baseline or variant; the message lists those there are.
        """
        parts = self.baselines.get(baseline)
        if parts is None:
            raise ProfileError(f"no baseline {baseline!r} in the profile; it has {', '.join(sorted(self.baselines))}")
        if variant_id not in parts or variant_id == INPUTS:
            have = ", ".join(sorted(part for part in parts if part != INPUTS))
            raise ProfileError(f"baseline {baseline!r} has no profile of variant {variant_id!r}; it has {have}")
        key = baseline, variant_id
        if key not in self._joined:
            self._joined[key] = ReferenceProfile.join(parts[INPUTS], parts[variant_id])
        return self._joined[key]

    def held_out_for(self, baseline: str, variant_id: str) -> HeldOut | None:
        """How good that variant was on the baseline's data; None where the release does not say."""
        return self.held_out.get(baseline, {}).get(variant_id)

    def save(self, path: Path) -> None:
        """Write ``path`` atomically.

        Raises:
            ProfileError: the file can't be written.
        """
        arrays: Arrays = {f"watch/{name}": array for name, array in self.watch.to_arrays().items()}
        for baseline, parts in self.baselines.items():
            for part, profile in parts.items():
                own = profile.to_arrays()
                known = self.held_out_for(baseline, part)
                if known is not None:
                    own |= known.to_arrays()
                arrays.update({f"baseline/{baseline}/{part}/{name}": array for name, array in own.items()})
        save_arrays(path, arrays)

    @classmethod
    def load(cls, path: Path) -> ProfileSet:
        """Read what :meth:`save` wrote; sizes are bounded and nothing is executed.

        Raises:
            ProfileError: missing, damaged, or of another version.
        """
        watch: dict[str, NDArray[np.generic]] = {}
        found: dict[str, dict[str, dict[str, NDArray[np.generic]]]] = {}
        for key, array in load_arrays(path).items():
            match key.split("/"):
                case ["watch", name]:
                    watch[name] = array
                case ["baseline", baseline, part, name]:
                    found.setdefault(baseline, {}).setdefault(part, {})[name] = array
                case _:
                    raise ProfileError(f"{path}: unknown array {key!r}")
        try:
            held_out = {
                baseline: {part: HeldOut.from_arrays(arrays) for part, arrays in parts.items()}
                for baseline, parts in found.items()
            }
            return cls(
                WatchSpec.from_arrays(watch),
                {
                    baseline: {part: ReferenceProfile.from_arrays(arrays) for part, arrays in parts.items()}
                    for baseline, parts in found.items()
                },
                {
                    baseline: {part: known for part, known in parts.items() if known is not None}
                    for baseline, parts in held_out.items()
                },
            )
        except ProfileError as error:
            raise ProfileError(f"{path}: {error}") from error
