"""The inference pipeline: five steps as data (:mod:`shared.pipeline.spec`) and as numpy code."""
