"""Signing with the online keys: role, snapshot, timestamp, in this order, so that the timestamp makes it happen."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from tuf.api.metadata import Metadata, Root, Snapshot, Targets

from cloud_trainer.registry import roles
from cloud_trainer.registry.keys import load_key
from cloud_trainer.registry.repository import Repository
from edge_agent.updates.note import role_of
from shared.errors import ConfigError, StoreError

if TYPE_CHECKING:
    from securesystemslib.signer import CryptoSigner


class OnlineSigner:
    """Signs ``repository`` with the keys in the directory ``online``. The caller holds the fleet's lock."""

    def __init__(self, repository: Repository, online: Path) -> None:
        self._repository = repository
        self._online = online

    def models(self) -> tuple[str, ...]:
        """The models that the fleet's targets role delegates."""
        prefix = role_of("")
        return tuple(role.removeprefix(prefix) for role in roles.role_names(self._repository.role("targets")))

    def publish(self, changed: Mapping[str, Targets], now: float) -> None:
        """Sign the next version of the releases roles of ``changed`` (model -> new content), and what leads there.

        All keys are checked before anything is written.

        Raises:
            ConfigError: a key is missing or not the one that the fleet's metadata names.
        """
        signers = {model: self._signer(role_of(model)) for model in changed}
        snapshot_signer, timestamp_signer = self._signer("snapshot"), self._signer("timestamp")
        snapshot = self._repository.snapshot()
        for model, role in changed.items():
            name = role_of(model)
            role.version += 1
            role.expires = roles.expiry(name, now)
            data = roles.signed_bytes(role, [signers[model]])
            self._repository.write_metadata(f"{role.version}.{name}.json", data)
            snapshot.meta[f"{name}.json"] = roles.described(role.version, data)
        self._write_snapshot(snapshot, snapshot_signer, timestamp_signer, now)

    def due(self, now: float) -> bool:
        """Whether :meth:`renew` would sign anything."""
        return any(roles.due(role, expires, now) for role, expires in self._online_expiries().items())

    def renew(self, now: float) -> bool:
        """Sign again what has less than a third of its life left; returns whether there was anything.

        Raises:
            ConfigError: as :meth:`publish`.
        """
        late = {role for role, expires in self._online_expiries().items() if roles.due(role, expires, now)}
        stale = [model for model in self.models() if role_of(model) in late]
        if stale or "snapshot" in late:
            self.publish({model: self._repository.role(role_of(model)) for model in stale}, now)
        elif late:
            timestamp = self._repository.timestamp()
            signer = self._signer("timestamp")
            timestamp.version += 1
            timestamp.expires = roles.expiry("timestamp", now)
            self._repository.write_metadata("timestamp.json", roles.signed_bytes(timestamp, [signer]))
        return bool(late)

    def offline_expiries(self) -> dict[str, datetime]:
        """When the roles expire that only the offline keys can sign."""
        return {"root": self._root().expires, "targets": self._repository.role("targets").expires}

    def check_offline_roles(self, now: float) -> None:
        """Refuse to publish what no device would accept.

        Raises:
            StoreError: root or targets, which only the offline keys can sign, have expired.
        """
        for role, expires in self.offline_expiries().items():
            if expires.timestamp() <= now:
                raise StoreError(
                    f"the {role} role expired on {expires:%Y-%m-%d}; devices accept nothing until it is signed again "
                    "with the offline keys"
                )

    def _write_snapshot(
        self, snapshot: Snapshot, snapshot_signer: CryptoSigner, timestamp_signer: CryptoSigner, now: float
    ) -> None:
        timestamp = self._repository.timestamp()
        snapshot.version += 1
        snapshot.expires = roles.expiry("snapshot", now)
        data = roles.signed_bytes(snapshot, [snapshot_signer])
        self._repository.write_metadata(f"{snapshot.version}.snapshot.json", data)
        timestamp.version += 1
        timestamp.expires = roles.expiry("timestamp", now)
        timestamp.snapshot_meta = roles.described(snapshot.version, data)
        self._repository.write_metadata("timestamp.json", roles.signed_bytes(timestamp, [timestamp_signer]))

    def _online_expiries(self) -> dict[str, datetime]:
        expiries = {
            "snapshot": self._repository.snapshot().expires,
            "timestamp": self._repository.timestamp().expires,
        }
        return expiries | {role_of(model): self._repository.role(role_of(model)).expires for model in self.models()}

    def _signer(self, role: str) -> CryptoSigner:
        """The key of ``role``, checked against the metadata that entitles it."""
        path = self._online / f"{role.replace('/', '-')}.pem"
        signer = load_key(path)
        if role in {"snapshot", "timestamp"}:
            entitled = self._root().roles[role].keyids
        else:
            delegations = self._repository.role("targets").delegations
            assert delegations is not None
            assert delegations.roles is not None
            entitled = delegations.roles[role].keyids
        if signer.public_key.keyid not in entitled:
            raise ConfigError(f"not the key that this fleet's metadata names for {role}", file=str(path))
        return signer

    def _root(self) -> Root:
        return Metadata[Root].from_bytes(self._repository.latest_root()).signed
