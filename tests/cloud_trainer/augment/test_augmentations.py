"""One suite that every augmentation passes, and what each of them does."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from cloud_trainer.augment import chain
from cloud_trainer.augment.signals import Gap, Jitter, Rotation, Scaling, Warp
from cloud_trainer.augment.spectra import BandShift, Loudness, Masks, Shift
from cloud_trainer.augment.tokens import HideWords, LoseBuckets, LoseWords

Alter = Callable[[Tensor, torch.Generator], Tensor]


def window(n: int = 5) -> Tensor:
    return torch.randn(n, 40, 6, generator=torch.Generator().manual_seed(1))


def ids(n: int = 5) -> Tensor:
    x = torch.randint(1, 50, (n, 40), generator=torch.Generator().manual_seed(2))
    for row in range(n):
        x[row, 40 - 7 * row :] = 0
    return x


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


WINDOWS: list[Alter] = [
    Jitter(0.3),
    Scaling(0.2),
    Scaling(0.2, together=True),
    Rotation(((0, 1, 2), (3, 4, 5)), degrees=40.0),
    Warp(speed=0.2, shift=0.2),
    Gap(0.5),
    Masks(0.4, 0.4, count=2),
    Shift(0.3),
    BandShift(0.4),
    Loudness(0.3),
    LoseBuckets(0.2),
    chain(Warp(), Jitter(), share=0.5),
]
TOKENS: list[Alter] = [HideWords(0.4), LoseWords(0.4), chain(LoseWords(0.2), HideWords(0.2))]
CASES = [*((alter, window) for alter in WINDOWS), *((alter, ids) for alter in TOKENS)]
every = pytest.mark.parametrize(
    ("alter", "make"), CASES, ids=lambda value: getattr(value, "__name__", repr(value))[:60]
)


@every
def test_the_same_generator_gives_the_same_and_another_one_something_else(alter: Alter, make: Callable) -> None:
    x = make()
    assert torch.equal(alter(x, seeded()), alter(x, seeded()))
    assert not torch.equal(alter(x, seeded()), alter(x, seeded(7)))


@every
def test_shape_and_dtype_stay_and_nothing_is_written_in_place(alter: Alter, make: Callable) -> None:
    x = make()
    before = x.clone()
    out = alter(x, seeded())
    assert out.shape == x.shape
    assert out.dtype == x.dtype
    assert torch.equal(x, before)
    assert not torch.equal(out, x)


@every
def test_a_row_does_not_depend_on_what_the_others_hold(alter: Alter, make: Callable) -> None:
    x = make()
    other = x.clone()
    other[1:] = make(7)[-4:].flip(1)
    assert torch.equal(alter(x, seeded())[0], alter(other, seeded())[0])


@every
def test_a_batch_of_one_can_be_altered(alter: Alter, make: Callable) -> None:
    assert alter(make()[:1], seeded()).shape == make()[:1].shape


def test_a_rotation_keeps_lengths_and_leaves_other_channels_alone() -> None:
    x = window()
    out = Rotation(((2, 0, 1),), degrees=180.0)(x, seeded())
    torch.testing.assert_close(out[..., :3].norm(dim=2), x[..., :3].norm(dim=2))
    torch.testing.assert_close(out[..., 3:], x[..., 3:])


def test_jitter_is_as_loud_as_it_says() -> None:
    x = torch.zeros(2000, 50, 2)
    spread = Jitter(0.3)(x, seeded()).std(dim=(1, 2))
    assert spread.max() < 0.4
    assert 0.13 < spread.mean() < 0.17


def test_warping_without_speed_and_shift_changes_nothing_and_a_line_stays_a_line() -> None:
    x = window()
    torch.testing.assert_close(Warp(0.0, 0.0)(x, seeded()), x)
    line = torch.arange(40.0).reshape(1, 40, 1).repeat(20, 1, 1)
    out = Warp(speed=0.1, shift=0.0)(line, seeded())
    slope = out[:, 20] - out[:, 19]
    assert ((slope > 0.89) & (slope < 1.11)).all()
    assert slope.std() > 0.01


def test_gaps_and_masks_hold_the_mean_for_as_long_as_they_may() -> None:
    ones = torch.ones(200, 40, 6)
    gone = (Gap(0.25)(ones, seeded()) == 0)[..., 0].sum(1)
    assert gone.max() <= 10 + 1
    assert gone.max() > 6
    masked = Masks(frames=0.25, bands=0.0)(ones, seeded()) == 0
    assert (masked.all(2) == masked.any(2)).all()


def test_a_shift_moves_every_band_alike_and_repeats_the_end() -> None:
    x = torch.arange(40.0).reshape(1, 40, 1).repeat(50, 1, 3)
    out = Shift(0.1)(x, seeded())
    moved = out[:, 20, 0] - 20
    assert set(moved.abs().unique().tolist()) <= {0.0, 1.0, 2.0, 3.0, 4.0}
    assert torch.equal(out[..., 0], out[..., 2])
    assert out.max() == 39
    assert out.min() == 0


def test_loudness_adds_the_same_to_every_frame() -> None:
    change = Loudness(0.5)(window(), seeded()) - window()
    torch.testing.assert_close(change, change[:, :1].expand_as(change), atol=1e-5, rtol=0)


def test_hidden_words_become_unknown_and_padding_stays() -> None:
    x = ids()
    out = HideWords(0.5, unknown=1)(x, seeded())
    assert torch.equal(out == 0, x == 0)
    assert set(out[out != x].tolist()) == {1}


def test_lost_words_close_the_gap_and_the_rest_keeps_its_order() -> None:
    x = ids()
    out = LoseWords(0.3)(x, seeded())
    for row, before in zip(out.tolist(), x.tolist(), strict=True):
        words = [word for word in row if word]
        assert row == words + [0] * (40 - len(words))
        left = iter(before)
        assert all(word in left for word in words)  # a subsequence
    assert (out != 0).sum() < (x != 0).sum()


def test_the_last_word_of_a_text_is_never_lost_and_marked_ids_stay() -> None:
    one = torch.tensor([[5, 0, 0]]).repeat(100, 1)
    assert torch.equal(LoseWords(0.99)(one, seeded()), one)
    kept = LoseWords(0.5, keep=(9,))(torch.tensor([[9, 4, 4, 9]]).repeat(100, 1), seeded())
    assert ((kept == 9).sum(1) == 2).all()


def test_a_share_of_the_rows_stays_as_it_was() -> None:
    x = torch.randn(1000, 4, 1)
    same = (chain(Jitter(0.5), share=0.25)(x, seeded()) == x).all(dim=(1, 2)).float().mean()
    assert 0.7 < same < 0.8


def test_lost_buckets_leave_the_sum_what_it_was_on_average() -> None:
    out = LoseBuckets(0.25)(torch.ones(50, 4000), seeded())
    assert out.unique().tolist() == pytest.approx([0.0, 1 / 0.75])
    assert abs(out.mean() - 1) < 0.01
