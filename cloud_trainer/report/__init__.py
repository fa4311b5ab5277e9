"""``report.html``: one file, no network, that says how a release was made and how good it is.

::

    page = report(ReportData(manifest=manifest, measured=measured, test=splits.test))
"""

from __future__ import annotations

from cloud_trainer.report.page import report
from cloud_trainer.report.views import (
    CurveView,
    DifferenceView,
    FeatureView,
    FindingView,
    NetworkView,
    ReportData,
    TrialView,
    VariantNote,
)

__all__ = [
    "CurveView",
    "DifferenceView",
    "FeatureView",
    "FindingView",
    "NetworkView",
    "ReportData",
    "TrialView",
    "VariantNote",
    "report",
]
