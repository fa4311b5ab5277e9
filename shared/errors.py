"""The one exception tree.

Every error says what was wrong, where, and what would be right, in one line that a person can act on::

    SanderlingError                      exit code 1
    ├── UsageError                       exit code 2: the command line or a call is wrong
    │   ├── ConfigError                  a configuration file is wrong: file, line, what was expected
    │   └── MissingExtraError            a feature needs an extra that is not installed
    ├── InputError                       a sample does not fit the model: shape, dtype, values
    ├── ReleaseError                     a release directory cannot be used
    │   ├── ManifestError                manifest.json is missing, malformed or of an unknown format
    │   ├── DigestError                  a file is not the one that the manifest names
    │   └── NoVariantError               no variant of the release can run here
    ├── BackendError                     a runtime refused a model or failed while running it
    ├── OverloadError                    more requests than the queue has room for
    ├── DeadlineError                    no answer in the time that was given
    ├── ProfileError                     a drift reference or its counts cannot be used
    ├── MessageError                     an MQTT payload or topic is malformed
    ├── LinkError                        the broker cannot be reached or refuses us
    ├── StoreError                       a local store (outbox, samples, database) failed
    ├── UpdateError                      an update was not taken; what runs keeps running
    │   ├── TrustError                   signature, expiry, version floor or hash says no
    │   └── SelfTestError                the release gives other answers here than where it was made
    └── TrainingError                    the trainer could not do its work
        ├── DataError                    the training data is unusable
        ├── ExportError                  a model could not be exported or quantized
        ├── GateError                    a candidate did not pass its gates
        └── StoppedError                 training was asked to end (Ctrl-C), and can be gone on with

Foreign exceptions are wrapped at the boundary where they appear, with ``raise ... from``.
"""

from __future__ import annotations

import msgspec

UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What msgspec raises for bytes from a stranger: wrong, no UTF-8, or nested without end."""


class SanderlingError(Exception):
    """Base of every error that Sanderling raises on purpose."""

    exit_code = 1


def one_line(error: BaseException, *, last: bool = False) -> str:
    r"""The first (or last) line of a foreign error's text, at most 300 characters; its type where it says nothing.

    >>> one_line(ValueError("bad\nmore")), one_line(AssertionError())
    ('bad', 'AssertionError')
    """
    lines = str(error).strip().splitlines()
    return lines[-1 if last else 0][:300] if lines else type(error).__name__


class UsageError(SanderlingError):
    """The command line or an API call is wrong."""

    exit_code = 2


class ConfigError(UsageError):
    """A configuration file is wrong.

    ``file`` and ``line`` (1-based, ``None`` when unknown) say where.
    """

    def __init__(self, message: str, *, file: str | None = None, line: int | None = None) -> None:
        self.file = file
        self.line = line
        where = f"{file}:{line}: " if file and line else f"{file}: " if file else ""
        super().__init__(where + message)


class MissingExtraError(UsageError):
    """A feature needs an optional extra that is not installed."""

    def __init__(self, what: str, extra: str) -> None:
        self.extra = extra
        super().__init__(f"{what} needs an extra that is not installed: pip install 'sanderling[{extra}]'")


class InputError(SanderlingError):
    """A sample does not fit the model."""


class ReleaseError(SanderlingError):
    """A release directory cannot be used."""


class ManifestError(ReleaseError):
    """manifest.json is missing, malformed or of an unknown format."""


class DigestError(ReleaseError):
    """A file of a release is not the one that its manifest names."""


class NoVariantError(ReleaseError):
    """No variant of the release can run on this device."""


class BackendError(SanderlingError):
    """A runtime refused a model or failed while running it."""


class OverloadError(SanderlingError):
    """More requests came than the queue has room for."""


class DeadlineError(SanderlingError):
    """No answer was possible in the time that was given for it."""


class ProfileError(SanderlingError):
    """A drift reference, or counts made against one, cannot be used."""


class MessageError(SanderlingError):
    """An MQTT payload or topic is malformed."""


class LinkError(SanderlingError):
    """The broker cannot be reached or refuses the connection."""


class StoreError(SanderlingError):
    """A local store (outbox, samples, database) failed."""


class UpdateError(SanderlingError):
    """An update was not taken; what was running keeps running."""


class TrustError(UpdateError):
    """A signature, expiry date, version floor or hash says no."""


class SelfTestError(UpdateError):
    """A release gives other answers on this device than where it was made."""


class TrainingError(SanderlingError):
    """The trainer could not do its work."""


class DataError(TrainingError):
    """The training data is unusable."""


class ExportError(TrainingError):
    """A model could not be exported or quantized."""


class GateError(TrainingError):
    """A candidate did not pass its gates."""


class StoppedError(TrainingError):
    """Training was asked to end, by Ctrl-C or SIGTERM; where it has a checkpoint, it can be gone on with."""
