"""The TUF roles of a fleet as pure functions: who signs what, for how long. No files, no clock.

| role                | keys              | lives    | signs                                          |
|---------------------|-------------------|----------|------------------------------------------------|
| root                | 2 of 3, offline   | 3 years  | the keys of root, targets, snapshot, timestamp |
| targets             | 1, offline        | 1 year   | delegations only                               |
| releases/<model>    | 1, the trainer's  | 60 days  | this model's files                             |
| snapshot, timestamp | 1 each, online    | 30, 7 d  | freshness                                      |
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, TypeVar

import msgspec
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Role,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)
from tuf.api.serialization.json import JSONSerializer

from edge_agent.updates.note import CUSTOM_KEY, ReleaseNote, role_of, target_path
from shared.manifest import FileReference

if TYPE_CHECKING:
    from securesystemslib.signer import Key, Signer

DAY = 86_400.0
LIFE_SECONDS = {"root": 3 * 365 * DAY, "targets": 365 * DAY, "snapshot": 30 * DAY, "timestamp": 7 * DAY}
RELEASES_LIFE_SECONDS = 60 * DAY
ROOT_THRESHOLD = 2
RENEW_BELOW = 1 / 3
"""Online roles are signed again when less than this share of their life is left."""

S = TypeVar("S", Root, Timestamp, Snapshot, Targets)


def life_of(role: str) -> float:
    """How long a role's signature is good for, in seconds."""
    return LIFE_SECONDS.get(role, RELEASES_LIFE_SECONDS)


def expiry(role: str, now: float) -> datetime:
    """When metadata of ``role`` signed at ``now`` (seconds since 1970) expires; TUF knows whole seconds only."""
    return datetime.fromtimestamp(now, UTC).replace(microsecond=0) + timedelta(seconds=life_of(role))


def due(role: str, expires: datetime, now: float) -> bool:
    """Whether ``role`` should be signed again: less than a third of its life is left, or none."""
    return expires.timestamp() - now < life_of(role) * RENEW_BELOW


def new_root(root_keys: Sequence[Key], targets_key: Key, snapshot_key: Key, timestamp_key: Key, now: float) -> Root:
    """Root metadata version 1."""
    root = Root(version=1, expires=expiry("root", now), consistent_snapshot=True)
    for key in root_keys:
        root.add_key(key, "root")
    root.roles["root"].threshold = ROOT_THRESHOLD
    for role, key in (("targets", targets_key), ("snapshot", snapshot_key), ("timestamp", timestamp_key)):
        root.add_key(key, role)
    return root


def new_targets(releases_keys: Mapping[str, Key], now: float) -> Targets:
    """Top-level targets version 1: one terminating delegation a model, no files of its own.

    TUF matches paths part by part (``*`` never crosses a slash), so files in the release and in one directory below it
    (``variants/``) need a pattern each.
    """
    keys = {key.keyid: key for key in releases_keys.values()}
    roles = {
        role_of(model): DelegatedRole(
            role_of(model), [key.keyid], 1, terminating=True, paths=[f"{model}/*/*", f"{model}/*/*/*"]
        )
        for model, key in releases_keys.items()
    }
    return Targets(version=1, expires=expiry("targets", now), delegations=Delegations(keys, roles))


def empty_releases(model: str, now: float) -> Targets:
    """A model's role before its first release."""
    return Targets(version=1, expires=expiry(role_of(model), now))


def release_targets(note: ReleaseNote, files: Sequence[FileReference], manifest_name: str) -> dict[str, TargetFile]:
    """The signed records of a release's files; the manifest's carries the note."""
    targets: dict[str, TargetFile] = {}
    for file in files:
        path = target_path(note.model, note.version, file.path)
        extra = {"custom": {CUSTOM_KEY: msgspec.to_builtins(note)}} if file.path == manifest_name else None
        targets[path] = TargetFile(file.bytes, {"sha256": file.sha256}, path, extra)
    return targets


def versions_of(model: str, targets: Targets) -> list[int]:
    """Versions of ``model`` that ``targets`` holds, oldest first."""
    return sorted({int(path.split("/")[1]) for path in targets.targets if path.startswith(f"{model}/")})


def described(version: int, data: bytes) -> MetaFile:
    """How snapshot and timestamp refer to metadata ``data``."""
    return MetaFile.from_data(version, data, ["sha256"])


def signed_bytes(signed: S, signers: Sequence[Signer]) -> bytes:
    """Sign and serialize, compactly: devices fetch this over metered links."""
    metadata: Metadata[S] = Metadata(signed)
    for signer in signers:
        metadata.sign(signer, append=True)
    return metadata.to_bytes(JSONSerializer(compact=True)) + b"\n"


def empty_snapshot(now: float) -> Snapshot:
    """Snapshot version 1, to be filled."""
    return Snapshot(version=1, expires=expiry("snapshot", now), meta={})


def empty_timestamp(now: float) -> Timestamp:
    """Timestamp version 1, to be filled."""
    return Timestamp(version=1, expires=expiry("timestamp", now))


def role_names(targets: Targets) -> tuple[str, ...]:
    """The delegated roles, in order."""
    delegated: Mapping[str, Role] = (targets.delegations.roles if targets.delegations else None) or {}
    return tuple(delegated)
