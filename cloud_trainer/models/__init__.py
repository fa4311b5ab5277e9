"""The zoo: small networks, a family a file, each a frozen :class:`~cloud_trainer.models.base.Architecture`.

student = architecture("ds-cnn", input=(1, 28, 28), outputs=10)
student = fit_to(student, Limits(macs=5_000_000, bytes=150_000))
model = build(student, seed=0)                   # model(x) -> (answer, embedding)
"""

from __future__ import annotations

from typing import Any

from cloud_trainer.models.attention import Transformer, WindowTransformer
from cloud_trainer.models.autoencoder import Autoencoder
from cloud_trainer.models.base import Architecture, build
from cloud_trainer.models.custom import Custom, CustomTokens, custom
from cloud_trainer.models.ds_cnn import DsCnn
from cloud_trainer.models.linear_forecast import LinearForecast
from cloud_trainer.models.macs import count_macs, macs_of
from cloud_trainer.models.mlp import Mlp
from cloud_trainer.models.mobilenet import MobileNet
from cloud_trainer.models.next_item import NextItem
from cloud_trainer.models.pictures import PictureArchitecture
from cloud_trainer.models.resnet import ResNet
from cloud_trainer.models.sizes import Limits, bytes_of, fit_to, weight_bytes, widest_within
from cloud_trainer.models.temporal import Cnn1d, Tcn
from cloud_trainer.models.tokens import Bag
from shared.errors import UsageError

__all__ = [
    "FAMILIES",
    "AnyArchitecture",
    "Architecture",
    "Autoencoder",
    "Bag",
    "Cnn1d",
    "Custom",
    "CustomTokens",
    "DsCnn",
    "Limits",
    "LinearForecast",
    "Mlp",
    "MobileNet",
    "NextItem",
    "ResNet",
    "Tcn",
    "Transformer",
    "WindowTransformer",
    "architecture",
    "build",
    "bytes_of",
    "count_macs",
    "custom",
    "fit_to",
    "macs_of",
    "weight_bytes",
    "widest_within",
]

AnyArchitecture = (
    Mlp
    | ResNet
    | DsCnn
    | MobileNet
    | Cnn1d
    | Tcn
    | LinearForecast
    | Transformer
    | WindowTransformer
    | Bag
    | Autoencoder
    | NextItem
    | Custom
    | CustomTokens
)
"""For ``msgspec.json.decode(data, type=AnyArchitecture)``."""

FAMILIES: dict[str, type[Architecture]] = {
    str(family.__struct_config__.tag): family
    for family in (
        Mlp,
        ResNet,
        DsCnn,
        MobileNet,
        Cnn1d,
        Tcn,
        LinearForecast,
        Transformer,
        WindowTransformer,
        Bag,
        Autoencoder,
        NextItem,
    )
}
"""By name, as in ``task.toml``."""


def architecture(family: str, *, input: tuple[int, ...], outputs: int, **sizes: Any) -> Architecture:  # noqa: A002
    """A network of the ``family`` with its usual sizes, or with ``sizes`` (fields of its Struct: ``width``, ...).
    Pictures of three axes whose first is more than 1 are taken for (H, W, C).

    Raises:
        UsageError: there is no such family, or it has no such size.
        TrainingError: it does not read samples of this shape.

    >>> architecture("resnet", input=(1, 28, 28), outputs=10, width=8).label
    'resnet-w8'
    """
    kind = FAMILIES.get(family)
    if kind is None:
        raise UsageError(f"there is no family {family!r}; expected one of {', '.join(FAMILIES)}")
    if issubclass(kind, PictureArchitecture) and len(input) == 3 and input[0] != 1:
        sizes.setdefault("channels_last", True)
    try:
        found = kind(input=tuple(input), outputs=outputs, **sizes)
    except TypeError as error:
        raise UsageError(f"{family}: {error}") from error
    macs_of(found)  # refuses a wrong shape
    return found
