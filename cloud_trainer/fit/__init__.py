"""The training loop, for every kind of task and network: see :func:`cloud_trainer.fit.loop.train`."""

from __future__ import annotations

from cloud_trainer.fit.curve import Curve
from cloud_trainer.fit.forward import answers, embeddings
from cloud_trainer.fit.loop import train
from cloud_trainer.fit.plan import Encoded, Plan

__all__ = ["Curve", "Encoded", "Plan", "answers", "embeddings", "train"]
