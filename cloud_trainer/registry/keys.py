"""Ed25519 keys as PEM files that only their owner can read."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from shared.errors import ConfigError, MissingExtraError
from shared.files import write_atomic

if TYPE_CHECKING:
    from securesystemslib.signer import CryptoSigner

PASSPHRASE_VARIABLE = "SANDERLING_KEY_PASSPHRASE"  # noqa: S105  (its name, not its value)
"""Environment variable that encrypts the offline keys when they are made, and opens them again."""

ROOT_KEYS = ("root-1", "root-2", "root-3")
OFFLINE_KEYS = (*ROOT_KEYS, "targets")


def online_keys(models: tuple[str, ...]) -> tuple[str, ...]:
    """Names of the keys that publishing and refreshing need.

    >>> online_keys(("digits",))
    ('snapshot', 'timestamp', 'releases-digits')
    """
    return ("snapshot", "timestamp", *(f"releases-{model}" for model in models))


def create_key(path: Path, *, passphrase: str = "") -> CryptoSigner:
    """Make a key, write it to ``path`` as PEM (PKCS 8, mode 0600, encrypted if there is a passphrase), return it.

    Raises:
        MissingExtraError: ``cryptography`` is not installed.
    """
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    except ImportError as error:
        raise MissingExtraError("signing", "trainer") from error
    from securesystemslib.signer import CryptoSigner

    key = Ed25519PrivateKey.generate()
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if passphrase:
        encryption = serialization.BestAvailableEncryption(passphrase.encode())
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
    write_atomic(path, pem, mode=0o600)
    return CryptoSigner(key)


def load_key(path: Path, *, passphrase: str = "") -> CryptoSigner:
    """Read a key made by :func:`create_key`.

    Raises:
        ConfigError: it is missing, no Ed25519 key, or the passphrase is wrong or missing.
        MissingExtraError: ``cryptography`` is not installed.
    """
    try:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key
    except ImportError as error:
        raise MissingExtraError("signing", "trainer") from error
    from securesystemslib.signer import CryptoSigner

    try:
        pem = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"signing key cannot be read: {error.strerror}", file=str(path)) from error
    encrypted = pem.startswith(b"-----BEGIN ENCRYPTED")
    if encrypted and not passphrase:
        raise ConfigError(f"the key is encrypted; set {PASSPHRASE_VARIABLE}", file=str(path))
    try:
        key = load_pem_private_key(pem, passphrase.encode() if encrypted else None)
    except (ValueError, TypeError) as error:
        wrong = f"wrong passphrase in {PASSPHRASE_VARIABLE}" if encrypted else "not a PEM private key"
        raise ConfigError(wrong, file=str(path)) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError("not an Ed25519 key; devices verify nothing else", file=str(path))
    return CryptoSigner(key)


def passphrase_from_environment() -> str:
    """The passphrase of the offline keys; empty when none is set."""
    return os.environ.get(PASSPHRASE_VARIABLE, "")
