"""The kinds of tasks, one module each; imported when they are asked for."""

from __future__ import annotations

import importlib

from cloud_trainer.kinds.base import Adviser, Augment, Feature, FeatureTable, Kind, Prepared

__all__ = ["Adviser", "Augment", "Feature", "FeatureTable", "Kind", "Prepared", "kind_of"]

_WHERE = {
    "image-classification": ("images", "ImageClassification"),
    "image-anomaly": ("anomalies", "ImageAnomaly"),
    "tabular-classification": ("tables", "TabularClassification"),
    "tabular-regression": ("tables", "TabularRegression"),
    "series-classification": ("series", "SeriesClassification"),
    "forecasting": ("forecasts", "Forecasting"),
    "audio-classification": ("sounds", "AudioClassification"),
    "text-classification": ("texts", "TextClassification"),
    "recommendation": ("recommendations", "Recommendation"),
}


def kind_of(name: str) -> Kind:
    """The kind called ``name`` in ``task.toml``."""
    module, what = _WHERE[name]
    found: Kind = getattr(importlib.import_module(f"cloud_trainer.kinds.{module}"), what)()
    return found
