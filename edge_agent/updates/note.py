"""What the trainer signs beside a release's manifest, and the names that a release has in the repository."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from shared.errors import TrustError
from shared.manifest import Name, Positive

CUSTOM_KEY = "sanderling"
"""Key of the note in the ``custom`` object of the manifest's TUF target."""


class ReleaseNote(Struct, frozen=True):
    """Signed custom data of a manifest target.

    ``cohort`` names the devices that may take the release; empty means every device. ``not_before`` is the moment of
    signing, in seconds since 1970: the true time is not before it.
    """

    model: Name
    version: Positive
    variants: tuple[str, ...]
    cohort: tuple[str, ...] = ()
    not_before: Annotated[int, Meta(ge=0)] = 0  # TUF signs canonical JSON, which has no floats


def read_note(custom: Any, where: str) -> ReleaseNote:
    """The note in a target's ``custom`` object; ``where`` names the target in errors.

    Raises:
        TrustError: there is none, or a field is wrong.
    """
    if not isinstance(custom, dict) or CUSTOM_KEY not in custom:
        raise TrustError(f"{where}: the signed metadata carries no release note under custom.{CUSTOM_KEY}")
    try:
        return msgspec.convert(custom[CUSTOM_KEY], ReleaseNote)
    except msgspec.ValidationError as error:
        raise TrustError(f"{where}: the signed release note is malformed: {error}") from error


def role_of(model: str) -> str:
    """The delegated TUF role that signs a model's releases.

    >>> role_of("digits")
    'releases/digits'
    """
    return f"releases/{model}"


def target_path(model: str, version: int, name: str) -> str:
    """The TUF target path of one file of a release.

    >>> target_path("digits", 7, "variants/int8.onnx")
    'digits/7/variants/int8.onnx'
    """
    return f"{model}/{version}/{name}"
