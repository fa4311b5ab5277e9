"""The exception tree, re-exported (see :mod:`shared.errors`)."""

from shared.errors import *  # noqa: F403  (one tree, two names)
