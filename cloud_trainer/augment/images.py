"""Altered images: moved by a few pixels, in another light, with a piece missing; mirrored where the task allows it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Generator, Tensor

SHIFT = 0.08
"""Of the side, at most, in each direction."""
LIGHT = 0.15
"""Contrast is changed by so much, and brightness by as many standard deviations, at most."""
ERASED = 0.25
"""Of the images lose a piece of up to a third of each side (random erasing, Zhong et al. 2020, arXiv 1708.04896)."""


def augmenter(*, channels_last: bool, mirror: bool = False) -> Callable[[Tensor, Generator], Tensor]:
    """What alters a batch of encoded images, (b, C, H, W) or (b, H, W, C), standardized; shape and dtype are kept."""

    def alter(x: Tensor, generator: Generator) -> Tensor:
        planes = x.permute(0, 3, 1, 2) if channels_last else x
        made = erased(lit(moved(planes, generator, mirror=mirror), generator), generator)
        return made.permute(0, 2, 3, 1).contiguous() if channels_last else made

    return alter


def moved(x: Tensor, generator: Generator, *, mirror: bool = False) -> Tensor:
    """(b, C, H, W), each moved by up to :data:`SHIFT`, its edge repeated; every other one ``mirror``-ed."""
    b, _, height, width = x.shape
    most = [max(1, round(SHIFT * side)) for side in (height, width)]
    shifts = [torch.randint(-m, m + 1, (b, 1), generator=generator) for m in most]
    rows, columns = (
        (torch.arange(side)[None] + shift).clamp(0, side - 1)
        for side, shift in zip((height, width), shifts, strict=True)
    )
    if mirror:
        turned = torch.rand(b, 1, generator=generator) < 0.5
        columns = torch.where(turned, width - 1 - columns, columns)
    batch = torch.arange(b)[:, None, None]
    # indices around a slice put the channels last
    return x[batch, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2).contiguous()


def lit(x: Tensor, generator: Generator) -> Tensor:
    """(b, C, H, W), each with another contrast and brightness."""
    contrast, brightness = ((2 * torch.rand(len(x), 1, 1, 1, generator=generator) - 1) * LIGHT for _ in range(2))
    centre = x.mean(dim=(1, 2, 3), keepdim=True)
    return centre + (x - centre) * (1 + contrast) + brightness


def erased(x: Tensor, generator: Generator) -> Tensor:
    """(b, C, H, W), some with a piece set to their mean."""
    b, _, height, width = x.shape
    inside = []
    for side in (height, width):
        size = 1 + (torch.rand(b, 1, generator=generator) * side / 3).long()
        start = (torch.rand(b, 1, generator=generator) * (side - size + 1)).long()
        place = torch.arange(side)[None]
        inside.append((place >= start) & (place < start + size))
    hit = torch.rand(b, 1, 1, generator=generator) < ERASED
    piece = (inside[0][:, :, None] & inside[1][:, None, :] & hit)[:, None]
    return torch.where(piece, x.mean(dim=(1, 2, 3), keepdim=True), x)
