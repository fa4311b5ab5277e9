"""python-tuf's client behind a narrow wrapper: one session with the repository, errors in Sanderling's tree.

Importing this costs what python-tuf costs (some 8 MiB), so only a fetch does it.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import urllib3
from tuf.api import exceptions as tuf_errors
from tuf.api.metadata import Metadata, Root, TargetFile
from tuf.ngclient import Updater, UpdaterConfig
from tuf.ngclient.config import EnvelopeType

from edge_agent.updates.fetcher import BoundedFetcher
from edge_agent.updates.floors import Floor
from shared.enrolment import Enrolment
from shared.errors import LinkError, TrustError, UpdateError

if TYPE_CHECKING:
    from tuf.ngclient import FetcherInterface

LIMITS = UpdaterConfig(
    max_root_rotations=64,
    max_delegations=8,
    root_max_length=64 << 10,
    timestamp_max_length=16 << 10,
    snapshot_max_length=256 << 10,
    targets_max_length=4 << 20,
    prefix_targets_with_hash=True,
    envelope_type=EnvelopeType.METADATA,
)


def judge_expiry_at(client: Updater, now: float) -> None:
    """Make ``client`` judge expiry at ``now`` (seconds since 1970) instead of by the system clock.

    python-tuf has no public way; this is the one place that knows its private name.

    Raises:
        UpdateError: python-tuf has changed; nothing must be verified against a clock that may be wrong.
    """
    trusted = getattr(client, "_trusted_set", None)
    if not isinstance(getattr(trusted, "reference_time", None), datetime):
        raise UpdateError("this version of python-tuf keeps its reference time elsewhere; install tuf 7")
    assert trusted is not None
    trusted.reference_time = datetime.fromtimestamp(now, UTC)


def verify_root(root: dict[str, Any]) -> None:
    """Refuse what python-tuf would refuse as its root of trust: no root metadata, or not signed by enough of its own
    keys. An expired one is good to begin with.

    Raises:
        TrustError: it is no such thing.
    """
    try:
        metadata = Metadata[Root].from_bytes(json.dumps(root).encode())
        if not isinstance(metadata.signed, Root):
            raise TrustError(f"it is {metadata.signed.type} metadata")
        metadata.signed.verify_delegate(Root.type, metadata.signed_bytes, metadata.signatures)
    except tuf_errors.RepositoryError as error:
        raise TrustError(str(error)) from error


class Session:
    """One refresh of the repository and what was read under it.

    Args:
        enrolment: root of trust and repository address.
        directory: state directory; ``tuf/`` in it is the metadata cache.
        now: reference time, seconds since 1970.
        fetcher: instead of HTTP; tests and other transports.

    Raises:
        TrustError: the enrolment's root is not valid root metadata.
    """

    def __init__(
        self, enrolment: Enrolment, directory: Path, now: float, fetcher: FetcherInterface | None = None
    ) -> None:
        base = enrolment.repository.rstrip("/")
        self._address = base
        self._now = now
        cache = directory / "tuf"
        cache.mkdir(parents=True, exist_ok=True)
        with self._translated("root of the enrolment file"):
            self._client = Updater(
                metadata_dir=str(cache),
                metadata_base_url=f"{base}/metadata/",
                target_base_url=f"{base}/targets/",
                fetcher=fetcher or BoundedFetcher(cache),
                config=LIMITS,
                bootstrap=json.dumps(enrolment.root).encode(),
            )
        judge_expiry_at(self._client, now)

    def refresh(self) -> None:
        """Read root, timestamp, snapshot and targets.

        Raises:
            LinkError: the repository can't be reached.
            TrustError: a signature, expiry date, version or digest is wrong.
        """
        with self._translated("metadata"):
            self._client.refresh()

    def offered(self) -> dict[str, Floor]:
        """Version and entitled keys of every role that the repository now offers."""
        trusted = self._client._trusted_set  # noqa: SLF001  (no public way to the verified versions)
        root, targets = trusted.root, trusted.targets
        versions = {
            "root": root.version,
            "timestamp": trusted.timestamp.version,
            "snapshot": trusted.snapshot.version,
            "targets": targets.version,
        }
        offered = {role: Floor(version, tuple(root.roles[role].keyids)) for role, version in versions.items()}
        delegated = (targets.delegations.roles if targets.delegations else None) or {}
        for name, role in delegated.items():
            meta = trusted.snapshot.meta.get(f"{name}.json")
            if meta is not None:
                offered[name] = Floor(meta.version, tuple(role.keyids))
        return offered

    def timestamp_expires(self) -> float:
        """When the repository's timestamp expires, seconds since 1970."""
        trusted = self._client._trusted_set  # noqa: SLF001  (as above)
        return trusted.timestamp.expires.timestamp()

    def target(self, path: str) -> TargetFile:
        """Signed length, digests and custom data of a target.

        Raises:
            UpdateError: the repository has no such target.
            LinkError, TrustError: as :meth:`refresh`.
        """
        with self._translated(path):
            found = self._client.get_targetinfo(path)
        if found is None:
            raise UpdateError(f"{path} is not in the repository {self._address}")
        return found

    def download(self, target: TargetFile, to: Path) -> None:
        """Download, verify against the signed length and digest, and only then write ``to``.

        Raises:
            LinkError, TrustError: as :meth:`refresh`.
            UpdateError: the file can't be written.
        """
        with self._translated(target.path):
            self._client.download_target(target, str(to))

    @contextlib.contextmanager
    def _translated(self, what: str) -> Iterator[None]:
        """Errors of python-tuf, urllib3 and the file system as ours."""
        try:
            yield
        except tuf_errors.DownloadLengthMismatchError as error:
            raise TrustError(f"{what}: the repository sends more than is signed or allowed: {error}") from error
        except tuf_errors.DownloadHTTPError as error:
            raise LinkError(f"{what}: repository {self._address} answered HTTP {error.status_code}") from error
        except (tuf_errors.DownloadError, urllib3.exceptions.HTTPError, ConnectionError, TimeoutError) as error:
            raise LinkError(f"repository {self._address} not reachable: {_reason(error)}") from error
        except tuf_errors.ExpiredMetadataError as error:
            judged = datetime.fromtimestamp(self._now, UTC).isoformat(timespec="seconds")
            raise TrustError(f"{what}: {error} (judged at {judged}); what is installed keeps running") from error
        except tuf_errors.UnsignedMetadataError as error:
            raise TrustError(f"{what}: signature missing or wrong: {error}") from error
        except tuf_errors.BadVersionNumberError as error:
            raise TrustError(f"{what}: older than what this device has seen: {error}") from error
        except tuf_errors.LengthOrHashMismatchError as error:
            raise TrustError(f"{what}: length or digest differs from what is signed: {error}") from error
        except tuf_errors.RepositoryError as error:
            raise TrustError(f"{what}: {error}") from error
        except OSError as error:
            raise UpdateError(f"{what}: {error}") from error


def _reason(error: BaseException) -> str:
    """The innermost cause, in words: ``Connection refused`` rather than three wrappers around it."""
    while True:
        inner = getattr(error, "reason", None)
        deeper = inner if isinstance(inner, BaseException) else error.__cause__
        if deeper is None:
            break
        error = deeper
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split()) or type(error).__name__
