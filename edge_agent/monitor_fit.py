"""Whether what is watched and a model belong together."""

from __future__ import annotations

from collections.abc import Sequence

from shared.drift import WatchSpec
from shared.errors import ProfileError
from shared.manifest import SampleSpec


def dtypes_of(watch: WatchSpec, signature: Sequence[SampleSpec]) -> list[str]:
    """Dtypes of the watched inputs; the first is the model's first, whatever its name.

    Raises:
        ProfileError: an input is watched that the model doesn't have.
    """
    dtypes = {spec.name: spec.dtype for spec in signature}
    others = [part.input for part in watch.parts[1:]]
    unknown = [name for name in others if name not in dtypes]
    if unknown:
        raise ProfileError(f"the profile watches input {', '.join(unknown)}, which the model doesn't have")
    return [signature[0].dtype, *(dtypes[name] for name in others)]


def check_fit(watch: WatchSpec, sample: SampleSpec, classes: int, embedding: int) -> None:
    """Whether the model's samples, classes and embedding (0: not known) are of the sizes that are watched.

    Raises:
        ProfileError: they are not.
    """
    shape, of_classes = tuple(sample.shape), watch.of_classes
    if of_classes is None:
        if shape != watch.shape:
            raise ProfileError(f"the profile is of samples {watch.shape}, but the model has samples {shape}")
        return
    width = len(of_classes.center)
    wanted = (of_classes.classes, width)
    found = (classes or wanted[0], (embedding or width) if width else 0)
    if shape != watch.shape or wanted != found:
        raise ProfileError(
            f"the profile is of samples {watch.shape}, {wanted[0]} classes and an embedding of {wanted[1]}, but "
            f"the model has samples {shape}, {found[0]} classes and an embedding of {found[1]}"
        )
