"""What may be published, and under which names. No files, no keys."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from shared.errors import MessageError, ReleaseError, UsageError
from shared.manifest import MANIFEST_NAME, Manifest
from shared.topics import check_name

RUNTIMES = ("onnxruntime", "litert")
FILE_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)?")
"""At most one directory deep (that is what the role's paths delegate), nothing that a URL would have to quote."""


def check_publishable(manifest: Manifest) -> None:
    """What publishing asks of a manifest beyond its format.

    Raises:
        ReleaseError: a file name that devices or web servers could trip over, a name used twice, an unknown runtime.
    """
    label = f"release {manifest.name}/{manifest.version}"
    seen = {MANIFEST_NAME: ""}
    for file in manifest.files():
        if not FILE_NAME.fullmatch(file.path):
            raise ReleaseError(
                f"{label}: file name {file.path!r} must be letters, digits, . _ - and at most one directory deep"
            )
        if seen.setdefault(file.path, file.sha256) != file.sha256:
            raise ReleaseError(f"{label}: the file name {file.path!r} stands for two different files")
    for variant in manifest.variants:
        if variant.runtime not in RUNTIMES:
            raise ReleaseError(
                f"{label}: variant {variant.id} wants runtime {variant.runtime!r}; devices have {', '.join(RUNTIMES)}"
            )


def checked_name(name: str, what: str) -> str:
    """``name``, if it may name a site, device or model.

    Raises:
        UsageError: it may not.
    """
    try:
        return check_name(name, what)
    except MessageError as error:
        raise UsageError(str(error)) from None


def checked_address(url: str) -> str:
    """The address of a repository, without a slash at its end.

    Raises:
        UsageError: it is not one.

    >>> checked_address("https://trainer:8700/repository/")
    'https://trainer:8700/repository'
    """
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
        raise UsageError(f"repository {url!r} must be an http or https address, like https://host:8700/repository")
    return url.rstrip("/")
