"""Robustness through a real engine."""

from __future__ import annotations

import numpy as np

from cloud_trainer.data import Dataset
from cloud_trainer.evaluation import Judge
from cloud_trainer.evaluation.robustness import robustness_of_variant
from tests.releases import LABELS, digits, make_release


def test_variant_of_a_release_loses_score_as_pictures_get_worse(tmp_path):
    manifest = make_release(tmp_path / "1", variants=("fp32-onnx",))
    x, y = digits(300, seed=3)
    steps = []
    found = robustness_of_variant(
        manifest,
        tmp_path / "1",
        manifest.variant("fp32-onnx"),
        Dataset(x, np.asarray(y, np.int64), LABELS),
        "image-classification",
        Judge(manifest.task),
        limit=200,
        progress=lambda *line: steps.append(line),
    )
    assert (found.variant, found.metric, found.samples) == ("fp32-onnx", "accuracy", 200)
    assert found.clean > 0.95
    scores = {row.name: row.scores for row in found.rows}
    assert len(scores) == 8
    assert scores["dropout"][0] > 0.95 > scores["dropout"][4]
    assert [stage for stage, _, _ in steps] == ["robustness"] * 8
