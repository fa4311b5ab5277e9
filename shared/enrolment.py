"""The enrolment file: all that a device needs to know before its first contact, made by ``cloud-trainer fleet enroll``.

It carries the root of trust, the lowest metadata versions that are acceptable and a not-before time. That closes the
one hole that TUF leaves open on a fresh device: a replayed old repository.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from shared.errors import UNREADABLE, ConfigError
from shared.files import reason, write_atomic
from shared.manifest import Name

FORMAT = 1


class BrokerAddress(Struct, frozen=True):
    """Where the MQTT broker is and how to speak to it. TLS when ``tls`` is true; ``ca`` is PEM text, empty for the
    system's certificates."""

    host: str
    port: Annotated[int, Meta(ge=1, le=65535)]
    tls: bool = False
    ca: str = ""
    username: str = ""
    password: str = ""


class Enrolment(Struct, frozen=True):
    """One device's enrolment. ``root`` is signed TUF root metadata, as JSON."""

    format: int
    site: Name
    device: Name
    models: Annotated[tuple[Name, ...], Meta(min_length=1)]
    broker: BrokerAddress
    repository: str  # base URL; metadata/ and targets/ are below it
    root: dict[str, Any]
    floors: dict[str, int]  # TUF role -> lowest acceptable metadata version
    not_before: float  # seconds since 1970: the true time is not before this
    created: str


def load_enrolment(path: Path) -> Enrolment:
    """Read an enrolment file.

    Raises:
        ConfigError: it is missing, malformed or of another format.
    """
    try:
        enrolment = msgspec.json.decode(path.read_bytes(), type=Enrolment)
    except OSError as error:
        raise ConfigError(f"enrolment file cannot be read: {reason(error)}", file=str(path)) from error
    except msgspec.ValidationError as error:
        from shared.explain import explain

        raise ConfigError(f"not an enrolment file: {explain(error, Enrolment)[0]}", file=str(path)) from error
    except UNREADABLE as error:
        raise ConfigError(f"not an enrolment file: {error}", file=str(path)) from error
    if enrolment.format != FORMAT:
        raise ConfigError(f"enrolment format {enrolment.format}; this version reads {FORMAT}", file=str(path))
    return enrolment


def save_enrolment(enrolment: Enrolment, path: Path) -> None:
    """Write an enrolment file that only its owner can read (it may hold a password)."""
    write_atomic(path, msgspec.json.format(msgspec.json.encode(enrolment), indent=2) + b"\n", mode=0o600)
