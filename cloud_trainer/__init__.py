"""The trainer and controller: from data to signed releases, and from drift back to data."""

__version__ = "0.1.0"
