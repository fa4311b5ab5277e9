"""Answers that are lists, as a ranking's, go through the same measurements as numbers."""

from __future__ import annotations

import numpy as np

from cloud_trainer.evaluation.running import _one_by_one, held_out
from shared.drift.watch import WatchSpec
from shared.manifest import SampleSpec


class _Row:
    def __init__(self, outputs):
        self.outputs = outputs


class _Ranker:
    """Answers with as many items as the sample says."""

    def infer(self, sample):
        items = [{"id": f"i{k}", "score": 2.0 - k} for k in range(int(sample))]
        score = items[0]["score"] if items else 0.0
        return _Row({"value": items, "score": score, "label": "i0", "scores": np.array([2.0, 1.0])})


def test_lists_of_any_length_are_stacked_as_objects():
    fields = _one_by_one(_Ranker(), np.array([2, 0, 1]))
    assert fields["value"].shape == (3,)
    assert [len(one) for one in fields["value"]] == [2, 0, 1]
    same = _one_by_one(_Ranker(), np.array([2, 2]))
    assert same["value"].shape == (2,)
    assert same["scores"].shape == (2, 2)


def test_scores_of_a_ranking_are_no_confidences():
    fields = _one_by_one(_Ranker(), np.array([2, 1]))
    found = held_out(fields, np.array([0, 1]), ("i0", "i1"))
    assert found.accuracy == 0.5
    assert found.calibration is None


def test_a_ranking_is_watched_by_its_best_score_even_where_it_is_empty():
    for count in (0, 2):
        row = _Ranker().infer(count).outputs
        watch = WatchSpec.choose((SampleSpec(dtype="str", shape=(4,)),), row, "ranking")
        assert watch.output_names == ("best_score",)
