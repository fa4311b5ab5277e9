"""The registry: creates fleets, publishes releases, keeps signatures fresh, enrols devices."""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from cloud_trainer.registry import roles
from cloud_trainer.registry.checks import check_publishable, checked_address, checked_name
from cloud_trainer.registry.creation import fill
from cloud_trainer.registry.lock import publishing
from cloud_trainer.registry.repository import Repository, make_directory, place
from cloud_trainer.registry.signing import OnlineSigner
from cloud_trainer.work import keep_work
from edge_agent.updates.note import ReleaseNote, role_of
from shared.enrolment import FORMAT, BrokerAddress, Enrolment
from shared.errors import ConfigError, DigestError, ReleaseError, StoreError, UsageError
from shared.files import inside, sha256_file
from shared.manifest import (
    MANIFEST_NAME,
    FileReference,
    Manifest,
    load_manifest,
    reference_file,
)


class Registry:
    """A fleet's directory. Safe for several processes; times are seconds since 1970.

    >>> registry = Registry.create(Path("fleet"), ["digits"], now=time.time())      # doctest: +SKIP
    >>> registry.publish(Path("out/digits"), now=time.time())                       # doctest: +SKIP
    ('digits', 1)
    """

    def __init__(self, fleet: Path) -> None:
        self.fleet = fleet
        self._staging = fleet / "staging"
        self._releases = fleet / "releases"
        self._repository = Repository(fleet / "repository", self._staging)
        self._signer = OnlineSigner(self._repository, fleet / "keys" / "online")

    @property
    def repository(self) -> Path:
        """The directory to serve over HTTP; ``metadata/`` and ``targets/`` are in it."""
        return self._repository.root

    @property
    def models(self) -> tuple[str, ...]:
        """The models that this fleet may run."""
        return self._signer.models()

    @classmethod
    def create(cls, fleet: Path, models: Sequence[str], *, now: float) -> Registry:
        """Make keys, root of trust and an empty repository. The offline keys are encrypted if
        ``SANDERLING_KEY_PASSPHRASE`` is set.

        Raises:
            UsageError: ``fleet`` exists already, or a model's name is not allowed.
            MissingExtraError: ``cryptography`` is not installed.
        """
        for model in models:
            checked_name(model, "model")
        if not models or len(set(models)) != len(models):
            raise UsageError("a fleet needs at least one model, each named once")
        if fleet.exists() and (not fleet.is_dir() or any(fleet.iterdir())):
            raise UsageError(f"{fleet} exists already; a fleet is made in a new or empty directory")
        try:
            fleet.parent.mkdir(parents=True, exist_ok=True)
            aside = Path(tempfile.mkdtemp(prefix=f".{fleet.name}.", dir=fleet.parent))
            try:
                fill(aside, cls(aside)._repository, models, now)  # noqa: SLF001  (its own)
                aside.chmod(0o755)
                place(aside, fleet)
            except BaseException:
                shutil.rmtree(aside, ignore_errors=True)
                raise
        except OSError as error:
            raise UsageError(f"{fleet} cannot be made: {error}") from error
        return cls(fleet)

    @classmethod
    def open(cls, fleet: Path) -> Registry:
        """An existing fleet.

        Raises:
            ConfigError: ``fleet`` is not one.
            StoreError: its repository is damaged.
        """
        if not (fleet / "repository" / "metadata" / "timestamp.json").is_file():
            raise ConfigError("not a fleet directory; make one with: cloud-trainer fleet init", file=str(fleet))
        registry = cls(fleet)
        registry._repository.snapshot()
        return registry

    @property
    def identity(self) -> str:
        """What tells this fleet from another: the beginning of its first root's SHA-256."""
        return sha256_file(self._repository.metadata / "1.root.json")[:16]

    def offline_expiry(self) -> dict[str, float]:
        """When root and targets, which only the offline keys can sign, expire: seconds since 1970."""
        return {role: expires.timestamp() for role, expires in self._signer.offline_expiries().items()}

    def publish(self, release: Path, *, now: float, cohort: Sequence[str] = ()) -> tuple[str, int]:
        """Check a release directory, copy it, sign it and make it available; returns (model, version). What the
        trainer left beside it (see ``cloud_trainer/work.py``) is kept beside the copy.

        Only the devices of ``cohort`` will take it; empty means every device.

        Raises:
            ReleaseError: the release is damaged or cannot be published, or its version is not newer than the last.
            UsageError: the fleet does not know the model, or a device's name is not allowed.
            ConfigError: a signing key is missing or not the fleet's.
            StoreError: another process is publishing, or the repository is damaged.
        """
        manifest = load_manifest(release)
        check_publishable(manifest)
        for file in manifest.files():
            file.verify(release)
        for device in cohort:
            checked_name(device, "device")
        with self._exclusively():
            model, version = manifest.name, manifest.version
            if model not in self.models:
                raise UsageError(f"{self.fleet} has no model {model!r}; it has {', '.join(self.models)}")
            self._signer.check_offline_roles(now)
            role = self._repository.role(role_of(model))
            published = roles.versions_of(model, role)
            if version in published:
                raise ReleaseError(f"release {model}/{version} is published already; a version is published once")
            if published and version < published[-1]:
                raise ReleaseError(
                    f"release {model}/{version} is older than {model}/{published[-1]}; versions only grow"
                )

            files = self._copy(release, manifest)
            self._repository.forget(model, version)
            for file in files:
                self._repository.add_target(model, version, file, self._releases / model / str(version))
            note = ReleaseNote(
                model=model,
                version=version,
                variants=tuple(variant.id for variant in manifest.variants),
                cohort=tuple(sorted(set(cohort))),
                not_before=int(now),
            )
            role.targets.update(roles.release_targets(note, files, MANIFEST_NAME))
            self._signer.publish({model: role}, now)
        return model, version

    def refresh(self, now: float) -> bool:
        """Sign again what has less than a third of its life left (or none): each model's releases, snapshot,
        timestamp. To be called at start and, say, every hour; returns whether anything was signed.

        Raises:
            ConfigError: a signing key is missing or not the fleet's.
            StoreError: another process is publishing, or the repository is damaged.
        """
        if not self._signer.due(now):
            return False
        with self._exclusively():
            return self._signer.renew(now)

    def releases(self, model: str) -> list[int]:
        """Published versions, oldest first.

        Raises:
            UsageError: the fleet does not know the model.
        """
        if model not in self.models:
            raise UsageError(f"{self.fleet} has no model {model!r}; it has {', '.join(self.models)}")
        return roles.versions_of(model, self._repository.role(role_of(model)))

    def release_path(self, model: str, version: int) -> Path:
        """A published release as a plain directory.

        Raises:
            ReleaseError: it has not been published.
        """
        if version not in self.releases(model):
            raise ReleaseError(f"{model}/{version} has not been published to {self.fleet}")
        return self._releases / model / str(version)

    def enrol(
        self,
        device: str,
        *,
        site: str,
        broker: BrokerAddress,
        url: str,
        models: Sequence[str] = (),
        now: float,
    ) -> Enrolment:
        """What ``device`` needs to know before its first contact; ``models`` defaults to all of the fleet's.

        Raises:
            UsageError: a name, the address or a model is wrong.
        """
        checked_name(device, "device")
        checked_name(site, "site")
        known = self.models
        for model in models:
            if model not in known:
                raise UsageError(f"{self.fleet} has no model {model!r}; it has {', '.join(known)}")
        address = checked_address(url)
        snapshot = self._repository.snapshot()
        root = json.loads(self._repository.latest_root())
        floors = {name.removesuffix(".json"): meta.version for name, meta in snapshot.meta.items()}
        floors |= {
            "root": root["signed"]["version"],
            "timestamp": self._repository.timestamp().version,
            "snapshot": snapshot.version,
        }
        return Enrolment(
            format=FORMAT,
            site=site,
            device=device,
            models=tuple(models) or known,
            broker=broker,
            repository=address,
            root=root,
            floors=floors,
            not_before=now,
            created=datetime.fromtimestamp(now, UTC).isoformat(timespec="seconds"),
        )

    @contextlib.contextmanager
    def _exclusively(self) -> Iterator[None]:
        """Hold the fleet's lock, with an empty staging directory: what a killed process left there goes."""
        try:
            with publishing(self.fleet / "publish.lock"):
                shutil.rmtree(self._staging, ignore_errors=True)
                make_directory(self._staging)
                yield
        except OSError as error:
            raise StoreError(f"{self.fleet}: {error}") from error

    def _copy(self, release: Path, manifest: Manifest) -> tuple[FileReference, ...]:
        """Copy a release to ``releases/``, verify the copy, and return its files, the manifest among them."""
        staged = self._staging / "release"
        for file in manifest.files():
            source, copy = inside(release, file.path), inside(staged, file.path)
            copy.parent.mkdir(parents=True, exist_ok=True)
            try:
                shutil.copyfile(source, copy)
            except FileNotFoundError as error:
                raise DigestError(f"{source}: missing from the release") from error
            try:
                file.verify(staged)
            except DigestError:
                file.verify(release)  # names the person's own file, where that is the damaged one
                raise
        shutil.copyfile(release / MANIFEST_NAME, staged / MANIFEST_NAME)
        if load_manifest(staged) != manifest:
            raise ReleaseError(f"{release / MANIFEST_NAME} changed while it was being published")
        final = self._releases / manifest.name / str(manifest.version)
        keep_work(release, final, self._staging)
        if final.exists():  # copied by a process that was killed before it signed
            shutil.rmtree(final)
        place(staged, final)
        return (reference_file(final, MANIFEST_NAME), *manifest.files())
