"""Training samples, altered as they might have been: one file a kind of sample.

What holds for every augmentation ``alter(x, generator)``, a batch (b, *input) of encoded samples:

1. The same batch and the same state of ``generator`` (torch's, on the CPU) give the same answer, on any device.
2. Shape, dtype and device stay; ``x`` is never written to.
3. Each row draws its own numbers: what a row becomes does not depend on the others' values.
"""

from __future__ import annotations

from cloud_trainer.augment.base import Chain, chain

__all__ = ["Chain", "chain"]
