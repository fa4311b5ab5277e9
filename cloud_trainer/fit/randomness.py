"""Every random number of a training is a function of its seed and of the place where it is drawn: nothing depends on
what was drawn before, so that a training that was interrupted goes on with the numbers it would have had."""

from __future__ import annotations

import torch

MASK = (1 << 64) - 1


def mixed(*numbers: int) -> int:
    """One well-mixed 63-bit seed of several integers (SplitMix64, Steele et al. 2014).

    >>> mixed(0, 1) != mixed(1, 0)
    True
    """
    state = 0
    for number in numbers:
        state = (state ^ number) + 0x9E3779B97F4A7C15 & MASK
        state = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 & MASK
        state = (state ^ state >> 27) * 0x94D049BB133111EB & MASK
        state ^= state >> 31
    return state >> 1


def generator(*numbers: int) -> torch.Generator:
    """A generator on the CPU, seeded by :func:`mixed`."""
    return torch.Generator().manual_seed(mixed(*numbers))


def seed_everything(device: torch.device, *numbers: int) -> None:
    """What layers such as dropout draw from, seeded by :func:`mixed`."""
    seed = mixed(*numbers)
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)
