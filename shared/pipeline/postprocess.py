"""Step five: from numbers to what a person or another system wants to read."""

from __future__ import annotations

from shared.pipeline.answers import Action, Actions, Labels, Payload, Round, Units, Value
from shared.pipeline.scores import TopK

__all__ = ["Action", "Actions", "Labels", "Payload", "Round", "TopK", "Units", "Value"]
