"""Features: which are made of raw columns and windows, and which of them are kept. Shared by the kinds of tasks.

:mod:`selection` measures what each candidate tells and drops those that tell no more than chance; :mod:`rows` makes
candidates of a table's columns, :mod:`windows` of a series' past. All end as operations of ``shared/pipeline``, which
compute nothing that was not kept.
"""

from cloud_trainer.engineering.rows import RowFeatures, row_features
from cloud_trainer.engineering.selection import Candidates, Selected, select
from cloud_trainer.engineering.windows import WindowFeatures, window_features

__all__ = [
    "Candidates",
    "RowFeatures",
    "Selected",
    "WindowFeatures",
    "row_features",
    "select",
    "window_features",
]
