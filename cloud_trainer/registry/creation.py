"""A new fleet: keys, root of trust and an empty, signed repository."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cloud_trainer.registry import keys, roles
from cloud_trainer.registry.repository import Repository, make_directory
from edge_agent.updates.note import role_of


def fill(fleet: Path, repository: Repository, models: Sequence[str], now: float) -> None:
    """Write everything of a new fleet into the directory ``fleet``, which nobody else uses yet.

    Raises:
        MissingExtraError: ``cryptography`` is not installed.
    """
    offline, online = fleet / "keys" / "offline", fleet / "keys" / "online"
    for directory in (offline, online, fleet / "releases", repository.targets, repository.staging):
        make_directory(directory)
    for directory in (offline.parent, offline, online):
        directory.chmod(0o700)
    passphrase = keys.passphrase_from_environment()
    made = {name: keys.create_key(offline / f"{name}.pem", passphrase=passphrase) for name in keys.OFFLINE_KEYS}
    made |= {name: keys.create_key(online / f"{name}.pem") for name in keys.online_keys(tuple(models))}
    public = {name: signer.public_key for name, signer in made.items()}

    root_keys = [public[name] for name in keys.ROOT_KEYS]
    root = roles.new_root(root_keys, public["targets"], public["snapshot"], public["timestamp"], now)
    repository.write_metadata("1.root.json", roles.signed_bytes(root, [made[name] for name in keys.ROOT_KEYS]))

    releases_keys = {model: public[f"releases-{model}"] for model in models}
    targets = {"targets": (roles.new_targets(releases_keys, now), made["targets"])}
    for model in models:
        targets[role_of(model)] = (roles.empty_releases(model, now), made[f"releases-{model}"])
    snapshot = roles.empty_snapshot(now)
    for role, (signed, signer) in targets.items():
        data = roles.signed_bytes(signed, [signer])
        repository.write_metadata(f"1.{role}.json", data)
        snapshot.meta[f"{role}.json"] = roles.described(1, data)

    data = roles.signed_bytes(snapshot, [made["snapshot"]])
    repository.write_metadata("1.snapshot.json", data)
    timestamp = roles.empty_timestamp(now)
    timestamp.snapshot_meta = roles.described(1, data)
    repository.write_metadata("timestamp.json", roles.signed_bytes(timestamp, [made["timestamp"]]))
