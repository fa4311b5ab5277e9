"""What was tried on a variant that missed its gate, and what came of it."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct


class Trial(Struct, frozen=True):
    """One try: what was done, and the score that it came to; ``None`` with the reason in ``what`` where it failed."""

    what: str
    score: float | None
    bytes: int = 0


def in_float(layers: Sequence[str]) -> str:
    """For people.

    >>> in_float(["a"]), in_float(["a", "b", "c", "d"])
    ('1 layer in float (a)', '4 layers in float (a, b, c, ...)')
    """
    shown = ", ".join(map(short, layers[:3])) + (", ..." if len(layers) > 3 else "")
    return f"{len(layers)} {'layer' if len(layers) == 1 else 'layers'} in float ({shown})"


def short(layer: str) -> str:
    """What tells a layer: TFLite's names are whole paths of modules and their types.

    >>> short("net.Net/torch.nn.modules.container.Sequential_1/torch.nn.modules.activation.ReLU_2;;net.Net/x;1")
    'Sequential_1/ReLU_2'
    """
    return "/".join(part.rsplit(".", 1)[-1] for part in layer.split(";", maxsplit=1)[0].split("/")[-2:])


def text_of(trials: Sequence[Trial]) -> str:
    """The story in one line."""
    return "; ".join(one.what if one.score is None else f"{one.what}: {one.score:.4f}" for one in trials)
