"""What the device and the cloud must agree on: formats, messages, the inference pipeline, drift evidence.

Needs numpy, msgspec and the standard library, nothing else. Because any folder called ``shared`` beside a user's
script would shadow this one, its public parts are re-exported by ``edge_agent`` (``edge_agent.drift``,
``edge_agent.errors``); use those in your own code.
"""

IS_SANDERLING = True
"""Marker that tells this package from a stranger of the same name (see ``edge_agent/__init__.py``)."""
