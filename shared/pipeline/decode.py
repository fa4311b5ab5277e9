"""Step four: from the model's outputs to scores and choices. Operations read and set named fields.

``__call__`` takes fields with the batch first. ``bind`` gives the same for a single sample: a function that reads and
sets the entries of one row, without the batch axis.
"""

from __future__ import annotations

from shared.pipeline.anomaly import AnomalyScore
from shared.pipeline.base import Fields, Row
from shared.pipeline.boxes import Boxes
from shared.pipeline.forecasts import Inverse
from shared.pipeline.joint import JointScore
from shared.pipeline.ranking import Boost, Exclude, Filter, Item, Limit, Rank
from shared.pipeline.scores import Argmax, Normalize, Sigmoid, Softmax, Threshold, TopK

__all__ = [
    "AnomalyScore", "Argmax", "Boost", "Boxes", "Exclude", "Fields", "Filter", "Inverse", "Item", "JointScore", "Limit",
    "Normalize", "Rank", "Row", "Sigmoid", "Softmax", "Threshold", "TopK",
]  # fmt: skip
