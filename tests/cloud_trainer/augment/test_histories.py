"""Items of a history that nobody saw."""

from __future__ import annotations

import torch

from cloud_trainer.augment.histories import LoseItems


def test_items_fall_away_and_the_others_move_up_in_their_order():
    x = torch.tensor([[0, 0, 5, 3, 9, 2]] * 200)
    made = LoseItems(0.4)(x, torch.Generator().manual_seed(0))
    lengths = (made != 0).sum(1)
    assert 1 <= int(lengths.min()) < 4
    assert 2.0 < float(lengths.float().mean()) < 2.8
    for row in made.tolist():
        kept = [item for item in row if item]
        assert row == [0] * (6 - len(kept)) + kept
        assert kept == [item for item in (5, 3, 9, 2) if item in kept]
    assert torch.equal(x, torch.tensor([[0, 0, 5, 3, 9, 2]] * 200))


def test_the_only_item_stays_and_nothing_stays_nothing():
    x = torch.tensor([[0, 0, 7], [0, 0, 0]])
    assert torch.equal(LoseItems(0.9)(x, torch.Generator().manual_seed(0)), x)
